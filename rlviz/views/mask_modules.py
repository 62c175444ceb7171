"""Module by module: the odds that a principal weight changed, and stripes of change, each beside its null."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

import numpy as np
import plotly.graph_objects as go

from rlviz.metrics import METRICS
from rlviz.metrics.precision_null import PROBE
from rlviz.result import PairResult
from rlviz.sources.naming import module_order
from rlviz.types import Measured, MetricParams
from rlviz.views.figure import Floats, Plot, Row, blank, finite, log_axis, log_range, padded_range
from rlviz.views.masks_words import masks_missing, masks_setting, measured_masks, signed
from rlviz.views.remember import remembered
from rlviz.views.rows import null_strokes, on_panel, row_axes, row_dots, row_places, rule_under_first
from rlviz.views.theme import ThemeName, chance_line, faded, figure_layout, tokens, tuned_colour
from rlviz.views.words import number, safe, sentences, tuned_labels

ALL = "all matrices"
_LOW, _HIGH = "log_odds_principal_mh_ci_low", "log_odds_principal_mh_ci_high"


@dataclass(frozen=True, slots=True, eq=False)
class _Model:
    """One tuned model's matrices by module, the first row all of them, and its place within a row."""

    label: str
    colour: str
    result: PairResult
    groups: tuple[tuple[Measured, ...], ...]
    y: Floats

    def values(self, key: str, params: MetricParams) -> Floats:
        return np.array([METRICS[key].pooled(group, params) for group in self.groups], dtype=np.float64)


def _models(results: Sequence[PairResult], theme: ThemeName) -> tuple[list[_Model], list[str]]:
    """The models with masks, and the names of the rows."""
    members = [[m for m in r.floats if PROBE in m.records] for r in results]
    rows = [ALL, *module_order({m.module for group in members for m in group})]
    models = [
        _Model(
            label,
            tuned_colour(i, theme),
            result,
            (tuple(group), *(tuple(m for m in group if m.module == module) for module in rows[1:])),
            row_places(len(rows), i, len(results)),
        )
        for i, (label, result, group) in enumerate(zip(tuned_labels(results), results, members, strict=True))
        if measured_masks(result)
    ]
    return models, rows


def _dots(model: _Model, x: Floats, rows: Sequence[str], panel: int, unit: str) -> dict[str, Any]:
    return row_dots((model.label, model.colour), (x, model.y), rows, panel, unit)


@remembered
def plot_mask_odds(results: Sequence[PairResult], params: MetricParams, theme: ThemeName) -> Plot:
    """Log odds that a principal weight changed: as they are, and within strata of equal rounding (95 % intervals)."""
    models, rows = _models(results, theme)
    raw = [m.values("log_odds_principal", params) for m in models]
    strata = [m.values("log_odds_principal_mh", params) for m in models]
    if not any(np.isfinite(x).any() for x in [*raw, *strata]):
        return blank(
            theme, "Log odds are undefined: every table has an empty cell." if models else masks_missing(results)
        )
    figure = go.Figure(layout=figure_layout(theme, height=max(420, 130 + 34 * len(rows))))
    spans: list[Floats] = [np.zeros(1)]
    table: list[Row] = []
    parts: list[str] = []
    for model, plain, within in zip(models, raw, strata, strict=True):
        low, high = model.values(_LOW, params), model.values(_HIGH, params)
        spans += [low, high]
        figure.add_trace(go.Scatter(_dots(model, plain, rows, 0, "")))
        figure.add_trace(go.Scatter(_intervals(model, low, high)))
        figure.add_trace(go.Scatter(_dots(model, within, rows, 1, "")))
        table += [
            {
                "model": model.result.tuned.pinned_ref,
                "module": row,
                "tensors": len(group),
                "log_odds": finite(float(a)),
                "log_odds_mh": finite(float(b)),
                "ci_low": finite(float(lo)),
                "ci_high": finite(float(hi)),
            }
            for row, group, a, b, lo, hi in zip(rows, model.groups, plain, within, low, high, strict=True)
        ]
        parts.append(
            f"{model.label}: {signed(float(plain[0]))} as they are, {signed(float(within[0]))} within strata "
            f"(95 % interval {signed(float(low[0]))} to {signed(float(high[0]))})"
        )
    x_axes = [{"range": padded_range(np.concatenate([np.zeros(1), *raw]))}, {"range": _around_zero(spans)}]
    row_axes(
        figure,
        rows,
        ("log odds as they are, dimensionless", "log odds within strata of equal rounding, dimensionless"),
        x_axes,
    )
    rule_under_first(figure, 2, theme)
    for panel in (0, 1):
        at = str(panel + 1) if panel else ""
        figure.add_shape(
            type="line", x0=0, x1=0, y0=0, y1=1, xref=f"x{at}", yref=f"y{at} domain", line=chance_line(theme)
        )
    caption = sentences(
        f"Natural logarithm of the odds that a principal weight changed over those of the others; masks at "
        f"{masks_setting(results, params)}",
        "Dashed: 0, no difference. Left holds what rounding does: large weights take larger steps. Right compares "
        "weights of one exponent only (Mantel-Haenszel, band: 95 % interval); rounding alone gives 0 there",
        "The two panels have scales of their own. The interval takes entries as independent",
    )
    return Plot(
        figure, sentences(f"Log odds of change in principal weights. {'; '.join(parts)}"), caption, tuple(table)
    )


def _around_zero(spans: Sequence[Floats]) -> tuple[float, float]:
    reach = float(np.nanmax(np.abs(np.concatenate(spans)))) * 1.08 or 1.0
    return -reach, reach


def _intervals(model: _Model, low: Floats, high: Floats) -> dict[str, Any]:
    """A band from end to end of each interval, behind its dot."""
    gaps = np.full(low.size, nan)
    return {
        "type": "scatter",
        "mode": "lines",
        "name": f"{safe(model.label)}, 95 % interval",
        "x": np.stack([low, high, gaps], axis=1).ravel(),
        "y": np.stack([model.y, model.y, gaps], axis=1).ravel(),
        "line": {"color": faded(model.colour, 0.35), "width": 8},
        "hoverinfo": "skip",
        "showlegend": False,
        "legendgroup": safe(model.label),
        **on_panel(1),
    }


@dataclass(frozen=True, slots=True, eq=False)
class _Stripes:
    """Dispersion of one model along one axis, row by row of the figure: seen, by rounding alone, and shuffled."""

    seen: Floats
    null: Floats
    shuffled: Floats

    @property
    def words(self) -> str:
        """All matrices together, with what chance gives."""
        moved = float(self.shuffled[0])
        beside = f", shuffled {number(moved)}" if isfinite(moved) else ""
        return f"{number(float(self.seen[0]))} (rounding alone {number(float(self.null[0]))}{beside})"


def _stripes(model: _Model, part: str, params: MetricParams) -> _Stripes:
    return _Stripes(*(model.values(f"{part}_dispersion{suffix}", params) for suffix in ("", "_null", "_shuffle")))


@remembered
def plot_mask_dispersion(results: Sequence[PairResult], params: MetricParams, theme: ThemeName) -> Plot:
    """How unevenly changes lie over rows and over columns, module by module, beside what rounding alone gives."""
    models, rows = _models(results, theme)
    found = [{part: _stripes(m, part, params) for part in ("row", "column")} for m in models]
    every = [x for of in found for s in of.values() for x in (s.seen, s.null, s.shuffled)]
    if not any(np.isfinite(x).any() for x in every):
        undefined = "Dispersion is undefined: no weight changed, or all did."
        return blank(theme, undefined if models else masks_missing(results))
    figure = go.Figure(layout=figure_layout(theme, height=max(420, 130 + 34 * len(rows))))
    table: list[Row] = []
    for i, (model, of) in enumerate(zip(models, found, strict=True)):
        for panel, (part, s) in enumerate(of.items()):
            null = null_strokes((s.null, model.y), "rounding alone", panel, " × Bernoulli", theme)
            figure.add_trace(go.Scatter(null | {"showlegend": i + panel == 0}))
            figure.add_trace(go.Scatter(_diamonds(model, s.shuffled, panel, theme) | {"showlegend": i + panel == 0}))
            figure.add_trace(go.Scatter(_dots(model, s.seen, rows, panel, " × Bernoulli")))
            table += [
                {
                    "model": model.result.tuned.pinned_ref,
                    "axis": part,
                    "module": row,
                    "tensors": len(group),
                    "dispersion": finite(float(a)),
                    "null": finite(float(b)),
                    "shuffle": finite(float(c)),
                }
                for row, group, a, b, c in zip(rows, model.groups, s.seen, s.null, s.shuffled, strict=True)
            ]
    titles = ("row dispersion, × Bernoulli", "column dispersion, × Bernoulli")
    span = log_range(np.concatenate([np.ones(1), *every]))
    row_axes(figure, rows, titles, [log_axis(span), log_axis(span)])
    rule_under_first(figure, 2, theme)
    said = [
        f"{m.label}: {of['row'].words} by rows, {of['column'].words} by columns"
        for m, of in zip(models, found, strict=True)
    ]
    shuffled = any(np.isfinite(s.shuffled).any() for of in found for s in of.values())
    caption = sentences(
        "Variance of the changed share between rows (columns) over that of Bernoulli scatter, median over matrices",
        *said,
        "Dashed: isotropic noise and rounding alone at the same density, an expectation without its spread. Well above "
        "it, changes come in stripes that the sizes of the weights do not explain",
        "Diamond: the same update with its entries shuffled within each matrix" if shuffled else "",
    )
    return Plot(figure, sentences(f"Stripes of change. {'; '.join(said)}"), caption, tuple(table))


def _diamonds(model: _Model, shuffled: Floats, panel: int, theme: ThemeName) -> dict[str, Any]:
    """The shuffled update, as on the overlaps; nothing where nothing was shuffled."""
    known = np.isfinite(shuffled)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "update shuffled",
        "legendgroup": "shuffled",
        "visible": bool(known.any()),
        "x": shuffled[known],
        "y": model.y[known],
        "marker": {"symbol": "diamond-open", "size": 11, "color": tokens(theme).chance, "line": {"width": 1.5}},
        "hovertemplate": "shuffled %{x:.4~g} × Bernoulli<extra></extra>",
        **on_panel(panel),
    }
