"""Drawing of one panel of the layer × module map: its cells, hatches, texts and clickable overlay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from rlviz.views.cells import Cell, ColourScale, Frame, Panel
from rlviz.views.figure import Floats
from rlviz.views.heatmap_layout import GROUP_GAP, PLOT_PX, Layout
from rlviz.views.theme import ThemeName, blended, faded, readable_on, tokens
from rlviz.views.words import safe, shorten

_TEXT_CELLS = 16  # with at most this many columns in a row of panels, values are written into the cells
_LABELLED = 24  # with more modules outside layers, their names are on hover only


@dataclass(frozen=True, slots=True, eq=False)
class Canvas:
    """What all panels of one figure share. `missing` says why a cell is hatched."""

    figure: go.Figure
    missing: str
    frame: Frame
    scale: ColourScale
    layout: Layout
    theme: ThemeName


@dataclass(frozen=True, slots=True, eq=False)
class _Placed:
    """Cells on one pair of axes: `columns` and `rows` say where, `edges` where rows begin and end.

    `size` is a clickable square's side in pixels.
    """

    axis: str
    cells: tuple[Cell, ...]
    columns: NDArray[np.int64]
    rows: NDArray[np.int64]
    edges: Floats
    size: float

    @property
    def on_axes(self) -> dict[str, str]:
        return {"xaxis": f"x{self.axis}", "yaxis": f"y{self.axis}"}

    @property
    def x(self) -> Floats:
        return self.columns.astype(np.float64)

    @property
    def y(self) -> Floats:
        return (self.edges[self.rows] + self.edges[self.rows + 1]) / 2

    def grid(self, values: Sequence[float]) -> Floats:
        """One value per cell as ``[rows, columns]``; rows of NaN are gaps between groups."""
        grid = np.full((len(self.edges) - 1, int(self.columns.max()) + 1), np.nan)
        grid[self.rows, self.columns] = values
        return grid


def _row_edges(groups: Sequence[str]) -> tuple[Floats, list[int]]:
    """Row boundaries with a gap where the group changes, and the index of each module among the rows."""
    edges, rows = [0.0], list[int]()
    for i, group in enumerate(groups):
        if i and group != groups[i - 1]:
            edges.append(edges[-1] + GROUP_GAP)
        rows.append(len(edges) - 1)
        edges.append(edges[-1] + 1)
    return np.array(edges), rows


def _hatch(placed: _Placed, canvas: Canvas, legend: bool) -> dict[str, Any]:
    """Hatched grey where there is no value. Bars, because only they can carry a pattern."""
    t = tokens(canvas.theme)
    missing = np.array([not isfinite(c.value) for c in placed.cells], dtype=bool)
    pattern = {"shape": "/", "fgcolor": t.chance, "bgcolor": t.missing, "size": 5, "solidity": 0.15}
    return {
        "type": "bar",
        "name": canvas.missing,
        "x": placed.x[missing],
        "y": np.ones(int(missing.sum())),
        "base": placed.y[missing] - 0.5,
        "width": 1.0,
        "marker": {"color": t.missing, "pattern": pattern, "line": {"width": 1, "color": t.background}},
        "hoverinfo": "skip",
        "showlegend": legend,
        "legendgroup": canvas.missing,
        **placed.on_axes,
    }


def _overlay(panel: Panel, placed: _Placed) -> dict[str, Any]:
    """Invisible squares over the cells: heat maps emit no clicks, markers do, so hover and click live here."""
    data = np.empty((len(placed.cells), 4), dtype=object)
    for i, cell in enumerate(placed.cells):
        place = cell.module if cell.layer is None else f"layer {cell.layer} · {cell.module}"
        data[i] = (cell.names[0] if cell.names else "", panel.model, safe(place), cell.hover)
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


def _heat(canvas: Canvas, placed: _Placed, values: Floats) -> dict[str, Any]:
    gap = 1 if values.shape[1] * canvas.layout.columns <= 90 else 0
    return {
        "type": "heatmap",
        "z": values.astype(np.float32),
        "x": np.arange(values.shape[1], dtype=np.float64),
        "y": placed.edges,
        "hoverinfo": "skip",
        "hoverongaps": False,
        "xgap": gap,
        "ygap": gap,
        **placed.on_axes,
    }


def _veil(canvas: Canvas, placed: _Placed) -> dict[str, Any]:
    """The panel's colour over the cells, as dense as each is uncertain."""
    veiled = placed.grid([c.fade if isfinite(c.value) else np.nan for c in placed.cells])
    panel = tokens(canvas.theme).panel
    colours = [[0.0, faded(panel, 0)], [1.0, faded(panel, 1)]]
    return _heat(canvas, placed, veiled) | {"colorscale": colours, "zmin": 0, "zmax": 1, "showscale": False}


def _texts(canvas: Canvas, placed: _Placed) -> dict[str, Any]:
    """What is written into the cells: marks of their own, because a veil lies over a heat map's own text."""
    shown = [(c, canvas.scale.colour(c.value)) for c in placed.cells]
    return {
        "type": "scatter",
        "mode": "text",
        "x": placed.x,
        "y": placed.y,
        "text": np.array([c.text for c in placed.cells], dtype=object),
        "textfont": {"size": 12, "color": [readable_on(blended(colour, c.fade, canvas.theme)) for c, colour in shown]},
        "selected": {"textfont": {"color": tokens(canvas.theme).text}},  # without it a click dims all the others
        "hoverinfo": "skip",
        "showlegend": False,
        **placed.on_axes,
    }


def _draw(canvas: Canvas, panel: Panel, placed: _Placed, *, write: bool) -> None:
    """Hatches, colours, veil, texts and the overlay that answers the pointer, in this order."""
    figure = canvas.figure
    if any(not isfinite(c.value) for c in placed.cells):
        legend = not any(figure.select_traces({"type": "bar"}))
        figure.add_trace(_hatch(placed, canvas, legend))
    values = canvas.scale.position(placed.grid([c.value for c in placed.cells]))
    figure.add_trace(_heat(canvas, placed, values) | {"coloraxis": "coloraxis"})
    if any(c.fade for c in placed.cells):
        figure.add_trace(_veil(canvas, placed))
    if write:
        figure.add_trace(_texts(canvas, placed))
    figure.add_trace(_overlay(panel, placed))


_PLAIN: dict[str, Any] = {"showgrid": False, "zeroline": False}


def draw_main(canvas: Canvas, panel: Panel, i: int) -> None:
    """The layered part of panel `i`."""
    frame, layout, axis = canvas.frame, canvas.layout, str(2 * i + 1) if i else ""
    cells = tuple(panel.cell(module, layer) for module in frame.modules for layer in frame.layers)
    edges, rows = _row_edges(frame.groups)
    n = len(frame.layers)
    size = max(4.0, min(layout.width * PLOT_PX / n, layout.row_px))
    placed = _Placed(axis, cells, np.tile(np.arange(n), len(rows)), np.repeat(np.array(rows), n), edges, size)
    _draw(canvas, panel, placed, write=n * layout.columns <= _TEXT_CELLS)
    x_domain, y_domain = layout.main(i)
    step = max(1, ceil(n * layout.columns / 40))
    x_axis = {
        "title": {"text": "layer"},
        "tickvals": np.arange(0, n, step),
        "ticktext": [str(layer) for layer in frame.layers[::step]],
        "range": [-0.5, n - 0.5],
    }
    y_axis = {
        "tickvals": placed.y[::n],
        "ticktext": [safe(shorten(m, 26)) for m in frame.modules],
        "range": [float(edges[-1]), 0],
    }
    _set_axes(canvas, i, axis, (x_axis | {"domain": x_domain}, y_axis | {"domain": y_domain}))
    _panel_title(canvas.figure, panel, x_domain[0], y_domain[1])


def draw_strip(canvas: Canvas, panel: Panel, i: int) -> None:
    """The strip of panel `i` for tensors outside layers (embedding, final norm, head)."""
    frame, layout, axis = canvas.frame, canvas.layout, str(2 * i + 2)
    cells = tuple(panel.cell(module, None) for module in frame.outside)
    n = len(cells)
    share = min(1.0, n * 110 / (layout.width * PLOT_PX))
    wide = layout.width * PLOT_PX * share / n >= 60
    edges = np.array([0.0, 1.0])
    placed = _Placed(axis, cells, np.arange(n), np.zeros(n, dtype=np.int64), edges, layout.strip_px)
    _draw(canvas, panel, placed, write=wide)
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
