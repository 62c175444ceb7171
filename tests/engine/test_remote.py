"""Reading over a network: every byte once, the same records as from files, and a window of memory."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event

import ml_dtypes
import numpy as np
import pytest

from rlviz import api
from rlviz.engine import feeds
from rlviz.engine.ahead import Ahead, settle
from rlviz.engine.batches import BOTH, by_tensor
from rlviz.engine.feeds import Held, Sizes
from rlviz.engine.memory import CancelCheck
from rlviz.errors import Cancelled
from tests.checkpoints import tiny_base, tuned_from, write_checkpoint
from tests.fakehub import FakeHub
from tests.fakehub.rules import weights

CHECK = CancelCheck("x")
FLOATS = {"BF16": ml_dtypes.bfloat16, "F32": np.float32}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with FakeHub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        monkeypatch.setattr(feeds, "PART_BYTES", 1 << 16)
        yield hub


def measured(store: Path) -> list[bytes]:
    """The arrays of all records, without the headers that hold their keys."""
    files = [p.read_bytes() for p in (store / "records").rglob("*.safetensors")]
    return sorted(content[8 + int.from_bytes(content[:8], "little") :] for content in files)


@pytest.mark.parametrize("probes", [("coordinate",), ("coordinate", "spectrum")], ids="+".join)
@pytest.mark.parametrize("tuned_dtype", FLOATS)
@pytest.mark.parametrize("base_dtype", FLOATS)
def test_every_byte_crosses_once_and_gives_the_records_of_the_files(
    hub: FakeHub, tmp_path: Path, base_dtype: str, tuned_dtype: str, probes: tuple[str, ...]
) -> None:
    base = tiny_base(width=128, dtype=FLOATS[base_dtype])
    folders = {"org/base": tmp_path / "base", "org/tuned": tmp_path / "tuned"}
    write_checkpoint(folders["org/base"], base)
    write_checkpoint(folders["org/tuned"], tuned_from(base, dtype=FLOATS[tuned_dtype]))
    for model, folder in folders.items():
        hub.add_repo(model, folder)
    expected = api.plan(*folders, wanted=api.request(probes=probes))
    result = api.compare(*folders, probes=probes, store=tmp_path / "remote")
    assert result.provenance is not None
    assert result.provenance.bytes_read == expected.bytes_to_read
    assert sum(request.nbytes for request in hub.requests if weights(request)) == expected.bytes_to_read
    api.compare(*map(str, folders.values()), probes=probes, store=tmp_path / "local")
    assert measured(tmp_path / "remote") == measured(tmp_path / "local")


def test_updates_too_distant_to_wait_for_the_scale_are_counted_right(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bf16 route then reads the base ahead: the window is given up for a spool in the middle of the tensor."""
    from rlviz.probes.coordinate import count

    monkeypatch.setattr(count, "LISTED", 1 << 10)
    monkeypatch.setattr(count, "CODE_WINDOW", 1 << 14)
    rng = np.random.default_rng(3)
    arrays = [rng.standard_normal((512, 300)).astype(ml_dtypes.bfloat16) for _ in range(2)]
    for name, array in zip(("base", "tuned"), arrays, strict=True):
        hub.add_repo(f"org/{name}", write_checkpoint(tmp_path / name, {"model.layers.0.mlp.up_proj.weight": array}))
    api.compare("org/base", "org/tuned", probes=("coordinate",), store=tmp_path / "remote")
    api.compare(str(tmp_path / "base"), str(tmp_path / "tuned"), probes=("coordinate",), store=tmp_path / "local")
    assert measured(tmp_path / "remote") == measured(tmp_path / "local")
    assert sum(request.nbytes for request in hub.requests if weights(request)) > sum(array.nbytes for array in arrays)


# --- memory -----------------------------------------------------------------------------------------------------

MEASURED = """
import re, sys
from pathlib import Path
from rlviz import api
def status(name):
    return int(re.search(rf"{name}:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) << 10
warm, base, tuned, store = sys.argv[1:]
api.compare(warm, warm, probes=("coordinate",), store=store + "/warm", workers=1)
before = status("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
result = api.compare(base, tuned, probes=("coordinate",), store=store + "/measured", workers=1)
assert result.complete and len(result.measured) == 2 and not result.skipped, result.skipped
print(status("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of a process is read from /proc")
def test_memory_stays_under_the_cap_for_tensors_larger_than_it(hub: FakeHub, tmp_path: Path) -> None:
    cap_mb, rng = 64, np.random.default_rng(0)
    codes = rng.integers(0x3C00, 0x3E00, (2200, 16384), dtype=np.uint16)  # 69 MiB of bf16 between 0.008 and 0.16
    values = rng.random((1100, 16384), dtype=np.float32)  # as many bytes, read twice by the coordinate probe
    for model, step in (("base", 0), ("tuned", 1)):
        codes[::7] += np.uint16(step)
        arrays = {"a.weight": codes.view(ml_dtypes.bfloat16), "b.weight": values + np.float32(step * 1e-3)}
        assert all(array.nbytes > cap_mb << 20 for array in arrays.values())
        hub.add_repo(f"org/{model}", write_checkpoint(tmp_path / model, arrays))
    write_checkpoint(tmp_path / "warm", tiny_base(width=128))
    command = [sys.executable, "-c", MEASURED, str(tmp_path / "warm"), "org/base", "org/tuned", str(tmp_path / "store")]
    env = {**os.environ, "RLVIZ_MEMORY_MB": str(cap_mb)}
    peak = int(subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=300).stdout)
    assert 0 < peak < cap_mb << 20


# --- the window -------------------------------------------------------------------------------------------------


class Fetches:
    """Fetches from an array, one by one as told; counts those under way."""

    def __init__(self, content: np.ndarray) -> None:
        self.content = content
        self.asked: list[int] = []
        self.threads = ThreadPoolExecutor(2)

    def __call__(self, start: int, codes: np.ndarray) -> Future[None]:
        self.asked.append(start)
        return self.threads.submit(np.copyto, codes, self.content[start : start + codes.size])


def window(fetches: Fetches, depth: int = 3) -> Ahead:
    def again() -> Held:
        return Held(fetches.content, CHECK)

    return Ahead(
        fetches, fetches.content.size, fetches.content.dtype, part_entries=10, depth=depth, again=again, check=CHECK
    )


@pytest.mark.parametrize("piece", [1, 7, 10, 23, 95])
def test_a_window_gives_the_content_in_pieces_of_any_size(piece: int) -> None:
    content = np.arange(95, dtype=np.uint16)
    source, got = window(Fetches(content)), np.zeros(95, np.uint16)
    for start in range(0, 95, piece):
        source.read_into(start, got[start : start + piece])
    assert np.array_equal(got, content)


def test_a_window_asks_no_further_than_its_depth() -> None:
    fetches = Fetches(np.arange(95, dtype=np.uint16))
    source, piece = window(fetches), np.zeros(10, np.uint16)
    assert fetches.asked == [0, 10, 20]
    source.read_into(0, piece)
    assert fetches.asked == [0, 10, 20, 30]
    source.read_into(10, piece[:5])
    assert fetches.asked == [0, 10, 20, 30]


def test_going_back_gives_up_the_window_and_reads_right() -> None:
    content = np.arange(95, dtype=np.uint16)
    source, piece = window(Fetches(content)), np.zeros(20, np.uint16)
    for start in (0, 20, 0, 40, 60):
        source.read_into(start, piece)
        assert np.array_equal(piece, content[start : start + 20])


def test_waiting_for_a_fetch_ends_when_asked_to() -> None:
    asked = Event()
    asked.set()
    with pytest.raises(Cancelled):
        settle(Future(), CancelCheck("x", asked))


def test_a_failed_fetch_is_raised_where_its_codes_are_read() -> None:
    def failing(start: int, codes: np.ndarray) -> Future[None]:
        future: Future[None] = Future()
        future.set_exception(Cancelled("x", "gone"))
        return future

    source = Ahead(failing, 10, np.dtype(np.uint16), part_entries=5, depth=2, again=lambda: source, check=CHECK)
    with pytest.raises(Cancelled, match="gone"):
        source.read_into(0, np.zeros(3, np.uint16))


# --- batches ----------------------------------------------------------------------------------------------------


def test_small_tensors_share_a_batch_in_file_order_and_large_ones_stand_alone(tmp_path: Path) -> None:
    base = tiny_base()
    write_checkpoint(tmp_path / "base", base)
    write_checkpoint(tmp_path / "tuned", tuned_from(base))
    pending = api.plan(str(tmp_path / "base"), str(tmp_path / "tuned"), store=tmp_path / "store").pending
    batches = by_tensor(pending, 4000)
    assert sorted(id(step) for batch in batches for task in batch for step in task.steps) == sorted(map(id, pending))
    alone = [batch for batch in batches if batch[0].nbytes > 4000]
    assert alone
    assert batches[: len(alone)] == alone
    assert all(len(batch) == 1 for batch in alone)
    shared = [task for batch in batches[len(alone) :] for task in batch]
    assert [t.match.tuned.offset for t in shared] == sorted(t.match.tuned.offset for t in shared)
    assert all(sum(task.nbytes for task in batch) <= 4000 for batch in batches[len(alone) :])
    assert any(len(batch) > 1 for batch in batches)
    assert {task.rereads for task in shared if len(task.steps) > 1} == {BOTH}


@pytest.mark.parametrize("cap_mb", [1, 64, 256, 2048, 65536])
def test_windows_take_at_most_an_eighth_of_the_cap(cap_mb: int) -> None:
    sizes = Sizes.within(cap_mb << 20, 6)
    assert sizes.window_bytes <= max(cap_mb << 17, 8 << 16)
    assert sizes.part_bytes <= feeds.PART_BYTES
