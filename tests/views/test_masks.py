"""The Masks page: overlaps against a brute-force count, sentences by their thresholds, and controls of both signs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import ceil, isnan, nan

import ml_dtypes
import numpy as np
import plotly.graph_objects as go
import pytest
from numpy.typing import NDArray

from rlviz import views
from rlviz.metrics import METRICS
from rlviz.result import PairResult
from rlviz.types import MetricParams, Record, Skipped
from rlviz.views.formats import number, percent
from rlviz.views.masks_remarks import masks_remarks, shuffled_overlap
from rlviz.views.masks_words import (
    Overlap,
    counted_ranks,
    far_matrices,
    mask_numbers,
    masks_answer,
    masks_setting,
    overlap_label,
    overlap_of,
    overlap_table,
    ratio,
    verdict,
)
from rlviz.views.tables import companions, main_metrics, measure_table, tensor_card
from rlviz.views.theme import DIVERGING
from tests.views.pairs import Q0, base_weights, result_of, tuned_weights

PARAMS = MetricParams(k=16, alpha=0.3)
MASKS = ("principal", "low_magnitude", "principal_not_low")


def masks_of(w: NDArray[np.float32], k: int, alpha: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Principal and low-magnitude masks, by sorting."""
    u, s, v = np.linalg.svd(w.astype(np.float64), full_matrices=False)
    score, n = np.abs((u[:, :k] * s[:k]) @ v[:k]), ceil(alpha * w.size)
    return score >= np.sort(score, axis=None)[-n], np.abs(w) <= np.sort(np.abs(w), axis=None)[n - 1]


def changed(base: NDArray[np.float32], tuned: NDArray[np.float32]) -> NDArray[np.bool_]:
    return tuned.astype(ml_dtypes.bfloat16).astype(np.float32) != base


@pytest.fixture(scope="session")
def planted() -> PairResult:
    """Changes only among entries outside the principal mask."""
    tuned = tuned_weights(step=2e-2, seed=3)
    for name, w in base_weights().items():
        if w.ndim == 2:
            principal, _ = masks_of(w, 16, 0.3)
            tuned[name] = np.where(principal, w, tuned[name])
    return result_of("org/planted", tuned)


@pytest.fixture(scope="session")
def striped() -> PairResult:
    """Noise in every fourth row only."""
    tuned = tuned_weights(step=2e-2, seed=4)
    for name, w in base_weights().items():
        tuned[name] = np.where((np.arange(len(w)) % 4 == 0)[:, None], tuned[name], w) if w.ndim == 2 else w
    return result_of("org/striped", tuned)


def named(figure: go.Figure, name: str) -> list[go.Scatter]:
    return [t for t in figure.data if t.name == name]


@pytest.mark.parametrize("alpha", [0.05, 0.3])
def test_overlaps_are_those_of_a_brute_force_count(rl: PairResult, alpha: float) -> None:
    tuned, hits, size, total, n = tuned_weights(step=2e-3, seed=1), np.zeros(3), np.zeros(3), 0, 0
    for name, w in base_weights().items():
        if w.ndim == 2:
            principal, low = masks_of(w, 16, alpha)
            moved = changed(w, tuned[name])
            masks = (principal, low, principal & ~low)
            hits += [int((m & moved).sum()) for m in masks]
            size += [m.mean() * moved.sum() for m in masks]
            total, n = total + int(moved.sum()), n + w.size
    assert 0 < total < n
    rows = views.plot_mask_overlaps([rl], MetricParams(k=16, alpha=alpha), "light").table
    assert [row["mask"] for row in rows] == list(MASKS)
    np.testing.assert_allclose([row["overlap"] for row in rows], hits / total, rtol=1e-12)
    np.testing.assert_allclose([row["baseline"] for row in rows], size / total, rtol=1e-12)


def test_marks_are_where_the_numbers_are(results: list[PairResult]) -> None:
    plot = views.plot_mask_overlaps(results, PARAMS, "dark")
    dots = [t for t in plot.figure.data if t.mode == "markers" and not t.name.startswith("update")]
    assert len(dots) == len(results)
    null, bars = named(plot.figure, "rounding alone ± 2 SD")[0], named(plot.figure, "possible at this density")[0]
    rows = [o for mask in MASKS for o in (overlap_of(r, mask, PARAMS) for r in results)]
    np.testing.assert_allclose(null.x[::3], [100 * o.null for o in rows])
    np.testing.assert_allclose(bars.x[::3], [100 * o.feasible_min for o in rows])
    for i, trace in enumerate(dots):
        own = [overlap_of(results[i], mask, PARAMS) for mask in MASKS]
        np.testing.assert_allclose(trace.x, [100 * o.observed for o in own])
        at = [list(bars.y[::3]).index(y) for y in trace.y]
        assert all(bars.x[3 * j] <= x <= bars.x[3 * j + 1] for j, x in zip(at, trace.x, strict=True))
    headings, texts = ([a.text for a in plot.figure.layout.annotations if a.font.size == size] for size in (14, 12))
    assert len(headings) == len(MASKS)
    assert all("of chance; rounding alone gives" in text for text in texts)
    assert not any("<b>" in text for text in texts)


def test_noise_and_rounding_look_selective_and_are_called_nothing() -> None:
    noise = result_of("org/noise", tuned_weights(step=3e-3, seed=11), "BF16")
    [sentence] = masks_answer([noise], PARAMS)
    assert "changes avoid principal weights" in sentence
    assert "nothing beyond rounding" in sentence
    assert "matrices" not in sentence


def test_planted_avoidance_is_called_what_rounding_does_not_explain(planted: PairResult) -> None:
    [sentence] = masks_answer([planted], PARAMS)
    assert "avoid principal weights (0× of chance)" in sentence
    assert "fewer than rounding explains (−" in sentence
    below, above, known = far_matrices(planted, PARAMS)
    assert (below, above) == (known, 0)
    assert f"{known} of {known} have fewer, 0 more than isotropic noise" in sentence


def test_a_model_against_itself_has_no_overlap() -> None:
    same = result_of("org/same", base_weights())
    [sentence] = masks_answer([same], PARAMS)
    assert sentence.endswith("no overlap is defined, because no weight changed or all did.")
    assert "undefined" in views.plot_mask_overlaps([same], PARAMS, "light").alt
    assert "undefined" in views.plot_mask_odds([same], PARAMS, "light").alt
    assert overlap_table([same], PARAMS) == []
    assert mask_numbers(same, PARAMS) == ()


def overlap(z: float, excess: float) -> Overlap:
    return Overlap("principal", "principal weights", 0.2, 0.3, 0.0, 0.5, 0.2 - excess, 0.001, excess, z, nan, nan)


@pytest.mark.parametrize(
    ("z", "excess", "said"),
    [
        (2.9, 0.2, "nothing beyond rounding over all changes (+20 points, z +2.9)"),
        # with many entries a z of 5 can be an excess of 0.05 points
        (-5.0, -0.0005, "a trace beyond rounding (−0.050 points, z −5.0), too little to matter"),
        (-30.0, -0.02, "fewer than rounding explains (−2.0 points, z −30)"),
        (30.0, 0.02, "more than rounding explains (+2.0 points, z +30)"),
        (nan, nan, "what rounding alone gives is not known here"),
    ],
)  # fmt: skip
def test_the_verdict_takes_both_size_and_certainty(z: float, excess: float, said: str) -> None:
    assert verdict(overlap(z, excess)) == said


def test_a_label_has_the_null_in_the_same_breath() -> None:
    one = replace(overlap(0.1, 0.0), observed=0.2058, null=0.2061)
    assert overlap_label(one) == "0.69× of chance; rounding alone gives 0.69×"
    assert overlap_label(replace(one, shuffle=0.45)).endswith("gives 0.69×, the shuffled update 1.50×")
    assert "undefined" in overlap_label(replace(one, observed=nan))


def test_shuffles_are_drawn_only_where_there_are_any(rl: PairResult) -> None:
    name = "update shuffled within its matrix"
    rounded = result_of("org/rounded", tuned_weights(step=3e-3, seed=5), "BF16")
    assert not named(views.plot_mask_overlaps([rounded], PARAMS, "light").figure, name)
    shuffled = METRICS["overlap_principal_shuffle"].pooled(rl.floats, PARAMS)
    [trace] = named(views.plot_mask_overlaps([rl], PARAMS, "light").figure, name)
    assert trace.x[0] == pytest.approx(100 * shuffled)
    assert "z, shuffled" in overlap_table([rl], PARAMS)[0]


def test_the_shuffled_update_is_said_in_words(rl: PairResult) -> None:
    """Noise in places of its own is reproduced by shuffling; with the numbers of the metrics."""
    shuffled, _ = masks_remarks([rl], PARAMS)
    group = [m for m in rl.floats if m.match.is_matrix]
    for mask in ("principal", "low_magnitude"):
        found = shuffled_overlap(rl, mask, PARAMS)
        assert found is not None
        key = f"overlap_{mask}"
        observed, baseline, null = (
            METRICS[f"{key}{end}"].pooled(group, PARAMS) for end in ("", "_baseline", "_shuffle")
        )
        assert (found.observed, found.baseline, found.shuffled) == pytest.approx((observed, baseline, null))
        assert f"take {ratio(null / baseline)}× of chance ({ratio(observed / baseline)}× as it is)" in shuffled
    assert f"(5 shuffles of {len(group)} matrices)" in shuffled


def test_planted_places_are_not_reproduced_by_shuffling(planted: PairResult) -> None:
    sentence = masks_remarks([planted], PARAMS)[0]
    assert "Shuffling does not reproduce the raw overlaps" in sentence
    assert "where the update went matters" in sentence
    found = shuffled_overlap(planted, "principal", PARAMS)
    assert found is not None
    assert found.observed == 0 < found.shuffled
    assert not found.reproduced


def test_why_nothing_was_shuffled(rl: PairResult) -> None:
    rounded = result_of("org/rounded", tuned_weights(step=3e-3, seed=5), "BF16")
    assert "stored in bf16" in masks_remarks([rounded], PARAMS)[0]
    bare = replace(rl, measured=tuple(replace(m, records=_without(m.records, "nulls")) for m in rl.measured))
    assert "Measure it with the nulls probe" in masks_remarks([bare], PARAMS)[0]


def test_the_masks_jaccard_stands_beside_its_chance(rl: PairResult) -> None:
    share, chance = (percent(rl.pooled(f"jaccard_principal_low{end}", PARAMS)) for end in ("", "_null"))
    sentence = masks_remarks([rl], PARAMS)[-1]
    assert f"share {share} of the weights" in sentence
    assert f"of these sizes share {chance}." in sentence


def test_masks_that_were_not_measured_say_what_to_run(rl: PairResult) -> None:
    bare = replace(rl, measured=tuple(replace(m, records=_without(m.records, "masks")) for m in rl.measured))
    [sentence] = masks_answer([bare], PARAMS)
    assert "--probes coordinate,spectrum,masks,nulls" in sentence
    for plot in (views.plot_mask_overlaps, views.plot_mask_excess, views.plot_mask_odds, views.plot_mask_dispersion):
        assert plot([bare], PARAMS, "light").alt == sentence
    [running] = masks_answer([replace(bare, complete=False)], PARAMS)
    assert "No mask has been counted yet" in running
    left_out = Skipped(Q0, "budget", "masks: needs about 40 s; raise --budget-minutes")
    [skipped] = masks_answer([replace(bare, skipped=(left_out,))], PARAMS)
    assert "raise --budget-minutes" in skipped
    assert masks_remarks([bare], PARAMS) == ()


def _without(records: Mapping[str, Record], name: str) -> dict[str, Record]:
    return {probe: record for probe, record in records.items() if probe != name}


def test_the_map_diverges_around_zero_and_keeps_the_true_value(planted: PairResult) -> None:
    plot = views.plot_mask_excess([planted], PARAMS, "light")
    axis = plot.figure.layout.coloraxis
    assert (axis.cmin, axis.cmax) == (-10, 10)
    assert tuple(axis.colorscale[len(axis.colorscale) // 2]) == DIVERGING[len(DIVERGING) // 2]
    z = METRICS["overlap_principal_z"].of(planted.by_name(Q0), PARAMS)
    assert z < -10
    [row] = [row for row in plot.table if row["tensor"] == Q0]
    assert row["overlap_principal_z"] == z
    hover = [
        d[3]
        for t in plot.figure.data
        if t.type == "scatter" and t.mode == "markers"
        for d in t.customdata
        if d[0] == Q0
    ]
    assert f" {z:.4g}<br>" in hover[0]


def test_odds_have_their_interval_and_all_matrices_first(results: list[PairResult]) -> None:
    plot = views.plot_mask_odds(results, PARAMS, "light")
    for result in results:
        rows = [row for row in plot.table if row["model"] == result.tuned.pinned_ref]
        assert [row["module"] for row in rows] == ["all matrices", "q_proj", "down_proj", "embed_tokens"]
        for key, name in (("", "log_odds_mh"), ("_ci_low", "ci_low"), ("_ci_high", "ci_high")):
            assert rows[0][name] == result.pooled(f"log_odds_principal_mh{key}", PARAMS)
        assert all(
            row["ci_low"] < row["log_odds_mh"] < row["ci_high"] for row in rows if row["log_odds_mh"] is not None
        )
    bands = [t for t in plot.figure.data if t.name.endswith("95 % interval")]
    assert [t.x[0] for t in bands] == [r.pooled("log_odds_principal_mh_ci_low", PARAMS) for r in results]


def test_stripes_stand_above_their_null_and_noise_does_not(rl: PairResult, striped: PairResult) -> None:
    def rows(result: PairResult) -> list[tuple[float, float]]:
        table = views.plot_mask_dispersion([result], PARAMS, "light").table
        return [(row["dispersion"], row["null"]) for row in table if row["axis"] == "row"]

    assert all(seen > 5 * null for seen, null in rows(striped))
    assert all(seen < 2.5 * null for seen, null in rows(rl))
    plot = views.plot_mask_dispersion([striped], PARAMS, "light")
    shuffled = METRICS["row_dispersion_shuffle"].pooled(striped.floats, PARAMS)
    row = next(row for row in plot.table if (row["axis"], row["module"]) == ("row", "all matrices"))
    assert row["shuffle"] == shuffled < row["dispersion"] / 5
    diamonds, _ = named(plot.figure, "update shuffled")
    assert diamonds.x[0] == shuffled
    assert f"shuffled {number(shuffled)}" in plot.caption


def test_dispersion_is_read_against_rounding_where_masks_were_measured(rl: PairResult) -> None:
    metric, measured = METRICS["row_dispersion"], rl.by_name(Q0)
    null = METRICS["row_dispersion_null"].of(measured, PARAMS)
    assert metric.chance_of(measured, PARAMS) == null > 0
    without = replace(measured, records={k: v for k, v in measured.records.items() if k != "masks"})
    assert isnan(metric.chance_of(without, PARAMS))
    assert not isnan(metric.of(without, PARAMS))


@pytest.mark.parametrize(
    ("k", "said"),
    [
        (16, "k = 16, α = 0.3"),
        (96, "k = 16 (the preset below 96), α = 0.3"),
        (8, "k = 16 (the smallest preset, for 8)"),
    ],
)
def test_the_caption_says_which_preset_stands_for_k(rl: PairResult, k: int, said: str) -> None:
    assert counted_ranks([rl]) == (16,)
    assert masks_setting([rl], MetricParams(k=k)).startswith(said)
    assert said in views.plot_mask_overlaps([rl], MetricParams(k=k), "light").caption


def test_what_stands_beside_a_metric_has_no_row_of_its_own(rl: PairResult) -> None:
    titles = {m.title for m in METRICS.values() if m.companion}
    assert not titles & {row["measure"] for row in measure_table([rl], PARAMS)}
    assert not titles & {row["metric"] for row in tensor_card([rl], Q0, PARAMS)}
    beside = [m.key for metric in main_metrics() for m in companions(metric)]
    assert sorted(beside) == sorted(m.key for m in METRICS.values() if m.companion)
    assert "overlap_principal_not_low_null" in {m.key for m in companions(METRICS["overlap_principal_not_low"])}
