from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest

from rlviz.metrics import METRICS
from rlviz.result import PairResult
from rlviz.types import LENSES, MetricParams
from rlviz.views import plot_layer_heatmap, plot_lens_heatmaps
from rlviz.views.theme import ThemeName, tokens
from rlviz.views.words import percent
from tests.views.pairs import Q0, base_weights, measure, result_of, tuned_weights

PARAMS = MetricParams(k=8)


def traces(figure: go.Figure, kind: str) -> list[Any]:
    return [t for t in figure.data if t.type == kind]


def overlays(figure: go.Figure) -> list[Any]:
    """The invisible marks that answer the pointer."""
    return [t for t in traces(figure, "scatter") if t.mode == "markers"]


def overlay_of(figure: go.Figure, model: int) -> dict[str, Any]:
    """Tensor name → its row of customdata, over the main map and the strip of one panel."""
    rows = [row for t in overlays(figure) for row in t.customdata if row[1] == model]
    return {row[0]: row for row in rows}


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_fractions_share_a_fixed_scale(results: list[PairResult], theme: ThemeName) -> None:
    figure = plot_layer_heatmap(results, METRICS["update_sparsity"], PARAMS, theme).figure
    assert (figure.layout.coloraxis.cmin, figure.layout.coloraxis.cmax) == (0, 1)
    assert {t.coloraxis for t in traces(figure, "heatmap")} == {"coloraxis"}
    assert figure.layout.template.layout.paper_bgcolor == tokens(theme).background
    assert figure.layout.height >= 420
    assert figure.layout.xaxis.title.text == "layer"
    assert figure.layout.coloraxis.colorbar.title.text.endswith("%")


def test_every_tensor_is_a_clickable_cell_of_its_model(results: list[PairResult]) -> None:
    plot = plot_layer_heatmap(results, METRICS["update_sparsity"], PARAMS, "light")
    for i, result in enumerate(results):
        cells = overlay_of(plot.figure, i)
        assert set(cells) == {m.name for m in result.measured}
        shown = f"{result.value('update_sparsity', Q0, PARAMS) * 100:.4g} %"
        assert shown in cells[Q0][3]
        assert "layer 0" in cells[Q0][2]
    for trace in overlays(plot.figure):
        assert trace.marker.opacity == 0
        assert trace.selected.marker.opacity == trace.unselected.marker.opacity == 0
        assert trace.hoverinfo != "skip"
    assert all(t.hoverinfo == "skip" for t in traces(plot.figure, "heatmap"))


def test_drawn_values_are_the_metric_and_rows_are_grouped(rl: PairResult) -> None:
    figure = plot_layer_heatmap([rl], METRICS["update_sparsity"], PARAMS, "light").figure
    main = traces(figure, "heatmap")[0]
    rows = {label: i for i, label in enumerate(figure.layout.yaxis.ticktext)}
    assert list(rows) == ["q_proj", "down_proj", "input_layernorm"]
    drawn = np.asarray(main.z)[~np.isnan(main.z).all(axis=1)]
    assert drawn[rows["q_proj"], 0] == pytest.approx(rl.value("update_sparsity", Q0, PARAMS), rel=1e-6)
    assert list(figure.layout.xaxis2.ticktext) == ["norm", "embed_tokens"]


def test_magnitudes_are_log10_with_real_tick_labels(results: list[PairResult]) -> None:
    figure = plot_layer_heatmap(results, METRICS["relative_update_norm"], PARAMS, "light").figure
    axis = figure.layout.coloraxis
    values = [r.value("relative_update_norm", m.name, PARAMS) for r in results for m in r.measured]
    assert axis.cmin <= np.log10(min(values))
    assert axis.cmax >= np.log10(max(values))
    assert all("10" in text or float(text) > 0 for text in axis.colorbar.ticktext)
    assert axis.colorbar.title.text.replace("<br>", " ").endswith("log scale")


def test_enrichment_diverges_around_one(results: list[PairResult]) -> None:
    axis = plot_layer_heatmap(results, METRICS["energy_principal_enrichment"], PARAMS, "light").figure.layout.coloraxis
    assert axis.cmin == -axis.cmax
    assert "1" in axis.colorbar.ticktext


def test_angles_are_drawn_and_exported_in_degrees(rl: PairResult) -> None:
    plot = plot_layer_heatmap([rl], METRICS["max_principal_angle_left"], PARAMS, "light")
    row = next(r for r in plot.table if r["tensor"] == Q0)
    expected = np.degrees(rl.value("max_principal_angle_left", Q0, PARAMS))
    assert row["max_principal_angle_left_deg"] == pytest.approx(expected)
    assert "°" in overlay_of(plot.figure, 0)[Q0][3]


def test_undefined_rows_are_named_not_drawn(rl: PairResult) -> None:
    plot = plot_layer_heatmap([rl], METRICS["nss"], PARAMS, "light")
    assert "input_layernorm" in plot.caption
    assert "input_layernorm" not in plot.figure.layout.yaxis.ticktext


def test_missing_cells_are_hatched_and_say_so() -> None:
    partial = result_of("org/partial", tuned_weights(1e-2), skip=frozenset({Q0}))
    plot = plot_layer_heatmap([partial], METRICS["update_sparsity"], PARAMS, "light")
    (hatch,) = traces(plot.figure, "bar")
    assert hatch.name == "not compared"
    assert hatch.marker.pattern.shape == "/"
    assert list(hatch.x) == [0]
    assert [row[3] for row in overlays(plot.figure)[0].customdata if not row[0]] == ["not compared"]


def test_cells_not_measured_yet_are_hatched(rl: PairResult) -> None:
    running = replace(rl, measured=tuple(replace(m, records={}) if m.name == Q0 else m for m in rl.measured))
    plot = plot_layer_heatmap([running], METRICS["update_sparsity"], PARAMS, "light")
    assert len(traces(plot.figure, "bar")) == 1
    assert overlay_of(plot.figure, 0)[Q0][0] == Q0


def test_alt_text_has_the_true_numbers(results: list[PairResult]) -> None:
    alt = plot_layer_heatmap(results, METRICS["update_sparsity"], PARAMS, "light").alt
    for result in results:
        values = [v for m in result.measured if np.isfinite(v := result.value("update_sparsity", m.name, PARAMS))]
        for value in (result.pooled("update_sparsity", PARAMS), min(values), max(values)):
            assert percent(value) in alt


def test_model_ids_are_escaped(rl: PairResult) -> None:
    figure = plot_layer_heatmap([rl], METRICS["update_sparsity"], PARAMS, "light").figure
    assert "&lt;b&gt;" in figure.layout.annotations[0].text
    assert "<b>rl" not in figure.to_json().replace("\\u003c", "<")


def test_experts_share_a_cell() -> None:
    rng, base = np.random.default_rng(3), base_weights()[Q0]
    names = [f"model.layers.0.mlp.experts.{e}.down_proj.weight" for e in range(3)]
    measured = tuple(
        measure(n, base, (base * (1 + 1e-3 * rng.normal(size=base.shape))).astype(np.float32), probes=("coordinate",))
        for n in names
    )
    moe = replace(result_of("org/moe", tuned_weights(1e-2)), measured=measured, total=3)
    plot = plot_layer_heatmap([moe], METRICS["update_sparsity"], PARAMS, "light")
    (row,) = plot.table
    assert row["tensors"] == 3
    assert row["update_sparsity"] == pytest.approx(moe.pooled("update_sparsity", PARAMS))
    assert "3 tensors, pooled" in overlay_of(plot.figure, 0)[names[0]][3]


def test_lenses_side_by_side(rl: PairResult) -> None:
    plot = plot_lens_heatmaps(rl, LENSES, PARAMS, "dark")
    assert len(traces(plot.figure, "heatmap")) == 2 * len(LENSES)
    assert percent(rl.pooled("update_sparsity", PARAMS)) in plot.caption
    assert "not published" not in plot.caption
    silent = result_of("org/bf16", tuned_weights(1e-2), dtype="BF16")
    assert "fp32 masters were not published" in plot_lens_heatmaps(silent, LENSES, PARAMS, "light").caption


def test_a_model_of_eighty_layers_stays_readable(rl: PairResult) -> None:
    template = rl.by_name(Q0)

    def at(layer: int) -> Any:
        base = replace(template.match.base, layer=layer, name=f"model.layers.{layer}.self_attn.q_proj.weight")
        return replace(template, match=replace(template.match, base=base))

    deep = replace(rl, measured=tuple(at(layer) for layer in range(80)))
    figure = plot_layer_heatmap([deep] * 3, METRICS["update_sparsity"], PARAMS, "light").figure
    assert len(figure.layout.xaxis.ticktext) <= 40
    domains = {tuple(figure.layout[f"xaxis{i}"].domain) for i in ("", "3", "5")}
    assert len(domains) == 2  # two side by side, the third below
    assert all(t.mode == "markers" for t in traces(figure, "scatter"))  # no text in cells this small
