"""Makes ``wheel`` and ``cells`` importable here and in the processes of cells."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
