"""Several runs as they are, and at the norm of the shortest: what is left once distance is taken out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import degrees, isfinite, nan
from typing import Any

import numpy as np
import plotly.graph_objects as go

from rlviz.metrics import METRICS
from rlviz.result import PairResult
from rlviz.types import MetricParams
from rlviz.views.figure import Plot, Row, blank, finite, log_axis, log_range
from rlviz.views.remember import remembered
from rlviz.views.theme import ThemeName, figure_layout, tokens, tuned_colour
from rlviz.views.words import number, safe, sentences, tuned_labels

SPECTRA = ("nss", "kappa_iso")
ANGLES = ("max_principal_angle_left", "max_principal_angle_right", "subspace_rotation_left")
_GAP = 0.05  # between panels, as a share of the width
_ROW_PX = 46


@remembered
def plot_matched_norm(
    results: Sequence[PairResult], keys: tuple[str, ...], params: MetricParams, theme: ThemeName
) -> Plot:
    """Pooled metrics `keys`, a panel each: a ring per run as it is, a dot with its updates at the smallest norm."""
    labels = tuned_labels(results)
    values = {key: [(_shown(r, key, params), _shown(r, f"{key}_matched", params)) for r in results] for key in keys}
    if not any(isfinite(matched) for pairs in values.values() for _, matched in pairs):
        return blank(theme, "No matrix that every run has changed: there is no common norm.")
    figure = _panels(labels, values, params, theme)
    rows: list[Row] = [
        {"model": r.tuned.pinned_ref, **{name: finite(v) for key in keys for name, v in _columns(key, values[key][i])}}
        for i, r in enumerate(results)
    ]
    caption = sentences(
        "Ring: as it is. Dot: every update rescaled, matrix by matrix, to the smallest ‖ΔW‖_F among these runs, so "
        "that no run is ahead because it moved further",
        "What still differs is where they moved",
        "A matrix's share of energy on the principal block does not change with length",
    )
    said = "; ".join(f"{label}: {_said(keys[0], values[keys[0]][i])}" for i, label in enumerate(labels))
    alt = sentences(f"{METRICS[keys[0]].title} as it is and at matched norm. {said}")
    return Plot(figure, alt, caption, tuple(rows))


def _panels(
    labels: Sequence[str], values: Mapping[str, Sequence[tuple[float, float]]], params: MetricParams, theme: ThemeName
) -> go.Figure:
    figure = go.Figure(layout=figure_layout(theme, height=max(420, 200 + _ROW_PX * len(labels))))
    width = (1 + _GAP) / len(values)
    for panel, (key, pairs) in enumerate(values.items()):
        axis = "" if panel == 0 else str(panel + 1)
        for row, (label, pair) in enumerate(zip(labels, pairs, strict=True)):
            for trace in _traces(label, pair, row, tuned_colour(row, theme), METRICS[key].unit):
                named = panel == 0 and row == 0 and bool(trace.get("name"))
                figure.add_trace(go.Scatter(trace | {"xaxis": f"x{axis}", "yaxis": f"y{axis}", "showlegend": named}))
        drawn = log_axis(log_range(np.array(pairs).ravel(), pad=0.12))
        place = {"domain": (panel * width, panel * width + width - _GAP), "anchor": f"y{axis}", "zeroline": False}
        title = {"title": {"text": _axis_title(key, params)}}
        rows = _rows(labels, axis, labelled=panel == 0)
        figure.update_layout({f"xaxis{axis}": drawn | place | title, f"yaxis{axis}": rows})
    figure.update_layout(legend={"itemclick": False, "itemdoubleclick": False, "font": {"color": tokens(theme).text}})
    return figure


def _shown(result: PairResult, key: str, params: MetricParams) -> float:
    value = result.pooled(key, params)
    return degrees(value) if METRICS[key].unit == "rad" and isfinite(value) else value


def _traces(label: str, pair: tuple[float, float], row: int, colour: str, unit: str) -> list[dict[str, Any]]:
    suffix = "°" if unit == "rad" else ""
    known = [v if isfinite(v) and v > 0 else nan for v in pair]
    line: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines",
        "x": np.array(known),
        "y": np.array([row, row]),
        "hoverinfo": "skip",
    }
    marks = (("as it is", "circle-open", known[0]), ("at matched norm", "circle", known[1]))
    return [
        line | {"line": {"color": colour, "width": 1.5}},
        *(
            {
                "type": "scatter",
                "mode": "markers",
                "name": name,
                "x": np.array([value]),
                "y": np.array([row]),
                "marker": {"symbol": symbol, "size": 12, "color": colour, "line": {"width": 2, "color": colour}},
                "hovertemplate": f"{safe(label)}, {name}<br>%{{x:.3~g}}{suffix}<extra></extra>",
            }
            for name, symbol, value in marks
        ),
    ]


def _rows(labels: Sequence[str], axis: str, *, labelled: bool) -> dict[str, Any]:
    return {
        "anchor": f"x{axis}",
        "range": [len(labels) - 0.5, -0.5],
        "tickvals": np.arange(len(labels)),
        "ticktext": [safe(label) for label in labels],
        "showticklabels": labelled,
        "zeroline": False,
    }


def _axis_title(key: str, params: MetricParams) -> str:
    metric = METRICS[key]
    unit = "degrees" if metric.unit == "rad" else "dimensionless"
    at = f"k = {params.k}, " if "k" in metric.uses else ""
    return f"{metric.title}<br>{at}{metric.pooling}, {unit}"


def _columns(key: str, pair: tuple[float, float]) -> tuple[tuple[str, float], tuple[str, float]]:
    return (METRICS[key].column, pair[0]), (METRICS[f"{key}_matched"].column, pair[1])


def _said(key: str, pair: tuple[float, float]) -> str:
    unit = "°" if METRICS[key].unit == "rad" else ""
    return f"{number(pair[0])}{unit}, matched {number(pair[1])}{unit}" if isfinite(pair[1]) else "not measured"
