"""The layer × module map: small multiples side by side with one colour bar, and a strip for tensors outside layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from textwrap import wrap

import numpy as np
import plotly.graph_objects as go

from rlviz.metrics import METRICS, Metric
from rlviz.result import PairResult
from rlviz.types import Lens, MetricParams
from rlviz.views.cells import NOT_COMPARED, Cell, Frame, Panel, cell_of, colour_scale, drawn_text, frame_of
from rlviz.views.figure import Plot, Row, blank, finite
from rlviz.views.heatmap_draw import Canvas, draw_main, draw_strip, layout_of
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

_MARGIN = {"l": 24, "r": 24, "t": 28, "b": 24}


def plot_layer_heatmap(results: Sequence[PairResult], metric: Metric, params: MetricParams, theme: ThemeName) -> Plot:
    """A metric over layers (x) and modules (y), one panel per tuned model, one colour scale over all.

    Fractions are fixed to 0-1, magnitudes and angles are log10 with real tick labels, enrichments diverge
    around 1. Clicks and hover come from invisible square markers whose ``customdata`` is
    ``[tensor name, model index, place, text]``; the name is that of the cell's first tensor.
    """
    panels = [
        Panel(label, tuned_colour(i, theme), i, r, params, r.grid(metric.key, params))
        for i, (label, r) in enumerate(zip(tuned_labels(results), results, strict=True))
    ]
    return _plot_panels(panels, metric, theme, param_words(metric, params))


def plot_lens_heatmaps(result: PairResult, lenses: Sequence[Lens], params: MetricParams, theme: ThemeName) -> Plot:
    """Share unchanged of one pair under several lenses, side by side on the same scale."""
    metric = METRICS["update_sparsity"]
    panels = [
        Panel(LENS_SHORT[lens], tokens(theme).quiet, 0, result, seen, result.grid(metric.key, seen))
        for lens in lenses
        for seen in [replace(params, lens=lens)]
    ]
    plot = _plot_panels(panels, metric, theme, "")
    pooled = [(value_text(metric, result.pooled(metric.key, p.params)), LENS_WORDS[p.params.lens]) for p in panels]
    note = "" if masters_published(result) else "Both files are bf16: fp32 masters were not published"
    shares = ", ".join(f"{share} {words}" for share, words in pooled)
    return replace(plot, caption=sentences(f"Share unchanged under each lens: {shares}", plot.caption, note))


def _plot_panels(panels: Sequence[Panel], metric: Metric, theme: ThemeName, words: str) -> Plot:
    """Small multiples on shared rows, columns and colours; `words` state the parameters all of them share."""
    frame = frame_of(panels, metric)
    if not frame.layers and not frame.outside:
        return blank(theme, f"Nothing to draw: {said(metric)} is not defined for any tensor compared here.")
    every = [[cell_of(p, metric, *key) for key in p.grid.names] for p in panels]
    flat = [c for cells in every for c in cells]
    scale = colour_scale(metric, np.array([c.value for c in flat]), np.array([c.chance for c in flat]))
    canvas = Canvas(go.Figure(), metric, frame, scale, layout_of(len(panels), frame), theme)
    rows: list[Row] = []
    for i, panel in enumerate(panels):
        cells = draw_main(canvas, panel, i) if frame.layers else []
        cells += draw_strip(canvas, panel, i) if frame.outside else []
        rows += [_row(panel, metric, c) for c in cells if c.names]
    log = ", log scale" if scale.log else ""
    _finish(canvas, f"{title_of(metric)}{f' {words}' if words else ''}, {unit_of(metric)}{log}")
    shared = any(len(c.names) > 1 for c in flat)
    return Plot(canvas.figure, _alt(panels, metric, every), _caption(metric, frame, words, shared), tuple(rows))


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
        legend={"x": layout.right, "xanchor": "right", "y": 0.0, "yanchor": "bottom"},
        coloraxis={"colorscale": scale.colours, "cmin": scale.low, "cmax": scale.high, "colorbar": bar},
    )


def _row(panel: Panel, metric: Metric, cell: Cell) -> Row:
    return {
        "model": panel.result.tuned.pinned_ref,
        "view": panel.title,
        "layer": cell.layer,
        "module": cell.module,
        "tensors": len(cell.names),
        "tensor": cell.names[0],
        metric.column: finite(cell.value),
        "chance": finite(cell.chance),
    }


def _alt(panels: Sequence[Panel], metric: Metric, every: Sequence[Sequence[Cell]]) -> str:
    parts: list[str] = []
    for panel, cells in zip(panels, every, strict=True):
        known = sorted((c for c in cells if np.isfinite(c.value)), key=lambda c: c.value)
        if not known:
            parts.append(f"{panel.title}: nothing measured yet")
            continue
        low, high = (f"{drawn_text(metric, c.value)} ({_place(c)})" for c in (known[0], known[-1]))
        overall = value_text(metric, panel.result.pooled(metric.key, panel.params))
        parts.append(f"{panel.title}: {overall} {metric.pooling}, from {low} to {high}")
    return sentences(f"Heat map of {said(metric)} by layer and module. {'; '.join(parts)}")


def _place(cell: Cell) -> str:
    return cell.module if cell.layer is None else f"layer {cell.layer} {cell.module}"


def _caption(metric: Metric, frame: Frame, words: str, shared: bool) -> str:
    pooled = "the pooled value" if metric.parts else f"the {metric.pooling}"
    return sentences(
        f"{metric.meaning.rstrip('.')}{f' ({words})' if words else ''}",
        chance_sentence(metric),
        f"Not defined for {', '.join(frame.omitted)}" if frame.omitted else "",
        f"Cells with several tensors (experts) show {pooled}" if shared else "",
        f"Hatched: {NOT_COMPARED}",
    )
