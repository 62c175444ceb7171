"""From tensors to groups of tensors: layers, modules, cells, and the whole pair.

Tensors are strata: totals and variances add. Two cases need more:

- One unit was read of a tensor: its variance is taken from all units of the same module (collapsed strata). That
  counts the differences between layers as scatter, so the interval is rather too wide than too narrow.
- Of some tensors no unit was read (many experts, a tiny budget). Within a module of the group the tensors read are
  a random sample of those there are: they speak for the others, with the variance between tensors (ultimate
  clusters). A module of which fewer than two tensors were read says nothing about its other tensors: those may be
  anything from unchanged to wholly changed, and widen the interval by their share of the entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rlviz.sampling.intervals import Floats, Norms, Shares
from rlviz.sampling.sample import SHARES, Known, Sample, known, real_deviations

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Strata:
    """What is known of tensors (or of a cluster of them), one row each.

    Attributes
    ----------
    n : entries the row speaks for
    p, v, df : [rows, SHARES], [rows, SHARES], [rows] shares, their variances and degrees of freedom; NaN: not known
    means, spread : [rows, 2], [rows, 2, 2] mean squares of ``ΔW`` and ``W0``, and their covariance matrix
    units : units drawn; 0 where the tensor was read whole
    heaviest : the most entries that a single unit speaks for; 0 where the tensor was read whole
    """

    n: Floats
    p: Floats
    v: Floats
    df: Floats
    means: Floats
    spread: Floats
    units: Floats
    heaviest: Floats

    def take(self, rows: Indices) -> Strata:
        """Some of the rows."""
        return Strata(*(getattr(self, name)[rows] for name in _FIELDS))

    def joined(self, others: Sequence[Strata]) -> Strata:
        """These rows and those of others."""
        return Strata(*(np.concatenate([getattr(s, name) for s in (self, *others)]) for name in _FIELDS))


_FIELDS = ("n", "p", "v", "df", "means", "spread", "units", "heaviest")


@dataclass(frozen=True, slots=True, eq=False)
class Tensors:
    """All tensors of a pair: one row of `strata` each, and what the entries read prove by themselves.

    `modules` numbers the module of each; `counted` is [tensors, SHARES] entries, `finite` how many were read.
    """

    strata: Strata
    modules: Indices
    counted: Floats
    finite: Floats


Cache = dict[int, tuple[int, Known | None]]


def tensors(samples: Sequence[Sample], cache: Cache) -> Tensors:
    """Stack what is known; `cache` (units and estimates by index) saves computing again what did not grow."""
    t = len(samples)
    p, v, counted = np.full((t, SHARES), np.nan), np.full((t, SHARES), np.nan), np.zeros((t, SHARES))
    df, finite, means, spread = np.ones(t), np.zeros(t), np.full((t, 2), np.nan), np.full((t, 2, 2), np.nan)
    n, heaviest = np.array([float(s.grid.match.n) for s in samples]), np.zeros(t)
    for i, sample in enumerate(samples):
        if i not in cache or cache[i][0] != sample.units:
            cache[i] = sample.units, known(sample)
        k = cache[i][1]
        if k is not None:
            p[i], v[i], df[i], counted[i], finite[i] = k.p, k.v, k.df, k.counted, k.finite
            means[i], spread[i] = k.means, k.spread
            heaviest[i] = 0.0 if sample.is_whole else n[i] * k.heaviest
    number = {module: i for i, module in enumerate(dict.fromkeys(s.grid.match.base.module for s in samples))}
    modules = np.array([number[s.grid.match.base.module] for s in samples], dtype=np.int64)
    units = np.array([0.0 if s.is_whole else float(s.units) for s in samples])
    own = Tensors(Strata(n, p, v, df, means, spread, units, heaviest), modules, counted, finite)
    _borrow(own, samples)
    return own


def _borrow(own: Tensors, samples: Sequence[Sample]) -> None:
    """Give tensors of which one unit was read the variance of units over their module."""
    drawn = (own.strata.units > 0) & (own.finite > 0)
    single = drawn & (own.strata.units == 1)
    for module in np.unique(own.modules[single]).tolist():
        inside = np.flatnonzero(drawn & (own.modules == module))
        rates, squares = _unit_rates([samples[i] for i in inside.tolist()])
        if len(rates) > 1:
            lonely = inside[single[inside]]
            apart = real_deviations(rates - rates.mean(axis=0), rates.max(axis=0))
            norms = real_deviations(squares - squares.mean(axis=0), squares.max(axis=0))
            own.strata.v[lonely] = (apart**2).sum(axis=0) / (len(rates) - 1)
            own.strata.spread[lonely] = norms.T @ norms / (len(rates) - 1)
            own.strata.df[lonely] = len(rates) - 1


def _unit_rates(samples: Sequence[Sample]) -> tuple[Floats, Floats]:
    """Shares and mean squares of every single unit that has a finite entry."""
    entries = np.concatenate([np.array(s.entries, float) for s in samples])
    counts = np.concatenate([np.array(s.counts, float) for s in samples])
    squares = np.concatenate([np.array(s.squares) for s in samples])
    some = entries > 0
    return counts[some] / entries[some, None], squares[some] / entries[some, None]


def shares_and_norms(own: Tensors, domains: Sequence[Indices]) -> tuple[Shares, Norms]:
    """Sum up each domain (indices of tensors)."""
    rows = [_summed(own, members) for members in domains]
    shares = Shares(**{name: np.array([shares[name] for shares, _ in rows]) for name in rows[0][0]})
    norms = Norms(**{name: np.array([norms[name] for _, norms in rows]) for name in rows[0][1]})
    return shares, norms


Row = dict[str, Any]  # the fields of `Shares` or `Norms` for one domain


def _summed(own: Tensors, members: Indices) -> tuple[Row, Row]:
    spoken = _speaking(own, members)
    everything, total = float(own.strata.n[members].sum()), float(spoken.n.sum())
    if total == 0:
        return _nothing()
    # a single unit, and none like it: an estimate, but no variance, so that for the interval nothing is known
    strata = spoken.take(np.flatnonzero(np.isfinite(spoken.v[:, 0])))
    sure = float(strata.n.sum())
    part, weight = strata.n / max(sure, 1.0), strata.heaviest / max(sure, 1.0)
    whole, v_each = strata.units == 0, part[:, None] ** 2 * strata.v
    squares = float((strata.units * weight**2).sum())
    finite, counted = own.finite[members].sum(), own.counted[members].sum(axis=0)
    shares: Row = {
        "estimate": spoken.n @ spoken.p / total,
        "p": part @ strata.p,
        "v": v_each.sum(axis=0),
        "df": _satterthwaite(v_each, strata.df),
        "floor": counted / everything,
        "ceiling": 1 - (finite - counted) / everything,
        "fixed": part[whole] @ strata.p[whole],
        "drawn": part[~whole].sum(),
        "weight": weight.max(initial=0.0),
        "equal": (strata.units * weight).sum() ** 2 / squares if squares else 0.0,
        "unknown": 1 - sure / everything,
    }
    return shares, _norms(spoken, sure < everything)


def _norms(strata: Strata, unsure: bool) -> Row:
    """``Σ ΔW² / Σ W0²`` as one ratio, its variance linearised (Cochran, 6.3)."""
    update, base = strata.n @ strata.means
    if not base > 0:
        return _NO_NORM
    ratio = update / base
    slope = np.array([1.0, -ratio])
    v_each = (strata.n / base) ** 2 * np.einsum("i,tij,j->t", slope, np.nan_to_num(strata.spread), slope)
    return {
        "ratio": ratio,
        "v": v_each.sum(),
        "df": _satterthwaite(v_each[:, None], strata.df)[0],
        "whole": bool((strata.units == 0).all()) and not unsure,
        "bounded": not unsure and bool(v_each.sum() > 0),
    }


_NO_NORM: Row = {"ratio": np.nan, "v": np.nan, "df": 1.0, "whole": False, "bounded": False}


def _speaking(own: Tensors, members: Indices) -> Strata:
    """The rows that speak for a domain: tensors read, or clusters of them that speak for the rest of their module."""
    read = own.finite[members] > 0
    if read.all():
        return own.strata.take(members)
    alone, clusters = [members[:0]], list[Strata]()
    for module in np.unique(own.modules[members]).tolist():
        inside = own.modules[members] == module
        spoken_for, speaking = members[inside], members[inside & read]
        if len(speaking) == len(spoken_for) or len(speaking) < 2:
            alone.append(speaking)
        else:
            clusters.append(_cluster(own.strata.take(speaking), float(own.strata.n[spoken_for].sum())))
    return own.strata.take(np.concatenate(alone)).joined(clusters)


def _cluster(read: Strata, n: float) -> Strata:
    """One row for a random sample of tensors that speaks for `n` entries: ratio estimates, variance between tensors."""
    size, total = read.n[:, None], read.n.sum()
    p, means = read.n @ read.p / total, read.n @ read.means / total
    magnitudes = np.hstack([size * read.p, size * read.means]).max(axis=0)
    residuals = real_deviations(np.hstack([size * (read.p - p), size * (read.means - means)]), magnitudes)
    spread = len(size) / (len(size) - 1) * (residuals.T @ residuals) / total**2
    return Strata(
        n=np.array([n]),
        p=p[None],
        v=spread.diagonal()[None, :SHARES],
        df=np.array([len(size) - 1.0]),
        means=means[None],
        spread=spread[None, SHARES:, SHARES:],
        units=np.array([float(len(size))]),  # what is drawn here is tensors
        heaviest=np.array([n / total * float(read.n.max())]),
    )


def _satterthwaite(v_each: Floats, df: Floats) -> Floats:
    """Degrees of freedom of a sum of variances (Satterthwaite 1946, doi:10.2307/3002019); 1 where all are 0."""
    total, squares = v_each.sum(axis=0), (v_each**2 / df[:, None]).sum(axis=0)
    return np.divide(total**2, squares, out=np.ones_like(total), where=squares > 0)


def _nothing() -> tuple[Row, Row]:
    """A domain of which nothing was read."""
    void, one, zero = np.full(SHARES, np.nan), np.ones(SHARES), np.zeros(SHARES)
    shares: Row = {"estimate": void, "p": void, "v": void, "df": one, "floor": zero, "ceiling": one, "fixed": zero}
    return {**shares, "drawn": 0.0, "weight": 0.0, "equal": 0.0, "unknown": 1.0}, _NO_NORM
