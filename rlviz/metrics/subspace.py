"""How the leading singular subspaces moved (metric specification, section 2).

Left is the d_out side, right the d_in side. k is `MetricParams.k`, clamped per matrix to the directions kept and to
r - 1. Angles are radians.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rlviz.metrics.base import Metric, Value
from rlviz.metrics.chance import chance_angle_curve
from rlviz.types import Measured, MetricParams

Curve = NDArray[np.float64]
Subspace = Literal["left", "right"]

PROBE = "spectrum"


def field(measured: Measured, name: str) -> Curve:
    """One float field of the spectrum record."""
    return np.asarray(measured.records[PROBE].fields[name], dtype=np.float64)


def rank_used(measured: Measured, k: int) -> int:
    """k clamped to the directions kept and to r - 1; 0 where the matrix has none."""
    kept = measured.records[PROBE].fields["cross_left"].shape[0]
    return min(k, kept, min(measured.shape) - 1)


def side_dimension(measured: Measured, side: Subspace) -> int:
    """d_out for the left side, d_in for the right."""
    return measured.shape[0] if side == "left" else measured.shape[-1]


def angle_curve(measured: Measured, side: Subspace, k: int) -> Curve:
    """Principal angles between the leading k-dimensional subspaces of base and tuned.

    ``cos θ_i = σ_i(U0_kᵀ U1_k)``; computed from float64 products, good to about 1e-7 rad.

    Returns
    -------
    ndarray, ``[k]`` (k clamped, see `rank_used`), rad in [0, π/2], ascending; empty where undefined
    """
    k = rank_used(measured, k)
    if k < 1:
        return np.zeros(0)
    presets = measured.records[PROBE].fields["preset_k"]
    where = np.flatnonzero(presets == k)
    if where.size:
        cosines = field(measured, f"preset_cosines_{side}")[where[0], :k]
    else:
        cosines = np.linalg.svd(field(measured, f"cross_{side}")[:k, :k], compute_uv=False)
    return np.arccos(np.clip(cosines, 0.0, 1.0))


def chance_angles(measured: Measured, side: Subspace, k: int) -> Curve:
    """`chance_angle_curve` for the side's dimension and the clamped k; empty where undefined."""
    k = rank_used(measured, k)
    return chance_angle_curve(side_dimension(measured, side), k) if k >= 1 else np.zeros(0)


def leading_values(measured: Measured, side: Literal["base", "tuned"]) -> Curve:
    """Descending singular values of base or tuned: all of them, or the leading ones where only those were found."""
    fields = measured.records[PROBE].fields
    name = f"singular_values_{side}"
    return field(measured, name if name in fields else f"leading_{name}")


def spectral_gap(measured: Measured, k: int) -> float:
    """``γ_k = σ_k - σ_{k+1}`` of the base, in units of the weights; NaN where undefined."""
    values = leading_values(measured, "base")
    return float(values[k - 1] - values[k]) if 1 <= k < len(values) else float("nan")


def max_angle_over_k(measured: Measured) -> tuple[NDArray[np.int64], Curve, Curve, Curve]:
    """Largest angle at every preset k, with the gap that limits it.

    Returns
    -------
    k : ndarray of int, ``[P]``
    left, right : ndarray, ``[P]``, rad
    gap : ndarray, ``[P]``, γ_k / σ_1 of the base
    """
    presets = np.asarray(measured.records[PROBE].fields["preset_k"], dtype=np.int64)
    ranks = [int(k) for k in presets]
    left, right = (np.array([angle_curve(measured, side, k)[-1] for k in ranks]) for side in ("left", "right"))
    values = leading_values(measured, "base")
    return presets, left, right, np.array([spectral_gap(measured, k) / values[0] for k in ranks])


Summary = Callable[[Curve], float]


def _of_angles(side: Subspace, summary: Summary) -> Value:
    def value(measured: Measured, params: MetricParams) -> float:
        angles = angle_curve(measured, side, params.k)
        return summary(angles) if angles.size else float("nan")

    return value


def _of_chance(side: Subspace, summary: Summary) -> Value:
    def chance(measured: Measured, params: MetricParams) -> float:
        angles = chance_angles(measured, side, params.k)
        return summary(angles) if angles.size else float("nan")

    return chance


def _last(angles: Curve) -> float:
    return float(angles[-1])


def _mean(angles: Curve) -> float:
    return float(angles.mean())


def _mean_sine(angles: Curve) -> float:
    return float(np.sin(angles).mean())


_SUMMARIES = (
    ("max_principal_angle", "Largest principal angle", r"\max_{i\le k}\theta_i", "rad", "2511.08567", _last),
    ("mean_principal_angle", "Mean principal angle", r"\tfrac1k\sum_{i\le k}\theta_i", "rad", "2511.08567", _mean),
    (
        "subspace_rotation",
        "Subspace rotation",
        r"\tfrac1k\sum_{i\le k}\sin\theta_i",
        "fraction",
        "2606.13657",
        _mean_sine,
    ),
)
_MEANINGS = {
    "max_principal_angle": "How far the direction that turned most within the top-k {side} subspace turned.",
    "mean_principal_angle": "How far the top-k {side} subspace turned on average over its directions.",
    "subspace_rotation": "Mean sine of the angles: 0 where the top-k {side} subspace stayed, 1 where it is all new.",
}
_ANGLE_CAVEAT = (
    "Where 2k exceeds the side's dimension d, 2k-d angles are 0 by dimension, and k = d makes all of them 0. "
    "The largest angle follows the smallest gap γ_k: read them together."
)


def _angle_metrics(side: Subspace) -> tuple[Metric, ...]:
    letter = "U" if side == "left" else "V"
    cosines = rf",\quad \cos\theta_i=\sigma_i({letter}_{{0,k}}^\top {letter}_{{1,k}})"
    return tuple(
        Metric(
            key=f"{key}_{side}",
            title=f"{title}, {side}",
            formula=formula + cosines,
            unit=unit,
            source=f"arXiv:{source}",
            meaning=_MEANINGS[key].format(side=side),
            probe=PROBE,
            scale="angle" if unit == "rad" else "fraction",
            value=_of_angles(side, summary),
            chance=_of_chance(side, summary),
            chance_text="two random k-dimensional subspaces of the same space (simulated, 32 draws)",
            caveat=_ANGLE_CAVEAT,
            uses=("k",),
        )
        for key, title, formula, unit, source, summary in _SUMMARIES
    )


def _gap(measured: Measured, params: MetricParams) -> float:
    values = leading_values(measured, "base")
    k = rank_used(measured, params.k)
    return spectral_gap(measured, k) / float(values[0]) if k >= 1 and values[0] > 0 else float("nan")


def _angle_error(measured: Measured, params: MetricParams) -> float:
    k = rank_used(measured, params.k)
    return float(field(measured, "angle_error")[k - 1]) if k >= 1 else float("nan")


METRICS: tuple[Metric, ...] = (
    *_angle_metrics("left"),
    *_angle_metrics("right"),
    Metric(
        key="relative_gap",
        title="Spectral gap at k",
        formula=r"\gamma_k/\sigma_1 = (\sigma_k(W_0)-\sigma_{k+1}(W_0))/\sigma_1(W_0)",
        unit="",
        source="arXiv:2511.08567",
        meaning="How clearly the base's top-k subspace is set apart: where it is tiny, angles at k are large.",
        probe=PROBE,
        scale="log",
        value=_gap,
        caveat="The largest angle at a fixed k is governed by this gap as much as by the update.",
        uses=("k",),
    ),
    Metric(
        key="principal_angle_error",
        title="Numerical error of the angles",
        formula=r"\lesssim \frac{\|R_k(W_0)\|}{\gamma_k(W_0)}+\frac{\|R_k(W_1)\|}{\gamma_k(W_1)}",
        unit="rad",
        source="Davis and Kahan 1970",
        meaning="What the computed angles at k may be off by: rounding for full decompositions, convergence otherwise.",
        probe=PROBE,
        scale="angle",
        value=_angle_error,
        caveat="An estimate. 90° means that the leading directions were not resolved and the angle at k says nothing.",
        uses=("k",),
    ),
)
