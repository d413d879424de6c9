"""Hypothesis: the same examples in every run, and no time limit on a loaded machine."""

from hypothesis import settings

settings.register_profile('il_robot', derandomize=True, deadline=None)
settings.load_profile('il_robot')
