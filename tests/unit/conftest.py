from __future__ import annotations

from hypothesis import settings

# A slow machine is no failure; a few examples a run are enough, for there are many runs.
settings.register_profile("pycni", deadline=None, max_examples=25, database=None)
settings.load_profile("pycni")
