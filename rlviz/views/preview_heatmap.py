"""The layer × module map of a preview: the exact map's look and scale, and cells that fade as they grow uncertain."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, nan
from typing import Any

import numpy as np
import plotly.graph_objects as go

from rlviz.metrics import METRICS
from rlviz.sampling.result import Estimate, Preview
from rlviz.types import Lens
from rlviz.views.cells import Cell, Panel, Place, cells_in, colour_scale, frame_of
from rlviz.views.figure import Plot, Row, blank, finite
from rlviz.views.formats import percent, safe, sentences
from rlviz.views.heatmap import draw_panels, place
from rlviz.views.preview_words import APPROXIMATE, in_cell, plus_minus, rows_read, with_interval
from rlviz.views.theme import ThemeName, blended, tuned_colour
from rlviz.views.words import LENS_WORDS, tuned_labels

NOT_SAMPLED = "not sampled yet"
FADED_AT = 0.2  # half width of an interval from which a cell is as faint as cells get
_FAINTEST = 0.85  # the colour must stay recognisable


def plot_preview_heatmap(previews: Sequence[Preview], lens: Lens, theme: ThemeName) -> Plot:
    """Estimated share unchanged over layers (x) and modules (y), one panel per tuned model, on the 0-1 scale.

    Clicks work as on the exact map: ``customdata`` is ``[tensor name, model index, place, text]``.
    """
    metric = METRICS["update_sparsity"]
    labels = tuned_labels(previews)
    panels = [
        Panel(label, tuned_colour(i, theme), i, _cells(p, lens))
        for i, (label, p) in enumerate(zip(labels, previews, strict=True))
    ]
    frame = frame_of(panels)
    if not any(isfinite(c.value) for p in panels for c in p.cells.values()):
        return blank(theme, "Nothing has been sampled yet: the map appears after the first round.")
    scale = colour_scale(metric, np.array([]), np.array([]))
    words = LENS_WORDS[lens]
    title = f"Weights unchanged {words}, estimated, %"
    figure = draw_panels(panels, frame, scale, theme, bar_title=title, missing=NOT_SAMPLED)
    figure.add_trace(go.Scatter(_legend_line(scale.colour(0.5), theme)))
    rows = tuple(
        _row(preview, lens, cell, panel.title)
        for preview, panel in zip(previews, panels, strict=True)
        for cell in cells_in(panel, frame)
    )
    caption = sentences(
        f"Estimated share of weights unchanged {words}, with 95 % intervals",
        f"The wider the interval, the fainter the cell, faintest from ± {100 * FADED_AT:.0f} points on",
        "The fp8 scale comes from the largest magnitude sampled, so this lens is approximate"
        if lens in APPROXIMATE
        else "",
        f"Hatched: {NOT_SAMPLED}, or not compared",
    )
    return Plot(figure, _alt(previews, panels, lens), caption, rows)


def _legend_line(colour: str, theme: ThemeName) -> dict[str, Any]:
    """A line of the legend alone: what a faint cell means."""
    return {
        "mode": "markers",
        "name": "fainter: wider interval",  # short: on a narrow screen the map gives way to its legend
        "x": np.array([np.nan]),
        "y": np.array([np.nan]),
        "marker": {"symbol": "square", "size": 11, "color": blended(colour, 0.7, theme)},
        "hoverinfo": "skip",
        "showlegend": True,
    }


def fade(e: Estimate) -> float:
    """Share of a cell's colour that the panel's takes, linear in the half width of the interval, at most 0.85."""
    return _FAINTEST * min(1.0, e.half_width / FADED_AT)


def _cells(preview: Preview, lens: Lens) -> dict[Place, Cell]:
    names: dict[Place, list[str]] = {}
    for tensor in preview.tensors:
        names.setdefault((tensor.match.base.module, tensor.match.base.layer), []).append(tensor.match.name)
    return {at: _cell(preview, lens, at, tuple(found)) for at, found in names.items()}


def _cell(preview: Preview, lens: Lens, at: Place, names: tuple[str, ...]) -> Cell:
    tensor = safe(names[0]) if len(names) == 1 else f"{len(names)} tensors, pooled"
    sampled = preview.cells.get(at)
    if sampled is None or not sampled.n_sampled:
        return Cell(*at, names, nan, nan, "", f"{NOT_SAMPLED}<br>{tensor}")
    share = sampled.sparsity(lens)
    hover = f"unchanged {with_interval(share)}<br>{rows_read(sampled)}<br>{tensor}"
    return Cell(*at, names, share.estimate, nan, in_cell(share), hover, fade(share))


def _row(preview: Preview, lens: Lens, cell: Cell, title: str) -> Row:
    sampled = preview.cells.get((cell.module, cell.layer))
    share = sampled.sparsity(lens) if sampled and sampled.n_sampled else Estimate(nan, nan, nan)
    return {
        "model": preview.tuned.pinned_ref,
        "view": title,
        "layer": cell.layer,
        "module": cell.module,
        "tensors": len(cell.names),
        "tensor": cell.names[0],
        "update_sparsity": finite(share.estimate),
        "low": finite(share.low),
        "high": finite(share.high),
        "rows_read": sampled.n_rows_sampled if sampled else 0,
        "rows": sampled.n_rows if sampled else None,
    }


def _alt(previews: Sequence[Preview], panels: Sequence[Panel], lens: Lens) -> str:
    parts: list[str] = []
    for preview, panel in zip(previews, panels, strict=True):
        known = sorted((c for c in panel.cells.values() if isfinite(c.value)), key=lambda c: c.value)
        if not known:
            parts.append(f"{panel.title}: {NOT_SAMPLED}")
            continue
        low, high = (f"{percent(c.value)} ({place(c)})" for c in (known[0], known[-1]))
        waiting = sum(not isfinite(c.value) for c in panel.cells.values())
        rest = f", {waiting} of {len(panel.cells)} cells not sampled yet" if waiting else ""
        parts.append(f"{panel.title}: {plus_minus(preview.pooled.sparsity(lens))} pooled, from {low} to {high}{rest}")
    return sentences(
        f"Heat map of estimated weights unchanged {LENS_WORDS[lens]} by layer and module. {'; '.join(parts)}"
    )
