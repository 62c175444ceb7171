"""Whole previews of real files: right numbers, honest intervals, rounds, store, cancel."""

from __future__ import annotations

import json
from threading import Event

import ml_dtypes
import numpy as np
import pytest

import rlviz
from rlviz import api
from rlviz.bins import ULP_BINS
from rlviz.errors import Cancelled, InvalidInput, NothingComparable
from rlviz.sampling import Preview, run
from rlviz.store import Store
from rlviz.types import LENSES, Lens
from tests.checkpoints import tiny_base, tiny_pair, tuned_from, write_checkpoint


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Matrices of 600 × 256 with a tenth of the rows changed, so that rows are what differs."""
    folder = tmp_path_factory.mktemp("striped")
    random = np.random.default_rng(0)
    base = {
        f"model.layers.{layer}.mlp.{name}.weight": (0.02 * random.standard_normal((600, 256))).astype(
            ml_dtypes.bfloat16
        )
        for layer in range(3)
        for name in ("gate_proj", "up_proj")
    }
    base["model.norm.weight"] = np.ones(256, ml_dtypes.bfloat16)
    base["model.layers.0.steps"] = np.arange(4)
    tuned = {name: array.copy() for name, array in base.items()}
    for name, array in tuned.items():
        if array.ndim == 2 and "layers.2" not in name:
            rows = random.random(600) < 0.1
            array[rows] = (array[rows].astype(np.float32) * 1.05).astype(ml_dtypes.bfloat16)
    return str(write_checkpoint(folder / "base", base)), str(write_checkpoint(folder / "tuned", tuned))


def preview(pair, tmp_path, **kwargs) -> Preview:
    return rlviz.preview(*pair, store=tmp_path / "store", **kwargs)


def test_everything_read_equals_the_comparison(tmp_path):
    pair = tiny_pair(tmp_path)
    found = preview(pair, tmp_path)
    exact = rlviz.compare(*pair, probes=("coordinate",), store=tmp_path / "other")
    assert found.stopped == "everything read"
    for lens in LENSES:
        share = found.pooled.sparsity(lens)
        assert share.low == share.estimate == share.high
        assert share.estimate == pytest.approx(exact.summary()["update_sparsity"][lens.value], abs=1e-12)
    norm = found.pooled.relative_update_norm
    assert norm.low == norm.estimate == norm.high
    assert norm.estimate == pytest.approx(exact.summary()["relative_update_norm"], rel=1e-9)
    ulps = sum(np.array(m.records["coordinate"].fields["ulp_counts"]) for m in exact.measured)
    assert [e.estimate for e in found.pooled.ulp] == pytest.approx(list(ulps / ulps.sum()), abs=1e-12)


def test_a_sample_is_honest_at_every_level(pair, tmp_path):
    found = preview(pair, tmp_path, budget="256KiB", target=0)
    exact = rlviz.compare(*pair, probes=("coordinate",), store=tmp_path / "other")
    assert found.stopped == "budget"
    assert found.bytes_read <= 256 << 10
    truth = 1 - exact.summary()["update_sparsity"]["bf16"]
    pooled = found.pooled.density[Lens.BF16]
    assert pooled.low <= truth <= pooled.high
    assert 0 < pooled.half_width < 0.2
    for tensor in found.tensors:
        own = tensor.sampled.density[Lens.BF16]
        assert own.low <= exact.value("update_sparsity", tensor.match.name) * -1 + 1 <= own.high
        assert (own.high > own.low) == (tensor.sampled.n_sampled < tensor.sampled.n)
    frozen = found.layers[2]
    assert frozen.density[Lens.BF16].estimate == 0 < frozen.density[Lens.BF16].high
    assert frozen.relative_update_norm.high == np.inf
    assert sum(e.estimate for e in found.pooled.ulp) == pytest.approx(1)
    assert found.pooled.ulp[ULP_BINS - 1].estimate == pytest.approx(1 - pooled.estimate)
    assert [(s.name, s.reason) for s in found.skipped] == [("model.layers.0.steps", "not_sampled")]


def test_the_same_seed_reads_the_same_rows_and_another_does_not(pair, tmp_path):
    options = {"budget": "256KiB", "target": 0}
    first, again = (rlviz.preview(*pair, store=tmp_path / s, seed=1, **options) for s in "ab")
    other = rlviz.preview(*pair, store=tmp_path / "a", seed=2, **options)
    assert first.pooled.density == again.pooled.density
    assert first.pooled.density != other.pooled.density


def test_rounds_report_narrower_intervals_and_a_whole_heat_map_from_the_first(pair, tmp_path):
    seen: list[Preview] = []
    last = preview(pair, tmp_path, budget="256KiB", target=0, report=seen.append)
    assert [p.stopped for p in seen[:-1]] == ["under way"] * (len(seen) - 1)
    assert seen[-1] is last
    assert all(t.sampled.n_sampled > 0 for t in seen[0].tensors)
    assert last.pooled.density[Lens.BF16].half_width < seen[0].pooled.density[Lens.BF16].half_width
    assert [p.bytes_read for p in seen] == sorted(p.bytes_read for p in seen)


def test_it_stops_at_the_target_once_enough_units_say_so(pair, tmp_path, monkeypatch):
    assert preview(pair, tmp_path, budget="1MiB", target=0.1).stopped == "budget"
    monkeypatch.setattr(run, "ENOUGH_UNITS", 40)
    found = preview(pair, tmp_path, budget="1MiB", target=0.1, seed=1)
    assert found.stopped == "target"
    assert found.pooled.density[Lens.BF16].half_width <= 0.1
    assert found.bytes_read < 1 << 20


def test_a_finished_preview_comes_from_the_store(pair, tmp_path):
    store = Store(tmp_path / "store")
    first = rlviz.preview(*pair, store=store, budget="256KiB")
    assert api.locate_preview(*pair, budget="256KiB") == first.key
    reports: list[Preview] = []
    again = rlviz.preview(*pair, store=store, budget="256KiB", report=reports.append)
    assert reports == []
    assert again.to_dict() == first.to_dict()


def test_json_has_the_documented_form_and_comes_back(pair, tmp_path):
    found = preview(pair, tmp_path, budget="256KiB")
    text = json.dumps(found.to_dict(), allow_nan=False)
    content = json.loads(text)
    assert content["schema"] == 1
    for where in (content["summary"], content["tensors"][0]):
        assert set(where["update_sparsity"]) == {lens.value for lens in LENSES}
        assert set(where["update_sparsity"]["bf16"]) == {"estimate", "low", "high"}
    assert {"bytes_read", "requests"} <= set(content["summary"])
    assert {"name", "n_sampled"} <= set(content["tensors"][0])
    back = Preview.from_dict(content)
    assert back.to_dict() == found.to_dict()
    assert back.layers[2].relative_update_norm.high == np.inf
    assert set(back.cells) == set(found.cells)


def test_a_stop_before_the_first_round_is_a_cancel_and_later_returns_what_is_known(pair, tmp_path):
    cancel = Event()
    found = preview(pair, tmp_path, budget="256KiB", target=0, cancel=cancel, report=lambda _: cancel.set())
    assert (found.stopped, found.rounds) == ("asked", 1)
    with pytest.raises(Cancelled):
        preview(pair, tmp_path, budget="256KiB", seed=9, cancel=cancel)
    whole = preview(pair, tmp_path, budget="256KiB", target=0)  # what was stopped is not the last word
    assert whole.stopped == "budget"


def test_a_budget_for_a_few_tensors_says_how_little_it_knows(tmp_path):
    random = np.random.default_rng(0)
    base = {
        f"model.layers.{i}.mlp.gate_proj.weight": random.standard_normal((32, 2048)).astype(np.float32)
        for i in range(40)
    }
    sides = [write_checkpoint(tmp_path / s, a) for s, a in (("base", base), ("tuned", tuned_from(base, std=1e-2)))]
    found = rlviz.preview(*sides, budget="160KiB", target=0, store=tmp_path / "store")
    unread = [t for t in found.tensors if t.sampled.n_sampled == 0]
    assert unread
    assert np.isnan(unread[0].sampled.density[Lens.BF16].estimate)
    exact = rlviz.compare(*sides, probes=("coordinate",), store=tmp_path / "store")
    pooled = found.pooled.sparsity(Lens.BF16)
    assert pooled.low <= exact.summary()["update_sparsity"]["bf16"] <= pooled.high


def test_what_makes_no_sense_is_refused(pair, tmp_path):
    for options in ({"budget": "lots"}, {"budget": 12}, {"seed": -1}, {"target": 1.5}, {"budget": -5}):
        with pytest.raises(InvalidInput):
            preview(pair, tmp_path, **options)
    numbers = [write_checkpoint(tmp_path / s, {"model.steps": np.arange(9)}) for s in "ab"]
    with pytest.raises(NothingComparable, match="compare"):
        rlviz.preview(*numbers, store=tmp_path / "store")


def test_not_a_number_is_in_no_share(tmp_path):
    base = tiny_base()
    tuned = {name: array.copy() for name, array in base.items()}
    name = "model.layers.0.mlp.gate_proj.weight"
    tuned[name][0] = np.nan
    sides = [write_checkpoint(tmp_path / s, a) for s, a in (("base", base), ("tuned", tuned))]
    found = rlviz.preview(*sides, store=tmp_path / "store")
    assert found.pooled.density[Lens.BF16].estimate == 0


@pytest.mark.parametrize("std", [0.02, 0.3])
def test_the_stand_in_for_the_largest_magnitude_hardly_matters(tmp_path, std):
    """A few outliers, ten times as large as the rest, that the first rows do not hold."""
    random = np.random.default_rng(0)
    w = std * random.standard_normal((4096, 256))
    w[4000, :3] = 10 * std
    base = {"model.layers.0.mlp.gate_proj.weight": w.astype(ml_dtypes.bfloat16)}
    sides = [
        write_checkpoint(tmp_path / s, a) for s, a in (("base", base), ("tuned", tuned_from(base, std=0.01 * std)))
    ]
    found = rlviz.preview(*sides, budget="1MiB", target=0, store=tmp_path / "store")
    exact = rlviz.compare(*sides, probes=("coordinate",), store=tmp_path / "store").summary()["update_sparsity"]
    for lens in (Lens.FP8_E4M3, Lens.FP8_E5M2):
        assert found.pooled.sparsity(lens).estimate == pytest.approx(exact[lens.value], abs=0.01)
