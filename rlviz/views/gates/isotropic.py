"""Every matrix against isotropic noise of the same length: energy on the principal block, strength of one direction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from rlviz.metrics.spectrum import PROBE
from rlviz.result import PairResult
from rlviz.sources.naming import module_order
from rlviz.types import MetricParams
from rlviz.views.figure import Floats, Plot, Row, blank, finite, log_axis, log_range
from rlviz.views.gates.dots import dots, dotted, rows_axis
from rlviz.views.remember import remembered
from rlviz.views.theme import ThemeName, chance_line, figure_layout
from rlviz.views.words import number, sentences

ENERGY, EDGE = "energy_principal_enrichment", "update_edge_ratio"
_DOMAINS = {ENERGY: (0.0, 0.485), EDGE: (0.515, 1.0)}


@remembered
def plot_against_isotropic(results: Sequence[PairResult], params: MetricParams, theme: ThemeName) -> Plot:
    """Energy in the top-k principal block and strongest direction, over what isotropic noise has: a dot per matrix."""
    models = [m for m in dotted(results, PROBE, theme) if np.isfinite(m.values(EDGE, params)).any()]
    if not models:
        return blank(theme, "No update whose spectrum is known: there is nothing to compare with noise.")
    modules = module_order(m.module for model in models for m in model.group)
    figure = go.Figure(layout=figure_layout(theme, height=max(420, 150 + 30 * len(modules))))
    every: dict[str, list[Floats]] = {ENERGY: [np.ones(1)], EDGE: [np.ones(1)]}
    rows: list[Row] = []
    parts: list[str] = []
    for model in models:
        places = np.array([modules.index(m.module) for m in model.group], dtype=np.float64)
        names = [m.name for m in model.group]
        found = {key: model.values(key, params) for key in every}
        for key, axis in ((ENERGY, ""), (EDGE, "2")):
            every[key].append(found[key])
            trace = dots(model, np.where(found[key] > 0, found[key], np.nan), places, names, " × isotropic")
            on = {"xaxis": f"x{axis}", "yaxis": f"y{axis}", "showlegend": not axis}
            figure.add_trace(go.Scatter(trace | on))
        pooled, middle = model.pooled(ENERGY, params), float(np.nanmedian(found[EDGE]))
        parts.append(f"{model.label}: {number(pooled)}× pooled, strongest direction {number(middle)}× in the median")
        for name, energy, edge in zip(names, found[ENERGY], found[EDGE], strict=True):
            row: Row = {"model": model.result.tuned.pinned_ref, "tensor": name}
            rows.append(row | {ENERGY: finite(float(energy)), EDGE: finite(float(edge))})
    _furnish(figure, modules, {key: np.concatenate(values) for key, values in every.items()}, params, theme)
    caption = sentences(
        "One dot per matrix. Left: energy of the update in the block of the base's top-k directions over "
        "k²/(d_out·d_in); right of 1 is on the principals, left of it off them",
        "Right: ‖ΔW‖₂ over the largest singular value of noise of the same length",
        "Dashed: 1, isotropic noise",
    )
    alt = sentences(f"Energy on the principal block at k = {params.k} against isotropic noise. {'; '.join(parts)}")
    return Plot(figure, alt, caption, tuple(rows))


def _furnish(
    figure: go.Figure, modules: Sequence[str], values: dict[str, Floats], params: MetricParams, theme: ThemeName
) -> None:
    titles = {
        ENERGY: f"principal energy at k = {params.k}, × isotropic",
        EDGE: "strongest direction ‖ΔW‖₂, × isotropic",
    }
    for key, axis in ((ENERGY, ""), (EDGE, "2")):
        x = log_axis(log_range(values[key])) | {"domain": _DOMAINS[key], "anchor": f"y{axis}", "zeroline": False}
        figure.update_layout(
            {
                f"xaxis{axis}": x | {"title": {"text": f"{titles[key]}, dimensionless"}},
                f"yaxis{axis}": rows_axis(modules, axis, labelled=not axis),
            }
        )
        figure.add_shape(
            type="line", x0=1, x1=1, y0=0, y1=1, xref=f"x{axis}", yref=f"y{axis} domain", line=chance_line(theme)
        )
