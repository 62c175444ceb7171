"""The numbers behind curves, strips, dots and bars: they are the metrics, and chance stands beside them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from rlviz import views
from rlviz.bins import ETA_EDGES, TAU_EDGES
from rlviz.metrics import METRICS
from rlviz.metrics.alignment import alignment_curve
from rlviz.metrics.subspace import angle_curve, chance_angles
from rlviz.published import published_values
from rlviz.result import PairResult
from rlviz.types import LENSES, Lens, MetricParams
from rlviz.views.breakdown import linear_layers
from rlviz.views.words import percent
from tests.views.pairs import Q0, base_weights, result_of, shapes, tuned_weights

Results = list[PairResult]
PARAMS = MetricParams(k=8)


def trace(plot: views.Plot, name: str, nth: int = 0) -> Any:
    return [t for t in plot.figure.data if t.name == name][nth]


def test_by_layer_pools_counts(results: Results) -> None:
    plot = views.plot_sparsity_by_layer(results, PARAMS, "light")
    drawn = trace(plot, "sft")
    for layer, y in zip(drawn.x, drawn.y, strict=True):
        pooled = results[1].pooled("update_sparsity", PARAMS, lambda m, layer=layer: m.layer == layer)
        assert y == pytest.approx(100 * pooled)
    assert plot.figure.layout.yaxis.range == (0, 100)
    assert "sft" in [a.text for a in plot.figure.layout.annotations]  # labelled at the line's end
    assert not any(t.showlegend for t in plot.figure.data)


def test_linear_layers_leave_norms_and_embeddings_out(results: Results) -> None:
    table = views.plot_sparsity_by_module(results, PARAMS, "light", linear_layers).table
    assert {row["module"] for row in table} == {"q_proj", "down_proj"}


def test_more_than_four_lines_get_a_legend(sft: PairResult) -> None:
    plot = views.plot_sparsity_by_layer([sft] * 5, PARAMS, "light")
    assert sum(bool(t.showlegend) for t in plot.figure.data) == 5


def test_strip_shows_every_published_value_and_ours(results: Results) -> None:
    plot = views.plot_published_strip(results, Lens.BF16, "light")
    published = published_values("update_sparsity_bf16")
    drawn = [x for t in plot.figure.data if t.name.startswith("published") for x in t.x]
    assert sorted(drawn) == pytest.approx(sorted(100 * v.value for v in published))
    share = results[1].pooled("update_sparsity", PARAMS)
    assert trace(plot, "sft").x[0] == pytest.approx(100 * share)
    assert percent(share) in plot.alt
    assert "does not prove RL" in plot.caption
    low, high = plot.figure.layout.xaxis.range
    assert low < 0
    assert high > 100


def test_strip_stays_in_the_published_format(results: Results) -> None:
    plot = views.plot_published_strip(results, Lens.FP8_E4M3, "light")
    assert trace(plot, "sft").x[0] == pytest.approx(100 * results[1].pooled("update_sparsity", PARAMS))
    assert "Papers report bf16 only" in plot.caption


def test_hidden_updates_split_what_changed_as_stored(results: Results) -> None:
    plot = views.plot_hidden_updates(results, PARAMS, "light")
    seen, hidden = trace(plot, "sft"), trace(plot, "sft, hidden")
    for i, lens in enumerate(LENSES):
        changed = 1 - results[1].pooled("update_sparsity", MetricParams(lens=lens))
        assert seen.y[i] == pytest.approx(100 * changed)
        stored = 1 - results[1].pooled("update_sparsity", MetricParams(lens=Lens.STORED))
        assert seen.y[i] + hidden.y[i] == pytest.approx(100 * stored)
    assert percent(results[1].pooled("hidden_fraction", PARAMS)) in plot.alt


def test_threshold_curve_passes_through_the_slider(results: Results) -> None:
    for kind, edges, key in (("eta", ETA_EDGES, "changed_rel_share"), ("tau", TAU_EDGES, "changed_abs_share")):
        for edge in edges[60:160:33]:
            params = MetricParams(**{kind: float(edge)})
            plot = views.plot_threshold_curve(results, kind, params, "light")
            row = next(r for r in plot.table if r["line"] == "sft" and r[kind] == edge)
            assert row["changed_percent"] == pytest.approx(100 * results[1].pooled(key, params))
            assert plot.figure.layout.shapes[0].x0 == edge
            low, high = plot.figure.layout.xaxis.range
            assert low < np.log10(edge) < high


def test_ulp_histogram_centres_on_no_move() -> None:
    plot = views.plot_ulp_histogram([result_of("org/same", base_weights(), dtype="BF16")], "light")
    bars = trace(plot, "same")
    assert dict(zip(bars.x, bars.y, strict=True))[0] == 100
    assert "100 % did not move, none moved" in plot.alt


def test_flip_rate_falls_with_the_exponent(rl: PairResult) -> None:
    plot = views.plot_flip_rate_by_exponent([rl], "light")
    rate = plot.figure.data[0]
    assert rate.y[0] > rate.y[-1]  # a step of given size flips small weights first


def test_profiles_are_the_changed_share_of_rows_and_columns(sft: PairResult) -> None:
    plot = views.plot_row_column_profiles([sft], Q0, "light")
    rows, columns = trace(plot, "sft"), trace(plot, "sft", 1)
    assert (len(rows.x), len(columns.x)) == shapes()[Q0]
    density = 1 - sft.value("update_sparsity", Q0, PARAMS)
    assert np.mean(rows.y) == pytest.approx(100 * density)
    assert np.mean(columns.y) == pytest.approx(100 * density)


def test_block_map_keeps_orientation_and_scale(sft: PairResult) -> None:
    plot = views.plot_block_map([sft], Q0, "light")
    assert plot.figure.data[0].z.shape == shapes()[Q0]
    assert plot.figure.layout.yaxis.range == (shapes()[Q0][0], 0)  # row 0 on top
    assert (plot.figure.layout.coloraxis.cmin, plot.figure.layout.coloraxis.cmax) == (0, 100)


def test_dispersion_has_its_line_and_its_caveat(results: Results) -> None:
    plot = views.plot_dispersion(results, PARAMS, "light")
    assert {s.x0 for s in plot.figure.layout.shapes} == {1}
    assert "only what exceeds it is structure" in plot.caption
    row = next(r for r in plot.table if r["tensor"] == Q0 and r["axis"] == "row_dispersion")
    assert row["value"] == pytest.approx(results[0].value("row_dispersion", Q0, PARAMS))


def test_singular_values_overlay_base_and_tuned(sft: PairResult) -> None:
    plot = views.plot_singular_values([sft], Q0, "light")
    spectrum = sft.spectrum(Q0)
    np.testing.assert_allclose(trace(plot, "base").y, spectrum.base)
    np.testing.assert_allclose(trace(plot, "sft").y, spectrum.tuned)
    assert plot.figure.layout.yaxis.type == "log"


def test_angle_curves_stand_beside_chance_on_both_sides(sft: PairResult) -> None:
    plot = views.plot_angle_curves([sft], Q0, 8, "light")
    for nth, side in enumerate(("left", "right")):
        np.testing.assert_allclose(trace(plot, "sft", nth).y, np.degrees(angle_curve(sft.by_name(Q0), side, 8)))
        chance = trace(plot, "chance", nth)
        np.testing.assert_allclose(chance.y, np.degrees(chance_angles(sft.by_name(Q0), side, 8)))
        assert chance.line.dash == "dash"
    assert "degrees" in plot.figure.layout.yaxis.title.text


def test_alignment_curve_has_the_isotropic_one(sft: PairResult) -> None:
    plot = views.plot_alignment_curve([sft], Q0, 8, "light")
    ranks, seen, even = alignment_curve(sft.by_name(Q0))
    np.testing.assert_allclose(trace(plot, "sft").y, 100 * seen)
    np.testing.assert_allclose(trace(plot, "isotropic").y, 100 * even)
    assert percent(float(seen[7])) in plot.alt
    assert trace(plot, "sft").x[-1] == ranks[-1]


def test_random_updates_scatter_around_the_chance_direction() -> None:
    noise = result_of("org/noise", tuned_weights(step=0.1, seed=9))
    plot = views.plot_update_vs_components([noise], Q0, "light")
    band = trace(plot, "chance band")
    angles = trace(plot, "noise").y
    inside = (angles >= band.y.min()) & (angles <= band.y.max())
    assert inside.mean() > 0.7  # 90 % expected of 32 directions


def test_unchanged_tensor_is_not_drawn_as_zero() -> None:
    same = result_of("org/same", base_weights(), dtype="BF16")
    assert "non-zero" in views.plot_alignment_curve([same], Q0, 8, "light").alt


def test_tables_list_everything(results: Results) -> None:
    table = views.tensor_table(results, PARAMS)
    assert len(table) == sum(len(r.measured) for r in results)
    assert {m.column for m in METRICS.values()} <= set(table[0])
    card = views.tensor_card(results, Q0, PARAMS)
    sparsity = next(row for row in card if row["metric"] == "Weights unchanged")
    assert sparsity["sft"] == f"{100 * results[1].value('update_sparsity', Q0, PARAMS):.4g} %"
    assert set(views.column_help()) == {m.column for m in METRICS.values()}
    partial = result_of("org/partial", tuned_weights(1e-2), skip=frozenset({Q0}))
    assert [row["tensor"] for row in views.skipped_table([partial])] == [Q0]
