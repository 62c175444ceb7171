"""How much of three perturbation bounds on singular values the update uses, in every matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite

import numpy as np
import plotly.graph_objects as go

from rlviz.metrics.spectrum import PROBE
from rlviz.result import PairResult
from rlviz.types import MetricParams
from rlviz.views.figure import Floats, Plot, Row, blank, finite, log_axis, log_range
from rlviz.views.gates.dots import dots, dotted, medians, rows_axis
from rlviz.views.remember import remembered
from rlviz.views.theme import ThemeName, chance_line, figure_layout, tokens
from rlviz.views.words import percent, sentences

PARAMS = MetricParams()  # nothing here depends on them
TIGHTNESS: Mapping[str, str] = {
    "weyl_ratio": "Weyl",
    "hoffman_wielandt_ratio": "Hoffman-Wielandt",
    "ky_fan_ratio": "Ky Fan",
}


@remembered
def plot_tightness(results: Sequence[PairResult], theme: ThemeName) -> Plot:
    """How much of three perturbation bounds the update uses: one dot per matrix, the bound at 100 %.

    Weyl ``max|δσ| ≤ ‖ΔW‖₂``, Hoffman-Wielandt ``‖δσ‖₂ ≤ ‖ΔW‖_F``, Ky Fan ``|Σ_{i≤k} δσ_i| ≤ Σ_{i≤k} σ_i(ΔW)``.
    """
    models = [m for m in dotted(results, PROBE, theme) if any(isfinite(m.pooled(key, PARAMS)) for key in TIGHTNESS)]
    if not models:
        return blank(theme, "No update with a full spectrum has been measured yet: there is no bound to use.")
    figure = go.Figure(layout=figure_layout(theme, height=420))
    places = np.arange(len(TIGHTNESS), dtype=np.float64)
    rows: list[Row] = []
    every: list[Floats] = [np.array([100.0])]
    parts: list[str] = []
    for model in models:
        columns = {key: model.values(key, PARAMS) for key in TIGHTNESS}
        middle = {key: float(np.nanmedian(values)) for key, values in columns.items()}
        x = np.concatenate([np.where(values > 0, values * 100, np.nan) for values in columns.values()])
        every.append(x)
        names = [m.name for m in model.group] * len(TIGHTNESS)
        unit = " % of the bound"
        figure.add_trace(go.Scatter(dots(model, x, np.repeat(places, len(model.group)), names, unit)))
        figure.add_trace(go.Scatter(medians(model, [100 * v for v in middle.values()], places, 0.3, unit)))
        said = ", ".join(f"{name} {percent(middle[key])}" for key, name in TIGHTNESS.items())
        parts.append(f"{model.label}: {said}")
        for i, m in enumerate(model.group):
            row: Row = {"model": model.result.tuned.pinned_ref, "tensor": m.name}
            rows.append(row | {key: finite(float(values[i])) for key, values in columns.items()})
    _furnish(figure, np.concatenate(every), theme)
    caption = sentences(
        "One dot per matrix, the stroke is the median; the dashed line is the theorem, which nothing crosses",
        "Values that hardly move say little by themselves: isotropic noise of small size uses about "
        "1/√max(d_out, d_in) of Hoffman-Wielandt's bound",
    )
    alt = sentences(f"Median share used of three bounds. {'; '.join(parts)}")
    return Plot(figure, alt, caption, tuple(rows))


def _furnish(figure: go.Figure, values: Floats, theme: ThemeName) -> None:
    title = {"text": "used of the bound, %"}
    figure.update_xaxes(log_axis(log_range(values)) | {"title": title, "zeroline": False})
    figure.update_yaxes(rows_axis(tuple(TIGHTNESS.values()), "", grid=False))
    figure.add_shape(type="line", x0=100, x1=100, y0=0, y1=1, xref="x", yref="y domain", line=chance_line(theme))
    figure.add_annotation(
        text="the bound", x=2, y=1, xref="x", yref="y domain", xanchor="right", yanchor="top", xshift=-6,
        font={"size": 12, "color": tokens(theme).quiet},
    )  # fmt: skip
