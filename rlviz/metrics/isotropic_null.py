"""What isotropic noise of the update's own norm does to the spectra of these very weights (section 3, end).

Means over seeded simulations on a sample of matrices: of every module and shape the one in the middle layer. Undefined
on all others, so that a pooled value is of the sample, and is compared with the observed value of the sample.
"""

from __future__ import annotations

from collections.abc import Callable
from math import nan, sqrt

import numpy as np
from numpy.typing import NDArray

from rlviz.metrics.base import Metric, Parts, Value
from rlviz.metrics.spectrum import PROBE as SPECTRUM
from rlviz.metrics.spectrum import effective_rank, spectra, stable_rank
from rlviz.metrics.subspace import Subspace
from rlviz.types import Measured, MetricParams

Curve = NDArray[np.float64]

PROBE = "nulls"
SOURCE = "this tool (simulated, three draws)"


def simulated(measured: Measured, name: str) -> Curve | None:
    """One field of the simulations, draws first (``isotropic_`` is put before `name`); None where there are none."""
    fields = measured.records[PROBE].fields
    key = f"isotropic_{name}"
    return np.asarray(fields[key], dtype=np.float64) if key in fields else None


def simulated_at(measured: Measured, name: str, k: int) -> Curve | None:
    """The same at rank k, ``[D]``, clamped as the observed value is; None where k is not among the ranks kept."""
    found = simulated(measured, name)
    if found is None:
        return None
    ranks = simulated_ranks(measured)
    where = np.flatnonzero(ranks == min(k, int(ranks[-1])))
    return found[:, where[0]] if where.size else None


def simulated_ranks(measured: Measured) -> NDArray[np.int64]:
    """The ranks k at which angles and energies of the draws were kept, ascending; empty where nothing was drawn."""
    fields = measured.records[PROBE].fields if PROBE in measured.records else {}
    return np.asarray(fields.get("isotropic_k", ()), dtype=np.int64)


def simulated_draws(measured: Measured) -> int:
    """How often isotropic noise was drawn for the matrix; 0 where it is not in the sample."""
    fields = measured.records[PROBE].fields if PROBE in measured.records else {}
    return len(fields["isotropic_shift"]) if "isotropic_shift" in fields else 0


def noise_angles(measured: Measured, side: Subspace, k: int) -> Curve | None:
    """Principal angles at k of base and base plus noise, ``[k]`` (clamped), rad, ascending: the mean over draws.

    None where nothing was drawn, or not at k.
    """
    found = simulated_at(measured, f"angles_{side}", k) if simulated_draws(measured) else None
    if found is None:
        return None
    curve = found.mean(axis=0)
    return curve[np.isfinite(curve)]


def noise_spectral_shift(measured: Measured, base: Curve) -> Curve | None:
    """``mean |σ_i(W0 + ΔW') − σ_i(W0)|`` over draws ``[r]``, given σ(W0) as `base`; None where nothing was drawn."""
    found = simulated(measured, "singular_values_tuned") if simulated_draws(measured) else None
    return None if found is None else np.abs(found - base).mean(axis=0)


def noise_update_values(measured: Measured) -> Curve | None:
    """σ of the noise ``[r]``, descending, the mean over draws; None where nothing was drawn."""
    found = simulated(measured, "singular_values_update") if simulated_draws(measured) else None
    return None if found is None else found.mean(axis=0)


def _energy_of(measured: Measured, side: str) -> float:
    return float(measured.records[PROBE].fields[f"{side}_energy"])


def _nss(measured: Measured, _params: MetricParams) -> tuple[float, float] | None:
    shift = simulated(measured, "shift")
    return None if shift is None else (float(shift.mean()), _energy_of(measured, "base"))


def _nss_over(measured: Measured, _params: MetricParams) -> tuple[float, float] | None:
    shift = simulated(measured, "shift")
    observed = spectra(measured) if SPECTRUM in measured.records else None
    if shift is None or observed is None:
        return None
    return float(np.sum((observed[1] - observed[0]) ** 2)), float(shift.mean())


def _kappa(measured: Measured, _params: MetricParams) -> float:
    shift = simulated(measured, "shift")
    return nan if shift is None else float(shift.mean()) * max(measured.shape) / _energy_of(measured, "update")


def _of_update(function: Callable[[Curve], float]) -> Value:
    def value(measured: Measured, _params: MetricParams) -> float:
        draws = simulated(measured, "singular_values_update")
        return nan if draws is None else float(np.mean([function(values) for values in draws]))

    return value


def _at_k(name: str) -> Value:
    def value(measured: Measured, params: MetricParams) -> float:
        draws = simulated_at(measured, name, params.k)
        return nan if draws is None else float(draws.mean())

    return value


def _energy(kind: str) -> Parts:
    def parts(measured: Measured, params: MetricParams) -> tuple[float, float] | None:
        draws = simulated_at(measured, f"energy_{kind}", params.k)
        return None if draws is None else (float(draws.mean()), _energy_of(measured, "update"))

    return parts


_SAMPLE = "On a sample: of every module and shape the matrix in the middle layer, up to 64 Mi entries."
_SAMPLE_AT_K = f"{_SAMPLE} At k = 1, 2, 4 … 128, 96 and 1, 5, 10, 20 % of r only."
_NOISE = "for isotropic noise"


def _energy_metric(kind: str, formula: str, place: str) -> Metric:
    return Metric(
        key=f"energy_{kind}_isotropic",
        title=f"Update energy in the {place}, {_NOISE}",
        formula=rf"\overline{{{formula}}}/\|\Delta W\|_F^2",
        unit="fraction",
        source=SOURCE,
        meaning=f"Share of norm-matched isotropic noise that lies in the top-k {place} of the base.",
        probe=PROBE,
        scale="fraction",
        parts=_energy(kind),
        caveat=_SAMPLE_AT_K,
        uses=("k",),
        companion=True,
    )


def _angle_metric(side: str, angle: tuple[str, str, str, str, str]) -> Metric:
    key, field, title, formula, unit = angle
    return Metric(
        key=f"{key}_{side}_isotropic",
        title=f"{title}, {side}, {_NOISE}",
        formula=rf"\overline{{{formula}}}",
        unit=unit,
        source=SOURCE,
        meaning=f"The same for isotropic noise of the update's norm on this base, {side} side.",
        probe=PROBE,
        scale="angle" if unit == "rad" else "fraction",
        value=_at_k(f"{field}_{side}"),
        caveat=_SAMPLE_AT_K,
        uses=("k",),
        companion=True,
    )


_ANGLES = (
    ("max_principal_angle", "max_angle", "Largest principal angle", r"\max_{i\le k}\theta_i", "rad"),
    ("mean_principal_angle", "mean_angle", "Mean principal angle", r"\tfrac1k\sum_{i\le k}\theta_i", "rad"),
    ("subspace_rotation", "rotation", "Subspace rotation", r"\tfrac1k\sum_{i\le k}\sin\theta_i", "fraction"),
)
_ENERGIES = (
    ("principal", r"\|U_{0,k}^\top\Delta W' V_{0,k}\|_F^2", "principal block"),
    ("left", r"\|U_{0,k}^\top\Delta W'\|_F^2", "left principal subspace"),
    ("right", r"\|\Delta W' V_{0,k}\|_F^2", "right principal subspace"),
)

METRICS: tuple[Metric, ...] = (
    Metric(
        key="nss_isotropic",
        title=f"Normalised spectral shift {_NOISE}",
        formula=r"\sqrt{\overline{\|\sigma(W_0+\Delta W')-\sigma(W_0)\|^2}}\Big/\|\sigma(W_0)\|_2",
        unit="",
        source=SOURCE,
        meaning="The spectral shift that isotropic noise of the update's norm gives on this base (root mean square).",
        probe=PROBE,
        scale="log",
        parts=_nss,
        finish=sqrt,
        caveat=_SAMPLE,
        companion=True,
    ),
    Metric(
        key="nss_over_isotropic",
        title="Spectral shift over that of isotropic noise",
        formula=r"\sqrt{\textstyle\sum\|\delta\sigma\|^2\big/\sum\overline{\|\delta\sigma'\|^2}}",
        unit="",
        source=SOURCE,
        meaning="The spectral shift over what isotropic noise of the same norm gives on the same base.",
        probe=PROBE,
        scale="log",
        parts=_nss_over,
        finish=sqrt,
        chance=lambda m, p: 1.0,
        chance_text="1 for isotropic noise",
        caveat=_SAMPLE,
    ),
    Metric(
        key="kappa_iso_isotropic",
        title="First-order spectral shift of isotropic noise",
        formula=r"\overline{\|\delta\sigma'\|_2^2}\,\max(d_{out},d_{in})/\|\Delta W\|_F^2",
        unit="",
        source=SOURCE,
        meaning="The spectral shift of simulated noise over its first-order value: 1 where first order holds.",
        probe=PROBE,
        scale="log",
        value=_kappa,
        caveat=_SAMPLE,
        companion=True,
    ),
    Metric(
        key="stable_rank_update_isotropic",
        title=f"Stable rank {_NOISE}",
        formula=r"\overline{\|\Delta W'\|_F^2/\|\Delta W'\|_2^2}",
        unit="",
        source=SOURCE,
        meaning="The stable rank of isotropic noise of this shape: full rank and no structure.",
        probe=PROBE,
        scale="log",
        value=_of_update(stable_rank),
        caveat=_SAMPLE,
        companion=True,
    ),
    Metric(
        key="effective_rank_update_isotropic",
        title=f"Effective rank {_NOISE}",
        formula=r"\overline{\exp(-\textstyle\sum_i p_i\ln p_i)},\quad p_i=\sigma'_i/\sum_j\sigma'_j",
        unit="",
        source=SOURCE,
        meaning="The effective rank of isotropic noise of this shape.",
        probe=PROBE,
        scale="log",
        value=_of_update(effective_rank),
        caveat=_SAMPLE,
        companion=True,
    ),
    *(_energy_metric(*energy) for energy in _ENERGIES),
    *(_angle_metric(side, angle) for side in ("left", "right") for angle in _ANGLES),
)
