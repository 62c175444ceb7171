"""One finished result for the session; tests work on copies."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rlviz.result import PairResult
from rlviz.store import Store
from tests.store.pairs import TUNED, compared


@pytest.fixture(scope="session")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[PairResult, ...]]:
    """A store's folder and what was measured into it, one result per tuned demo."""
    root = tmp_path_factory.mktemp("measured")
    return root, tuple(compared(Store(root), tuned) for tuned in TUNED)


@pytest.fixture
def first(measured: tuple[Path, tuple[PairResult, ...]]) -> PairResult:
    return measured[1][0]


@pytest.fixture
def copied(measured: tuple[Path, tuple[PairResult, ...]], tmp_path: Path) -> Callable[[], Store]:
    """Makes a store of one's own that holds the three results."""

    def copy() -> Store:
        root = tmp_path / "copied"
        shutil.copytree(measured[0], root)
        return Store(root)

    return copy


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("RLVIZ_STORE_MAX_GB", raising=False)
