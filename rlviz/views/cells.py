"""What a layer × module map draws: panels of cells on shared rows and columns, and one colour scale over all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, degrees, floor, isclose, isfinite, log10, nan

import numpy as np
from numpy.typing import NDArray
from plotly.colors import sample_colorscale

from rlviz.metrics import Metric
from rlviz.result import PairResult
from rlviz.sources.naming import module_group, module_order
from rlviz.types import MetricParams
from rlviz.views.figure import Floats, decades, power
from rlviz.views.theme import DIVERGING, SEQUENTIAL, Colorscale
from rlviz.views.words import UNDEFINED, safe, said, value_text

NOT_COMPARED = "not compared"
Place = tuple[str, int | None]  # module and layer, None outside any layer


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: its value, what chance gives, the tensors behind it, what is written in it and said on hover.

    `fade` is how much of the colour the panel's takes: 0 for a value known exactly, at most 1.
    """

    module: str
    layer: int | None
    names: tuple[str, ...]
    value: float
    chance: float
    text: str
    hover: str
    fade: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One small multiple. `model` is what a click reports."""

    title: str
    colour: str
    model: int
    cells: Mapping[Place, Cell]

    def cell(self, module: str, layer: int | None) -> Cell:
        """One cell; without names where the model has no such tensor or it was skipped."""
        return self.cells.get((module, layer)) or Cell(module, layer, (), nan, nan, "", NOT_COMPARED)


@dataclass(frozen=True, slots=True)
class Frame:
    """Rows and columns that all panels share. `outside` are the modules of tensors that belong to no layer."""

    layers: tuple[int, ...]
    modules: tuple[str, ...]
    groups: tuple[str, ...]
    outside: tuple[str, ...]
    omitted: tuple[str, ...]


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

    def colour(self, value: float) -> str:
        """The colour a value is drawn in, as ``rgb()``; that of the middle where it is undefined."""
        at = (float(self.position(np.array([value]))[0]) - self.low) / (self.high - self.low)
        return str(
            sample_colorscale([list(stop) for stop in self.colours], [min(max(at, 0.0), 1.0) if isfinite(at) else 0.5])[
                0
            ]
        )


def frame_of(panels: Sequence[Panel], omitted: Iterable[str] = ()) -> Frame:
    """The union of the panels' rows and columns, modules grouped attention, MLP, norm, then others."""
    left_out = frozenset(omitted)
    cells = {place for p in panels for place in p.cells}
    modules = module_order(module for module, _ in cells)
    kept = [m for m in modules if m not in left_out]
    inside = tuple(m for m in kept if any(module == m and layer is not None for module, layer in cells))
    outside = tuple(m for m in kept if (m, None) in cells)
    layers = tuple(sorted({layer for module, layer in cells if layer is not None and module in inside}))
    groups = tuple(module_group(m) for m in inside)
    return Frame(layers, inside, groups, outside, tuple(m for m in modules if m in left_out))


def cells_in(panel: Panel, frame: Frame) -> list[Cell]:
    """A panel's cells that stand for a tensor, row by row, those outside layers last."""
    places: list[Place] = [(module, layer) for module in frame.modules for layer in frame.layers]
    places += [(module, None) for module in frame.outside]
    return [cell for place in places if (cell := panel.cells.get(place)) is not None]


def measured_cells(result: PairResult, metric: Metric, params: MetricParams) -> dict[Place, Cell]:
    """The cells of an exact result."""
    grid = result.grid(metric.key, params)
    found: dict[Place, Cell] = {}
    for (module, layer), names in grid.names.items():
        value = shown(metric, float(grid.values[grid.modules.index(module), grid.layers.index(layer)]))
        chance = shown(metric, metric.chance_of(result.by_name(names[0]), params))
        hover = _hover_lines(metric, names, value, chance)
        found[module, layer] = Cell(module, layer, names, value, chance, _in_cell(metric, value), hover)
    return found


def _hover_lines(metric: Metric, names: Sequence[str], value: float, chance: float) -> str:
    text = drawn_text(metric, value, 4) if isfinite(value) else "undefined here, or not measured yet"
    lines = [f"{said(metric)} {text}"]
    if isfinite(chance):
        lines.append(f"chance {drawn_text(metric, chance, 4)}")
    lines.append(safe(names[0]) if len(names) == 1 else f"{len(names)} tensors, {metric.pooling}")
    return "<br>".join(lines)


def _in_cell(metric: Metric, value: float) -> str:
    """Short enough for a cell; hover has four digits."""
    if not isfinite(value):
        return ""
    if metric.scale == "fraction" and 0 < value < 1 and not 0.001 <= value <= 0.999:
        return "<0.1 %" if value < 0.5 else ">99.9 %"
    return drawn_text(metric, value)


def shown(metric: Metric, value: float) -> float:
    """The value in the unit that is drawn: degrees for angles."""
    return degrees(value) if metric.unit == "rad" and isfinite(value) else value


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

    A log metric whose chance value is 1 everywhere (an enrichment) diverges around 1, a linear one with values on both
    sides of 0 around 0.
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
    signed = low < 0 < high
    if signed:
        low, high = -max(-low, high), max(-low, high)
    ticks = tuple(float(t) for t in np.linspace(low, high, 5))
    return ColourScale(low, high, False, signed, ticks, tuple(f"{t:.3g}{suffix}" for t in ticks))
