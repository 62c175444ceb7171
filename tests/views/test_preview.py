"""The preview's figures and words: every number carries its interval, and what is not known says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from rlviz import views
from rlviz.metrics import METRICS
from rlviz.sampling import Estimate, Preview
from rlviz.types import LENSES, Lens, MetricParams
from rlviz.views import Plot
from rlviz.views.preview_heatmap import FADED_AT, fade
from rlviz.views.preview_words import (
    HOW_ESTIMATED,
    margin,
    plus_minus,
    preview_headline,
    preview_numbers,
    preview_provenance,
    with_interval,
)
from rlviz.views.theme import ThemeName, readable_on, tokens
from tests.views.conftest import HOSTILE
from tests.views.pairs import result_of, tuned_weights
from tests.views.previews import Q0, UNSAMPLED, preview_of

FIGURES: dict[str, Callable[[list[Preview], ThemeName], Plot]] = {
    "heatmap": lambda p, t: views.plot_preview_heatmap(p, Lens.BF16, t),
    "strip": lambda p, t: views.plot_preview_strip(p, Lens.BF16, t),
    "by_layer": lambda p, t: views.plot_preview_by_layer(p, Lens.BF16, t),
    "by_module": lambda p, t: views.plot_preview_by_module(p, Lens.BF16, t),
    "ulp": views.plot_preview_ulp,
}


@pytest.fixture
def previews() -> list[Preview]:
    return [preview_of(HOSTILE), preview_of("org/sft", density=0.97, half=0.004)]


def empty(preview: Preview) -> Preview:
    """The same before the first round."""
    tensors = tuple(replace(t, sampled=_none(t.sampled)) for t in preview.tensors)
    groups = {name: {k: _none(s) for k, s in getattr(preview, name).items()} for name in ("layers", "modules", "cells")}
    return replace(preview, tensors=tensors, pooled=_none(preview.pooled), stopped="under way", **groups)


def _none(sampled: Any) -> Any:
    unknown = Estimate(np.nan, np.nan, np.nan)
    ulp = (unknown,) * len(sampled.ulp)
    return replace(
        sampled, density=dict.fromkeys(LENSES, unknown), relative_update_norm=unknown, ulp=ulp, n_sampled=0,
        n_rows_sampled=0,
    )  # fmt: skip


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", FIGURES)
def test_figure_keeps_the_house_rules(name: str, theme: ThemeName, previews: list[Preview]) -> None:
    plot = FIGURES[name](previews, theme)
    assert plot.figure.layout.template.layout.paper_bgcolor == tokens(theme).background
    assert plot.figure.layout.height >= (230 if name == "strip" else 420)
    assert plot.alt.endswith(".")
    assert plot.caption.endswith(".")
    assert "±" in plot.alt or "(" in plot.alt
    assert "<b>rl&co" not in json.dumps(json.loads(plot.figure.to_json()), ensure_ascii=False)
    json.dumps(plot.table, allow_nan=False)
    assert len({tuple(row) for row in plot.table}) == 1
    assert {"low", "high"} <= set(plot.table[0])


@pytest.mark.parametrize("name", FIGURES)
def test_before_the_first_round_there_is_a_sentence(name: str, previews: list[Preview]) -> None:
    plot = FIGURES[name]([empty(p) for p in previews], "dark")
    assert "Nothing has been sampled yet" in plot.alt


def cells_of(plot: Plot, model: int) -> dict[str, Any]:
    marks = [t for t in plot.figure.data if t.type == "scatter" and t.customdata is not None]
    return {row[0]: row for t in marks for row in t.customdata if row[1] == model}


def test_every_cell_says_its_interval_and_how_much_was_read(previews: list[Preview]) -> None:
    cells = cells_of(views.plot_preview_heatmap(previews, Lens.BF16, "light"), 0)
    assert set(cells) == {t.match.name for t in previews[0].tensors}
    assert "53.8 % ± 2.7 (95 % interval 51.1 to 56.5)" in cells[Q0][3]
    assert "412 of 4\u202f096 rows read" in cells[Q0][3]
    assert "exact" in cells["model.norm.weight"][3]
    assert cells[UNSAMPLED][3].startswith("not sampled yet")


def test_what_was_not_sampled_is_hatched_and_never_a_number(previews: list[Preview]) -> None:
    plot = views.plot_preview_heatmap(previews[:1], Lens.BF16, "light")
    (hatch,) = [t for t in plot.figure.data if t.type == "bar"]
    assert (hatch.name, list(hatch.x)) == ("not sampled yet", [1])
    (row,) = [r for r in plot.table if r["tensor"] == UNSAMPLED]
    assert row["update_sparsity"] is row["low"] is row["high"] is None
    assert row["rows_read"] == 0
    assert "1 of 10 cells not sampled yet" in plot.alt


def test_cells_fade_as_intervals_widen(previews: list[Preview]) -> None:
    widths = [0.0, 0.01, 0.05, FADED_AT, 0.5]
    fades = [fade(Estimate(0.5, 0.5 - w, 0.5 + w)) for w in widths]
    assert fades[0] == 0
    assert fades == sorted(fades)
    assert fades[1] < 0.1
    assert fades[-2:] == pytest.approx([0.85, 0.85])
    figure = views.plot_preview_heatmap(previews[:1], Lens.BF16, "dark").figure
    main, veil, *_ = [t for t in figure.data if t.type == "heatmap"]
    assert veil.colorscale[-1][1] == "rgba(23,27,33,1)"
    assert (veil.zmin, veil.zmax, veil.showscale) == (0, 1, False)
    assert np.array_equal(np.isnan(main.z), np.isnan(veil.z))
    q_row = np.flatnonzero(~np.isnan(veil.z[:, 0]))[0]
    assert veil.z[q_row, 0] == pytest.approx(fade(previews[0].cells["q_proj", 0].sparsity(Lens.BF16)))
    assert veil.z[q_row, 1] > veil.z[q_row, 0]  # layer 1 was built twice as uncertain
    assert [t.name for t in figure.data if t.showlegend and "interval" in t.name] == ["fainter: wider interval"]


def test_the_map_has_the_scale_and_rows_of_the_exact_one(previews: list[Preview]) -> None:
    estimated = views.plot_preview_heatmap(previews[:1], Lens.BF16, "light").figure.layout
    exact = result_of("org/rl", tuned_weights(step=2e-3))
    measured = views.plot_layer_heatmap([exact], METRICS["update_sparsity"], MetricParams(), "light").figure.layout
    for field in ("cmin", "cmax", "colorscale"):
        assert estimated.coloraxis[field] == measured.coloraxis[field]
    assert estimated.coloraxis.colorbar.ticktext == measured.coloraxis.colorbar.ticktext
    assert [m for m in estimated.yaxis.ticktext if m in measured.yaxis.ticktext] == list(measured.yaxis.ticktext)


def test_text_in_cells_is_above_the_veil_and_readable(previews: list[Preview]) -> None:
    figure = views.plot_preview_heatmap(previews[:1], Lens.BF16, "light").figure
    kinds = [(t.type, t.mode if t.type == "scatter" else "") for t in figure.data]
    assert kinds.index(("scatter", "text")) > [i for i, (kind, _) in enumerate(kinds) if kind == "heatmap"][1]
    assert "53.8 ±2.7" in figure.data[kinds.index(("scatter", "text"))].text
    assert readable_on("rgb(0, 32, 77)") == "#E7EAEE"
    assert readable_on("rgb(253, 234, 69)") == "#1B1F24"


def test_bands_are_the_intervals(previews: list[Preview]) -> None:
    plot = views.plot_preview_by_layer(previews, Lens.BF16, "light")
    band, line = plot.figure.data[0], next(t for t in plot.figure.data if t.mode == "lines+markers")
    shares = [previews[0].layers[i].sparsity(Lens.BF16) for i in (0, 1)]
    around = [shares[0].high, shares[1].high, shares[1].low, shares[0].low]
    assert list(band.y) == pytest.approx([100 * edge for edge in around])
    assert list(line.y) == pytest.approx([100 * s.estimate for s in shares])
    assert "rows read" in line.customdata[0]
    assert band.fill == "toself"
    assert not any(t.error_y.array is not None for t in plot.figure.data)


def test_modules_keep_their_order_and_leave_out_the_unsampled(previews: list[Preview]) -> None:
    figure = views.plot_preview_by_module(previews, Lens.BF16, "light").figure
    assert list(figure.layout.xaxis.ticktext)[:3] == ["q_proj", "o_proj", "down_proj"]
    assert figure.layout.yaxis.title.text == "weights unchanged (bf16), estimated, %"


def test_ulp_bins_stand_at_their_distance(previews: list[Preview]) -> None:
    plot = views.plot_preview_ulp(previews[:1], "light")
    line = next(t for t in plot.figure.data if t.mode == "lines+markers")
    assert list(line.x) == [-1, 0, 1]
    assert line.y[1] == pytest.approx(100 * previews[0].pooled.ulp[17].estimate)
    assert len(plot.table) == 35
    assert {"distance_ulp": "−1", "model": previews[0].tuned.pinned_ref}.items() <= plot.table[16].items()


def test_strip_draws_the_estimate_on_its_interval(previews: list[Preview]) -> None:
    plot = views.plot_preview_strip(previews[:1], Lens.BF16, "light")
    share = previews[0].pooled.sparsity(Lens.BF16)
    bar = next(t for t in plot.figure.data if t.mode == "lines")
    assert list(bar.x) == pytest.approx([100 * share.low, 100 * share.high])
    assert plus_minus(share) in plot.alt
    assert "95 % interval" in plot.caption
    assert "stays in bf16" in views.plot_preview_strip(previews[:1], Lens.FP16, "light").caption


def test_lens_is_obeyed(previews: list[Preview]) -> None:
    shares = [views.plot_preview_by_layer(previews, lens, "light").table[0]["share"] for lens in (Lens.BF16, Lens.FP16)]
    assert shares[0] != shares[1]


@pytest.mark.parametrize(
    ("numbers", "text", "below"),
    [
        ((0.538, 0.534, 0.542), "53.8 ± 0.4 %", "± 0.4 points"),
        ((0.538, 0.42, 0.66), "54 ± 12 %", "± 12 points"),
        ((0.99962, 0.99958, 0.99966), "99.962 ± 0.004 %", "± 0.004 points"),
        ((0.0, 0.0, 0.031), "0 % (0 to 3.1 %)", "0 to 3.1 %"),
        ((0.25, 0.25, 0.25), "25.0 %", "exact, all was read"),
        ((np.nan, np.nan, np.nan), "–", "not sampled yet"),
    ],
)
def test_numbers_never_claim_more_than_their_interval(numbers: tuple[float, ...], text: str, below: str) -> None:
    assert plus_minus(Estimate(*numbers)) == text
    assert margin(Estimate(*numbers)) == below


def test_hover_gives_the_interval_in_full() -> None:
    assert with_interval(Estimate(0.538, 0.529, 0.547)) == "53.8 % ± 0.9 (95 % interval 52.9 to 54.7)"
    assert with_interval(Estimate(1.0, 0.951, 1.0)) == "100 % (95 % interval 95.1 to 100)"


def test_headline_says_what_is_estimated_and_from_how_much(previews: list[Preview]) -> None:
    share = previews[0].pooled.sparsity(Lens.BF16)
    one = preview_headline(previews[:1], Lens.BF16)
    read = previews[0].pooled.n_sampled / previews[0].pooled.n
    assert one.startswith(f"{plus_minus(share)} of weights are bit-identical in bf16, estimated from ")
    assert f"{read * 100:.1f} % of the weights" in one
    assert "in sft, estimated" in preview_headline(previews, Lens.BF16)
    read_whole = replace(previews[0].pooled, n_sampled=previews[0].pooled.n)
    assert preview_headline([replace(previews[0], pooled=read_whole)], Lens.BF16).endswith(", every weight was read.")
    assert preview_headline(previews, Lens.FP8_E4M3).startswith("About ")
    assert preview_headline([empty(p) for p in previews], Lens.BF16) == "Nothing has been sampled yet."


def test_headline_numbers_cover_every_lens_and_mark_fp8(previews: list[Preview]) -> None:
    numbers = preview_numbers(previews[0], Lens.FP16)
    assert len(numbers) == len(LENSES) + 1
    assert numbers[0].label == "Unchanged in fp16"
    assert [n.label for n in numbers if "approximate" in n.null] == ["In fp8 e4m3", "In fp8 e5m2"]
    assert all("points" in n.null or "to" in n.null for n in numbers)


def test_provenance_has_what_a_rerun_needs(previews: list[Preview]) -> None:
    line = preview_provenance(previews[0])
    assert "@0123456" in line
    for part in ("64 MB read per model", "412 requests", "3 rounds", "8 s", "seed 7", "byte budget", "rlviz 0.3.0"):
        assert part in line
    assert len(HOW_ESTIMATED) == 5
