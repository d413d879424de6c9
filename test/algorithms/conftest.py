"""Makes ``toy`` importable here and in the worker processes of an evaluation."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
