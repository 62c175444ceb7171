"""What a layer × module map draws: panels of cells on shared rows and columns, and one colour scale over all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, degrees, floor, isclose, isfinite, log10, nan

import numpy as np
from numpy.typing import NDArray

from rlviz.metrics import Metric
from rlviz.result import Grid, PairResult
from rlviz.sources.naming import module_group, module_order
from rlviz.types import MetricParams
from rlviz.views.figure import Floats, decades, power
from rlviz.views.theme import DIVERGING, SEQUENTIAL, Colorscale
from rlviz.views.words import UNDEFINED, value_text

NOT_COMPARED = "not compared"


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One small multiple: a result seen with one set of parameters. `model` is what a click reports."""

    title: str
    colour: str
    model: int
    result: PairResult
    params: MetricParams
    grid: Grid


@dataclass(frozen=True, slots=True)
class Frame:
    """Rows and columns that all panels share. `outside` are the modules of tensors that belong to no layer."""

    layers: tuple[int, ...]
    modules: tuple[str, ...]
    groups: tuple[str, ...]
    outside: tuple[str, ...]
    omitted: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: the metric's value, what chance gives, and the tensors behind it."""

    module: str
    layer: int | None
    names: tuple[str, ...]
    value: float
    chance: float


@dataclass(frozen=True, slots=True)
class ColourScale:
    """How values become colours: `position` is linear in the value or in its log10."""

    low: float
    high: float
    log: bool
    diverging: bool
    ticks: tuple[float, ...]
    tick_texts: tuple[str, ...]

    @property
    def colours(self) -> Colorscale:
        return DIVERGING if self.diverging else SEQUENTIAL

    def position(self, values: Floats) -> Floats:
        """Drawn coordinate of each value; zero on a log scale sits at the bottom end."""
        if not self.log:
            return values
        with np.errstate(divide="ignore"):
            return np.clip(np.log10(values), self.low, self.high)


def _applies(panels: Sequence[Panel], metric: Metric, module: str) -> bool:
    """False where the metric is undefined by kind: spectra of vectors. Such rows are named, not drawn."""
    if metric.probe == "coordinate":
        return True
    members = [m for p in panels for m in p.result.floats if m.module == module]
    return any(m.match.is_matrix for m in members) or any(metric.probe in m.records for m in members)


def frame_of(panels: Sequence[Panel], metric: Metric) -> Frame:
    """The union of the panels' rows and columns, modules grouped attention, MLP, norm, then others."""
    cells = {cell for p in panels for cell in p.grid.names}
    modules = module_order(module for module, _ in cells)
    kept = [m for m in modules if _applies(panels, metric, m)]
    inside = tuple(m for m in kept if any(module == m and layer is not None for module, layer in cells))
    outside = tuple(m for m in kept if (m, None) in cells)
    layers = tuple(sorted({layer for module, layer in cells if layer is not None and module in inside}))
    groups = tuple(module_group(m) for m in inside)
    return Frame(layers, inside, groups, outside, tuple(m for m in modules if m not in kept))


def cell_of(panel: Panel, metric: Metric, module: str, layer: int | None) -> Cell:
    """One cell of a panel; without names where the model has no such tensor or it was skipped."""
    grid = panel.grid
    names = grid.names.get((module, layer), ())
    if not names:
        return Cell(module, layer, (), nan, nan)
    value = float(grid.values[grid.modules.index(module), grid.layers.index(layer)])
    chance = metric.chance_of(panel.result.by_name(names[0]), panel.params)
    return Cell(module, layer, names, shown(metric, value), shown(metric, chance))


def shown(metric: Metric, value: float) -> float:
    """The value in the unit that is drawn: degrees for angles."""
    return degrees(value) if metric.unit == "rad" and isfinite(value) else value


def cell_values(cells: Sequence[Sequence[Cell]]) -> Floats:
    """Values ``[rows, columns]`` of cells."""
    return np.array([[cell.value for cell in row] for row in cells], dtype=np.float64).reshape(len(cells), -1)


def cell_text(metric: Metric, cell: Cell, digits: int = 2) -> str:
    """A cell's value as text; why there is none otherwise."""
    if isfinite(cell.value):
        return drawn_text(metric, cell.value, digits)
    return "undefined here, or not measured yet" if cell.names else NOT_COMPARED


def drawn_text(metric: Metric, value: float, digits: int = 2) -> str:
    """`value_text` for a value already in the drawn unit."""
    if not isfinite(value):
        return UNDEFINED
    return value_text(metric, float(np.radians(value)) if metric.unit == "rad" else value, digits)


def _log_scale(positive: Floats, centred: bool) -> ColourScale:
    low, high = float(np.log10(positive.min())), float(np.log10(positive.max()))
    if centred:  # enrichment and dispersion: 1 is what chance gives, at the middle of a diverging scale
        high = max(abs(low), abs(high), log10(2))
        low = -high
    elif high - low < 0.3:
        low, high = low - 0.15, high + 0.15
    ticks, texts = decades(low, high)
    if centred and not any(isclose(t, 0.0, abs_tol=1e-9) for t in ticks):
        ticks, texts = [*ticks, 0.0], [*texts, "1"]
    if centred and high >= 1:
        whole = [e for e in range(ceil(low), floor(high) + 1) if e % max(1, ceil(high / 4)) == 0]
        ticks, texts = [float(e) for e in whole], [power(e) for e in whole]
    return ColourScale(low, high, True, centred, tuple(ticks), tuple(texts))


def colour_scale(metric: Metric, values: Floats, chances: NDArray[np.float64]) -> ColourScale:
    """One scale over all panels: fractions fixed to 0-1, magnitudes and angles log10, the rest from the data.

    A log metric whose chance value is 1 everywhere (an enrichment) diverges around 1.
    """
    known = values[np.isfinite(values)]
    if metric.scale == "fraction":
        ticks = (0.0, 0.25, 0.5, 0.75, 1.0)
        return ColourScale(0.0, 1.0, False, False, ticks, tuple(f"{t * 100:.0f} %" for t in ticks))
    suffix = "°" if metric.unit == "rad" else ""
    positive = known[known > 0]
    if metric.scale in ("log", "angle") and positive.size:
        expected = chances[np.isfinite(chances)]
        scale = _log_scale(positive, bool(expected.size) and bool(np.all(expected == 1)))
        texts = tuple(t + suffix for t in scale.tick_texts)
        return ColourScale(scale.low, scale.high, True, scale.diverging, scale.ticks, texts)
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    ticks = tuple(float(t) for t in np.linspace(low, high, 5))
    return ColourScale(low, high, False, False, ticks, tuple(f"{t:.3g}{suffix}" for t in ticks))
