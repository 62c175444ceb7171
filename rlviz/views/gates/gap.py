"""Gate II over all matrices: how far each turned at k, against what Wedin's theorem lets it turn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from rlviz.metrics.gates import largest_sine
from rlviz.metrics.spectrum import PROBE
from rlviz.result import PairResult
from rlviz.types import MetricParams
from rlviz.views.figure import Floats, Plot, Row, blank, finite, log_axis, log_range
from rlviz.views.gates.dots import Dotted, dotted
from rlviz.views.remember import remembered
from rlviz.views.theme import ThemeName, faded, figure_layout, tokens
from rlviz.views.words import safe, sentences

VACUOUS = 0.5
"""From ``‖ΔW‖₂ = γ_k / 2`` on the rigorous bound is 1 or more, which every sine is below."""

_FLOOR = 1e-7  # float64 resolves no smaller sine
_CURVE = np.logspace(-9, np.log10(VACUOUS), 200)


@remembered
def plot_wedin_matrices(results: Sequence[PairResult], params: MetricParams, theme: ThemeName) -> Plot:
    """sin θ_max(k) of every matrix against ``‖ΔW‖₂/γ_k``, with both forms of Wedin's bound as lines in that plane."""
    found = [(m, m.values("wedin_printed", params), _sines(m, params)) for m in dotted(results, PROBE, theme)]
    found = [(m, x, y) for m, x, y in found if ((x > 0) & (y > 0)).any()]
    if not found:
        return blank(theme, "No update whose spectrum is known: there is no bound to hold it against.")
    figure = go.Figure(layout=figure_layout(theme, height=460))
    rows: list[Row] = []
    parts: list[str] = []
    for model, x, y in found:
        figure.add_trace(go.Scatter(_dots(model, x, y)))
        rigorous = model.values("wedin_rigorous", params)
        known = int(np.isfinite(x).sum())
        parts.append(f"{model.label}: the rigorous bound is below 1 in {int((rigorous < 1).sum())} of {known} matrices")
        for m, ratio, sine, bound in zip(model.group, x, y, rigorous, strict=True):
            row: Row = {"model": model.result.tuned.pinned_ref, "tensor": m.name, "k": params.k}
            rows.append(
                row | {"sin": finite(float(sine)), "printed": finite(float(ratio)), "rigorous": finite(float(bound))}
            )
    _furnish(figure, np.concatenate([x for _, x, _ in found]), np.concatenate([y for *_, y in found]), params, theme)
    caption = sentences(
        f"One dot per matrix at k = {params.k}: of both sides' sines the larger, over the update's spectral norm in "
        "units of the gap γₖ. Lines: Wedin's bound as printed, ‖ΔW‖₂/γₖ, and in its rigorous form, ‖ΔW‖₂/(γₖ − ‖ΔW‖₂), "
        "which no dot can be above",
        "Grey: from ‖ΔW‖₂ = γₖ/2 on the rigorous bound is above 1, as no sine is: there the length of the update does "
        "not tell how far directions may turn",
    )
    alt = sentences(f"Rotation of the top-{params.k} subspaces against Wedin's bound", *parts)
    return Plot(figure, alt, caption, tuple(rows))


def _sines(model: Dotted, params: MetricParams) -> Floats:
    return np.array([largest_sine(m, params) for m in model.group], dtype=np.float64)


def _dots(model: Dotted, x: Floats, y: Floats) -> dict[str, Any]:
    drawn = (x > 0) & (y > 0)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": safe(model.label),
        "x": x[drawn],
        "y": np.maximum(y[drawn], _FLOOR),
        "customdata": np.array([safe(m.name) for m, shown in zip(model.group, drawn, strict=True) if shown], object),
        "marker": {"size": 9, "opacity": 0.8, "color": model.colour},
        "hovertemplate": "<b>%{customdata}</b><br>‖ΔW‖₂/γₖ %{x:.4~g}<br>sin θ %{y:.4~g}"
        f"<extra>{safe(model.label)}</extra>",
    }


def _furnish(figure: go.Figure, x: Floats, y: Floats, params: MetricParams, theme: ThemeName) -> None:
    t = tokens(theme)
    left, right = log_range(np.append(x, (VACUOUS / 5, 2 * VACUOUS)))
    low, _ = log_range(np.append(np.maximum(y[y > 0], _FLOOR), 10**left))
    line: dict[str, Any] = {"type": "scatter", "mode": "lines", "x": _CURVE, "hoverinfo": "skip"}
    for name, bound, dash in (("as printed", _CURVE, "dot"), ("rigorous", _CURVE / (1 - _CURVE), "solid")):
        style = {"color": t.base, "width": 1.8, "dash": dash}
        figure.add_trace(go.Scatter(line | {"y": bound, "name": f"Wedin's bound, {name}", "line": style}))
    figure.update_xaxes(log_axis((left, right)) | {"title": {"text": "‖ΔW‖₂ / γₖ, dimensionless"}, "zeroline": False})
    title = {"text": f"sin θ<sub>max</sub>({params.k}), dimensionless"}
    figure.update_yaxes(log_axis((low, 0.12)) | {"title": title, "zeroline": False})
    figure.add_shape(
        type="rect", x0=VACUOUS, x1=10**right, y0=0, y1=1, xref="x", yref="y domain", layer="below",
        fillcolor=faded(t.chance, 0.2), line={"width": 0},
    )  # fmt: skip
    figure.add_annotation(
        text="vacuous: the rigorous bound is above 1", x=np.log10(VACUOUS), y=0, xref="x", yref="y domain",
        xanchor="left", yanchor="bottom", xshift=6, font={"size": 12, "color": t.quiet},
    )  # fmt: skip
