"""A store stays below its cap; what is pinned, shared, running or just used stays in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rlviz.errors import InvalidInput
from rlviz.result import PairResult, load
from rlviz.store import Store
from rlviz.store.documents import record_keys
from rlviz.store.eviction import GIB, evict
from rlviz.store.folder import files_below
from tests.store.pairs import compared, record_files

HOLDING = """
import sys
from rlviz.store import Store

with Store(sys.argv[1]).lock(sys.argv[2], print):
    print("held", flush=True)
    sys.stdin.read()
"""


def size(store: Store) -> int:
    return sum(n for part in ("records", "results") for _, n, _ in files_below(store.root / part))


def used_in_order(store: Store, keys: list[str]) -> None:
    """Date the last uses of results one second apart, the first named longest ago."""
    for age, key in enumerate(reversed(keys), start=1):
        store.touch(key)
        os.utime(store.result_path(key) / "used", (1e9 - age, 1e9 - age))


def keys_of(measured) -> list[str]:
    return [result.key for result in measured[1]]


def test_least_recently_used_goes_first_and_shared_records_stay(copied, measured):
    store, keys = copied(), keys_of(measured)
    used_in_order(store, [keys[1], keys[0], keys[2]])
    evicted = evict(store, size(store) - 1)
    assert evicted.results == 1
    assert {key for key, _ in store.results()} == {keys[0], keys[2]}
    for key in (keys[0], keys[2]):
        kept = load(store, key)
        assert kept is not None
        assert kept.complete
    wanted = {record for _, manifest in store.results() for record in record_keys(manifest)}
    assert {path.stem for path in record_files(store)} <= wanted


def test_freed_bytes_are_those_that_are_gone(copied, measured):
    store, keys = copied(), keys_of(measured)
    used_in_order(store, keys)
    before = size(store)
    evicted = evict(store, before // 2)
    assert evicted.nbytes == before - size(store)
    assert size(store) <= before // 2


def test_pinned_and_spared_results_stay(copied, measured):
    store, keys = copied(), keys_of(measured)
    used_in_order(store, keys)
    store.pin(keys[0])
    assert evict(store, 1, spare=keys[1]).results == 1
    assert {key for key, _ in store.results()} == set(keys[:2])
    store.unpin(keys[0])
    evict(store, 1)
    assert not list(store.results())
    assert not record_files(store)


def test_a_running_comparison_keeps_what_it_uses(copied, measured):
    store, keys = copied(), keys_of(measured)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDING, str(store.root), keys[0]],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    evict(store, 1)
    assert [key for key, _ in store.results()] == [keys[0]]
    holder.communicate(timeout=30)
    kept = load(store, keys[0])
    assert kept is not None
    assert kept.complete


def test_reading_counts_as_use(copied, measured):
    store, keys = copied(), keys_of(measured)
    used_in_order(store, keys)
    load(store, keys[0])
    evict(store, size(store) - 1)
    assert keys[0] in [key for key, _ in store.results()]
    assert keys[1] not in [key for key, _ in store.results()]


def test_a_result_that_lands_makes_room_for_itself(tmp_path):
    compared(Store(tmp_path), "demo:rl")
    cap = int(1.4 * size(Store(tmp_path)))
    second = compared(Store(tmp_path, max_bytes=cap), "demo:sft")
    assert [key for key, _ in Store(tmp_path).results()] == [second.key]
    assert size(Store(tmp_path)) <= cap


def test_previews_are_evicted_and_links_are_not(tmp_path):
    store = Store(tmp_path)
    for i in range(4):
        store.write_json(f"{i:064x}", "preview", {"text": "x" * 10_000})
        store.write_link(f"{i:010x}", {"page": "compare"})
    used_in_order(store, [f"{i:064x}" for i in range(4)])
    evict(store, 25_000)
    assert sorted(key for key, _ in store.previews()) == [f"{i:064x}" for i in (2, 3)]
    assert all(store.read_link(f"{i:010x}") for i in range(4))


def test_records_of_no_result_go_once_they_are_old(copied, measured):
    store, keys = copied(), keys_of(measured)
    (store.result_path(keys[0]) / "manifest.json").write_text("torn")
    before = len(record_files(store))
    evict(store, size(store) - 1)  # fresh ones stay: a run may have only just written them
    orphans = [p for p in record_files(store) if p.stem not in {r for _, m in store.results() for r in record_keys(m)}]
    for path in record_files(store):
        os.utime(path, (1e9, 1e9))
    evict(store, size(store) - 1)
    assert not any(path.exists() for path in orphans)
    assert len(record_files(store)) < before


def test_evicted_while_it_is_read_is_recomputed(copied, measured, monkeypatch, first: PairResult):
    """Another process evicts between the run and the reading of its records: the comparison goes round again."""
    from rlviz import engine

    store, original, evictions = copied(), engine.run, []

    def run_then_evicted(*args, **kwargs):
        skipped = original(*args, **kwargs)
        if not evictions:
            evictions.append(evict(Store(store.root), 1))
        return skipped

    monkeypatch.setattr(engine, "run", run_then_evicted)
    assert compared(store).rows() == first.rows()
    assert evictions[0].results == 3


def test_a_reader_beside_an_evicting_process_never_crashes(copied, measured):
    """Records vanish at any moment; what is read is right or counted as missing."""
    store, key = copied(), keys_of(measured)[0]
    shown = {m.name: m for m in measured[1][0].measured}
    for path in record_files(store):
        path.unlink()
        found = load(store, key)
        assert found is not None
        for m in found.measured:
            assert set(m.records) <= set(shown[m.name].records)
    assert not found.complete
    evict(store, 1)
    assert load(store, key) is None


@pytest.mark.parametrize("text", ["0", "-1", "many", "nan", "inf"])
def test_a_cap_that_is_none_is_refused(tmp_path, monkeypatch, text: str):
    monkeypatch.setenv("RLVIZ_STORE_MAX_GB", text)
    with pytest.raises(InvalidInput, match="RLVIZ_STORE_MAX_GB"):
        Store(tmp_path)


def test_cap_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("RLVIZ_STORE_MAX_GB", "0.5")
    assert Store(tmp_path).max_bytes == GIB // 2
    monkeypatch.delenv("RLVIZ_STORE_MAX_GB")
    assert Store(tmp_path).max_bytes is None
    assert Store(tmp_path).evict().results == 0
