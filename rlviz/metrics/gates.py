"""The three gates, as far as two checkpoints show them (metric specification, section 4).

Gate I: a step kept close in KL is short. Gate II: a short step cannot turn or stretch a matrix further than
perturbation theory allows. Gate III: what is shorter than half a rounding step does not show. The counts and overlaps
of Gate III are metrics of `coordinate` and `masks`; here are the implied budget of Gate I and the bounds of Gate II.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan, sin, sqrt

import numpy as np
from numpy.typing import NDArray

from rlviz.metrics.base import Metric
from rlviz.metrics.coordinate import PNT, float_fields
from rlviz.metrics.coordinate import PROBE as COORDINATE
from rlviz.metrics.spectrum import PROBE, Curve, spectra
from rlviz.metrics.subspace import angle_curve, field, rank_used, spectral_gap
from rlviz.types import Measured, MetricParams


@dataclass(frozen=True, slots=True, eq=False)
class WedinCurve:
    """What turned and what could have turned at every preset k; all arrays are ``[P]``.

    Attributes
    ----------
    k : ndarray of int, ascending
    left, right : ndarray
        sin θ_max of the leading k left and right directions, in [0, 1].
    gap : ndarray
        γ_k = σ_k − σ_{k+1} of the base, in units of the weights.
    update_norm : float
        ‖ΔW‖₂, in units of the weights.
    printed, rigorous : ndarray
        The bounds of `wedin_printed` and `wedin_rigorous`; NaN where undefined or not applicable.
    """

    k: NDArray[np.int64]
    left: Curve
    right: Curve
    gap: Curve
    update_norm: float
    printed: Curve
    rigorous: Curve

    @property
    def observed(self) -> Curve:
        """The larger of both sides: the bounds hold for both."""
        return np.maximum(self.left, self.right)

    @property
    def says_something(self) -> NDArray[np.bool_]:
        """Where the rigorous bound is below 1: every sine is, so that a bound of 1 or more is vacuous."""
        return self.rigorous < 1


def wedin_printed(update_norm: float, gap: float) -> float:
    """``‖ΔW‖₂ / γ_k``, the bound on sin θ_max(k) as printed in arXiv:2511.08567.

    It is no theorem: the gap that separates the base's leading part from the rest of the *tuned* matrix may be
    narrower than γ_k by ‖ΔW‖₂. See `wedin_rigorous`.

    Returns
    -------
    float
        At least 0; NaN where the gap is zero.

    Examples
    --------
    The base diag(1, 0) and the update diag(-0.51, 0.51) exchange both directions, at a printed bound of 0.51:

    >>> wedin_printed(0.51, 1.0), wedin_rigorous(0.51, 1.0)
    (0.51, 1.0408163265306123)
    """
    return update_norm / gap if gap > 0 else nan


def wedin_rigorous(update_norm: float, gap: float) -> float:
    """``‖ΔW‖₂ / (γ_k − ‖ΔW‖₂)``, which sin θ_max(k) of either side never exceeds.

    Wedin's theorem with the gap ``σ_k(W0) − σ_{k+1}(W1)``, which by Weyl is at least ``γ_k − ‖ΔW‖₂``.

    Returns
    -------
    float
        At least 0; NaN where ``‖ΔW‖₂ ≥ γ_k``: the theorem then says nothing. From 1 on it is vacuous, that is
        from ``‖ΔW‖₂ = γ_k / 2`` on.
    """
    return update_norm / (gap - update_norm) if update_norm < gap else nan


def wedin_curve(measured: Measured) -> WedinCurve | None:
    """Observed sines and both bounds at every preset k of one matrix.

    None where the spectrum of the update is not known (leading directions only) or there are no presets. A matrix equal
    to its base has sines and bounds of zero.
    """
    found = spectra(measured)
    presets = np.asarray(measured.records[PROBE].fields["preset_k"], dtype=np.int64)
    if found is None or not presets.size:
        return None
    ranks, norm = [int(k) for k in presets], float(found[2][0])
    gaps = np.array([spectral_gap(measured, k) for k in ranks])
    left, right = (np.array([np.sin(angle_curve(measured, side, k)[-1]) for k in ranks]) for side in ("left", "right"))
    printed, rigorous = (np.array([bound(norm, float(gap)) for gap in gaps]) for bound in _BOUNDS)
    return WedinCurve(presets, left, right, gaps, norm, printed, rigorous)


_BOUNDS = (wedin_printed, wedin_rigorous)


def _norm_and_gap(measured: Measured, params: MetricParams) -> tuple[float, float] | None:
    found, k = spectra(measured), rank_used(measured, params.k)
    return None if found is None or k < 1 else (float(found[2][0]), spectral_gap(measured, k))


def _printed(measured: Measured, params: MetricParams) -> float:
    pair = _norm_and_gap(measured, params)
    return nan if pair is None else wedin_printed(*pair)


def _rigorous(measured: Measured, params: MetricParams) -> float:
    pair = _norm_and_gap(measured, params)
    return nan if pair is None else wedin_rigorous(*pair)


def largest_angle(measured: Measured, params: MetricParams) -> float:
    """The larger of both sides' largest principal angle at k, rad; NaN where there is no such subspace."""
    curves = [angle_curve(measured, side, params.k) for side in ("left", "right")]
    return max(float(curve[-1]) for curve in curves) if all(c.size for c in curves) else nan


def largest_sine(measured: Measured, params: MetricParams) -> float:
    """sin θ_max(k) of the side that turned more: what Wedin's bound is about; NaN where there is no such subspace."""
    return sin(largest_angle(measured, params))


def numerical_error(measured: Measured, params: MetricParams) -> float:
    """What `largest_sine` may be off by, an estimate: see the metric `principal_angle_error`."""
    k = rank_used(measured, params.k)
    return float(field(measured, "angle_error")[k - 1]) if k >= 1 else nan


def weyl_ratio(base: Curve, tuned: Curve, update: Curve) -> float:
    """``max_i |σ_i(W1) − σ_i(W0)| / ‖ΔW‖₂``, at most 1 by Weyl's inequality.

    Parameters
    ----------
    base, tuned, update : ndarray, ``[r]``
        Singular values, each descending, in the same unit.

    Returns
    -------
    float
        In [0, 1] up to rounding; NaN for no update. Unchanged by scaling all three, and by orthogonal factors.

    Examples
    --------
    >>> weyl_ratio(np.array([2.0, 1.0]), np.array([2.5, 1.0]), np.array([1.0, 0.0]))
    0.5
    """
    return float(np.max(np.abs(tuned - base)) / update[0]) if update.size and update[0] > 0 else nan


def ky_fan_ratio(base: Curve, tuned: Curve, update: Curve) -> float:
    """``max_k |Σ_{i≤k} (σ_i(W1) − σ_i(W0))| / Σ_{i≤k} σ_i(ΔW)``, at most 1: Ky Fan norms obey the triangle inequality.

    Parameters and return value as for `weyl_ratio`.

    Examples
    --------
    >>> ky_fan_ratio(np.array([2.0, 1.0]), np.array([2.5, 1.5]), np.array([1.0, 0.0]))
    1.0
    """
    if not update.size or update[0] <= 0:
        return nan
    return float(np.max(np.abs(np.cumsum(tuned - base)) / np.cumsum(update)))


def _budget(measured: Measured, _params: MetricParams) -> float:
    fields = float_fields(measured)
    return nan if fields is None else float(fields["update_norm_sq"]) / 2


def _weyl(measured: Measured, _params: MetricParams) -> float:
    found = spectra(measured)
    return nan if found is None else weyl_ratio(*found)


def _ky_fan(measured: Measured, _params: MetricParams) -> float:
    found = spectra(measured)
    return nan if found is None else ky_fan_ratio(*found)


def _hoffman_wielandt(measured: Measured, _params: MetricParams) -> tuple[float, float] | None:
    found = spectra(measured)
    if found is None or found[2][0] == 0:
        return None
    base, tuned, update = found
    return float(np.sum((tuned - base) ** 2)), float(np.sum(update**2))


_NOT_YET_NULL = (
    "How much of a bound is used says nothing by itself: isotropic noise uses about 1/√max(d_out, d_in) of "
    "Hoffman-Wielandt's while it is small. Full spectra only."
)
_DELTA = r"\delta\sigma_i=\sigma_i(W_1)-\sigma_i(W_0)"

METRICS: tuple[Metric, ...] = (
    Metric(
        key="kl_budget",
        title="Implied KL budget",
        formula=r"K/\mu\ \ge\ \tfrac12\lVert\Delta W\rVert_F^2,\quad"
        r"\text{from } \lVert\Delta W\rVert_F\le\sqrt{2K/\mu}",
        unit="",
        source=f"{PNT}, Gate I (KL anchor)",
        meaning="The least KL budget K, in units of the smallest Fisher curvature μ, that allows an update this long.",
        probe=COORDINATE,
        scale="log",
        value=_budget,
        combine=sum,
        combine_text="sum",
        caveat="μ is not known, so that this is a length, not a KL divergence: two runs on one base can be compared, a "
        "run and a limit cannot. In units of the weights squared.",
    ),
    Metric(
        key="wedin_printed",
        title="Wedin bound as printed",
        formula=r"\frac{\lVert\Delta W\rVert_2}{\gamma_k},\quad \gamma_k=\sigma_k(W_0)-\sigma_{k+1}(W_0)",
        unit="",
        source=f"{PNT}, Gate II (model geometry)",
        meaning="The bound on the sine of the largest principal angle at k as it is printed; 1 or more bounds nothing.",
        probe=PROBE,
        scale="log",
        value=_printed,
        caveat="Not a theorem: diag(1, 0) updated by diag(-0.51, 0.51) turns by 90° at a printed bound of 0.51. The "
        "rigorous form divides by what is left of the gap.",
        uses=("k",),
    ),
    Metric(
        key="wedin_rigorous",
        title="Wedin bound, rigorous",
        formula=r"\frac{\lVert\Delta W\rVert_2}{\gamma_k-\lVert\Delta W\rVert_2}"
        r"\quad\text{for } \lVert\Delta W\rVert_2<\gamma_k",
        unit="",
        source="Wedin 1972, with Weyl's inequality for the gap to the tuned matrix",
        meaning="What the sine of the largest principal angle at k cannot exceed on either side; from 1 on, nothing.",
        probe=PROBE,
        scale="log",
        value=_rigorous,
        combine_text="median over matrices where it applies",
        caveat="Applies where the update's spectral norm is below the gap at k, and says something below half of it: "
        "small angles elsewhere are not explained by it.",
        uses=("k",),
    ),
    Metric(
        key="weyl_ratio",
        title="Weyl tightness",
        formula=rf"\frac{{\max_i|\delta\sigma_i|}}{{\lVert\Delta W\rVert_2}}\le 1,\quad {_DELTA}",
        unit="fraction",
        source=f"Weyl 1912; {PNT}, Gate II (model geometry)",
        meaning="The largest move of a singular value, as a share of the largest that an update of this norm allows.",
        probe=PROBE,
        scale="fraction",
        value=_weyl,
        caveat=_NOT_YET_NULL,
    ),
    Metric(
        key="hoffman_wielandt_ratio",
        title="Hoffman-Wielandt tightness",
        formula=rf"\frac{{\lVert\delta\sigma\rVert_2}}{{\lVert\Delta W\rVert_F}}\le 1,\quad {_DELTA}",
        unit="fraction",
        source="Hoffman and Wielandt 1953, for singular values (Mirsky 1960)",
        meaning="How much of the update's length went into moving singular values rather than turning directions.",
        probe=PROBE,
        scale="fraction",
        parts=_hoffman_wielandt,
        finish=sqrt,
        caveat=_NOT_YET_NULL,
    ),
    Metric(
        key="ky_fan_ratio",
        title="Ky Fan tightness",
        formula=rf"\max_k\frac{{|\sum_{{i\le k}}\delta\sigma_i|}}{{\sum_{{i\le k}}\sigma_i(\Delta W)}}\le 1,"
        rf"\quad {_DELTA}",
        unit="fraction",
        source="Fan 1951 (triangle inequality of Ky Fan norms)",
        meaning="The largest net growth or shrinkage of the k leading singular values together, over what is allowed.",
        probe=PROBE,
        scale="fraction",
        value=_ky_fan,
        caveat=_NOT_YET_NULL,
    ),
)
