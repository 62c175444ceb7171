"""What rounding to bf16 does to a weight under small random noise: the arithmetic behind the precision-only null.

An entry flips when noise carries it out of its rounding cell. For a bf16-stored weight the cell reaches half a step to
either side, and a quarter of a step towards zero where the mantissa is zero, since the binade below has half the step.
The flip probability therefore depends on the exponent, on whether the mantissa is zero, and on the noise alone.
"""

from __future__ import annotations

from math import nan

import numpy as np
from numpy.typing import NDArray

from rlviz.types import TensorMatch

Array = NDArray[np.float64]

SMALLEST_NORMAL = 1  # exponent field; below it lie zeros and subnormals, all one step of 2^-133 apart
_MANTISSA_BITS = 7
_BIAS = 127
EXACT_IN_BF16 = frozenset({"BF16", "F8_E4M3", "F8_E5M2"})  # every value of these is a bf16 value


def noise_is_known(match: TensorMatch) -> bool:
    """Whether changes are those of one rounding to bf16, so that the flip probability holds.

    Not where a side is fp16, whose few numbers per bf16 cell lie on its very ends, nor where the tuned side is fp8,
    coarser than bf16: measured on noise as small as fp16's step, z of an overlap is off by up to 8.
    """
    return match.base.dtype != "F16" and match.tuned.dtype in ("BF16", "F32", "F64")


def bf16_step(exponent: NDArray[np.integer]) -> Array:
    """Distance between neighbouring bf16 numbers (ULP) at an exponent field, 0 to 254.

    Examples
    --------
    >>> float(bf16_step(np.array([127]))[0])  # from 1 on, numbers are 1/128 apart
    0.0078125
    """
    return np.ldexp(1.0, np.maximum(exponent, SMALLEST_NORMAL).astype(np.int64) - _BIAS - _MANTISSA_BITS)


def flip_probability(
    exponent: NDArray[np.integer], power_of_two: NDArray[np.bool_], std: float, *, finer: bool = False
) -> Array:
    """Probability that Gaussian noise of standard deviation `std` changes the bf16 value of a weight.

    ``Φ(−a/s) + Φ(−b/s)`` with the distances a, b to the ends of the rounding cell: ``a = u/2`` away from zero, and
    ``b = u/2`` towards it, or ``u/4`` where the mantissa is zero (u: the step at the weight's exponent).

    Parameters
    ----------
    exponent : ndarray of int
        Exponent field of w0 rounded to bf16, 0 to 254; 0 holds zeros and subnormals.
    power_of_two : ndarray of bool
        Whether the mantissa of w0 rounded to bf16 is zero.
    std : float
        At least 0, in units of the weights.
    finer : bool
        The base is stored finer than bf16: its place within the cell is taken as uniform, and integrated over.

    Returns
    -------
    ndarray of float64, like `exponent`, in [0, 1]

    Examples
    --------
    >>> step = float(bf16_step(np.array([127]))[0])
    >>> p = flip_probability(np.array([127, 127]), np.array([False, True]), step / 2)
    >>> p.round(4).tolist()  # 2 Φ(-1), and Φ(-1) + Φ(-1/2)
    [0.3173, 0.4672]
    """
    if std <= 0:
        return np.zeros(exponent.shape)
    step = bf16_step(exponent)
    below = np.where(power_of_two & (exponent > SMALLEST_NORMAL), step / 4, step / 2)
    if finer:
        return _from_anywhere(step / 2 + below, std)
    return _tail(step / 2 / std) + _tail(below / std)


def _tail(x: Array) -> Array:
    """``Φ(−x)``."""
    from scipy.special import ndtr

    return np.asarray(ndtr(-x), dtype=np.float64)


def _from_anywhere(width: Array, std: float) -> Array:
    """Mean probability of leaving a cell of `width` from a uniform place in it.

    ``1 − (1/w) ∫₀ʷ [Φ((w−x)/s) − Φ(−x/s)] dx = 2 − (2/ρ) [G(ρ) − G(0)]`` with ``ρ = w/s``, ``G(x) = x Φ(x) + φ(x)``.
    """
    from scipy.special import ndtr

    rho = width / std
    gain = rho * ndtr(rho) + np.expm1(-(rho**2) / 2) / np.sqrt(2 * np.pi)
    return np.clip(2 - 2 * np.asarray(gain, dtype=np.float64) / rho, 0.0, 1.0)


def noise_that_flips(
    counts: NDArray[np.integer],
    exponent: NDArray[np.integer],
    power_of_two: NDArray[np.bool_],
    flipped: int,
    *,
    finer: bool = False,
) -> float:
    """Standard deviation of the isotropic noise that is expected to flip as many entries as were seen to flip.

    Solves ``Σ counts · flip_probability(s) = flipped`` for s; the left side rises with s.

    Parameters
    ----------
    counts, exponent, power_of_two : ndarray, ``[S]``
        Entries per stratum.
    flipped : int

    Returns
    -------
    float
        In units of the weights. NaN where `flipped` is 0 or all entries: no noise, and any, would do.
    """
    from scipy.optimize import brentq

    total = int(counts.sum())
    used = counts > 0
    if not 0 < flipped < total:
        return nan
    n, fields, edges = counts[used].astype(np.float64), exponent[used], power_of_two[used]

    def surplus(log_std: float) -> float:
        return float(n @ flip_probability(fields, edges, float(np.exp(log_std)), finer=finer)) - flipped

    steps = np.log(bf16_step(fields))
    low, high = float(steps.min()) - 40.0, float(steps.max()) + 40.0  # e^±40: no entry flips, and all do
    if surplus(low) > 0 or surplus(high) < 0:  # within a rounding error of none or of all
        return nan
    root, _ = brentq(surplus, low, high, xtol=1e-13, maxiter=500, full_output=True)
    return float(np.exp(root))


__all__ = ["EXACT_IN_BF16", "bf16_step", "flip_probability", "noise_is_known", "noise_that_flips"]
