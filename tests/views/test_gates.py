"""Figures of the Gates page: the numbers are the metrics, bounds and nulls stand where they should."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from rlviz import views
from rlviz.metrics import METRICS
from rlviz.metrics.coordinate_series import flip_rate_by_exponent
from rlviz.metrics.gates import largest_sine, wedin_curve, wedin_rigorous
from rlviz.metrics.noise_flips import noise_flip_rate
from rlviz.result import PairResult
from rlviz.types import MetricParams
from rlviz.views.gates.orders import ANGLE, NSS
from rlviz.views.words import number
from tests.views.pairs import Q0, base_weights, result_of

Results = list[PairResult]
PARAMS = MetricParams(k=8)


def named(plot: views.Plot, words: str) -> list[Any]:
    return [t for t in plot.figure.data if words in t.name]


def test_the_budget_is_shared_out_among_modules(results: Results) -> None:
    plot = views.plot_update_budget(results, "light")
    sft = next(t for t in plot.figure.data if t.xaxis == "x2" and t.name == "sft")
    assert np.sum(sft.x) == pytest.approx(100)
    weights = named(plot, "share of the weights")[0]
    assert np.sum(weights.x) == pytest.approx(100)
    left = next(t for t in plot.figure.data if t.name.startswith("sft: K/μ ≥"))
    relative = [METRICS["relative_update_norm"].of(m, PARAMS) for m in results[1].floats]
    np.testing.assert_allclose(left.x, 100 * np.array(relative))
    band = plot.figure.layout.shapes[0]
    assert (band.x0, band.x1) == (100 / 256, 100 / 128)
    total = sum(row["kl_budget"] for row in plot.table if row["model"] == results[1].tuned.pinned_ref)
    assert total == pytest.approx(results[1].pooled("kl_budget"))


def test_the_budgets_of_two_runs_are_compared(results: Results) -> None:
    ratio = results[1].pooled("kl_budget") / results[0].pooled("kl_budget")
    assert f"{number(ratio)}× that of" in views.plot_update_budget(results, "light").alt


def test_wedin_draws_what_is_observed_and_both_bounds(results: Results) -> None:
    plot = views.plot_wedin(results, Q0, 8, "light")
    for result, label in zip(results, ("&lt;b&gt;rl&amp;co", "sft"), strict=True):
        curve = wedin_curve(result.by_name(Q0))
        assert curve is not None
        for words, values in (
            ("left", curve.left),
            ("right", curve.right),
            ("printed bound", curve.printed),
            ("rigorous bound", curve.rigorous),
        ):
            [line] = [t for t in named(plot, words) if t.name.startswith(label)]
            np.testing.assert_allclose(line.y, np.maximum(values, 1e-7) if "bound" not in words else values)
    grounds = [s for s in plot.figure.layout.shapes if s.type == "rect"]
    assert len(grounds) == 2
    assert all(s.y0 == 1 for s in grounds), "the vacuous region begins where the bound is 1"
    low, high = plot.figure.layout.yaxis.range
    assert low < 0 < high
    assert {t.name for t in plot.figure.data if t.showlegend is not False} == {
        "observed, left",
        "observed, right",
        "Wedin's bound as printed",
        "rigorous",
    }


def test_wedin_of_all_matrices_has_no_dot_above_the_rigorous_bound(results: Results) -> None:
    plot = views.plot_wedin_matrices(results, PARAMS, "light")
    matrices = [m for m in results[1].floats if "spectrum" in m.records]
    [sft] = named(plot, "sft")
    np.testing.assert_allclose(sft.x, [METRICS["wedin_printed"].of(m, PARAMS) for m in matrices])
    np.testing.assert_allclose(sft.y, [largest_sine(m, PARAMS) for m in matrices])
    [printed], [rigorous] = named(plot, "as printed"), named(plot, "rigorous")
    np.testing.assert_array_equal(printed.y, printed.x)
    np.testing.assert_allclose(rigorous.y, [wedin_rigorous(x, 1.0) for x in rigorous.x])
    telling = [row for row in plot.table if row["rigorous"] is not None]
    assert telling
    assert all(row["sin"] <= row["rigorous"] + 1e-9 for row in telling)
    [ground] = plot.figure.layout.shapes
    assert ground.x0 == rigorous.x[-1] == pytest.approx(0.5), "where the rigorous bound is 1"
    low = sum(1 for m in matrices if METRICS["wedin_rigorous"].of(m, PARAMS) < 1)
    assert f"sft: the rigorous bound is below 1 in {low} of {len(matrices)} matrices" in plot.alt


def test_wedin_puts_many_models_in_rows(sft: PairResult) -> None:
    layout = views.plot_wedin([sft] * 5, Q0, 8, "light").figure.layout
    domains = [layout[f"xaxis{i or ''}"].domain for i in ("", 2, 3, 4, 5)]
    assert domains[0] == domains[3], "the fourth begins a second row"
    assert layout.yaxis4.domain[1] < layout.yaxis.domain[0]
    assert all(b[0] > a[1] for a, b in itertools.pairwise(domains[:3])), "panels do not overlap"


def test_tightness_is_the_share_of_each_bound(results: Results) -> None:
    plot = views.plot_tightness(results, "light")
    for key in ("weyl_ratio", "hoffman_wielandt_ratio", "ky_fan_ratio"):
        shown = [row[key] for row in plot.table if row["model"] == results[1].tuned.pinned_ref and row["tensor"] == Q0]
        assert shown == [pytest.approx(results[1].value(key, Q0))]
    assert {s.x0 for s in plot.figure.layout.shapes} == {100}
    assert all(np.nanmax(t.x) <= 100 + 1e-6 for t in plot.figure.data)


def test_isotropic_figures_have_their_line_at_one(results: Results) -> None:
    plot = views.plot_against_isotropic(results, PARAMS, "light")
    assert {(s.xref, s.x0) for s in plot.figure.layout.shapes} == {("x", 1), ("x2", 1)}
    row = next(r for r in plot.table if r["model"] == results[0].tuned.pinned_ref and r["tensor"] == Q0)
    for key in ("energy_principal_enrichment", "update_edge_ratio"):
        assert row[key] == pytest.approx(results[0].value(key, Q0, PARAMS))


@pytest.mark.parametrize(
    ("quantity", "value", "kind"),
    [
        (ANGLE, 0.3, "RL"),
        (ANGLE, 1.2, "on-policy distillation"),
        (ANGLE, 5.0, None),
        (ANGLE, 12.0, "SFT"),
        (NSS, 1e-5, "RL"),
        (NSS, 1e-4, "on-policy distillation"),
        (NSS, 1e-3, "SFT"),
    ],
)
def test_published_orders(quantity: Any, value: float, kind: str | None) -> None:
    order = quantity.order_of(value)
    assert (order and order.kind) == kind


def test_orders_show_every_matrix_and_the_noise_of_the_sampled_ones(results: Results) -> None:
    plot = views.plot_published_orders(results, PARAMS, "light")
    sft = next(t for t in plot.figure.data if t.name == "sft" and t.xaxis == "x2")
    matrices = [m for m in results[1].floats if "spectrum" in m.records]
    np.testing.assert_allclose(sft.x, [METRICS["nss"].of(m, PARAMS) for m in matrices])
    noise = next(t for t in named(plot, "sft, noise of its length") if t.xaxis == "x2")
    expected = [v for m in matrices if not np.isnan(v := METRICS["nss_isotropic"].of(m, PARAMS))]
    np.testing.assert_allclose(noise.x, expected)
    assert expected
    assert len([s for s in plot.figure.layout.shapes if s.type == "rect"]) == 6


def test_flip_rates_stand_beside_those_of_noise(rl: PairResult) -> None:
    """The pair is noise: its curve and the analytic one must lie together."""
    plot = views.plot_flip_rate_by_exponent([rl], "light")
    [noise] = named(plot, "noise, ")
    assert noise.line.dash == "dash"
    observed, expected = flip_rate_by_exponent(rl.floats), noise_flip_rate(rl.floats)
    assert observed is not None
    assert expected is not None
    np.testing.assert_array_equal(observed.exponent, expected.exponent)
    populous = observed.n > 300
    np.testing.assert_allclose(observed.rate[populous], expected.rate[populous], atol=0.1)
    assert "lie in other binades than noise would put them" in plot.alt


def test_no_update_has_a_sentence_instead_of_figures() -> None:
    same = result_of("org/same", base_weights(), dtype="BF16")
    for plot in (
        views.plot_update_budget([same], "light"),
        views.plot_published_orders([same], PARAMS, "light"),
        views.plot_against_isotropic([same], PARAMS, "light"),
        views.plot_tightness([same], "light"),
        views.plot_wedin_matrices([same], PARAMS, "light"),
    ):
        assert plot.alt.startswith("No update")
        assert not plot.figure.data
