"""Singular values of base, tuned and update, and what they say about the update's size and rank (section 2)."""

from __future__ import annotations

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
    cosines = np.asarray(measured.records[PROBE].fields["intruder_cosines"])
    return float(np.count_nonzero(cosines < INTRUDER_COSINE)) if cosines.size else NAN


def _of_update(function: Value | None = None) -> Value:
    raise NotImplementedError
