"""Hypothesis: the same examples in every run, and no time limit on a loaded machine.

With HYPOTHESIS_PROFILE=search other ones in every run (benchmarks/property_search.py).
"""

import os

from hypothesis import settings

settings.register_profile('il_robot', derandomize=True, deadline=None)
settings.register_profile('search', derandomize=False, deadline=None, database=None)
settings.load_profile(os.environ.get('HYPOTHESIS_PROFILE', 'il_robot'))
