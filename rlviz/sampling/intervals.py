"""95 % intervals for shares and norm ratios, from the variance between units.

Two kinds. Where enough units were read and they differ, the score interval of Wilson with the effective sample size
``p(1 - p) / v`` and a t quantile: a symmetric interval would miss far too often where changes sit in few units.
Where few were read, or all agree, the variance says nothing, and only what is proven is claimed: the Chernoff
bound of Hoeffding (1963, doi:10.1080/01621459.1963.10500830, theorem 1; theorem 4 for draws without replacement).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import rel_entr, stdtrit

ERROR = 0.05
SCORE_ERROR = 0.04
"""Of score intervals: a hundredth in reserve, since variances of skewed units come out too low more often than not
(a mixed population was covered in 92.5 % of previews without it; `bench.coverage`)."""

FEW_UNITS = 8
"""Fewer units (of equal weight) than this: the variance is too poorly known for a t interval."""

_STEPS = 48  # of bisection: the width of a share falls below 1e-14

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Shares:
    """What is known of the shares of D domains, Q shares each (of one domain without the leading D).

    Attributes
    ----------
    estimate : [D, Q] from everything read
    p, v, df : [D, Q] the same from what has a variance, the variances and their degrees of freedom
    floor, ceiling : [D, Q] what the entries read prove by themselves: the rest all unchanged, or all changed
    fixed : [D, Q] part of `p` that stems from tensors read whole
    drawn : [D] share of the domain that drawn units speak for: all but the tensors read whole
    weight : [D] the largest share of the domain that a single unit speaks for
    equal : [D] units of equal weight that the draws are worth (Kish)
    unknown : [D] share of the domain of which nothing, or a single unit without its like, was read
    """

    estimate: Floats
    p: Floats
    v: Floats
    df: Floats
    floor: Floats
    ceiling: Floats
    fixed: Floats
    drawn: Floats
    weight: Floats
    equal: Floats
    unknown: Floats


def share_intervals(shares: Shares) -> tuple[Floats, Floats]:
    """Lower and upper limits, [D, Q]; never of zero width unless everything was read.

    What was not read at all may be anything, and widens the interval by its share.
    """
    low, high = _score(shares.p, shares.v, shares.df)
    proven_low, proven_high = _proven(shares)
    with np.errstate(invalid="ignore"):
        few = (shares.equal[:, None] < FEW_UNITS) | ~(shares.v > 0)
    low, high = np.where(few, proven_low, low), np.where(few, proven_high, high)
    known = 1 - shares.unknown[:, None]
    low, high = low * known, high * known + shares.unknown[:, None]
    low, high = np.maximum(low, shares.floor), np.minimum(high, shares.ceiling)
    return np.minimum(low, shares.estimate), np.maximum(high, shares.estimate)


def _score(p: Floats, v: Floats, df: Floats) -> tuple[Floats, Floats]:
    with np.errstate(divide="ignore", invalid="ignore"):
        size = p * (1 - p) / v
        t2 = stdtrit(np.maximum(df, 1), 1 - SCORE_ERROR / 2) ** 2
        centre = (p + t2 / (2 * size)) / (1 + t2 / size)
        half = np.sqrt(t2) / (1 + t2 / size) * np.sqrt(p * (1 - p) / size + t2 / (4 * size**2))
    return centre - half, centre + half


def _proven(shares: Shares) -> tuple[Floats, Floats]:
    """Chernoff limits: the q with ``n KL(q̂ ‖ q) <= log(2 / 0.05)``, n units of the largest weight w.

    A unit of weight ``w_i`` adds between 0 and ``w_i``. ``log(1 + p (exp(λ w_i) - 1))`` is convex in ``w_i`` and 0 at
    0, so at most ``w_i / w`` times its value at w: unequal weights that sum up to W obey the bound of ``n = W / w``
    equal ones (not of equal expectation, which the theorem allows). With every unit at 0 the upper limit is
    ``1 - (0.05 / 2)^(1/n)``, as Clopper and Pearson's.
    """
    scale, weight = shares.drawn[:, None], shares.weight[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        q = np.clip(np.where(scale > 0, (shares.p - shares.fixed) / scale, 0.0), 0, 1)
        limit = np.log(2 / ERROR) * np.where(scale > 0, weight / scale, 1.0)
    low, high = _bisected(q, limit, towards=0.0), _bisected(q, limit, towards=1.0)
    return shares.fixed + scale * low, shares.fixed + scale * high


def _bisected(q: Floats, limit: Floats, towards: float) -> Floats:
    inside, outside = q.copy(), np.full_like(q, towards)
    for _ in range(_STEPS):
        middle = (inside + outside) / 2
        near = rel_entr(q, middle) + rel_entr(1 - q, 1 - middle) <= limit
        inside, outside = np.where(near, middle, inside), np.where(near, outside, middle)
    return outside


@dataclass(frozen=True, slots=True, eq=False)
class Norms:
    """What is known of ``‖ΔW‖² / ‖W0‖²`` of D domains, [D] each.

    `whole` says that every entry was read, `bounded` that units differ and that none is left out: see
    `norm_intervals`.
    """

    ratio: Floats
    v: Floats
    df: Floats
    whole: NDArray[np.bool_]
    bounded: NDArray[np.bool_]


def norm_intervals(norms: Norms) -> tuple[Floats, Floats]:
    """Limits of ``sqrt(ratio)``, [D], from the linearised variance of the ratio of two sums of squares.

    Unlike a share, a norm has no largest value: where the units read agree, only one was read, or some tensor was
    not read at all, nothing bounds it, and the interval is 0 to infinity.
    """
    half = stdtrit(np.maximum(norms.df, 1), 1 - ERROR / 2) * np.sqrt(norms.v)
    with np.errstate(invalid="ignore"):
        low, high = np.sqrt(np.maximum(norms.ratio - half, 0)), np.sqrt(norms.ratio + half)
    exact = np.sqrt(norms.ratio)
    low = np.where(norms.whole, exact, np.where(norms.bounded, low, 0.0))
    high = np.where(norms.whole, exact, np.where(norms.bounded, high, np.inf))
    return np.where(np.isnan(exact), np.nan, low), np.where(np.isnan(exact), np.nan, high)
