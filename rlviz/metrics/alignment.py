"""Where the update points relative to the base's leading directions (metric specification, section 2).

Left is the d_out side, right the d_in side. k is `MetricParams.k`, clamped as in `rlviz.metrics.subspace`. Energy is
squared Frobenius norm; every share stands next to what an isotropic update would have.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlviz.metrics.base import Metric, Parts, Value
from rlviz.metrics.subspace import PROBE, field, leading_values, rank_used
from rlviz.types import Measured, MetricParams

Curve = NDArray[np.float64]


class DirectionTable(NamedTuple):
    """Update versus each leading component i of the base; all ``[K]``.

    `angle` (rad, 0 to π/2; NaN where ΔW v_i = 0) lies between ΔW v_i and u_i; `relative_projection` is
    u_iᵀ ΔW v_i / σ_i, the first-order relative change of σ_i.
    """

    component: NDArray[np.int64]
    singular_value: Curve
    angle: Curve
    relative_projection: Curve


def alignment_curve(measured: Measured) -> tuple[NDArray[np.int64], Curve, Curve]:
    """Share of the update's energy in the top-k principal block, and what an isotropic update would have there.

    Returns
    -------
    k : ndarray of int, 1 … K
    observed : ndarray, ``[K]``, in [0, 1], non-decreasing; NaN where the update is zero
    isotropic : ndarray, ``[K]``, k² / (d_out d_in)
    """
    block, total = field(measured, "block_energy"), float(field(measured, "update_energy"))
    k = np.arange(1, len(block) + 1)
    observed = block / total if total > 0 else np.full(len(block), np.nan)
    return k, observed, k**2 / (measured.shape[0] * measured.shape[-1])


def direction_table(measured: Measured) -> DirectionTable:
    """The update against each leading component of the base; see `DirectionTable`."""
    projection, moved = field(measured, "direction_projection"), np.sqrt(field(measured, "direction_energy_right"))
    sigma = leading_values(measured, "base")[: len(projection)]
    cosines = np.divide(np.abs(projection), moved, out=np.full(len(moved), np.nan), where=moved > 0)
    component = np.arange(1, len(projection) + 1)
    return DirectionTable(component, sigma, np.arccos(np.minimum(cosines, 1.0)), projection / sigma)


def _captured(measured: Measured, k: int, kind: str) -> float:
    if kind == "block":
        return float(field(measured, "block_energy")[k - 1])
    return float(field(measured, f"direction_energy_{kind}")[:k].sum())


def _expected(measured: Measured, k: int, kind: str) -> float:
    d_out, d_in = measured.shape[0], measured.shape[-1]
    return {"block": k * k / (d_out * d_in), "left": k / d_out, "right": k / d_in}[kind]


def _energy(kind: str, enrichment: bool) -> Parts:
    def parts(measured: Measured, params: MetricParams) -> tuple[float, float] | None:
        k, total = rank_used(measured, params.k), float(field(measured, "update_energy"))
        if k < 1 or total == 0:
            return None
        share = _expected(measured, k, kind) if enrichment else 1.0
        return _captured(measured, k, kind), total * share

    return parts


def _expected_share(kind: str) -> Value:
    def chance(measured: Measured, params: MetricParams) -> float:
        k = rank_used(measured, params.k)
        return _expected(measured, k, kind) if k >= 1 else float("nan")

    return chance


def _one(_measured: Measured, _params: MetricParams) -> float:
    return 1.0


_KINDS = (
    ("principal", "block", r"\|U_{0,k}^\top\Delta W V_{0,k}\|_F^2", r"k^2/(d_{out}d_{in})", "principal block"),
    ("left", "left", r"\|U_{0,k}^\top\Delta W\|_F^2", r"k/d_{out}", "left principal subspace"),
    ("right", "right", r"\|\Delta W V_{0,k}\|_F^2", r"k/d_{in}", "right principal subspace"),
)


def _energy_metrics(name: str, kind: str, formula: str, expected: str, place: str) -> tuple[Metric, ...]:
    share = Metric(
        key=f"energy_{name}",
        title=f"Update energy in the {place}",
        formula=rf"\frac{{{formula}}}{{\|\Delta W\|_F^2}}",
        unit="fraction",
        source="arXiv:2511.08567",
        meaning=f"Share of the update's energy in the top-k {place} of the base.",
        probe=PROBE,
        scale="fraction",
        parts=_energy(kind, enrichment=False),
        chance=_expected_share(kind),
        chance_text=f"an isotropic update: {expected.replace('_{', '_').replace('}', '')}",
        caveat="Small by dimension alone: read it against the isotropic share, as enrichment.",
        uses=("k",),
    )
    enrichment = Metric(
        key=f"energy_{name}_enrichment",
        title=f"Enrichment of update energy in the {place}",
        formula=rf"\frac{{\sum {formula}}}{{\sum \|\Delta W\|_F^2\,{expected}}}",
        unit="",
        source="arXiv:2511.08567",
        meaning=f"Update energy in the top-k {place} over what an isotropic update of the same size has there.",
        probe=PROBE,
        scale="log",
        parts=_energy(kind, enrichment=True),
        chance=_one,
        chance_text="1 for an isotropic update",
        caveat="Pooled over matrices as observed over expected energy, so matrices that moved far weigh most.",
        uses=("k",),
    )
    return share, enrichment


METRICS: tuple[Metric, ...] = tuple(metric for kind in _KINDS for metric in _energy_metrics(*kind))
