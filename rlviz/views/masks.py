"""Where changes fall among principal and small weights: overlaps beside chance and rounding, and what is left."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
import plotly.graph_objects as go

from rlviz.metrics import METRICS
from rlviz.result import PairResult
from rlviz.types import MetricParams
from rlviz.views.cells import ColourScale
from rlviz.views.figure import Floats, Plot, Row, blank, finite
from rlviz.views.heatmap import plot_layer_heatmap
from rlviz.views.masks_words import (
    EXCESS_NOTABLE,
    SHOWN,
    Z_NOTABLE,
    Overlap,
    far_matrices,
    masks_missing,
    masks_setting,
    measured_masks,
    overlap_label,
    overlap_of,
    verdict,
)
from rlviz.views.remember import remembered
from rlviz.views.theme import ThemeName, chance_line, faded, figure_layout, tokens, tuned_colour
from rlviz.views.words import percent, safe, sentences, tuned_labels

Z_CLIP = 10.0
_Z_SCALE = ColourScale(-Z_CLIP, Z_CLIP, False, True, (-10.0, -5.0, 0.0, 5.0, 10.0), ("≤ −10", "−5", "0", "5", "≥ 10"))
_GAP = 0.55  # of a row, between two masks: the heading stands there
_ROW_PX = 50


@dataclass(frozen=True, slots=True)
class _Placed:
    """One overlap on its row."""

    overlap: Overlap
    label: str
    model: str
    colour: str
    y: float


def _placed(results: Sequence[PairResult], params: MetricParams, theme: ThemeName) -> list[_Placed]:
    """Mask by mask, and in each the tuned models in order."""
    labelled = list(zip(tuned_labels(results), results, strict=True))
    models = [(i, label, r) for i, (label, r) in enumerate(labelled) if measured_masks(r)]
    return [
        _Placed(
            overlap_of(r, mask, params),
            label,
            r.tuned.pinned_ref,
            tuned_colour(i, theme),
            at * (len(models) + _GAP) + row,
        )
        for at, (mask, _) in enumerate(SHOWN)
        for row, (i, label, r) in enumerate(models)
    ]


@remembered
def plot_mask_overlaps(results: Sequence[PairResult], params: MetricParams, theme: ThemeName) -> Plot:
    """Share of the changes in each mask, within the range it can take, beside chance and what rounding alone gives."""
    placed = _placed(results, params, theme)
    drawn = [p for p in placed if isfinite(p.overlap.observed)]
    if not drawn:
        undefined = "The overlap is undefined: no weight changed, or all did, in every matrix compared."
        return blank(theme, undefined if placed else masks_missing(results))
    figure = go.Figure()
    for trace in (*_feasible(drawn, theme), *_nulls(drawn, theme), *_observed(drawn)):
        figure.add_trace(go.Scatter(trace))
    _axes(figure, placed, theme)
    where, shuffled = masks_setting(results, params), any(isfinite(p.overlap.shuffle) for p in drawn)
    alt = "; ".join(
        f"{p.label}: {percent(p.overlap.observed)} of changes lie in {p.overlap.words}, {overlap_label(p.overlap)}, "
        f"{verdict(p.overlap)}"
        for p in drawn
    )
    caption = sentences(
        f"Share of all changed entries (bf16) that lie in each mask, pooled over matrices; masks at {where}",
        "Grey bar: the range an overlap can take at this density. Stroke: chance, the mask's share of the weights. "
        "Dashed, with ± 2 SD: isotropic noise of one size per matrix, rounded to bf16, which flips as many entries",
        "Diamond: the same update with its entries shuffled within each matrix" if shuffled else "",
        f"Nothing beyond rounding is what lies below |z| = {Z_NOTABLE:.0f}, a trace what lies below "
        f"{100 * EXCESS_NOTABLE:.0f} point of excess: with this many entries z can be large for hundredths of a point",
    )
    return Plot(
        figure, sentences(f"Where changes fall, {where}. {alt}"), caption, tuple(_row(p, params) for p in placed)
    )


def _row(p: _Placed, params: MetricParams) -> Row:
    o = p.overlap
    return {
        "model": p.model,
        "mask": o.mask,
        "k": params.k,
        "alpha": params.alpha,
        "overlap": finite(o.observed),
        "baseline": finite(o.baseline),
        "feasible_min": finite(o.feasible_min),
        "feasible_max": finite(o.feasible_max),
        "null": finite(o.null),
        "null_sd": finite(o.null_sd),
        "excess": finite(o.excess),
        "z": finite(o.z),
        "shuffle": finite(o.shuffle),
        "shuffle_z": finite(o.shuffle_z),
    }


Of = Callable[[Overlap], float]


def _values(placed: Sequence[_Placed], of: Of) -> Floats:
    return 100 * np.array([of(p.overlap) for p in placed], dtype=np.float64)


def _heights(placed: Sequence[_Placed]) -> Floats:
    return np.array([p.y for p in placed], dtype=np.float64)


def _segments(starts: Floats, ends: Floats) -> Floats:
    """Start, end and a gap for each of several separate strokes of one trace."""
    return np.stack([starts, ends, np.full(starts.size, np.nan)], axis=1).ravel()


def _strokes(name: str, x: tuple[Floats, Floats], y: tuple[Floats, Floats], line: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": _segments(*x),
        "y": _segments(*y),
        "line": line,
        "hoverinfo": "skip",
    }


def _feasible(placed: Sequence[_Placed], theme: ThemeName) -> list[dict[str, Any]]:
    y = _heights(placed)
    low, high = _values(placed, lambda o: o.feasible_min), _values(placed, lambda o: o.feasible_max)
    return [_strokes("possible at this density", (low, high), (y, y), {"color": tokens(theme).missing, "width": 7})]


def _nulls(placed: Sequence[_Placed], theme: ThemeName) -> list[dict[str, Any]]:
    """Chance as a stroke; rounding alone dashed with its band; the shuffled update where there is one."""
    y, colour = _heights(placed), tokens(theme).chance
    null, spread = _values(placed, lambda o: o.null), 2 * _values(placed, lambda o: o.null_sd)
    shuffled = _values(placed, lambda o: o.shuffle)
    chance = {"color": tokens(theme).text, "width": 1.5}
    band = {"color": faded(colour, 0.35), "width": 22}
    at = _values(placed, lambda o: o.baseline)
    traces = [
        _strokes("± 2 SD", (null - spread, null + spread), (y, y), band) | {"showlegend": False},
        _strokes("chance", (at, at), (y - 0.15, y + 0.15), chance),
        _strokes(
            "rounding alone ± 2 SD", (null, null), (y - 0.29, y + 0.29), chance_line(theme, 2) | {"dash": "4px,2px"}
        ),
    ]
    if np.isfinite(shuffled).any():
        marker = {"symbol": "diamond-open", "size": 14, "color": colour, "line": {"width": 1.5}}
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": "update shuffled within its matrix",
                "x": shuffled,
                "y": y,
                "marker": marker,
                "hovertemplate": "shuffled update %{x:.4~g} %<extra></extra>",
            }
        )
    return traces


def _observed(placed: Sequence[_Placed]) -> list[dict[str, Any]]:
    """One trace per tuned model, named beside its dots and not in the legend."""
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "name": safe(label),
            "x": _values(own, lambda o: o.observed),
            "y": _heights(own),
            "marker": {"size": 11, "color": own[0].colour},
            "customdata": np.array([_hover(p.overlap) for p in own], dtype=object),
            "hovertemplate": f"%{{customdata}}<extra>{safe(label)}</extra>",
            "showlegend": False,
        }
        for label in dict.fromkeys(p.label for p in placed)
        for own in [[p for p in placed if p.label == label]]
    ]


def _hover(o: Overlap) -> str:
    lines = (
        f"<b>{o.words}</b>",
        f"observed {100 * o.observed:.4g} %",
        f"chance {100 * o.baseline:.4g} %",
        f"possible {100 * o.feasible_min:.4g} to {100 * o.feasible_max:.4g} %",
        f"rounding alone {100 * o.null:.4g} ± {100 * o.null_sd:.2g} %",
        f"beyond rounding {100 * o.excess:+.4g} points, z {o.z:+.4g}",
    )
    return "<br>".join(lines)


def _axes(figure: go.Figure, placed: Sequence[_Placed], theme: ThemeName) -> None:
    """Axes, and above each bar what it says: to the right of it there is no room on a narrow screen."""
    rows = placed[-1].y + 1
    figure.update_layout(figure_layout(theme, height=max(420, round(140 + _ROW_PX * rows))))
    figure.update_layout(margin={"t": 56, "l": 24})
    highest = max(float(np.nanmax(_values(placed, lambda o: o.feasible_max))), 1.0)
    figure.update_xaxes(title={"text": "share of changes in the mask, %"}, range=[0, highest * 1.03], zeroline=False)
    figure.update_yaxes(range=[rows - 0.55, -1.05], showticklabels=False, showgrid=False, zeroline=False)
    shared: dict[str, Any] = {"x": 0, "xref": "paper", "yref": "y", "xanchor": "left", "yanchor": "bottom", "xshift": 4}
    for p in placed:
        text = f"{p.label}: {overlap_label(p.overlap, shuffled=False)}"
        figure.add_annotation(shared | {"text": safe(text), "y": p.y, "yshift": 12, "font": _font(p.colour)})
    for mask, words in SHOWN:
        first = min(p.y for p in placed if p.overlap.mask == mask)
        font = _font(tokens(theme).text) | {"size": 14}
        heading = f"{words[:1].upper()}{words[1:]}"
        figure.add_annotation(shared | {"text": heading, "y": first, "yshift": 30, "font": font})


def _font(colour: str) -> dict[str, Any]:
    return {"size": 12, "color": colour}


@remembered
def plot_mask_excess(results: Sequence[PairResult], params: MetricParams, theme: ThemeName) -> Plot:
    """How far each matrix's principal overlap lies from what rounding alone gives, in SDs; colours end at ± 10."""
    members = [r for r in results if measured_masks(r)]
    if not members:
        return blank(theme, masks_missing(results))
    metric = METRICS["overlap_principal_z"]
    plot = plot_layer_heatmap(results, metric, params, theme, scale=_Z_SCALE)
    parts = [_far(label, r, params) for label, r in zip(tuned_labels(results), results, strict=True)]
    caption = sentences(
        "Principal overlap less what rounding alone gives, in SDs of that null; masks at "
        f"{masks_setting(results, params)}",
        f"Colours end at ± {Z_CLIP:.0f}, hover has the value. Of noise, 0.3 % of matrices lie beyond ± {Z_NOTABLE:.0f}",
        *(part for part in parts if part),
        "The null has one size of noise per matrix: an update whose size varies within the matrix leaves it without "
        "any regard for principal weights",
    )
    return Plot(plot.figure, sentences(plot.alt, *(part for part in parts if part)), caption, plot.table)


def _far(label: str, result: PairResult, params: MetricParams) -> str:
    below, above, known = far_matrices(result, params)
    many = f"{below} of {known} matrices at or below −{Z_NOTABLE:.0f}, {above} at or above {Z_NOTABLE:.0f}"
    return f"{label}: {many}" if known else ""
