"""How two workers share the suite: one takes everything that drives Chromium, the others a file at a time.

Two browsers at once on two cores wait for each other, and a module's fixtures are worth making once.
"""

from __future__ import annotations

from pathlib import Path

import pytest

_BROWSER = Path(__file__).parent / "browser"


@pytest.hookimpl(tryfirst=True)  # before the workers read the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        group = "browser" if item.path.is_relative_to(_BROWSER) else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))
