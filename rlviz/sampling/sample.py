"""Exact counts of the units read, and what they say about their tensor."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rlviz.bins import ULP_BINS
from rlviz.sampling.units import Grid
from rlviz.types import LENSES

ULPS = 2 * ULP_BINS - 1
SHARES = len(LENSES) + ULPS
"""Shares per tensor: changed under each lens, then the bins of the code distance."""

Floats = NDArray[np.float64]


@dataclass(slots=True, eq=False)
class Sample:
    """The units of one tensor read so far: one row each.

    Attributes
    ----------
    strata : position stratum of each unit
    entries : finite entries of each unit
    counts : [units, SHARES] entries of each share
    squares : [units, 2] sums of ``ΔW²`` and of ``W0²``
    amax : largest magnitude of the base among the first units read, the scale of the fp8 lenses; 0 until known
    """

    grid: Grid
    strata: list[int] = field(default_factory=list[int])
    entries: list[int] = field(default_factory=list[int])
    counts: list[NDArray[np.int64]] = field(default_factory=list[NDArray[np.int64]])
    squares: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    read: int = 0
    rows: int = 0
    amax: float = 0.0

    @property
    def units(self) -> int:
        return len(self.entries)

    @property
    def is_whole(self) -> bool:
        """Whether every unit was read: the numbers are exact."""
        return self.units == self.grid.count


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What the sample of one tensor says.

    Attributes
    ----------
    p, v : [SHARES] shares and the variances of their estimates; `v` is NaN where a single unit was read
    df : degrees of freedom of `v`
    counted : [SHARES] entries counted
    finite : finite entries read
    means : mean ``ΔW²`` and ``W0²`` of an entry
    spread : [2, 2] covariance matrix of those means
    heaviest : share of the tensor that the heaviest unit speaks for
    """

    p: Floats
    v: Floats
    df: float
    counted: Floats
    finite: int
    means: Floats
    spread: Floats
    heaviest: float


NOTHING = np.full(SHARES, np.nan)
_ROUNDING = 1e-12  # relative; float64 leaves some 1e-16 a sum, real units differ by a millionth or more


def known(sample: Sample) -> Known | None:
    """Stratified ratio estimates; None where no unit, or no finite entry, was read.

    ``p = Σ_h w_h c_h / Σ_h w_h n_h`` over position strata h with ``w_h = M_h / m_h``, and the variance of the
    linearised residuals ``c - p n`` of units within strata, times ``1 - m_h / M_h`` for the finite population
    (Cochran, Sampling Techniques, 3rd ed., 6.13). Until each stratum has two units the strata count as one, which
    makes the variance larger on average: what differs between strata is then counted too.
    """
    entries = np.array(sample.entries, float)
    if sample.units == 0 or entries.sum() == 0:
        return None
    counts, squares = np.array(sample.counts, float), np.array(sample.squares)
    strata, sizes = np.array(sample.strata), sample.grid.stratum_sizes()
    drawn = np.bincount(strata, minlength=sizes.size)
    if (drawn < np.minimum(sizes, 2)).any():
        strata, sizes, drawn = np.zeros_like(strata), np.array([sample.grid.count]), np.array([sample.units])
    weight = (sizes / np.maximum(drawn, 1))[strata]
    total = float(weight @ entries)
    p, means = weight @ counts / total, weight @ squares / total
    observed = np.hstack([counts, squares])
    residuals = observed - np.outer(entries, np.concatenate([p, means]))
    spread = _spread(residuals, observed.max(axis=0), strata, sizes, drawn) / total**2
    v, covariance = spread.diagonal()[:SHARES].copy(), spread[SHARES:, SHARES:]
    if sample.units == 1 and not sample.is_whole:
        v, covariance = NOTHING, np.full((2, 2), np.nan)
    df = float(max((drawn - 1)[drawn < sizes].sum(), 1))
    return Known(
        p, v, df, counts.sum(axis=0), int(entries.sum()), means, covariance, float((weight * entries).max()) / total
    )


def real_deviations(deviations: Floats, magnitudes: Floats) -> Floats:
    """The same with 0 where there is nothing but rounding of numbers that large.

    Units that agree must have no variance at all: with one of 1e-35 their interval would be a point.
    """
    return np.where(np.abs(deviations) > _ROUNDING * magnitudes, deviations, 0.0)


def _spread(
    residuals: Floats,
    magnitudes: Floats,
    strata: NDArray[np.int64],
    sizes: NDArray[np.int64],
    drawn: NDArray[np.int64],
) -> Floats:
    """Covariance matrix of the weighted totals of `residuals`, which are differences of numbers so large."""
    width = residuals.shape[1]
    spread = np.zeros((width, width))
    for stratum, (size, n) in enumerate(zip(sizes.tolist(), drawn.tolist(), strict=True)):
        if 1 < n < size:
            own = residuals[strata == stratum]
            own = real_deviations(own - own.mean(axis=0), magnitudes)
            spread += size**2 * (1 - n / size) / n / (n - 1) * (own.T @ own)
    return spread
