"""Orders of magnitude that a paper reports for rotation and spectral shift, and where every matrix falls among them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import degrees, inf
from typing import Any

import numpy as np
import plotly.graph_objects as go

from rlviz.metrics import METRICS
from rlviz.metrics.gates import largest_angle
from rlviz.metrics.spectrum import PROBE
from rlviz.result import PairResult
from rlviz.types import Measured, MetricParams
from rlviz.views.figure import Floats, Plot, Row, blank, finite, log_axis
from rlviz.views.gates.dots import Dotted, dots, dotted, medians, rows_axis
from rlviz.views.remember import remembered
from rlviz.views.theme import ThemeName, faded, figure_layout, tokens
from rlviz.views.words import number, sentences

SOURCE = "arXiv:2606.07082v3"


@dataclass(frozen=True, slots=True)
class Order:
    """What a paper reports for one kind of training, as the range of values counted to it: ``low <= value < high``."""

    kind: str
    reported: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Quantity:
    """One axis: what is measured, and the orders reported of it. Values outside all of them lie between two."""

    name: str
    unit: str
    orders: tuple[Order, ...]
    floor: float  # drawn lower end: nothing published or measured is resolved below

    def order_of(self, value: float) -> Order | None:
        """The order a value is counted to; None between two of them."""
        return next((o for o in self.orders if o.low <= value < o.high), None)


# One exemplar layer each. "About 1°" is taken as 0.5 to 2°; orders of the NSS reach half a decade to either side.
ANGLE = Quantity(
    "largest principal angle",
    "degrees",
    (
        Order("RL", "below 0.5°", 0.0, 0.5),
        Order("on-policy distillation", "about 1°", 0.5, 2.0),
        Order("SFT", "above 10°", 10.0, inf),
    ),
    1e-3,
)
NSS = Quantity(
    "normalised spectral shift",
    "dimensionless",
    (
        Order("RL", "of the order of 10⁻⁵", 0.0, 10**-4.5),
        Order("on-policy distillation", "of the order of 10⁻⁴", 10**-4.5, 10**-3.5),
        Order("SFT", "of the order of 10⁻³", 10**-3.5, inf),
    ),
    1e-6,
)
_SHORT = {"on-policy distillation": "OPD"}
_AXES = {ANGLE: "", NSS: "2"}  # quantity and axis of its panel
_DOMAINS = {ANGLE.name: (0.0, 0.47), NSS.name: (0.53, 1.0)}


def matrix_values(group: Sequence[Measured], quantity: Quantity, params: MetricParams) -> Floats:
    """The quantity of every matrix, in its unit; NaN where undefined."""
    if quantity is NSS:
        return np.array([METRICS["nss_median"].of(m, params) for m in group], dtype=np.float64)
    return np.array([degrees(largest_angle(m, params)) for m in group], dtype=np.float64)


def noise_values(group: Sequence[Measured], quantity: Quantity, params: MetricParams) -> Floats:
    """The same of isotropic noise of each update's length, simulated on a sample; NaN elsewhere."""
    if quantity is NSS:
        return np.array([METRICS["nss_isotropic"].of(m, params) for m in group], dtype=np.float64)
    sides = [METRICS[f"max_principal_angle_{side}_isotropic"] for side in ("left", "right")]
    return np.array([degrees(max(metric.of(m, params) for metric in sides)) for m in group], dtype=np.float64)


@remembered
def plot_published_orders(results: Sequence[PairResult], params: MetricParams, theme: ThemeName) -> Plot:
    """Largest angle at k and spectral shift: a row per tuned model, a dot per matrix, published orders grey."""
    models = [replace(model, offset=0.0) for model in dotted(results, PROBE, theme)]
    found = [(m, {q.name: matrix_values(m.group, q, params) for q in _AXES}) for m in models]
    found = [(m, values) for m, values in found if any((v > 0).any() for v in values.values())]
    if not found:
        return blank(theme, "No update whose spectrum is known: there is nothing to place among published orders.")
    figure = go.Figure(layout=figure_layout(theme, height=max(420, 220 + 70 * len(found))))
    labels = [model.label for model, _ in found]
    rows: list[Row] = []
    parts: list[str] = []
    for i, (model, values) in enumerate(found):
        for q, axis in _AXES.items():
            x, unit = values[q.name], "°" if q is ANGLE else ""
            on = {"xaxis": f"x{axis}", "yaxis": f"y{axis}", "showlegend": False}
            names = [m.name for m in model.group]
            figure.add_trace(
                go.Scatter(dots(model, np.where(x > q.floor, x, np.nan), i + _by_depth(model), names, unit) | on)
            )
            figure.add_trace(go.Scatter(_noise(model, noise_values(model.group, q, params), i, theme) | on))
            middle = medians(model, [float(np.nanmedian(x))], np.array([float(i)]), 0.7, unit)
            figure.add_trace(go.Scatter(middle | on))
        angles, shifts = values[ANGLE.name], values[NSS.name]
        parts.append(
            f"{model.label}: {number(float(np.nanmedian(angles)))}° and NSS {number(float(np.nanmedian(shifts)))}"
        )
        for m, angle, shift in zip(model.group, angles, shifts, strict=True):
            row: Row = {"model": model.result.tuned.pinned_ref, "tensor": m.name}
            rows.append(row | {"max_principal_angle_deg": finite(float(angle)), "nss": finite(float(shift))})
    for q, axis in _AXES.items():
        everything = np.concatenate([values[q.name] for _, values in found])
        figure.update_layout({f"yaxis{axis}": rows_axis(labels, axis, labelled=not axis, grid=False)})
        _draw_orders(figure, q, everything, theme)
    caption = sentences(
        f"One dot per matrix at k = {params.k}: of both sides' angles the larger, deeper layers further down in a row. "
        "The stroke is the median. Small grey strokes: noise of the same length, simulated on a sample of matrices",
        f"Grey ground: orders that {SOURCE} reports for one layer of SFT, on-policy distillation (OPD) and RL each",
        "Both quantities grow with the length of the update: a shorter run of any kind lies further left",
    )
    return Plot(figure, sentences(f"Median over matrices at k = {params.k}. {'; '.join(parts)}"), caption, tuple(rows))


def _noise(model: Dotted, x: Floats, row: int, theme: ThemeName) -> dict[str, Any]:
    """What noise gives on the sampled matrices, in a lane of its own below the row's dots."""
    known = np.isfinite(x)
    names = [m.name for m, k in zip(model.group, known, strict=True) if k]
    lane = dots(model, x[known], np.full(int(known.sum()), row + 0.37), names, " for noise")
    mark = {"symbol": "line-ns", "size": 9, "line": {"width": 1.5, "color": tokens(theme).chance}}
    return lane | {"name": f"{lane['name']}, noise of its length", "marker": mark}


def _by_depth(model: Dotted) -> Floats:
    """Where in its row a dot lies, by layer: a trend over depth shows."""
    layers = np.array([m.layer or 0 for m in model.group], dtype=np.float64)
    return 0.5 * (layers / max(1.0, float(layers.max())) - 0.5)


def _draw_orders(figure: go.Figure, quantity: Quantity, values: Floats, theme: ThemeName) -> None:
    """The quantity's axis over `values` and all orders, with a band for each order."""
    axis, t = _AXES[quantity], tokens(theme)
    known = values[values > quantity.floor]
    bounds = [b for o in quantity.orders for b in (o.low, o.high) if 0 < b < inf]
    low = min([*known, bounds[0] / 10])
    high = 90.0 if quantity is ANGLE else max([*known, bounds[-1] * 10])
    span = float(np.log10(low)) - 0.1, float(np.log10(high)) + (0.02 if quantity is ANGLE else 0.1)
    title = {"text": f"{quantity.name}, {quantity.unit}"}
    place = {"domain": _DOMAINS[quantity.name], "anchor": f"y{axis}", "title": title, "zeroline": False}
    figure.update_layout({f"xaxis{axis}": log_axis(span) | place})
    for i, order in enumerate(quantity.orders):
        left, right = max(order.low, 10 ** span[0]), min(order.high, 10 ** span[1])
        figure.add_shape(
            type="rect", x0=left, x1=right, y0=0, y1=1, xref=f"x{axis}", yref=f"y{axis} domain", layer="below",
            fillcolor=faded(t.chance, 0.1 if i == 1 else 0.22), line={"width": 0},
        )  # fmt: skip
        figure.add_annotation(
            text=_SHORT.get(order.kind, order.kind), x=float(np.log10(left * right)) / 2, y=1, xref=f"x{axis}",
            yref=f"y{axis} domain", yanchor="bottom", yshift=4, font={"size": 12, "color": t.quiet},
        )  # fmt: skip
