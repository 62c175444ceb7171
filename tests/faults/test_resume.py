"""A comparison over the hub that is killed at any moment goes on where it was, to the same bytes."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from rlviz import api
from tests.fakehub import FakeHub, Fault, Request
from tests.fakehub.rules import weights
from tests.faults.conftest import MODELS

IN_SMALL_PARTS = """
import sys
from rlviz import api
from rlviz.engine import feeds
feeds.PART_BYTES = 1 << 16
api.compare(sys.argv[1], sys.argv[2], store=sys.argv[3], workers=2)
"""


def records(store: Path) -> dict[str, bytes]:
    below = store / "records"
    return {str(p.relative_to(below)): p.read_bytes() for p in sorted(below.rglob("*.safetensors"))}


@pytest.fixture
def undisturbed(hub: FakeHub, tmp_path: Path) -> tuple[dict[str, bytes], int]:
    """Records of a run in one go, and the number of requests for weights that it made."""
    api.compare(*MODELS, store=tmp_path / "undisturbed", workers=2)
    asked = sum(weights(request) for request in hub.requests)
    assert asked > 10
    return records(tmp_path / "undisturbed"), asked


@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_moments_it_resumes_byte_identical(
    hub: FakeHub, undisturbed: tuple[dict[str, bytes], int], tmp_path: Path, seed: int
) -> None:
    truth, asked = undisturbed
    store, rng = tmp_path / "store", random.Random(seed)
    for _ in range(2):  # killed, taken up, killed again
        seen, fatal = itertools.count(1), rng.randint(1, asked // 2)
        process = subprocess.Popen([sys.executable, "-c", IN_SMALL_PARTS, *MODELS, str(store)], env=os.environ)

        def now(request: Request, seen: itertools.count = seen, fatal: int = fatal) -> bool:
            return weights(request) and next(seen) == fatal

        hub.faults.clear()
        hub.inject(now, Fault(then=process.kill, truncate=100))
        process.wait(timeout=120)
        assert hub.faults.hits == 1, "the run ended before it could be killed"
    hub.faults.clear()
    landed = {name: (store / "records" / name).stat().st_mtime_ns for name in records(store)}

    assert api.compare(*MODELS, store=store, workers=2).complete
    assert records(store) == truth
    for name, mtime_ns in landed.items():
        assert (store / "records" / name).stat().st_mtime_ns == mtime_ns, "a record that had landed was written again"


def test_a_branch_that_moves_while_the_run_is_down_is_another_comparison(
    hub: FakeHub, folders: dict[str, Path], tmp_path: Path
) -> None:
    pinned = [f"{model}@{hub.repos[model].revisions['main']}" for model in MODELS]
    first = api.compare(*MODELS, probes=("coordinate",), store=tmp_path)
    hub.push("org/tuned", folders["pushed"])
    second = api.compare(*MODELS, probes=("coordinate",), store=tmp_path)
    assert second.key != first.key
    assert second.pooled("relative_update_norm") > 5 * first.pooled("relative_update_norm")
    hub.requests.clear()
    again = api.compare(*pinned, probes=("coordinate",), store=tmp_path)
    assert again.key == first.key
    assert not any(weights(request) for request in hub.requests)
