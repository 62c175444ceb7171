"""What holds for each figure, whatever it shows: both themes, units, alt text, honest and safe exports."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest

from rlviz import views
from rlviz.metrics import METRICS
from rlviz.result import PairResult
from rlviz.types import LENSES, Lens, MetricParams, Record
from rlviz.views import Plot
from rlviz.views.noise import ANGLES, ENERGIES, SPECTRA
from rlviz.views.theme import ThemeName, tokens
from tests.views.pairs import Q0

PARAMS = MetricParams(k=8)
Results = list[PairResult]


def at_own_norm(results: Results) -> Results:
    """As if each run were the shortest: what it shows at matched norm is what it shows."""
    return [
        replace(r, measured=tuple(replace(m, records=_with_matched(m.records)) for m in r.measured)) for r in results
    ]


def _with_matched(records: Mapping[str, Record]) -> dict[str, Record]:
    return {**records, **({"matched": records["spectrum"]} if "spectrum" in records else {})}


FIGURES: dict[str, Callable[[Results, ThemeName], Plot]] = {
    "heatmap": lambda r, t: views.plot_layer_heatmap(r, METRICS["update_sparsity"], PARAMS, t),
    "lenses": lambda r, t: views.plot_lens_heatmaps(r[0], LENSES, PARAMS, t),
    "strip": lambda r, t: views.plot_published_strip(r, Lens.BF16, t),
    "by_layer": lambda r, t: views.plot_sparsity_by_layer(r, PARAMS, t),
    "by_module": lambda r, t: views.plot_sparsity_by_module(r, PARAMS, t),
    "rank_by_layer": lambda r, t: views.plot_by_layer(r, METRICS["stable_rank_update"], PARAMS, t),
    "profiles": lambda r, t: views.plot_row_column_profiles(r, Q0, t),
    "block_map": lambda r, t: views.plot_block_map(r, Q0, t),
    "dispersion": lambda r, t: views.plot_dispersion(r, PARAMS, t),
    "hidden": lambda r, t: views.plot_hidden_updates(r, PARAMS, t),
    "eta": lambda r, t: views.plot_threshold_curve(r, "eta", PARAMS, t),
    "tau": lambda r, t: views.plot_threshold_curve(r, "tau", PARAMS, t),
    "ulp": views.plot_ulp_histogram,
    "exponent": views.plot_flip_rate_by_exponent,
    "singular_values": lambda r, t: views.plot_singular_values(r, Q0, t),
    "update_values": lambda r, t: views.plot_update_singular_values(r, Q0, t),
    "angles": lambda r, t: views.plot_angle_curves(r, Q0, 8, t),
    "angle_over_k": lambda r, t: views.plot_max_angle_over_k(r, Q0, 8, t),
    "alignment": lambda r, t: views.plot_alignment_curve(r, Q0, 8, t),
    "mask_overlaps": lambda r, t: views.plot_mask_overlaps(r, PARAMS, t),
    "mask_excess": lambda r, t: views.plot_mask_excess(r, PARAMS, t),
    "mask_odds": lambda r, t: views.plot_mask_odds(r, PARAMS, t),
    "mask_dispersion": lambda r, t: views.plot_mask_dispersion(r, PARAMS, t),
    "update_budget": views.plot_update_budget,
    "published_orders": lambda r, t: views.plot_published_orders(r, PARAMS, t),
    "against_isotropic": lambda r, t: views.plot_against_isotropic(r, PARAMS, t),
    "wedin": lambda r, t: views.plot_wedin(r, Q0, 8, t),
    "wedin of all matrices": lambda r, t: views.plot_wedin_matrices(r, PARAMS, t),
    "tightness": views.plot_tightness,
    "spectra_beside_noise": lambda r, t: views.plot_beside_noise(r, SPECTRA, PARAMS, t),
    "angles_beside_noise": lambda r, t: views.plot_beside_noise(r, ANGLES, PARAMS, t),
    "energies_beside_noise": lambda r, t: views.plot_beside_noise(r, ENERGIES, PARAMS, t),
    "matched_norm": lambda r, t: views.plot_matched_norm(at_own_norm(r), views.MATCHED_ANGLES, PARAMS, t),
    "components": lambda r, t: views.plot_update_vs_components(r, Q0, t),
}
UNITS = ("%", "degrees", "dimensionless", "weight units", "ULP", "log₂", "Bernoulli")
COUNTED = ("layer", "index", "component", "row", "column", "angle i", "k", "lens")  # axes that count things


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", FIGURES)
def test_figure_keeps_the_house_rules(name: str, theme: ThemeName, results: Results) -> None:
    plot = FIGURES[name](results, theme)
    figure, layout = plot.figure, plot.figure.layout
    assert layout.template.layout.paper_bgcolor == tokens(theme).background
    assert layout.height >= (230 if name == "strip" else 420)
    assert plot.alt.endswith(".")
    assert any(character.isdigit() for character in plot.alt)
    assert plot.caption.endswith(".")
    assert {t.type for t in figure.data} <= {"scatter", "bar", "heatmap"}
    axes = [layout[key] for key in layout if key.startswith(("xaxis", "yaxis"))]
    titles = [axis.title.text for axis in axes if axis.title.text]
    assert titles
    for title in titles:
        assert any(unit in title for unit in UNITS) or title.startswith(COUNTED), title
    assert "<b>rl&co" not in json.dumps(json.loads(figure.to_json()), ensure_ascii=False)


@pytest.mark.parametrize("name", FIGURES)
def test_coordinates_travel_as_arrays(name: str, results: Results) -> None:
    for trace in FIGURES[name](results, "light").figure.data:
        for key in ("x", "y", "z"):
            value = getattr(trace, key, None)
            assert value is None or isinstance(value, np.ndarray), (trace.name, key)


@pytest.mark.parametrize("name", FIGURES)
def test_table_has_one_shape_and_no_nan(name: str, results: Results) -> None:
    table = FIGURES[name](results, "light").table
    assert table
    assert len({tuple(row) for row in table}) == 1
    json.dumps(table, allow_nan=False)


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_measured_yet_is_a_sentence(name: str, results: Results) -> None:
    empty = [replace(r, measured=tuple(replace(m, records={}) for m in r.measured), complete=False) for r in results]
    plot = FIGURES[name](empty, "dark")
    assert plot.alt.endswith(".")
    assert "nan" not in plot.alt.lower().split()


def test_export_is_self_contained_and_offers_no_upload(results: Results) -> None:
    html = FIGURES["by_layer"](results, "light").html()
    assert '"showSendToCloud": false' in html
    assert '"showSendToCloud": true' not in html
    assert "<script src=" not in html


def test_a_skipped_tensor_says_why(results: Results) -> None:
    from rlviz.types import Skipped

    left = [m for m in results[0].measured if m.name != Q0]
    skipped = (Skipped(Q0, "budget", "It would take 40 min, the budget is 5 min."),)
    one = replace(results[0], measured=tuple(left), skipped=skipped)
    assert "the budget is 5 min" in views.plot_singular_values([one], Q0, "light").alt
