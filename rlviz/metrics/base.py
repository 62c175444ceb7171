"""What a metric is: a pure function of records, with its formula, unit, source and what chance would give.

Three kinds. A *ratio* metric returns a numerator and a denominator; a group of tensors is pooled by summing both,
never by averaging ratios. A *sums* metric is any other function of summed numbers (an odds ratio, a z). A *value*
metric is combined as `combine` says: norms add in squares, bytes add; a maximum angle or an effective rank has no
pooled form, and groups show the median over matrices, and say so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from statistics import median
from typing import Literal

from rlviz.types import Measured, MetricParams

Scale = Literal["fraction", "log", "linear", "angle"]
Parts = Callable[[Measured, MetricParams], tuple[float, float] | None]
Sums = Callable[[Measured, MetricParams], Sequence[float] | None]
Value = Callable[[Measured, MetricParams], float]


def _identity(x: float) -> float:
    return x


@dataclass(frozen=True, slots=True)
class Metric:
    """One definition, used by code, Methods page, README table, columns and tests alike.

    Exactly one of `parts`, `sums` and `value` is given. They return undefined (None, NaN) where the metric is
    undefined; undefined is not zero. `chance` is the value expected of a random update of the same size (or of
    random subspaces), on the same tensor, where such a value exists. Angles are radians here and degrees only
    in views and exports. `uses` names the metric parameters the value depends on.

    Attributes
    ----------
    key : str
        Column name; with unit "rad" the exported column is ``key + "_deg"``.
    unit : str
        "fraction", "rad", "entries", "bytes" or "" for dimensionless.
    scale : Scale
        How a view draws it: fraction is fixed to 0-1, log is log10.
    finish : callable
        Applied to numerator / denominator, e.g. a square root.
    sums, from_sums : callable
        Numbers that add up over tensors, always as many, and the value of their sums (NaN where undefined).
    companion : bool
        Stands beside another metric (its null, its limit, its interval): exported, but no map of its own.
    """

    key: str
    title: str
    formula: str
    unit: str
    source: str
    meaning: str
    probe: str
    scale: Scale
    parts: Parts | None = None
    finish: Callable[[float], float] = _identity
    sums: Sums | None = None
    from_sums: Callable[[Sequence[float]], float] | None = None
    value: Value | None = None
    combine: Callable[[Sequence[float]], float] = median
    combine_text: str = "median over matrices"
    chance: Value | None = None
    chance_text: str = ""
    caveat: str = ""
    uses: tuple[str, ...] = ()
    companion: bool = False

    @property
    def column(self) -> str:
        """Name of the exported column."""
        return f"{self.key}_deg" if self.unit == "rad" else self.key

    def of(self, measured: Measured, params: MetricParams) -> float:
        """Value for one tensor; NaN where undefined or where its probe was not run."""
        return self.pooled((measured,), params)

    def chance_of(self, measured: Measured, params: MetricParams) -> float:
        """What chance alone gives for this tensor; NaN where no such value exists."""
        if self.chance is None or self.probe not in measured.records:
            return nan
        return self.chance(measured, params)

    def pooled(self, group: Iterable[Measured], params: MetricParams) -> float:
        """Value for a group: of the sums over tensors, or the median over tensors for a value metric."""
        members = [m for m in group if self.probe in m.records]
        if self.parts is not None:
            pairs = [p for m in members if (p := self.parts(m, params)) is not None]
            numerator, denominator = sum(p[0] for p in pairs), sum(p[1] for p in pairs)
            return self.finish(numerator / denominator) if denominator else nan
        if self.sums is not None and self.from_sums is not None:
            rows = [s for m in members if (s := self.sums(m, params)) is not None]
            return self.from_sums([sum(column) for column in zip(*rows, strict=True)]) if rows else nan
        assert self.value is not None
        values = [v for m in members if isfinite(v := self.value(m, params))]
        return self.combine(values) if values else nan

    @property
    def pooling(self) -> str:
        """How a group is summarised, in words."""
        return self.combine_text if self.value is not None else "pooled"
