"""Running: what lands, what is read again (nothing), and what a killed or failing run leaves behind."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread

import ml_dtypes
import numpy as np
import pytest

from rlviz import api
from rlviz.engine import plan, run
from rlviz.engine.memory import CancelCheck, MemoryBudget
from rlviz.errors import Cancelled, UnsupportedCheckpoint
from rlviz.sources import pair, resolve
from rlviz.store import Store
from rlviz.types import Lens, MetricParams
from tests.checkpoints import tiny_base, tiny_pair, tuned_from, write_checkpoint


def files(root: Path, below: str = "records") -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted((root / below).rglob("*")) if p.is_file()}


def test_same_pair_again_reads_no_weight(tmp_path, monkeypatch):
    base, tuned = tiny_pair(tmp_path)
    first = api.compare(base, tuned, store=tmp_path / "store")
    from rlviz.sources.checkpoint import Checkpoint

    def refuse(*_: object) -> None:
        raise AssertionError("a weight was read")

    monkeypatch.setattr(Checkpoint, "read_into", refuse)
    again = api.compare(base, tuned, store=tmp_path / "store")
    assert again.key == first.key
    assert again.rows() == first.rows()
    assert again.provenance == first.provenance


def test_a_new_probe_computes_only_what_is_new(tmp_path):
    base, tuned = tiny_pair(tmp_path)
    store = Store(tmp_path / "store")
    api.compare(base, tuned, probes=("coordinate",), store=store)
    planned = api.plan(base, tuned, store=store)
    assert {step.probe.name for step in planned.pending} == {"spectrum", "masks", "nulls"}


def test_changed_file_is_not_mistaken_for_the_old_one(tmp_path):
    base, tuned = tiny_pair(tmp_path)
    first = api.compare(base, tuned, probes=("coordinate",), store=tmp_path / "store")
    write_checkpoint(Path(tuned), tuned_from(tiny_base(), std=1e-2))
    second = api.compare(base, tuned, probes=("coordinate",), store=tmp_path / "store")
    assert second.key != first.key
    assert second.pooled("relative_update_norm") > 10 * first.pooled("relative_update_norm")


def test_records_do_not_depend_on_the_number_of_workers(tmp_path):
    base, tuned = tiny_pair(tmp_path)
    for workers in (1, 3):
        api.compare(base, tuned, store=tmp_path / f"store{workers}", workers=workers)
    assert files(tmp_path / "store1") == files(tmp_path / "store3")


def test_base_is_decomposed_once_for_several_tuned_models(tmp_path, monkeypatch):
    base, tuned = tiny_pair(tmp_path)
    write_checkpoint(tmp_path / "other", tuned_from(tiny_base(), seed=9))
    from rlviz.probes.spectrum import PROBE

    calls: list[str] = []
    original = type(PROBE).run_base

    def counted(self, tensors, params):
        calls.append(tensors.match.name)
        return original(self, tensors, params)

    monkeypatch.setattr(type(PROBE), "run_base", counted)
    results = api.compare(base, [tuned, str(tmp_path / "other")], store=tmp_path / "store")
    assert len(results) == 2
    assert sorted(calls) == sorted(m.name for m in results[0].measured if m.match.is_matrix)


SLOWED = """
import sys, time
from rlviz import api
from rlviz.store import Store
original = Store.put
def put(self, key, record):
    time.sleep(0.05)
    original(self, key, record)
Store.put = put
print("started", flush=True)
api.compare(sys.argv[1], sys.argv[2], store=sys.argv[3], workers=2)
"""


@pytest.mark.parametrize("landed_before_kill", [1, 5, 12])
def test_killed_run_resumes_byte_identical(tmp_path, landed_before_kill):
    base, tuned = tiny_pair(tmp_path)
    store = tmp_path / "store"
    process = subprocess.Popen([sys.executable, "-c", SLOWED, base, tuned, str(store)], stdout=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while len(list((store / "records").rglob("*.safetensors"))) < landed_before_kill:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {name: (store / name).stat().st_mtime_ns for name in files(store)}
    assert len(before) >= landed_before_kill

    partial = api.plan(base, tuned, store=store)
    assert 0 < len(partial.pending) < len(partial.steps) or landed_before_kill == 1
    resumed = api.compare(base, tuned, store=store, workers=2)
    assert resumed.complete
    for name, mtime in before.items():
        if name.endswith(".safetensors"):
            assert (store / name).stat().st_mtime_ns == mtime, "a record that had landed was written again"
    fresh = tmp_path / "fresh"
    api.compare(base, tuned, store=fresh, workers=2)
    complete = {name: data for name, data in files(store).items() if name.endswith(".safetensors")}
    assert complete == files(fresh)


def test_cancel_keeps_what_landed(tmp_path):
    base, tuned = tiny_pair(tmp_path)
    store, cancel = Store(tmp_path / "store"), Event()
    original = store.put

    def put_and_cancel(key, record):
        original(key, record)
        cancel.set()

    store.put = put_and_cancel  # type: ignore[method-assign]
    with pytest.raises(Cancelled, match="stopped on request"):
        api.compare(base, tuned, store=store, workers=1, cancel=cancel)
    assert 1 <= len(files(store.root)) < 10
    assert not (store.read_json(next(store.results())[0], "manifest") or {})["complete"]


def test_truncated_file_stops_the_run_with_its_name(tmp_path):
    base, tuned = tiny_pair(tmp_path)
    with resolve(base) as left, resolve(tuned) as right:
        file = Path(tuned) / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-2000])  # after the headers were read
        planned = plan(pair(left, right), Store(tmp_path / "store"), api.request())
        with pytest.raises(UnsupportedCheckpoint, match=r"model\.safetensors"):
            run(planned, Store(tmp_path / "store"))


def test_non_finite_weights_are_counted_and_their_spectrum_skipped(tmp_path):
    base = tiny_base()
    tuned = tuned_from(base)
    name = "model.layers.0.self_attn.q_proj.weight"
    tuned[name][3, 4], tuned[name][5, 6] = np.nan, np.inf
    write_checkpoint(tmp_path / "base", base)
    write_checkpoint(tmp_path / "tuned", tuned)
    result = api.compare(str(tmp_path / "base"), str(tmp_path / "tuned"), store=tmp_path / "store")
    row = next(r for r in result.rows() if r["name"] == name)
    assert row["n_nonfinite"] == 2
    assert row["n"] == tuned[name].size - 2
    assert row["nss"] is None
    skips = {s.detail.partition(":")[0]: s for s in result.skipped if s.name == name}
    assert {"spectrum", "masks"} <= skips.keys()
    assert {s.reason for s in skips.values()} == {"non_finite"}
    json.dumps(result.to_dict(), allow_nan=False)  # what is undefined is null, never NaN


def test_unmeasurable_tensors_are_not_read_again(tmp_path):
    base = tiny_base()
    tuned = tuned_from(base)
    tuned["model.layers.0.self_attn.q_proj.weight"][3, 4] = np.nan
    write_checkpoint(tmp_path / "base", base)
    write_checkpoint(tmp_path / "tuned", tuned)
    pair_of = (str(tmp_path / "base"), str(tmp_path / "tuned"))
    first = api.compare(*pair_of, store=tmp_path / "store")
    assert not api.plan(*pair_of, store=tmp_path / "store").pending
    again = api.compare(*pair_of, store=tmp_path / "store")
    assert again.provenance == first.provenance
    assert again.skipped == first.skipped


def test_damaged_record_is_computed_again(tmp_path):
    base, tuned = tiny_pair(tmp_path)
    store = Store(tmp_path / "store")
    first = api.compare(base, tuned, store=store)
    before = files(store.root)
    damaged = sorted((store.root / "records").rglob("*.safetensors"))[3]
    damaged.write_bytes(damaged.read_bytes()[:50])
    again = api.compare(base, tuned, store=store)
    assert again.rows() == first.rows()
    assert files(store.root) == before


def test_stack_without_spectrum_is_listed(tmp_path):
    stack = np.random.default_rng(0).standard_normal((3, 8, 6)).astype(np.float32)
    name = "model.layers.0.mlp.experts.down_proj"
    write_checkpoint(tmp_path / "base", {name: stack})
    write_checkpoint(tmp_path / "tuned", {name: stack + np.float32(1e-3)})
    result = api.compare(str(tmp_path / "base"), str(tmp_path / "tuned"), store=tmp_path / "store")
    assert [(s.name, s.reason) for s in result.skipped] == [(name, "not_a_matrix")] * 2
    assert {s.detail.partition(":")[0] for s in result.skipped} == {"spectrum", "masks"}
    assert result.value("update_sparsity", name, MetricParams(lens=Lens.STORED)) == 0


def test_group_totals_add_up(tmp_path):
    base, tuned = tiny_pair(tmp_path)
    result = api.compare(base, tuned, probes=("coordinate",), store=tmp_path / "store")
    rows, summary = result.rows(), result.summary()
    assert summary["patch_bytes"] == sum(r["patch_bytes"] for r in rows)
    assert summary["update_norm"] == pytest.approx(np.sqrt(sum(r["update_norm"] ** 2 for r in rows)))
    assert summary["max_abs_update"] == max(r["max_abs_update"] for r in rows)


def test_memory_cap_skips_what_cannot_fit_and_says_so(tmp_path):
    base, tuned = tiny_pair(tmp_path)
    with resolve(base) as left, resolve(tuned) as right:
        wanted = replace(api.request(), memory_bytes=1)
        planned = plan(pair(left, right), Store(tmp_path / "store"), wanted)
    assert {s.reason for s in planned.skipped} == {"memory"}
    assert "RLVIZ_MEMORY_MB" in planned.skipped[0].detail
    assert not planned.steps


def test_budget_falls_back_to_leading_directions_then_skips(tmp_path):
    base, tuned = tiny_pair(tmp_path)
    planned = api.plan(base, tuned, store=tmp_path / "store", wanted=api.request(probes=("spectrum",)))
    seconds = sorted(step.cost.seconds for step in planned.steps)
    budget = (sum(seconds[:4]) + 1e-9) / 60
    wanted = api.request(probes=("spectrum",), budget_minutes=budget, workers=1)
    limited = api.plan(base, tuned, store=tmp_path / "store", wanted=wanted)
    reasons = [s.reason for s in limited.skipped]
    assert sum(step.params["method"] == "exact" for step in limited.steps) >= 4
    assert reasons.count("budget") + len(limited.steps) == len(planned.steps)
    assert limited.seconds("spectrum") <= budget * 60 + 1e-6


def test_progress_is_throttled_and_ends_complete(tmp_path):
    base, tuned = tiny_pair(tmp_path)
    seen = []
    api.compare(base, tuned, store=tmp_path / "store", report=seen.append)
    assert seen[-1].steps_done == seen[-1].steps_total > 0
    assert seen[-1].bytes_read > 0
    times = [p.elapsed_s for p in seen[:-1]]
    assert all(b - a >= 0.24 for a, b in pairwise(times))


def test_two_runs_of_one_pair_compute_once(tmp_path):
    base, tuned = tiny_pair(tmp_path)
    store = Store(tmp_path / "store")
    written: list[str] = []
    original = store.put

    def counted(key, record):
        written.append(key)
        original(key, record)

    store.put = counted  # type: ignore[method-assign]
    results = []
    threads = [Thread(target=lambda: results.append(api.compare(base, tuned, store=store))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    assert len(written) == len(set(written))
    assert results[0].rows() == results[1].rows()


def test_memory_budget_never_exceeds_its_cap():
    budget, check = MemoryBudget(100), CancelCheck("x")

    def work() -> None:
        for _ in range(50):
            with budget.reserve(40, check):
                pass

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 < budget.peak <= 100
    assert budget.in_use == 0


def test_waiting_for_memory_can_be_cancelled():
    asked = Event()
    budget, check = MemoryBudget(10), CancelCheck("x", asked)
    asked.set()
    with budget.reserve(10, CancelCheck("x")), pytest.raises(Cancelled), budget.reserve(1, check):
        pass


def test_grown_vocabulary_and_fp32_against_bf16_are_said(tmp_path):
    base = tiny_base()
    tuned = tuned_from(base)
    rows = tuned["model.embed_tokens.weight"]
    tuned["model.embed_tokens.weight"] = np.vstack([rows, rows[:3]])
    write_checkpoint(tmp_path / "base", base)
    write_checkpoint(tmp_path / "tuned", tuned)
    result = api.compare(str(tmp_path / "base"), str(tmp_path / "tuned"), store=tmp_path / "store")
    embedding = result.by_name("model.embed_tokens.weight")
    assert embedding.shape == (40, 24)
    text = " ".join(n.detail for n in result.notices)
    assert "common 40 rows" in text
    assert "fp32" in text


def test_base_that_is_not_the_ancestor_is_said(tmp_path):
    write_checkpoint(tmp_path / "a", tiny_base(0))
    write_checkpoint(tmp_path / "b", tiny_base(1, dtype=ml_dtypes.bfloat16))
    result = api.compare(str(tmp_path / "a"), str(tmp_path / "b"), probes=("coordinate",), store=tmp_path / "store")
    assert any("ancestor" in n.detail for n in result.notices)
