"""Drawing of one panel of the layer × module map: where it goes, its cells, hatches and clickable overlay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from typing import Any

import numpy as np
import plotly.graph_objects as go

from rlviz.metrics import Metric
from rlviz.views.cells import NOT_COMPARED, Cell, ColourScale, Frame, Panel, cell_of, cell_text, cell_values, drawn_text
from rlviz.views.figure import Floats
from rlviz.views.theme import ThemeName, tokens
from rlviz.views.words import safe, said, shorten

_PLOT_PX = 1040  # assumed width of the drawing area: the page is fluid, only proportions follow from it
_CELL_MAX_PX = 150
_GROUP_GAP = 0.35  # of a row's height, between attention, MLP and norm
_TEXT_CELLS = 16  # with at most this many columns in a row of panels, values are written into the cells
_TITLE_PX = 30
_TICKS_PX = 62  # below the layered map: tick labels and axis title
_LABELLED = 24  # with more modules outside layers, their names are on hover only


@dataclass(frozen=True, slots=True)
class Layout:
    """Where panels go, in pixels from the top and in fractions of the width."""

    columns: int
    width: float
    step: float
    main_px: float
    strip_px: float
    row_px: float
    panel_px: float
    plot_px: float

    def main(self, panel: int) -> tuple[tuple[float, float], tuple[float, float]]:
        """x and y domain of a panel's layered map."""
        return self._x(panel), self._y(self._top(panel), self.main_px)

    def strip(self, panel: int, share: float) -> tuple[tuple[float, float], tuple[float, float]]:
        """x and y domain of a panel's strip of tensors outside layers; `share` of the panel's width."""
        top = self._top(panel) + (self.main_px + _TICKS_PX if self.main_px else 0)
        left, _ = self._x(panel)
        return (left, left + self.width * share), self._y(top, self.strip_px)

    def _top(self, panel: int) -> float:
        return (panel // self.columns) * self.panel_px + _TITLE_PX

    def _x(self, panel: int) -> tuple[float, float]:
        left = (panel % self.columns) * self.step
        return left, min(1.0, left + self.width)

    def _y(self, top: float, height: float) -> tuple[float, float]:
        return max(0.0, 1 - (top + height) / self.plot_px), 1 - top / self.plot_px

    @property
    def right(self) -> float:
        """Right end of the last column of panels."""
        return min(1.0, (self.columns - 1) * self.step + self.width)


def layout_of(panels: int, frame: Frame) -> Layout:
    """Side by side up to four panels and about 170 columns of cells; then further rows of panels."""
    across = max(1, len(frame.layers))
    fitting = max(1, min(panels, 4, 170 // across))
    columns = ceil(panels / ceil(panels / fitting))  # five panels as three and two, not four and one
    gap = 0.03 if columns > 1 else 0.0
    widest = (1 - gap * (columns - 1)) / columns
    width = min(widest, across * _CELL_MAX_PX / _PLOT_PX) if frame.layers else widest
    height = len(frame.modules) + _GROUP_GAP * sum(a != b for a, b in pairwise(frame.groups))
    row_px = min(44.0, max(24.0, 300 / max(height, 1)))
    main_px = row_px * height
    strip_px = 30.0 if frame.outside else 0.0
    panel_px = _TITLE_PX + main_px + _TICKS_PX + (strip_px + 40 if strip_px else 0)
    return Layout(columns, width, width + gap, main_px, strip_px, row_px, panel_px, ceil(panels / columns) * panel_px)


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """What all panels of one figure share."""

    figure: go.Figure
    metric: Metric
    frame: Frame
    scale: ColourScale
    layout: Layout
    theme: ThemeName


@dataclass(frozen=True, slots=True, eq=False)
class _Placed:
    """Cells with their centres on one pair of axes. `size` is a clickable square's side in pixels."""

    axis: str
    cells: tuple[Cell, ...]
    x: Floats
    y: Floats
    size: float

    @property
    def on_axes(self) -> dict[str, str]:
        return {"xaxis": f"x{self.axis}", "yaxis": f"y{self.axis}"}


def _row_edges(groups: Sequence[str]) -> tuple[Floats, list[int]]:
    """Row boundaries with a gap where the group changes, and the index of each module among the rows."""
    edges, rows = [0.0], list[int]()
    for i, group in enumerate(groups):
        if i and group != groups[i - 1]:
            edges.append(edges[-1] + _GROUP_GAP)
        rows.append(len(edges) - 1)
        edges.append(edges[-1] + 1)
    return np.array(edges), rows


def _hatch(placed: _Placed, theme: ThemeName, legend: bool) -> dict[str, Any]:
    """Hatched grey where nothing was compared. Bars, because only they can carry a pattern."""
    t = tokens(theme)
    missing = np.array([not np.isfinite(c.value) for c in placed.cells], dtype=bool)
    pattern = {"shape": "/", "fgcolor": t.chance, "bgcolor": t.missing, "size": 5, "solidity": 0.15}
    return {
        "type": "bar",
        "name": NOT_COMPARED,
        "x": placed.x[missing],
        "y": np.ones(int(missing.sum())),
        "base": placed.y[missing] - 0.5,
        "width": 1.0,
        "marker": {"color": t.missing, "pattern": pattern, "line": {"width": 1, "color": t.background}},
        "hoverinfo": "skip",
        "showlegend": legend,
        "legendgroup": NOT_COMPARED,
        **placed.on_axes,
    }


def _hover_lines(metric: Metric, cell: Cell) -> str:
    if not cell.names:
        return NOT_COMPARED
    lines = [f"{said(metric)} {cell_text(metric, cell, 4)}"]
    if np.isfinite(cell.chance):
        lines.append(f"chance {drawn_text(metric, cell.chance, 4)}")
    first, *others = cell.names
    lines.append(f"{len(cell.names)} tensors, {metric.pooling}" if others else safe(first))
    return "<br>".join(lines)


def _overlay(panel: Panel, metric: Metric, placed: _Placed) -> dict[str, Any]:
    """Invisible squares over the cells: heat maps emit no clicks, markers do, so hover and click live here."""
    data = np.empty((len(placed.cells), 4), dtype=object)
    for i, cell in enumerate(placed.cells):
        place = cell.module if cell.layer is None else f"layer {cell.layer} · {cell.module}"
        data[i] = (cell.names[0] if cell.names else "", panel.model, safe(place), _hover_lines(metric, cell))
    return {
        "type": "scatter",
        "mode": "markers",
        "name": safe(panel.title),
        "x": placed.x,
        "y": placed.y,
        "customdata": data,
        "marker": {"symbol": "square", "size": placed.size, "opacity": 0, "color": panel.colour},
        "selected": {"marker": {"opacity": 0}},
        "unselected": {"marker": {"opacity": 0}},
        "hovertemplate": f"<b>%{{customdata[2]}}</b><br>%{{customdata[3]}}<extra>{safe(panel.title)}</extra>",
        "showlegend": False,
        **placed.on_axes,
    }


def _heat(
    canvas: Canvas, values: Floats, rows: Floats, axis: str, texts: Sequence[Sequence[str]] | None
) -> dict[str, Any]:
    gap = 1 if values.shape[1] * canvas.layout.columns <= 90 else 0
    trace: dict[str, Any] = {
        "type": "heatmap",
        "z": canvas.scale.position(values).astype(np.float32),
        "x": np.arange(values.shape[1], dtype=np.float64),
        "y": rows,
        "coloraxis": "coloraxis",
        "hoverinfo": "skip",
        "hoverongaps": False,
        "xgap": gap,
        "ygap": gap,
        "xaxis": f"x{axis}",
        "yaxis": f"y{axis}",
    }
    if texts is None:
        return trace
    return trace | {"text": np.array(texts, dtype=object), "texttemplate": "%{text}", "textfont": {"size": 12}}


def _in_cell(metric: Metric, cell: Cell) -> str:
    """Short enough for a cell; hover has four digits."""
    if not np.isfinite(cell.value):
        return ""
    if metric.scale == "fraction" and 0 < cell.value < 1 and not 0.001 <= cell.value <= 0.999:
        return "<0.1 %" if cell.value < 0.5 else ">99.9 %"
    return cell_text(metric, cell)


def _draw(canvas: Canvas, panel: Panel, placed: _Placed, heat: dict[str, Any], *, legend: bool) -> None:
    if any(not np.isfinite(c.value) for c in placed.cells):
        canvas.figure.add_trace(_hatch(placed, canvas.theme, legend))
    canvas.figure.add_trace(heat)
    canvas.figure.add_trace(_overlay(panel, canvas.metric, placed))


_PLAIN: dict[str, Any] = {"showgrid": False, "zeroline": False}


def draw_main(canvas: Canvas, panel: Panel, i: int) -> list[Cell]:
    """The layered part of panel `i`; returns its cells, row by row."""
    frame, layout, axis = canvas.frame, canvas.layout, str(2 * i + 1) if i else ""
    cells = [[cell_of(panel, canvas.metric, module, layer) for layer in frame.layers] for module in frame.modules]
    edges, rows = _row_edges(frame.groups)
    n = len(frame.layers)
    values = np.full((len(edges) - 1, n), np.nan)
    values[rows] = cell_values(cells)
    texts = [[""] * n for _ in values] if n * layout.columns <= _TEXT_CELLS else None
    if texts is not None:
        for r, row in zip(rows, cells, strict=True):
            texts[r] = [_in_cell(canvas.metric, c) for c in row]
    centres = (edges[rows] + edges[[r + 1 for r in rows]]) / 2
    flat = tuple(c for row in cells for c in row)
    size = max(4.0, min(layout.width * _PLOT_PX / n, layout.row_px))
    placed = _Placed(axis, flat, np.tile(np.arange(n, dtype=np.float64), len(rows)), np.repeat(centres, n), size)
    _draw(canvas, panel, placed, _heat(canvas, values, edges, axis, texts), legend=i == 0)
    x_domain, y_domain = layout.main(i)
    step = max(1, ceil(n * layout.columns / 40))
    x_axis = {
        "title": {"text": "layer"},
        "tickvals": np.arange(0, n, step),
        "ticktext": [str(layer) for layer in frame.layers[::step]],
        "range": [-0.5, n - 0.5],
    }
    y_axis = {
        "tickvals": centres,
        "ticktext": [safe(shorten(m, 26)) for m in frame.modules],
        "range": [float(edges[-1]), 0],
    }
    _set_axes(canvas, i, axis, (x_axis | {"domain": x_domain}, y_axis | {"domain": y_domain}))
    _panel_title(canvas.figure, panel, x_domain[0], y_domain[1])
    return list(flat)


def draw_strip(canvas: Canvas, panel: Panel, i: int) -> list[Cell]:
    """The strip of panel `i` for tensors outside layers (embedding, final norm, head); returns its cells."""
    frame, layout, axis = canvas.frame, canvas.layout, str(2 * i + 2)
    cells = [cell_of(panel, canvas.metric, module, None) for module in frame.outside]
    n = len(cells)
    share = min(1.0, n * 110 / (layout.width * _PLOT_PX))
    wide = layout.width * _PLOT_PX * share / n >= 60
    texts = [[_in_cell(canvas.metric, c) for c in cells]] if wide else None
    placed = _Placed(axis, tuple(cells), np.arange(n, dtype=np.float64), np.full(n, 0.5), layout.strip_px)
    heat = _heat(canvas, cell_values([cells]), np.array([0.0, 1.0]), axis, texts)
    _draw(canvas, panel, placed, heat, legend=not frame.layers and i == 0)
    x_domain, y_domain = layout.strip(i, share)
    x_axis = {
        "tickvals": np.arange(n),
        "ticktext": [safe(shorten(m, 16)) for m in frame.outside],
        "showticklabels": n <= _LABELLED,
        "range": [-0.5, n - 0.5],
    }
    y_axis = {"tickvals": np.array([0.5]), "ticktext": ["outside layers"], "range": [1, 0]}
    _set_axes(canvas, i, axis, (x_axis | {"domain": x_domain}, y_axis | {"domain": y_domain}))
    if not frame.layers:
        _panel_title(canvas.figure, panel, x_domain[0], y_domain[1])
    return cells


def _set_axes(canvas: Canvas, i: int, axis: str, axes: tuple[dict[str, Any], dict[str, Any]]) -> None:
    labels = {"showticklabels": i % canvas.layout.columns == 0, "ticklabelstandoff": 4}
    x_axis, y_axis = axes
    canvas.figure.update_layout(
        {
            f"xaxis{axis}": {**_PLAIN, "anchor": f"y{axis}", **x_axis},
            f"yaxis{axis}": {**_PLAIN, "anchor": f"x{axis}", **labels, **y_axis},
        }
    )


def _panel_title(figure: go.Figure, panel: Panel, x: float, y: float) -> None:
    figure.add_annotation(
        text=f'<span style="color:{panel.colour}">●</span> {safe(panel.title)}', x=x, y=y, xref="paper", yref="paper",
        xanchor="left", yanchor="bottom", yshift=6, font={"size": 14},
    )  # fmt: skip
