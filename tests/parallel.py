"""How two workers share the suite: one takes everything that drives Chromium, the others a file at a time.

Two browsers at once on two cores wait for each other, and a module's fixtures are worth making once.
"""

from __future__ import annotations

import pytest
from xdist.scheduler import LoadScopeScheduling


class _ByFile(LoadScopeScheduling):
    """Files stay whole; those of the browser stay together. (xdist's own groups by mark need an older pytest.)"""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.split("::", 1)[0]
        return "browser" if path.startswith("tests/browser/") else path


@pytest.hookimpl(optionalhook=True)  # without xdist, as under `-p no:xdist`, there is nothing to share
def pytest_xdist_make_scheduler(config, log):
    """The scheduler that xdist takes instead of its own."""
    return _ByFile(config, log)
