"""Gate I: how long the update is, tensor by tensor, and where the implied budget was spent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from rlviz.metrics import METRICS
from rlviz.metrics.coordinate import PROBE
from rlviz.result import PairResult
from rlviz.sources.naming import module_order
from rlviz.types import MetricParams
from rlviz.views.figure import Floats, Plot, Row, blank, finite, log_axis, log_range
from rlviz.views.gates.dots import Dotted, dots, dotted, rows_axis
from rlviz.views.remember import remembered
from rlviz.views.theme import ThemeName, faded, figure_layout, tokens
from rlviz.views.words import number, percent, safe, sentences

PARAMS = MetricParams()  # nothing here depends on them
ULP = (2.0**-8, 2.0**-7)  # one step of bf16, as a share of the weight that takes it
_BUDGET_FROM = 0.6  # where the second panel begins, as a share of the width


@remembered
def plot_update_budget(results: Sequence[PairResult], theme: ThemeName) -> Plot:
    """Length of the update per tensor relative to the base, and which modules the implied KL budget was spent in.

    Left one dot per tensor, with the band in which a step is one ULP of bf16; right the share of ``‖ΔW‖²_F`` by module
    beside the module's share of the weights, which is what an isotropic update would spend there.
    """
    models = [m for m in dotted(results, PROBE, theme) if m.pooled("kl_budget", PARAMS) > 0]
    if not models:
        return blank(theme, "No update: the implied budget is 0, or nothing has been counted yet.")
    modules = module_order(m.module for model in models for m in model.group)
    figure = go.Figure(layout=figure_layout(theme, height=max(420, 150 + 30 * len(modules))))
    every: list[Floats] = [np.array(ULP)]
    rows: list[Row] = []
    for model in models:
        norms = model.values("relative_update_norm", PARAMS)
        every.append(norms)
        places = np.array([modules.index(m.module) for m in model.group], dtype=np.float64)
        drawn = np.where(norms > 0, norms * 100, np.nan)
        trace = dots(model, drawn, places, [m.name for m in model.group], " % of the base's norm")
        figure.add_trace(go.Scatter(trace | {"name": _budget_words(model)}))
        shares = _shares_by_module(model, modules)
        spent = dots(model, shares * 100, np.arange(len(modules), dtype=np.float64), modules, " % of the budget")
        spent |= {"xaxis": "x2", "yaxis": "y2", "showlegend": False}
        figure.add_trace(go.Scatter(spent | {"marker": {"size": 11, "color": model.colour}}))
        rows += _budget_rows(model)
    figure.add_trace(go.Scatter(_weight_ticks(models[0], modules, theme)))
    _budget_axes(figure, modules, np.concatenate(every) * 100, theme)
    caption = sentences(
        "Left: one dot per tensor. Grey: a step of one bf16 ULP is 0.39 to 0.78 % of a weight; an update much shorter "
        "than that flips few entries (Gate III)",
        "Right: share of ½‖ΔW‖² (Frobenius) by module. Grey stroke: the module's share of the weights, what an "
        "isotropic update spends there",
        "The budget is K/μ ≥ ½‖ΔW‖² with the Fisher curvature μ unknown: compare runs on one base, not a run and a "
        "limit",
    )
    return Plot(figure, sentences(f"Length of the update. {_lengths(models)}"), caption, tuple(rows))


def _budget_words(model: Dotted) -> str:
    return safe(f"{model.label}: K/μ ≥ {number(model.pooled('kl_budget', PARAMS))}")


def _lengths(models: Sequence[Dotted]) -> str:
    first = models[0].pooled("kl_budget", PARAMS)
    parts: list[str] = []
    for i, model in enumerate(models):
        budget = model.pooled("kl_budget", PARAMS)
        ratio = f", {number(budget / first)}× that of {models[0].label}" if i else ""
        length = percent(model.pooled("relative_update_norm", PARAMS))
        parts.append(f"{model.label}: {length} of the base's norm, implied budget K/μ ≥ {number(budget)}{ratio}")
    return "; ".join(parts)


def _shares_by_module(model: Dotted, modules: Sequence[str]) -> Floats:
    """Each module's share of the summed budget."""
    budget = METRICS["kl_budget"]
    spent = [budget.pooled([m for m in model.group if m.module == module], PARAMS) for module in modules]
    return np.array(spent) / model.pooled("kl_budget", PARAMS)


def _shares_of_weights(model: Dotted, modules: Sequence[str]) -> Floats:
    total = sum(m.match.n for m in model.group)
    return np.array([sum(m.match.n for m in model.group if m.module == module) / total for module in modules])


def _weight_ticks(model: Dotted, modules: Sequence[str], theme: ThemeName) -> dict[str, Any]:
    line = {"width": 2, "color": tokens(theme).chance}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "share of the weights (isotropic)",
        "x": _shares_of_weights(model, modules) * 100,
        "y": np.arange(len(modules), dtype=np.float64),
        "xaxis": "x2",
        "yaxis": "y2",
        "marker": {"symbol": "line-ns", "size": 18, "line": line, "color": tokens(theme).chance},
        "hovertemplate": "isotropic %{x:.4~g} %<extra></extra>",
    }


def _budget_rows(model: Dotted) -> list[Row]:
    return [
        {
            "model": model.result.tuned.pinned_ref,
            "tensor": m.name,
            "relative_update_norm": finite(METRICS["relative_update_norm"].of(m, PARAMS)),
            "kl_budget": finite(METRICS["kl_budget"].of(m, PARAMS)),
            "weights": m.match.n,
        }
        for m in model.group
    ]


def _budget_axes(figure: go.Figure, modules: Sequence[str], values: Floats, theme: ThemeName) -> None:
    t = tokens(theme)
    left = log_axis(log_range(values)) | {"domain": (0.0, _BUDGET_FROM - 0.03), "anchor": "y", "zeroline": False}
    right = {"domain": (_BUDGET_FROM, 1.0), "anchor": "y2", "rangemode": "tozero", "zeroline": False}
    figure.update_layout(
        xaxis=left | {"title": {"text": "relative update norm ‖ΔW‖<sub>F</sub> / ‖W₀‖<sub>F</sub>, %"}},
        yaxis=rows_axis(modules, ""),
        xaxis2=right | {"title": {"text": "share of the implied budget ½‖ΔW‖²<sub>F</sub>, %"}},
        yaxis2=rows_axis(modules, "2", labelled=False),
    )
    figure.add_shape(
        type="rect", x0=ULP[0] * 100, x1=ULP[1] * 100, y0=0, y1=1, xref="x", yref="y domain",
        fillcolor=faded(t.chance, 0.22), line={"width": 0}, layer="below",
    )  # fmt: skip
    figure.add_annotation(
        text="one ULP", x=float(np.log10(ULP[0] * ULP[1]) / 2 + 2), y=0, xref="x", yref="y domain", xanchor="center",
        yanchor="bottom", font={"size": 12, "color": t.quiet},
    )  # fmt: skip
