"""One dot per tensor: the tuned models of a figure, and their dots in rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan
from typing import Any

import numpy as np

from rlviz.metrics import METRICS
from rlviz.result import PairResult
from rlviz.types import Measured, MetricParams
from rlviz.views.figure import Floats
from rlviz.views.theme import ThemeName, tuned_colour
from rlviz.views.words import safe, tuned_labels


@dataclass(frozen=True, slots=True, eq=False)
class Dotted:
    """One tuned model: its tensors with a record, and how far from a row's middle its dots lie."""

    label: str
    colour: str
    result: PairResult
    group: tuple[Measured, ...]
    offset: float

    def pooled(self, key: str, params: MetricParams) -> float:
        """A metric over all of them."""
        return METRICS[key].pooled(self.group, params)

    def values(self, key: str, params: MetricParams) -> Floats:
        """A metric of each; NaN where undefined."""
        return np.array([METRICS[key].of(m, params) for m in self.group], dtype=np.float64)


def dotted(results: Sequence[PairResult], probe: str, theme: ThemeName) -> list[Dotted]:
    """The tuned models of which anything has a record of `probe`."""
    step = min(0.24, 0.8 / len(results))
    found = [
        Dotted(
            label,
            tuned_colour(i, theme),
            result,
            tuple(m for m in result.floats if probe in m.records),
            (i - (len(results) - 1) / 2) * step,
        )
        for i, (label, result) in enumerate(zip(tuned_labels(results), results, strict=True))
    ]
    return [model for model in found if model.group]


def dots(model: Dotted, x: Floats, rows: Floats, texts: Sequence[str], unit: str) -> dict[str, Any]:
    """Dots of one model at rows counted from 0; `texts` head the hover, `unit` follows the value there."""
    return {
        "type": "scatter",
        "mode": "markers",
        "name": safe(model.label),
        "legendgroup": safe(model.label),
        "x": x,
        "y": rows + model.offset,
        "customdata": np.array([safe(text) for text in texts], dtype=object),
        "marker": {"size": 8, "opacity": 0.8, "color": model.colour},
        "hovertemplate": f"<b>%{{customdata}}</b><br>%{{x:.4~g}}{unit}<extra>{safe(model.label)}</extra>",
    }


def medians(model: Dotted, x: Sequence[float], rows: Floats, height: float, unit: str) -> dict[str, Any]:
    """Upright strokes at `x`, a row each, `height` of a row tall; NaN is not drawn."""
    half = height / 2
    known = [(value, row + model.offset) for value, row in zip(x, rows, strict=True) if isfinite(value)]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": f"{safe(model.label)}, median",
        "legendgroup": safe(model.label),
        "showlegend": False,
        "x": np.array([v for value, _ in known for v in (value, value, nan)]),
        "y": np.array([v for _, row in known for v in (row - half, row + half, nan)]),
        "line": {"color": model.colour, "width": 3},
        "hovertemplate": f"median %{{x:.4~g}}{unit}<extra>{safe(model.label)}</extra>",
    }


def rows_axis(names: Sequence[str], axis: str, *, labelled: bool = True, grid: bool = True) -> dict[str, Any]:
    """The y axis of rows counted from the top."""
    return {
        "anchor": f"x{axis}",
        "range": [len(names) - 0.5, -0.5],
        "tickvals": np.arange(len(names)),
        "ticktext": [safe(name) for name in names],
        "showticklabels": labelled,
        "ticklabelstandoff": 6,
        "zeroline": False,
        "showgrid": grid,
    }
