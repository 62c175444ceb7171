"""Gate II on one matrix: how far the leading subspaces turned, against what Wedin's theorem lets them turn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil, log10
from typing import Any

import numpy as np
import plotly.graph_objects as go

from rlviz.metrics.gates import WedinCurve, wedin_curve
from rlviz.metrics.spectrum import PROBE
from rlviz.result import PairResult
from rlviz.views.chosen import Chosen, chosen, not_measured
from rlviz.views.figure import Floats, Plot, Row, log_axis, log_range, rows_of
from rlviz.views.remember import remembered
from rlviz.views.theme import ThemeName, Tokens, faded, figure_layout, tokens
from rlviz.views.words import number, safe, sentences

_FLOOR = 1e-7  # float64 cosines resolve about 1e-7 rad; below that a log axis would draw rounding
_TOP = 20.0  # bounds beyond it leave the frame: from 1 on they say nothing, whatever they are
_COLUMNS, _ROW_PX = 3, 380
_GAP, _AIR = 0.035, 0.16  # between columns and between rows of panels, as shares of the drawing area
_PRINTED, _RIGOROUS = "dot", "solid"
_LEFT, _RIGHT = "circle", "circle-open"


@dataclass(frozen=True, slots=True)
class _Frame:
    """What all panels share: exponents of k and of the sines, and how many columns and rows of panels there are."""

    k: tuple[float, float]
    sine: tuple[float, float]
    columns: int
    rows: int


@remembered
def plot_wedin(results: Sequence[PairResult], name: str, k: int, theme: ThemeName) -> Plot:
    """sin θ_max over k, left and right, against the printed and the rigorous bound; one panel per tuned model.

    Where a bound is 1 or more it bounds nothing: that region is grey.
    """
    members = [
        (c, curve) for c in chosen(results, name, PROBE, theme) if (curve := wedin_curve(c.measured)) is not None
    ]
    if not members:
        return not_measured(results, name, "the spectrum of the update", theme)
    frame, t = _frame_of([curve for _, curve in members]), tokens(theme)
    figure = go.Figure(layout=figure_layout(theme, height=max(460, 60 + _ROW_PX * frame.rows)))
    for i, (c, curve) in enumerate(members):
        axis = str(i + 1) if i else ""
        figure.update_layout(_axes(axis, frame, divmod(i, frame.columns)))
        figure.add_traces([go.Scatter(trace | _on(axis)) for trace in _traces(c, curve, t)])
        _draw_vacuous(figure, axis, frame, t)
        _draw_title(figure, axis, c)
        if frame.k[0] <= log10(k) <= frame.k[1]:
            _draw_chosen(figure, axis, k, t)
    figure.add_traces([go.Scatter(trace) for trace in _key(t)])
    figure.update_layout(
        margin={"l": 64, "r": 24, "t": 76, "b": 56}, legend={"yref": "container", "y": 1, "yanchor": "top"}
    )
    caption = sentences(
        f"{name}, chosen at the side",
        "Circles: sine of the largest principal angle between the top-k subspaces of base and tuned, as measured",
        "Lines: what Wedin's theorem allows, ‖ΔW‖₂/γₖ as printed and ‖ΔW‖₂/(γₖ − ‖ΔW‖₂) rigorously; the latter "
        "applies only where ‖ΔW‖₂ < γₖ",
        "Grey: no sine is above 1, so a bound there says nothing: the length of the update does not explain its angles",
    )
    return Plot(figure, _alt(name, members), caption, tuple(row for c, curve in members for row in _rows(c, curve)))


def _alt(name: str, members: Sequence[tuple[Chosen, WedinCurve]]) -> str:
    parts: list[str] = []
    for c, curve in members:
        telling, n = int(curve.says_something.sum()), curve.k.size
        share = curve.observed[curve.printed > 0] / curve.printed[curve.printed > 0]
        below = (
            f"; the sine is {number(float(np.median(share)))} of the printed bound in the median" if share.size else ""
        )
        parts.append(f"{c.label}: the rigorous bound is below 1 at {telling} of {n} ranks k{below}")
    return sentences(f"Rotation of the leading subspaces of {name} against Wedin's bound", *parts)


def _frame_of(curves: Sequence[WedinCurve]) -> _Frame:
    low, _ = log_range(np.maximum(np.concatenate([curve.observed for curve in curves]), _FLOOR))
    k = np.concatenate([curve.k for curve in curves]).astype(np.float64)
    columns = min(len(curves), _COLUMNS)
    return _Frame(log_range(k, 0.04), (min(low, -2.0), log10(_TOP)), columns, ceil(len(curves) / columns))


def _axes(axis: str, frame: _Frame, place: tuple[int, int]) -> dict[str, Any]:
    row, column = place
    width = (1 - _GAP * (frame.columns - 1)) / frame.columns
    height = (1 - _AIR * (frame.rows - 1)) / frame.rows
    left, top = column * (width + _GAP), 1 - row * (height + _AIR)
    x = {"domain": (left, min(1.0, left + width)), "anchor": f"y{axis}", "title": {"text": "k"}}
    y = {"domain": (max(0.0, top - height), top), "anchor": f"x{axis}", "showticklabels": column == 0}
    title = {"text": "sin θ<sub>max</sub>(k), dimensionless" if column == 0 else ""}
    return {
        f"xaxis{axis}": log_axis(frame.k) | x,
        f"yaxis{axis}": log_axis(frame.sine) | y | {"title": title},
    }


def _on(axis: str) -> dict[str, str]:
    return {"xaxis": f"x{axis}", "yaxis": f"y{axis}"}


def _traces(c: Chosen, curve: WedinCurve, t: Tokens) -> Iterator[dict[str, Any]]:
    shared: dict[str, Any] = {"type": "scatter", "x": curve.k.astype(np.float64), "showlegend": False}
    for label, bound, dash in (("printed", curve.printed, _PRINTED), ("rigorous", curve.rigorous, _RIGOROUS)):
        yield shared | {
            "mode": "lines+markers",
            "name": f"{safe(c.label)}, {label} bound",
            "y": bound,
            "line": {"color": t.base, "width": 1.8, "dash": dash},
            "marker": {"size": 4, "color": t.base},
            "hovertemplate": f"{label} bound<br>k = %{{x}}<br>%{{y:.4~g}}<extra>{safe(c.label)}</extra>",
        }
    for side, sines, symbol in (("left", curve.left, _LEFT), ("right", curve.right, _RIGHT)):
        yield shared | {
            "mode": "lines+markers",
            "name": f"{safe(c.label)}, {side}",
            "y": np.maximum(sines, _FLOOR),
            "line": {"color": c.colour, "width": 2},
            "marker": {"size": 9, "symbol": symbol, "color": c.colour, "line": {"width": 2, "color": c.colour}},
            "hovertemplate": f"<b>{safe(c.label)}</b>, {side}<br>k = %{{x}}<br>sin θ %{{y:.4~g}}<extra></extra>",
        }


def _key(t: Tokens) -> Iterator[dict[str, Any]]:
    """What the marks mean, in a colour of no model's: legend entries without a point."""
    nothing: dict[str, Any] = {"type": "scatter", "x": np.array([np.nan]), "y": np.array([np.nan]), "hoverinfo": "skip"}
    for name, symbol in (("observed, left", _LEFT), ("observed, right", _RIGHT)):
        mark = {"size": 9, "symbol": symbol, "color": t.quiet, "line": {"width": 2, "color": t.quiet}}
        yield nothing | {"name": name, "mode": "markers", "marker": mark}
    for name, dash in (("Wedin's bound as printed", _PRINTED), ("rigorous", _RIGOROUS)):
        yield nothing | {"name": name, "mode": "lines", "line": {"color": t.base, "width": 1.8, "dash": dash}}


def _draw_vacuous(figure: go.Figure, axis: str, frame: _Frame, t: Tokens) -> None:
    figure.add_shape(
        type="rect", x0=0, x1=1, y0=1, y1=_TOP, xref=f"x{axis} domain", yref=f"y{axis}", layer="below",
        fillcolor=faded(t.chance, 0.2), line={"width": 0},
    )  # fmt: skip
    figure.add_annotation(
        text="vacuous: no sine is above 1", x=0.01, y=frame.sine[1], xref=f"x{axis} domain", yref=f"y{axis}",
        xanchor="left", yanchor="top", yshift=-4, font={"size": 12, "color": t.quiet},
    )  # fmt: skip


def _draw_title(figure: go.Figure, axis: str, c: Chosen) -> None:
    figure.add_annotation(
        text=safe(c.label), x=0, y=1, xref=f"x{axis} domain", yref=f"y{axis} domain", xanchor="left", yanchor="bottom",
        yshift=6, font={"size": 14, "color": c.colour},
    )  # fmt: skip


def _draw_chosen(figure: go.Figure, axis: str, k: int, t: Tokens) -> None:
    figure.add_shape(
        type="line", x0=k, x1=k, y0=0, y1=1, xref=f"x{axis}", yref=f"y{axis} domain", layer="below",
        line={"color": t.quiet, "width": 1.2, "dash": "dot"},
    )  # fmt: skip
    figure.add_annotation(
        text=f"k = {k}", x=log10(k), y=0, xref=f"x{axis}", yref=f"y{axis} domain", xanchor="right", yanchor="bottom",
        xshift=-4, font={"size": 12, "color": t.quiet},
    )  # fmt: skip


def _rows(c: Chosen, curve: WedinCurve) -> list[Row]:
    columns: dict[str, Floats] = {
        "k": curve.k.astype(np.float64),
        "sin_left": curve.left,
        "sin_right": curve.right,
        "gap": curve.gap,
        "printed": curve.printed,
        "rigorous": curve.rigorous,
    }
    model: Row = {"model": c.result.tuned.pinned_ref, "update_spectral_norm": curve.update_norm}
    return [model | row for row in rows_of(columns)]
