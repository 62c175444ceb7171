"""Named rows over panels side by side: dots of every tuned model in them, each beside a null of its own."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, nan
from typing import Any

import numpy as np
import plotly.graph_objects as go

from rlviz.views.figure import Floats
from rlviz.views.theme import ThemeName, chance_line
from rlviz.views.words import safe

_GAP = 0.03  # between panels, of the figure's width


def row_places(rows: int, model: int, models: int) -> Floats:
    """Heights of one model's dots, a row each: models lie beside each other within a row."""
    step = min(0.24, 0.8 / models)
    return np.arange(rows, dtype=np.float64) + (model - (models - 1) / 2) * step


def on_panel(panel: int) -> dict[str, str]:
    """The axes of a panel, for a trace."""
    return {"xaxis": f"x{_suffix(panel)}", "yaxis": f"y{_suffix(panel)}"}


def _suffix(panel: int) -> str:
    return str(panel + 1) if panel else ""


def row_dots(
    model: tuple[str, str], at: tuple[Floats, Floats], rows: Sequence[str], panel: int, unit: str
) -> dict[str, Any]:
    """Dots of one model (label, colour) at ``(x, y)``; named once in the legend, by the first panel."""
    label, colour = model
    return {
        "type": "scatter",
        "mode": "markers",
        "name": safe(label),
        "legendgroup": safe(label),
        "showlegend": panel == 0,
        "x": at[0],
        "y": at[1],
        "customdata": np.array([safe(row) for row in rows], dtype=object),
        "marker": {"size": 9, "color": colour},
        "hovertemplate": f"<b>%{{customdata}}</b><br>%{{x:.4~g}}{unit}<extra>{safe(label)}</extra>",
        **on_panel(panel),
    }


def null_strokes(at: tuple[Floats, Floats], name: str, panel: int, unit: str, theme: ThemeName) -> dict[str, Any]:
    """A dashed stroke per row at ``(x, y)``, on the model's own place in it: each model has a null of its own."""
    known = [(x, y) for x, y in zip(*at, strict=True) if isfinite(x)]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "legendgroup": "null",
        "x": np.array([v for x, _ in known for v in (x, x, nan)]),
        "y": np.array([v for _, y in known for v in (y - 0.14, y + 0.14, nan)]),
        "line": chance_line(theme, 2.5) | {"dash": "3px,2px"},
        "hovertemplate": f"{name} %{{x:.4~g}}{unit}<extra></extra>",
        **on_panel(panel),
    }


def row_axes(figure: go.Figure, rows: Sequence[str], titles: Sequence[str], x_axes: Sequence[dict[str, Any]]) -> None:
    """Panels of equal width on the same rows, counted from the top; the first panel names them."""
    width = (1 - _GAP * (len(titles) - 1)) / len(titles)
    for panel, (title, axis) in enumerate(zip(titles, x_axes, strict=True)):
        at, left = _suffix(panel), panel * (width + _GAP)
        y_axis: dict[str, Any] = {
            "anchor": f"x{at}",
            "range": [len(rows) - 0.5, -0.5],
            "tickvals": np.arange(len(rows)),
            "ticktext": [safe(row) for row in rows],
            "showticklabels": panel == 0,
            "ticklabelstandoff": 6,
            "zeroline": False,
        }
        x_axis: dict[str, Any] = {
            "domain": (left, min(left + width, 1.0)),
            "anchor": f"y{at}",
            "title": {"text": title},
            "zeroline": False,
        }
        figure.update_layout({f"xaxis{at}": x_axis | axis, f"yaxis{at}": y_axis})


def rule_under_first(figure: go.Figure, panels: int, theme: ThemeName) -> None:
    """A thin line that sets the first row apart, where it is all of them together."""
    for panel in range(panels):
        at = _suffix(panel)
        figure.add_shape(
            type="line", x0=0, x1=1, y0=0.5, y1=0.5, xref=f"x{at} domain", yref=f"y{at}",
            line=chance_line(theme, 1) | {"dash": "solid"}, opacity=0.4,
        )  # fmt: skip
