"""Singular values of base, tuned and update, and what they say about the update's size and rank (section 2)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from rlviz.metrics.base import Metric, Parts, Value
from rlviz.types import Measured, MetricParams

Curve = NDArray[np.float64]

PROBE = "spectrum"
INTRUDER_COSINE = 0.5
TOP_ENERGIES = (1, 2, 4, 8, 16, 32, 64)
RANK_TOLERANCES = (("1e-4", 1e-4), ("1e-5", 1e-5), ("1e-6", 1e-6))
NAN = float("nan")


def spectra(measured: Measured) -> tuple[Curve, Curve, Curve] | None:
    """Singular values of base, tuned and update, each ``[r]``, descending, in units of the weights.

    None where only the leading directions were found (matrices beyond the memory or time budget).
    """
    fields = measured.records[PROBE].fields
    names = [f"singular_values_{side}" for side in ("base", "tuned", "update")]
    if not all(name in fields for name in names):
        return None
    base, tuned, update = (np.asarray(fields[name], dtype=np.float64) for name in names)
    return base, tuned, update


def stable_rank(values: Curve) -> float:
    """``Σ σ² / σ_1²``, in [1, r]; NaN for a zero matrix.

    Examples
    --------
    >>> stable_rank(np.array([2.0, 1.0, 1.0]))
    1.5
    """
    return float(np.sum((values / values[0]) ** 2)) if values.size and values[0] > 0 else NAN


def effective_rank(values: Curve) -> float:
    """``exp(-Σ p ln p)`` with ``p = σ / Σσ``, in [1, r]; NaN for a zero matrix.

    Examples
    --------
    >>> round(effective_rank(np.array([3.0, 3.0, 0.0])), 12)
    2.0
    """
    if not values.size or values[0] == 0:
        return NAN
    shares = values[values > 0] / values.sum()
    return float(np.exp(-np.sum(shares * np.log(shares))))


def numerical_rank(values: Curve, tolerance: float) -> float:
    """Number of singular values above `tolerance` times the largest; 0 for a zero matrix."""
    return float(np.count_nonzero(values > tolerance * values[0])) if values.size else NAN


def hill_alpha(values: Curve) -> float:
    """Hill's tail exponent over the upper half of the spectrum: ``1 / mean_{i<k} ln(σ_i / σ_k)``, ``k = r // 2``.

    Smaller is heavier-tailed. NaN where k < 2, σ_k is zero or all k values are equal.

    Examples
    --------
    >>> round(hill_alpha(np.array([np.e, 1.0, 0.5, 0.1])), 12)
    1.0
    """
    k = len(values) // 2
    if k < 2 or values[k - 1] <= 0:
        return NAN
    mean = float(np.mean(np.log(values[: k - 1] / values[k - 1])))
    return 1.0 / mean if mean > 0 else NAN


def _shift(measured: Measured, _params: MetricParams) -> tuple[float, float] | None:
    found = spectra(measured)
    if found is None or found[0][0] == 0:
        return None
    base, tuned, _ = found
    return float(np.sum((tuned - base) ** 2)), float(np.sum(base**2))


def _nss(measured: Measured, params: MetricParams) -> float:
    parts = _shift(measured, params)
    return NAN if parts is None else float(np.sqrt(parts[0] / parts[1]))


def _kappa_iso(measured: Measured, params: MetricParams) -> float:
    parts, energy = _shift(measured, params), float(measured.records[PROBE].fields["update_energy"])
    return NAN if parts is None or energy == 0 else parts[0] * max(measured.shape) / energy


def _intruders(measured: Measured, _params: MetricParams) -> float:
    cosines = np.asarray(measured.records[PROBE].fields["intruder_cosines"], dtype=np.float64)
    return float(np.count_nonzero(cosines < INTRUDER_COSINE)) if cosines.size else NAN


def _of_update(function: Callable[[Curve], float]) -> Value:
    def value(measured: Measured, _params: MetricParams) -> float:
        found = spectra(measured)
        return NAN if found is None else function(found[2])

    return value


def _of_base(function: Callable[[Curve], float]) -> Value:
    def value(measured: Measured, _params: MetricParams) -> float:
        found = spectra(measured)
        return NAN if found is None else function(found[0])

    return value


def _top_energy(k: int) -> Parts:
    def parts(measured: Measured, _params: MetricParams) -> tuple[float, float] | None:
        found = spectra(measured)
        if found is None or found[2][0] == 0:
            return None
        squares = found[2] ** 2
        return float(squares[:k].sum()), float(squares.sum())

    return parts


def _rank_metric(label: str, tolerance: float) -> Metric:
    return Metric(
        key=f"numerical_rank_update_{label}",
        title=f"Numerical rank of the update at {label}",
        formula=rf"\#\{{i:\sigma_i(\Delta W)>10^{{{label[2:]}}}\,\sigma_1(\Delta W)\}}",
        unit="",
        source="arXiv:2606.13657",
        meaning="Number of directions the update uses at all; an adapter's rank shows here.",
        probe=PROBE,
        scale="log",
        value=_of_update(partial(numerical_rank, tolerance=tolerance)),
        caveat="Rounding to bf16 adds full-rank noise, so a merged adapter looks full-rank unless stored in fp32.",
    )


def _top_energy_metric(k: int) -> Metric:
    return Metric(
        key=f"update_energy_top_{k}",
        title=f"Update energy in its top {k} direction{'s' if k > 1 else ''}",
        formula=rf"\sum_{{i\le {k}}}\sigma_i^2(\Delta W)\Big/\|\Delta W\|_F^2",
        unit="fraction",
        source="arXiv:2606.13657",
        meaning=f"Share of the update's energy in its own {k} strongest direction{'s' if k > 1 else ''}.",
        probe=PROBE,
        scale="fraction",
        parts=_top_energy(k),
        caveat="Noise is not flat: the top directions of a random matrix hold more than their number over r.",
    )


_NSS = r"\frac{\|\sigma(W_1)-\sigma(W_0)\|_2}{\|\sigma(W_0)\|_2}"

METRICS: tuple[Metric, ...] = (
    Metric(
        key="nss",
        title="Normalised spectral shift",
        formula=_NSS + r",\quad\text{pooled } \sqrt{\textstyle\sum\|\delta\sigma\|^2/\sum\|\sigma\|^2}",
        unit="",
        source="arXiv:2511.08567",
        meaning="How much the singular values changed, relative to their size; rotation alone leaves it at 0.",
        probe=PROBE,
        scale="log",
        parts=_shift,
        finish=sqrt,
        caveat="Grows with the update's norm: a run that moved further shifts more. At most the relative update norm.",
    ),
    Metric(
        key="nss_median",
        title="Normalised spectral shift, median",
        formula=rf"\operatorname{{median}}\,{_NSS}",
        unit="",
        source="arXiv:2511.08567",
        meaning="The normalised spectral shift of the typical matrix: a group shows the median, not the pooled value.",
        probe=PROBE,
        scale="log",
        value=_nss,
        caveat="Published means are unweighted over matrices; the median is too, and is not moved by one outlier.",
    ),
    Metric(
        key="kappa_iso",
        title="Spectral shift against isotropic noise",
        formula=r"\frac{\|\sigma(W_1)-\sigma(W_0)\|_2^2\,\max(d_{out},d_{in})}{\|\Delta W\|_F^2}",
        unit="",
        source="first-order perturbation of singular values",
        meaning="Spectral shift over what isotropic noise of the same norm gives to first order (about 1).",
        probe=PROBE,
        scale="log",
        value=_kappa_iso,
        caveat="First order only: for tall matrices or SFT-sized steps noise alone gives 4 to 70: 1 is no threshold.",
    ),
    Metric(
        key="stable_rank_update",
        title="Stable rank of the update",
        formula=r"\|\Delta W\|_F^2/\|\Delta W\|_2^2",
        unit="",
        source="arXiv:2606.13657",
        meaning="How many directions share the update's energy, counted against the strongest one.",
        probe=PROBE,
        scale="log",
        value=_of_update(stable_rank),
        caveat="Rounding noise raises it: compare runs stored in the same dtype.",
    ),
    Metric(
        key="effective_rank_update",
        title="Effective rank of the update",
        formula=r"\exp\!\Big(-\sum_i p_i\ln p_i\Big),\quad p_i=\sigma_i(\Delta W)/\textstyle\sum_j\sigma_j(\Delta W)",
        unit="",
        source="Roy and Vetterli 2007",
        meaning="How many directions the update uses, from the entropy of its singular values.",
        probe=PROBE,
        scale="log",
        value=_of_update(effective_rank),
        caveat="Sensitive to the small singular values, which rounding noise fills.",
    ),
    *(_rank_metric(label, tolerance) for label, tolerance in RANK_TOLERANCES),
    *(_top_energy_metric(k) for k in TOP_ENERGIES),
    Metric(
        key="hill_alpha",
        title="Hill exponent of the update's spectrum",
        formula=r"\Big[\operatorname{mean}_{i<k}\ln(\sigma_i/\sigma_k)\Big]^{-1},\quad k=\lfloor r/2\rfloor",
        unit="",
        source="arXiv:2606.07082",
        meaning="How heavy-tailed the update's singular values are: smaller is heavier.",
        probe=PROBE,
        scale="linear",
        value=_of_update(hill_alpha),
        caveat="Describes half the spectrum whether or not it is a power law.",
    ),
    Metric(
        key="hill_alpha_base",
        title="Hill exponent of the base's spectrum",
        formula=r"\Big[\operatorname{mean}_{i<k}\ln(\sigma_i/\sigma_k)\Big]^{-1},\quad k=\lfloor r/2\rfloor",
        unit="",
        source="arXiv:2606.07082",
        meaning="How heavy-tailed the base's singular values are: smaller is heavier.",
        probe=PROBE,
        scale="linear",
        value=_of_base(hill_alpha),
        caveat="Describes half the spectrum whether or not it is a power law.",
    ),
    Metric(
        key="intruders",
        title="Intruder directions",
        formula=r"\#\{j\le 10:\max_i|u_{0,i}^\top u_{1,j}|<0.5\}",
        unit="",
        source="arXiv:2410.21228",
        meaning="How many of the tuned matrix's ten leading left directions resemble no single base direction.",
        probe=PROBE,
        scale="linear",
        value=_intruders,
        caveat="Any random direction qualifies, and nearly equal singular values mix freely: not a sign of forgetting. "
        "Where only leading directions were found, the count is an upper bound.",
    ),
)
