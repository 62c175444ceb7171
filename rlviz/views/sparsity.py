"""Where inside a tensor the update fell: row and column profiles, the update map, and how clustered it is."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, isfinite, prod, sqrt
from typing import Any

import numpy as np
import plotly.graph_objects as go

from rlviz.bins import block_edges
from rlviz.metrics import METRICS, Metric
from rlviz.metrics.coordinate import PROBE
from rlviz.metrics.coordinate_series import block_density, column_density, row_density
from rlviz.result import PairResult
from rlviz.sources.naming import module_order
from rlviz.types import MetricParams
from rlviz.views.chosen import Chosen, chosen, not_measured
from rlviz.views.curves import Line, Panel, lines_table, plot_lines
from rlviz.views.figure import Floats, Plot, Row, blank, finite, log_axis, log_range
from rlviz.views.remember import remembered
from rlviz.views.theme import SEQUENTIAL, ThemeName, chance_line, figure_layout, tokens, tuned_colour
from rlviz.views.words import number, percent, safe, said, sentences, tuned_labels

_BINS = 512  # points of a profile on screen; longer sides are averaged over equal runs of indices
_DISPERSION = ("row_dispersion", "column_dispersion")


def _binned(density: Floats) -> tuple[Floats, Floats]:
    """Mean changed share over at most `_BINS` runs of neighbouring rows (or columns), and their centres."""
    run = ceil(len(density) / _BINS)
    starts = np.arange(0, len(density), run)
    sizes = np.minimum(run, len(density) - starts)
    known = np.isfinite(density)
    counts = np.add.reduceat(known.astype(np.float64), starts)
    sums = np.add.reduceat(np.where(known, density, 0.0), starts)
    with np.errstate(invalid="ignore", divide="ignore"):
        return starts + (sizes - 1) / 2, np.where(counts > 0, sums / counts, np.nan)


def _profile_panel(members: Sequence[Chosen], axis: str, theme: ThemeName) -> tuple[Panel, list[str]]:
    lines: list[Line] = []
    parts: list[str] = []
    for c in members:
        density = row_density(c.measured) if axis == "row" else column_density(c.measured)
        if density is None:
            continue
        x, y = _binned(density)
        lines.append(Line(c.label, x, y * 100, c.colour, width=1.2))
        known = density[np.isfinite(density)]
        if known.size:
            low, high = (percent(float(np.quantile(known, q))) for q in (0.05, 0.95))
            parts.append(f"{c.label} {axis}s: 90 % of them between {low} and {high} changed")
        other = c.measured.shape[-1] if axis == "row" else c.measured.match.n // max(1, c.measured.shape[-1])
        run = ceil(len(density) / _BINS)
        p = float(known.mean()) if known.size else float("nan")
        half = 200 * sqrt(p * (1 - p) / (other * run)) if isfinite(p) else float("nan")
        flat = np.full(len(x), p * 100)
        lines.append(Line("", x, flat, c.colour, "chance", band=(flat - half, flat + half)))
    title = "Rows (d_out)" if axis == "row" else "Columns (d_in)"
    return Panel(
        tuple(lines), f"{axis} index", "changed (bf16), %", title, y_range=(0.0, 100.0), x_word=axis, y_unit=" %"
    ), parts


@remembered
def plot_row_column_profiles(results: Sequence[PairResult], name: str, theme: ThemeName) -> Plot:
    """Changed share per row and per column of one tensor, with the band that independent scatter would give."""
    members = [c for c in chosen(results, name, PROBE, theme) if len(c.measured.shape) >= 2]
    if not members:
        return not_measured(results, name, "a row and column profile", theme)
    panels, parts = zip(*(_profile_panel(members, axis, theme) for axis in ("row", "column")), strict=True)
    run = max(ceil(size / _BINS) for size in members[0].measured.shape)
    caption = sentences(
        "Share of entries that changed in bf16, per row and per column",
        "Bands: ± 2 SD of independent scatter of the same density; precision alone already exceeds them, so read "
        "the dispersion index against its null",
        f"Each point averages up to {run} neighbours" if run > 1 else "",
    )
    message = "; ".join(part for side in parts for part in side)
    return Plot(
        plot_lines(panels, theme), sentences(f"Row and column profiles of {name}. {message}"), caption,
        lines_table(panels, "index", "changed_percent"),
    )  # fmt: skip


@remembered
def plot_block_map(results: Sequence[PairResult], name: str, theme: ThemeName) -> Plot:
    """The update map of one tensor: changed share on at most 256 × 256 blocks, one panel per tuned model, 0-100 %."""
    members = [c for c in chosen(results, name, PROBE, theme) if len(c.measured.shape) >= 2]
    if not members:
        return not_measured(results, name, "an update map", theme)
    figure = go.Figure()
    n = len(members)
    gap = 0.05 if n > 1 else 0.0
    width = (1 - gap * (n - 1)) / n
    parts: list[str] = []
    rows: list[Row] = []
    for i, c in enumerate(members):
        axis, left = str(i + 1) if i else "", i * (width + gap)
        density = block_density(c.measured)
        if density is None:
            continue
        row_edges, column_edges = block_edges(prod(c.measured.shape[:-1])), block_edges(c.measured.shape[-1])
        figure.add_trace(go.Heatmap(_block_trace(c, density, row_edges, column_edges, axis)))
        domain = (left, left + width)
        figure.update_layout(
            {
                f"xaxis{axis}": {
                    "domain": domain, "anchor": f"y{axis}", "title": {"text": "column (d_in)"}, "showgrid": False,
                    "range": [0, int(column_edges[-1])], "zeroline": False,
                },
                f"yaxis{axis}": {
                    "anchor": f"x{axis}", "title": {"text": "row (d_out)"} if i == 0 else None, "showgrid": False,
                    "range": [int(row_edges[-1]), 0], "zeroline": False,
                },
            }
        )  # fmt: skip
        figure.add_annotation(
            text=f'<span style="color:{c.colour}">●</span> {safe(c.label)}', x=left, y=1, xref="paper", yref="paper",
            xanchor="left", yanchor="bottom", yshift=6, font={"size": 14},
        )  # fmt: skip
        known = density[np.isfinite(density)]
        if known.size:
            parts.append(
                f"{c.label}: blocks from {percent(float(known.min()))} to {percent(float(known.max()))} changed"
            )
        rows += _block_rows(c, density, row_edges, column_edges)
    figure.update_layout(figure_layout(theme, height=460))
    bar = {"title": {"text": "<br>changed (bf16), %"}, "tickvals": np.arange(0, 101, 25), "thickness": 14}
    figure.update_layout(
        coloraxis={"colorscale": SEQUENTIAL, "cmin": 0, "cmax": 100, "colorbar": bar},
        plot_bgcolor=tokens(theme).missing,
    )
    size = " × ".join(map(str, members[0].measured.shape))
    caption = sentences(
        f"Share of entries that changed in bf16, over blocks of a {size} tensor. Grey: nothing to compare"
    )
    return Plot(figure, sentences(f"Update map of {name}. {'; '.join(parts)}"), caption, tuple(rows))


def _block_trace(
    c: Chosen, density: Floats, row_edges: np.ndarray, column_edges: np.ndarray, axis: str
) -> dict[str, object]:
    return {
        "type": "heatmap",
        "name": safe(c.label),
        "z": (density * 100).astype(np.float32),
        "x": column_edges.astype(np.float64),
        "y": row_edges.astype(np.float64),
        "coloraxis": "coloraxis",
        "hovertemplate": "row %{y:.0f}, column %{x:.0f}<br>%{z:.4~g} % changed<extra>" + safe(c.label) + "</extra>",
        "hoverongaps": False,
        "xaxis": f"x{axis}",
        "yaxis": f"y{axis}",
    }


def _block_rows(c: Chosen, density: Floats, row_edges: np.ndarray, column_edges: np.ndarray) -> list[Row]:
    return [
        {
            "model": c.result.tuned.pinned_ref,
            "row": int(row_edges[i]),
            "column": int(column_edges[j]),
            "changed": finite(float(density[i, j])),
        }
        for i in range(density.shape[0])
        for j in range(density.shape[1])
    ]


@remembered
def plot_dispersion(results: Sequence[PairResult], params: MetricParams, theme: ThemeName) -> Plot:
    """How clustered changes are by rows and by columns: one dot per matrix, 1 = Bernoulli scatter."""
    metrics = [METRICS[key] for key in _DISPERSION]
    members = [[m for m in r.floats if m.match.is_matrix and PROBE in m.records] for r in results]
    modules = module_order(m.module for group in members for m in group)
    if not modules:
        return blank(theme, "Dispersion is defined for matrices; none has been counted yet.")
    figure = go.Figure()
    rows: list[Row] = []
    every: list[float] = [1.0]
    parts: list[str] = []
    for i, (label, result, group) in enumerate(zip(tuned_labels(results), results, members, strict=True)):
        offset = (i - (len(results) - 1) / 2) * min(0.24, 0.8 / len(results))
        y = np.array([modules.index(m.module) + offset for m in group])
        for j, metric in enumerate(metrics):
            values = [metric.of(m, params) for m in group]
            every += values
            model = {"model": result.tuned.pinned_ref, "axis": metric.key}
            rows += [model | {"tensor": m.name, "value": finite(v)} for m, v in zip(group, values, strict=True)]
            trace = _dispersion_dots(label, [m.name for m in group], np.array(values), y, tuned_colour(i, theme))
            axes = {"xaxis": f"x{j + 1 if j else ''}", "yaxis": f"y{j + 1 if j else ''}", "showlegend": j == 0}
            figure.add_trace(go.Scatter(trace | axes))
        by_rows, by_columns = (number(result.pooled(metric.key, params)) for metric in metrics)
        parts.append(f"{label}: median {by_rows} by rows, {by_columns} by columns")
    _dispersion_axes(figure, metrics, modules, np.array(every), theme)
    caption = sentences(
        "One dot per matrix: variance of the changed share between its rows (columns) over that of Bernoulli scatter",
        "Dashed: 1, Bernoulli. Isotropic noise plus rounding alone gives more than that: the Masks page draws how "
        "much, and only what exceeds it is structure",
    )
    return Plot(figure, sentences(f"Dispersion of changes in bf16. {'; '.join(parts)}"), caption, tuple(rows))


def _dispersion_dots(label: str, names: Sequence[str], x: Floats, y: Floats, colour: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": safe(label),
        "x": x,
        "y": y,
        "customdata": np.array([safe(name) for name in names], dtype=object),
        "marker": {"size": 8, "opacity": 0.7, "color": colour},
        "hovertemplate": f"<b>%{{customdata}}</b><br>%{{x:.4~g}} × Bernoulli<extra>{safe(label)}</extra>",
        "legendgroup": safe(label),
    }


def _dispersion_axes(
    figure: go.Figure, metrics: Sequence[Metric], modules: Sequence[str], values: Floats, theme: ThemeName
) -> None:
    figure.update_layout(figure_layout(theme, height=max(420, 130 + 30 * len(modules))))
    for j, metric in enumerate(metrics):
        axis = str(j + 1) if j else ""
        x_axis = log_axis(log_range(values)) | {"domain": ((0.0, 0.48), (0.52, 1.0))[j], "anchor": f"y{axis}"}
        y_axis: dict[str, Any] = {
            "anchor": f"x{axis}",
            "range": [len(modules) - 0.5, -0.5],
            "tickvals": np.arange(len(modules)),
            "ticktext": [safe(m) for m in modules],
            "showticklabels": j == 0,
            "ticklabelstandoff": 6,
        }
        title = {"text": f"{said(metric)}, × Bernoulli"}
        figure.update_layout(
            {
                f"xaxis{axis}": x_axis | {"title": title, "zeroline": False},
                f"yaxis{axis}": y_axis | {"zeroline": False},
            }
        )
        figure.add_shape(
            type="line", x0=1, x1=1, y0=0, y1=1, xref=f"x{axis}", yref=f"y{axis} domain", line=chance_line(theme)
        )
