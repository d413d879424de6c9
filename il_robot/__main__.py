"""``python -m il_robot``: the same as the ``il_robot`` command."""

import sys

from il_robot.apps.main import main

sys.exit(main())
