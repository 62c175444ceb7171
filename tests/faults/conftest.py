"""A pair on a fake hub, in several parts, and the numbers that a quiet network gives."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from rlviz.engine import feeds
from rlviz.sources import hub as hub_source
from rlviz.sources.transport import Patience
from tests.checkpoints import tiny_base, tuned_from, write_checkpoint
from tests.fakehub import FakeHub

# An outage that passes is sat out even on a busy machine; with one that stays, a matrix must not lose a minute a case.
PASSING = Patience(
    attempts=4,
    first_wait_s=0.01,
    longest_wait_s=0.05,
    longest_rate_limit_s=2.0,
    connect_s=2.0,
    read_s=5.0,
    outage_s=30.0,
)
STAYING = replace(PASSING, outage_s=0.5)
MODELS = ("org/base", "org/tuned")


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Base, tuned, and what is pushed over the tuned model; larger than one guess at a header, and than one part."""
    root = tmp_path_factory.mktemp("pair")
    base = tiny_base(width=96)
    tuned = tuned_from(base, std=1e-3)
    write_checkpoint(root / "base", base)
    write_checkpoint(root / "tuned", tuned)
    write_checkpoint(root / "pushed", tuned_from(base, seed=9, std=1e-2))
    return {name: root / name for name in ("base", "tuned", "pushed")}


def try_for(patience: Patience, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open models and read weights with this patience."""
    monkeypatch.setattr(hub_source, "OPENING", patience)
    monkeypatch.setattr(hub_source, "lasting_patience", lambda: patience)


@pytest.fixture
def hub(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub() as hub:
        for model in MODELS:
            hub.add_repo(model, folders[model.removeprefix("org/")])
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setattr(feeds, "PART_BYTES", 1 << 16)
        yield hub
