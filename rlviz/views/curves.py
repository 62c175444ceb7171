"""Lines on one or more panels: direct labels at line ends, chance dashed, log axes in powers of ten."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from rlviz.views.figure import (
    Floats,
    LineEnd,
    Row,
    label_line_ends,
    label_margin,
    log_axis,
    log_range,
    padded_range,
    rows_of,
)
from rlviz.views.theme import FIGURE_HEIGHT, ThemeName, chance_line, faded, figure_layout, tokens
from rlviz.views.words import safe

Kind = Literal["tuned", "base", "chance"]
_MAX_DIRECT = 4  # lines that are labelled at their ends; more get a legend
_PLOT_PX = 900  # assumed width of the drawing area, for the room that labels between panels take
_MAX_POINTS = 4000  # per line: beyond that the browser slows down and no pixel is gained


@dataclass(frozen=True, slots=True, eq=False)
class Line:
    """One line. `label` is not escaped; `band` is its lower and upper edge. Without a label only the band is drawn."""

    label: str
    x: Floats
    y: Floats
    colour: str
    kind: Kind = "tuned"
    mode: Literal["lines", "lines+markers", "markers"] = "lines"
    dash: str | None = None
    width: float = 2.0
    band: tuple[Floats, Floats] | None = None
    note: str = ""
    notes: tuple[str, ...] = ()  # one per point, on hover

    def __post_init__(self) -> None:
        assert len(self.notes) in (0, self.x.size)


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical reference with a word: the slider's position, the chosen k."""

    x: float
    text: str
    colour: str


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One pair of axes. Titles carry the unit; `y_unit` follows the value on hover."""

    lines: tuple[Line, ...]
    x_title: str
    y_title: str
    title: str = ""
    log_x: bool = False
    log_y: bool = False
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    x_word: str = ""
    y_unit: str = ""
    marks: tuple[Mark, ...] = ()


def _thinned(line: Line) -> NDArray[np.int64]:
    """Indices of at most `_MAX_POINTS` points, ends included. Tables keep every one."""
    return np.unique(np.linspace(0, line.x.size - 1, min(line.x.size, _MAX_POINTS)).round().astype(np.int64))


def _trace(line: Line, panel: Panel, axis: str, theme: ThemeName, legend: bool) -> dict[str, Any]:
    kept = _thinned(line)
    style: dict[str, Any] = {"color": line.colour, "width": line.width, "dash": line.dash or "solid"}
    if line.kind == "chance":
        style = chance_line(theme)
    word = panel.x_word or panel.x_title.split(",")[0]
    note = f"<br>{safe(line.note)}" if line.note else ""
    note += "<br>%{customdata}" if line.notes else ""
    return {
        "type": "scatter",
        "mode": line.mode,
        "name": safe(line.label),
        "x": line.x[kept],
        "y": line.y[kept],
        "line": style,
        "marker": {"size": 7, "color": style["color"]},
        "hovertemplate": f"<b>{safe(line.label)}</b><br>{word} %{{x:.4~g}}<br>%{{y:.4~g}}{panel.y_unit}{note}"
        "<extra></extra>",
        "customdata": np.array([safe(line.notes[i]) for i in kept], dtype=object) if line.notes else None,
        "showlegend": legend,
        "legendgroup": safe(line.label),
        "xaxis": f"x{axis}",
        "yaxis": f"y{axis}",
    }


def _band(line: Line, axis: str) -> dict[str, Any]:
    assert line.band is not None
    lower, upper = line.band
    return {
        "type": "scatter",
        "mode": "lines",
        "x": np.concatenate([line.x, line.x[::-1]]),
        "y": np.concatenate([upper, lower[::-1]]),
        "fill": "toself",
        "fillcolor": faded(line.colour, 0.18),
        "line": {"width": 0},
        "name": f"{safe(line.label)} band",
        "hoverinfo": "skip",
        "showlegend": False,
        "xaxis": f"x{axis}",
        "yaxis": f"y{axis}",
    }


def _y_range(panel: Panel) -> tuple[float, float]:
    if panel.y_range is not None:
        return panel.y_range
    values = np.concatenate([line.y for line in panel.lines]) if panel.lines else np.array([])
    return log_range(values) if panel.log_y else padded_range(values)


def _x_range(panel: Panel) -> tuple[float, float]:
    if panel.x_range is not None:
        return panel.x_range
    values = np.concatenate([line.x for line in panel.lines]) if panel.lines else np.array([])
    if panel.log_x:
        return log_range(values, pad=0.01)
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    extra = 0.015 * ((high - low) or 1.0)
    return low - extra, high + extra


def _axis(log: bool, span: tuple[float, float], title: str, domain: tuple[float, float], anchor: str) -> dict[str, Any]:
    axis: dict[str, Any] = {
        "range": span,
        "domain": domain,
        "anchor": anchor,
        "title": {"text": title},
        "zeroline": False,
    }
    if log:
        axis |= log_axis(span)
    elif title == "layer" and span[1] - span[0] < 15:
        axis |= {"dtick": 1}
    return axis


def _domains(panels: Sequence[Panel], room: int) -> list[tuple[float, float]]:
    n = len(panels)
    gap = min(0.3, (room + 70) / _PLOT_PX) if n > 1 else 0.0
    width = (1 - gap * (n - 1)) / n
    return [(i * (width + gap), i * (width + gap) + width) for i in range(n)]


def plot_lines(panels: Sequence[Panel], theme: ThemeName, *, height: int = FIGURE_HEIGHT) -> go.Figure:
    """Panels side by side. With at most four lines in each, labels stand at line ends; otherwise one legend."""
    direct = all(sum(bool(line.label) for line in panel.lines) <= _MAX_DIRECT for panel in panels)
    room = label_margin([line.label for panel in panels for line in panel.lines]) if direct else 24
    figure = go.Figure()
    top = 48 if any(p.title for p in panels) or not direct else 28
    figure.update_layout(figure_layout(theme, height=height))
    top += 24 if not direct else 0
    figure.update_layout(margin={"l": 64, "r": room, "t": top, "b": 56})
    if not direct and any(p.title for p in panels):  # above the titles
        figure.update_layout(legend={"y": 1 + 30 / (height - top - 56)})
    named: set[str] = set()
    for i, (panel, domain) in enumerate(zip(panels, _domains(panels, room), strict=True)):
        axis = str(i + 1) if i else ""
        x_range, y_range = _x_range(panel), _y_range(panel)
        figure.update_layout(
            {
                f"xaxis{axis}": _axis(panel.log_x, x_range, panel.x_title, domain, f"y{axis}"),
                f"yaxis{axis}": _axis(panel.log_y, y_range, panel.y_title, (0.0, 1.0), f"x{axis}"),
            }
        )
        figure.add_traces([go.Scatter(_band(line, axis)) for line in panel.lines if line.band is not None])
        for line in (line for line in panel.lines if line.label):
            figure.add_trace(_trace(line, panel, axis, theme, legend=not direct and line.label not in named))
            named.add(line.label)
        if direct:
            plot_px = height - top - 56
            label_line_ends(figure, _ends(panel.lines), y_range, plot_px, log=(panel.log_x, panel.log_y), axis=axis)
        _draw_marks(figure, panel, axis)
        if panel.title:
            figure.add_annotation(
                text=safe(panel.title), x=domain[0], y=1, xref="paper", yref="paper", xanchor="left", yanchor="bottom",
                yshift=8, font={"size": 14, "color": tokens(theme).text},
            )  # fmt: skip
    return figure


def _ends(lines: Sequence[Line]) -> list[LineEnd]:
    ends: list[LineEnd] = []
    for line in lines:
        known = np.flatnonzero(np.isfinite(line.y))
        if known.size and line.label:
            ends.append(LineEnd(line.label, line.colour, float(line.x[known[-1]]), float(line.y[known[-1]])))
    return ends


def _draw_marks(figure: go.Figure, panel: Panel, axis: str) -> None:
    for mark in panel.marks:
        figure.add_shape(
            type="line", x0=mark.x, x1=mark.x, y0=0, y1=1, xref=f"x{axis}", yref=f"y{axis} domain",
            line={"color": mark.colour, "width": 1.5, "dash": "dot"},
        )  # fmt: skip
        figure.add_annotation(
            text=safe(mark.text), x=float(np.log10(mark.x)) if panel.log_x else mark.x, y=0, xref=f"x{axis}",
            yref=f"y{axis} domain", xanchor="left", yanchor="bottom", xshift=5, font={"size": 12, "color": mark.colour},
        )  # fmt: skip


def lines_table(panels: Sequence[Panel], x_name: str, y_name: str) -> tuple[Row, ...]:
    """Every point of every line, unthinned."""
    rows: list[Row] = []
    for panel in panels:
        for line in (line for line in panel.lines if line.label):
            columns = {x_name: line.x, y_name: line.y}
            prefix: Row = {"panel": panel.title, "line": line.label}
            rows += [prefix | row for row in rows_of(columns)]
    return tuple(rows)
