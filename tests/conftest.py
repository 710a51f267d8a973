"""Hypothesis profiles: HYPOTHESIS_PROFILE chooses one; by default every run tries the same."""

import os

from hypothesis import settings

# pytest would import every module it looks for doctests in; these are for the type checker only.
collect_ignore = ["typing"]

# No deadline in any of them: how long an example takes says more about the machine than the code.
settings.register_profile("ci", deadline=None, derandomize=True, max_examples=100)
settings.register_profile("thorough", deadline=None, max_examples=5000)

settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
