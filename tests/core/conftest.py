"""Property tests must not depend on how busy the machine is."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("tests", deadline=None, database=None, max_examples=50, print_blob=True)
settings.load_profile("tests")
