"""Any metric by layer (lines) and by module (dots): one mark per tuned model, pooled over the tensors behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite, nan
from typing import Any

import numpy as np
import plotly.graph_objects as go

from rlviz.metrics import METRICS, Metric
from rlviz.result import PairResult
from rlviz.sources.naming import module_group, module_order
from rlviz.types import Measured, MetricParams
from rlviz.views.cells import drawn_text, shown
from rlviz.views.curves import Line, Panel, plot_lines
from rlviz.views.figure import Floats, Plot, Row, blank, finite, log_axis, log_range, padded_range
from rlviz.views.remember import remembered
from rlviz.views.theme import ThemeName, figure_layout, tokens, tuned_colour
from rlviz.views.words import (
    LENS_WORDS,
    chance_sentence,
    param_words,
    safe,
    said,
    sentences,
    title_of,
    tuned_labels,
    unit_of,
)

Where = Callable[[Measured], bool]
_SEPARATOR = tokens("light").chance  # the same in both themes


def linear_layers(measured: Measured) -> bool:
    """The coverage "linear layers only": matrices inside layers (arXiv:2511.08567 Tables 4-5)."""
    return measured.match.is_matrix and measured.layer is not None


def _drawn(metric: Metric, value: float) -> float:
    """The value as an axis shows it: percent, degrees or plain."""
    return value * 100 if metric.scale == "fraction" else shown(metric, value)


def _axis_title(metric: Metric, params: MetricParams) -> str:
    words = param_words(metric, params)
    return f"{said(metric)}{f' {words}' if words else ''}, {unit_of(metric)}"


def _is_log(metric: Metric) -> bool:
    return metric.scale in ("log", "angle")


def _hover_unit(metric: Metric) -> str:
    return {"fraction": " %"}.get(metric.scale, "°" if metric.unit == "rad" else "")


def _layers(results: Sequence[PairResult], where: Where | None) -> list[int]:
    found = {m.layer for r in results for m in r.floats if m.layer is not None and (where is None or where(m))}
    return sorted(found)


def _by_layer(
    result: PairResult, metric: Metric, params: MetricParams, layers: Sequence[int], where: Where | None
) -> Floats:
    groups: dict[int, list[Measured]] = {layer: [] for layer in layers}
    for m in result.floats:
        if m.layer is not None and (where is None or where(m)):
            groups[m.layer].append(m)
    return np.array([metric.pooled(groups[layer], params) for layer in layers], dtype=np.float64)


@remembered
def plot_by_layer(
    results: Sequence[PairResult], metric: Metric, params: MetricParams, theme: ThemeName, where: Where | None = None
) -> Plot:
    """A metric pooled over each layer's tensors, one line per tuned model. `where` restricts the tensors."""
    layers = _layers(results, where)
    if not layers:
        return blank(theme, f"{title_of(metric)}: no tensor here belongs to a layer.")
    x = np.array(layers, dtype=np.float64)
    labels = tuned_labels(results)
    values = [_by_layer(r, metric, params, layers, where) for r in results]
    if not any(np.isfinite(v).any() for v in values):
        return blank(theme, f"{title_of(metric)} has not been measured yet for any layer.")
    lines = [
        Line(
            label, x, np.array([_drawn(metric, float(v)) for v in series]), tuned_colour(i, theme), mode="lines+markers"
        )
        for i, (label, series) in enumerate(zip(labels, values, strict=True))
    ]
    grouped = [
        [m for r in results for m in r.floats if m.layer == layer and (where is None or where(m))] for layer in layers
    ]
    chance = np.array([_drawn(metric, _median_chance(metric, params, group)) for group in grouped])
    if np.isfinite(chance).any():
        lines.append(Line("chance", x, chance, tokens(theme).chance, "chance"))
    panel = Panel(
        tuple(lines),
        x_title="layer",
        y_title=_axis_title(metric, params),
        log_y=_is_log(metric),
        y_range=(0.0, 100.0) if metric.scale == "fraction" else None,
        y_unit=_hover_unit(metric),
    )
    figure = plot_lines([panel], theme)
    ends = [_span_words(metric, label, layers, series) for label, series in zip(labels, values, strict=True)]
    rows: list[Row] = [
        {"model": r.tuned.pinned_ref, "layer": layer, metric.column: finite(shown(metric, float(v)))}
        for r, series in zip(results, values, strict=True)
        for layer, v in zip(layers, series, strict=True)
    ]
    caption = sentences(
        metric.meaning, f"Each point is one layer, {metric.pooling} over its tensors", chance_sentence(metric)
    )
    return Plot(figure, sentences(f"{title_of(metric)} by layer. {'; '.join(ends)}"), caption, tuple(rows))


def _span_words(metric: Metric, label: str, names: Sequence[int | str], values: Floats) -> str:
    known = [(float(v), n) for v, n in zip(values, names, strict=True) if isfinite(v)]
    if not known:
        return f"{label}: nothing measured yet"
    (low, at_low), (high, at_high) = min(known, key=lambda k: k[0]), max(known, key=lambda k: k[0])
    word = "layer " if isinstance(at_low, int) else ""
    return (
        f"{label}: from {drawn_text(metric, shown(metric, low))} ({word}{at_low}) "
        f"to {drawn_text(metric, shown(metric, high))} ({word}{at_high})"
    )


@remembered
def plot_sparsity_by_layer(
    results: Sequence[PairResult], params: MetricParams, theme: ThemeName, where: Where | None = None
) -> Plot:
    """Share unchanged per layer, pooled counts, one line per tuned model, 0-100 %."""
    return plot_by_layer(results, METRICS["update_sparsity"], params, theme, where)


@remembered
def plot_by_module(
    results: Sequence[PairResult], metric: Metric, params: MetricParams, theme: ThemeName, where: Where | None = None
) -> Plot:
    """A metric pooled over all layers of each module: one row per module, one dot per tuned model."""
    groups: list[dict[str, list[Measured]]] = []
    for r in results:
        group: dict[str, list[Measured]] = {}
        for m in r.floats:
            if where is None or where(m):
                group.setdefault(m.module, []).append(m)
        groups.append(group)
    values = [{module: metric.pooled(ms, params) for module, ms in group.items()} for group in groups]
    modules = module_order({module for series in values for module, v in series.items() if isfinite(v)})
    if not modules:
        return blank(theme, f"{title_of(metric)} has not been measured yet for any module.")
    labels = tuned_labels(results)
    figure = go.Figure(layout=figure_layout(theme, height=max(420, 110 + 27 * len(modules))))
    series = [np.array([s.get(module, nan) for module in modules], dtype=np.float64) for s in values]
    drawn = [np.array([_drawn(metric, float(v)) for v in s]) for s in series]
    figure.add_traces([go.Scatter(_range_lines(drawn, theme))])
    for i, (label, xs) in enumerate(zip(labels, drawn, strict=True)):
        figure.add_trace(go.Scatter(_module_dots(label, modules, xs, tuned_colour(i, theme), _hover_unit(metric))))
    chance = np.array(
        [_median_chance(metric, params, [m for g in groups for m in g.get(module, ())]) for module in modules]
    )
    chance = np.array([_drawn(metric, float(c)) for c in chance])
    _module_axes(figure, modules, metric, params, np.concatenate([*drawn, chance]))
    if np.isfinite(chance).any():
        figure.add_trace(go.Scatter(_chance_ticks(modules, chance, theme, _hover_unit(metric))))
    rows: list[Row] = [
        {
            "model": r.tuned.pinned_ref,
            "module": module,
            "tensors": len(group.get(module, ())),
            metric.column: finite(shown(metric, float(v))),
        }
        for r, group, s in zip(results, groups, series, strict=True)
        for module, v in zip(modules, s, strict=True)
    ]
    ends = [_span_words(metric, label, modules, s) for label, s in zip(labels, series, strict=True)]
    caption = sentences(
        metric.meaning, f"Each dot is one module over all layers, {metric.pooling}", chance_sentence(metric)
    )
    return Plot(figure, sentences(f"{title_of(metric)} by module. {'; '.join(ends)}"), caption, tuple(rows))


def _range_lines(drawn: Sequence[Floats], theme: ThemeName) -> dict[str, object]:
    """Thin grey lines that join the models' dots of one module."""
    stacked = np.array(drawn)
    x = np.full(3 * stacked.shape[1], nan)
    y = np.repeat(np.arange(stacked.shape[1], dtype=np.float64), 3)
    for j in range(stacked.shape[1]):
        column = stacked[:, j][np.isfinite(stacked[:, j])]
        if column.size:
            x[3 * j], x[3 * j + 1] = column.min(), column.max()
    line = {"color": tokens(theme).missing, "width": 2}
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": y,
        "line": line,
        "hoverinfo": "skip",
        "showlegend": False,
        "name": "range",
    }


def _module_dots(label: str, modules: Sequence[str], x: Floats, colour: str, unit: str) -> dict[str, object]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": safe(label),
        "x": x,
        "y": np.arange(len(modules), dtype=np.float64),
        "customdata": np.array([safe(m) for m in modules], dtype=object),
        "marker": {"size": 11, "color": colour},
        "hovertemplate": f"<b>%{{customdata}}</b><br>%{{x:.4~g}}{unit}<extra>{safe(label)}</extra>",
    }


def _median_chance(metric: Metric, params: MetricParams, group: Sequence[Measured]) -> float:
    """What chance gives for the tensors of a group: the median over them, NaN where there is no such value."""
    known = [c for m in group if isfinite(c := metric.chance_of(m, params))]
    return float(np.median(known)) if known else nan


def _chance_ticks(modules: Sequence[str], x: Floats, theme: ThemeName, unit: str) -> dict[str, object]:
    """A dashed vertical grey stroke per module at what chance gives."""
    line = {"width": 2, "color": tokens(theme).chance}
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "chance",
        "x": x,
        "y": np.arange(len(modules), dtype=np.float64),
        "marker": {"symbol": "line-ns", "size": 16, "line": line, "color": tokens(theme).chance},
        "hovertemplate": f"chance %{{x:.4~g}}{unit}<extra></extra>",
    }


def _module_axes(
    figure: go.Figure, modules: Sequence[str], metric: Metric, params: MetricParams, values: Floats
) -> None:
    span = (-1.5, 101.5) if metric.scale == "fraction" else padded_range(values)
    axis: dict[str, Any] = log_axis(log_range(values)) if _is_log(metric) else {"range": span}
    figure.update_xaxes({**axis, "title": {"text": _axis_title(metric, params)}, "zeroline": False})
    figure.update_yaxes(
        range=[len(modules) - 0.5, -0.5],
        tickvals=np.arange(len(modules)),
        ticktext=[safe(m) for m in modules],
        zeroline=False,
        ticklabelstandoff=6,
    )
    groups = [module_group(m) for m in modules]
    for i in range(1, len(modules)):
        if groups[i] != groups[i - 1]:
            figure.add_hline(y=i - 0.5, line={"color": _SEPARATOR, "width": 1}, opacity=0.4)


@remembered
def plot_sparsity_by_module(
    results: Sequence[PairResult], params: MetricParams, theme: ThemeName, where: Where | None = None
) -> Plot:
    """Share unchanged per module, pooled counts over all layers, 0-100 %."""
    plot = plot_by_module(results, METRICS["update_sparsity"], params, theme, where)
    return Plot(plot.figure, plot.alt, sentences(plot.caption, f"Compared {LENS_WORDS[params.lens]}"), plot.table)
