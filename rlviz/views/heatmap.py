"""The layer × module map: small multiples side by side with one colour bar, and a strip for tensors outside layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from textwrap import wrap

import numpy as np
import plotly.graph_objects as go

from rlviz.metrics import METRICS, Metric
from rlviz.result import PairResult
from rlviz.types import Lens, MetricParams
from rlviz.views.cells import (
    NOT_COMPARED,
    Cell,
    ColourScale,
    Frame,
    Panel,
    cells_in,
    colour_scale,
    drawn_text,
    frame_of,
    measured_cells,
)
from rlviz.views.figure import Plot, Row, blank, finite
from rlviz.views.heatmap_draw import Canvas, draw_main, draw_strip
from rlviz.views.heatmap_layout import layout_of
from rlviz.views.remember import remembered
from rlviz.views.theme import ThemeName, figure_layout, tokens, tuned_colour
from rlviz.views.words import (
    LENS_SHORT,
    LENS_WORDS,
    chance_sentence,
    masters_published,
    param_words,
    said,
    sentences,
    title_of,
    tuned_labels,
    unit_of,
    value_text,
)

_MARGIN = {"l": 24, "r": 24, "t": 28, "b": 36}  # the legend is below, clear of the strip's tick labels


@dataclass(frozen=True, slots=True, eq=False)
class _Seen:
    """A result seen with one set of parameters, and the panel drawn of it."""

    panel: Panel
    result: PairResult
    params: MetricParams


@remembered
def plot_layer_heatmap(
    results: Sequence[PairResult],
    metric: Metric,
    params: MetricParams,
    theme: ThemeName,
    *,
    scale: ColourScale | None = None,
) -> Plot:
    """A metric over layers (x) and modules (y), one panel per tuned model, one colour scale over all.

    Fractions are fixed to 0-1, magnitudes and angles are log10 with real tick labels, enrichments diverge
    around 1, signed values around 0; `scale` is another scale than the data's. Clicks and hover come from invisible
    square markers whose ``customdata`` is ``[tensor name, model index, place, text]``; the name is that of the cell's
    first tensor.
    """
    seen = [
        _Seen(Panel(label, tuned_colour(i, theme), i, measured_cells(r, metric, params)), r, params)
        for i, (label, r) in enumerate(zip(tuned_labels(results), results, strict=True))
    ]
    return _plot_seen(seen, metric, theme, param_words(metric, params), scale)


@remembered
def plot_lens_heatmaps(result: PairResult, lenses: Sequence[Lens], params: MetricParams, theme: ThemeName) -> Plot:
    """Share unchanged of one pair under several lenses, side by side on the same scale."""
    metric, colour = METRICS["update_sparsity"], tokens(theme).quiet
    seen = [
        _Seen(Panel(LENS_SHORT[lens], colour, 0, measured_cells(result, metric, under)), result, under)
        for lens in lenses
        for under in [replace(params, lens=lens)]
    ]
    plot = _plot_seen(seen, metric, theme, "")
    pooled = [(value_text(metric, result.pooled(metric.key, s.params)), LENS_WORDS[s.params.lens]) for s in seen]
    note = "" if masters_published(result) else "Both files are bf16: fp32 masters were not published"
    shares = ", ".join(f"{share} {words}" for share, words in pooled)
    return replace(plot, caption=sentences(f"Share unchanged under each lens: {shares}", plot.caption, note))


def _plot_seen(
    seen: Sequence[_Seen], metric: Metric, theme: ThemeName, words: str, scale: ColourScale | None = None
) -> Plot:
    """Small multiples on shared rows, columns and colours; `words` state the parameters all of them share."""
    panels = [s.panel for s in seen]
    frame = frame_of(panels, _undefined_modules([s.result for s in seen], metric))
    if not frame.layers and not frame.outside:
        return blank(theme, f"Nothing to draw: {said(metric)} is not defined for any tensor compared here.")
    flat = [c for p in panels for c in p.cells.values()]
    scale = scale or colour_scale(metric, np.array([c.value for c in flat]), np.array([c.chance for c in flat]))
    log = ", log scale" if scale.log else ""
    bar_title = f"{title_of(metric)}{f' {words}' if words else ''}, {unit_of(metric)}{log}"
    figure = draw_panels(panels, frame, scale, theme, bar_title=bar_title, missing=NOT_COMPARED)
    rows = tuple(_row(s, metric, c) for s in seen for c in cells_in(s.panel, frame))
    shared = any(len(c.names) > 1 for c in flat)
    return Plot(figure, _alt(seen, metric), _caption(metric, frame, words, shared), rows)


def _undefined_modules(results: Sequence[PairResult], metric: Metric) -> set[str]:
    """Modules for which the metric is undefined by kind: spectra of vectors. Such rows are named, not drawn."""
    if metric.probe == "coordinate":
        return set()
    floats = [m for r in results for m in r.floats]
    defined = {m.module for m in floats if m.match.is_matrix or metric.probe in m.records}
    return {m.module for m in floats} - defined


def draw_panels(
    panels: Sequence[Panel], frame: Frame, scale: ColourScale, theme: ThemeName, *, bar_title: str, missing: str
) -> go.Figure:
    """Every panel with its strip, one colour bar, and one word for cells without a value."""
    canvas = Canvas(go.Figure(), missing, frame, scale, layout_of(len(panels), frame), theme)
    for i, panel in enumerate(panels):
        if frame.layers:
            draw_main(canvas, panel, i)
        if frame.outside:
            draw_strip(canvas, panel, i)
    _finish(canvas, bar_title)
    return canvas.figure


def _finish(canvas: Canvas, bar_title: str) -> None:
    layout, scale = canvas.layout, canvas.scale
    bar = {
        # the empty line keeps the rotated title clear of the tick labels
        "title": {"text": "<br>".join(["", *wrap(bar_title, 48)])},
        "tickvals": np.array(scale.ticks),
        "ticktext": scale.tick_texts,
        "thickness": 14,
        "x": layout.right + 0.012,
        "xanchor": "left",
        "y": 1 - 30 / layout.plot_px,
        "yanchor": "top",
        "lenmode": "pixels",
        "len": min(320, layout.plot_px - 40),
    }
    height = max(420, round(layout.plot_px + _MARGIN["t"] + _MARGIN["b"]))
    canvas.figure.update_layout(figure_layout(canvas.theme, height=height))
    canvas.figure.update_layout(
        margin=_MARGIN,
        hoverdistance=80,
        bargap=0,
        barmode="overlay",
        dragmode=False,
        clickmode="event+select",
        legend={"x": layout.right, "xanchor": "right", "y": 0.0, "yanchor": "top"},
        coloraxis={"colorscale": scale.colours, "cmin": scale.low, "cmax": scale.high, "colorbar": bar},
    )


def _row(seen: _Seen, metric: Metric, cell: Cell) -> Row:
    return {
        "model": seen.result.tuned.pinned_ref,
        "view": seen.panel.title,
        "layer": cell.layer,
        "module": cell.module,
        "tensors": len(cell.names),
        "tensor": cell.names[0],
        metric.column: finite(cell.value),
        "chance": finite(cell.chance),
    }


def _alt(seen: Sequence[_Seen], metric: Metric) -> str:
    parts: list[str] = []
    for s in seen:
        known = sorted((c for c in s.panel.cells.values() if np.isfinite(c.value)), key=lambda c: c.value)
        if not known:
            parts.append(f"{s.panel.title}: nothing measured yet")
            continue
        low, high = (f"{drawn_text(metric, c.value)} ({place(c)})" for c in (known[0], known[-1]))
        overall = value_text(metric, s.result.pooled(metric.key, s.params))
        parts.append(f"{s.panel.title}: {overall} {metric.pooling}, from {low} to {high}")
    return sentences(f"Heat map of {said(metric)} by layer and module. {'; '.join(parts)}")


def place(cell: Cell) -> str:
    """Where a cell is, inside a sentence."""
    return cell.module if cell.layer is None else f"layer {cell.layer} {cell.module}"


def _caption(metric: Metric, frame: Frame, words: str, shared: bool) -> str:
    pooled = "the pooled value" if metric.pooling == "pooled" else f"the {metric.pooling}"
    return sentences(
        f"{metric.meaning.rstrip('.')}{f' ({words})' if words else ''}",
        chance_sentence(metric),
        f"Not defined for {', '.join(frame.omitted)}" if frame.omitted else "",
        f"Cells with several tensors (experts) show {pooled}" if shared else "",
        f"Hatched: {NOT_COMPARED}",
    )
