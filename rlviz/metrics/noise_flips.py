"""Which entries isotropic noise would flip: the curve that the flip rate by exponent is read against (Gate III).

Noise flips an entry with a probability that depends on its exponent and on whether its mantissa is zero, nothing else
(`rlviz.rounding`). Per tensor the noise is as strong as it must be to flip as many entries as the update did.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from rlviz.metrics.coordinate import Fields, float_fields
from rlviz.metrics.coordinate_series import ulp_histogram
from rlviz.metrics.precision_null import PROBE as MASKS
from rlviz.metrics.precision_null import fitted_noise
from rlviz.rounding import EXACT_IN_BF16, flip_probability, noise_is_known, noise_that_flips
from rlviz.types import Measured

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

EXPONENTS = 256  # values of the exponent field
_FIELD = np.arange(EXPONENTS)
_POWERS = 2.0**-7  # share of mantissas that are zero where nobody counted them: one of 128


@dataclass(frozen=True, slots=True, eq=False)
class NoiseFlipRate:
    """Entries, and those that noise flips on average, by the binary exponent of w0; as `FlipRate`."""

    exponent: Counts
    n: Counts
    expected: Floats

    @property
    def rate(self) -> Floats:
        """Flipped share within each exponent."""
        return self.expected / self.n


def expected_flips(measured: Measured) -> Floats | None:
    """Entries of each exponent that isotropic noise flips on average, where it flips as many in all as the update did.

    Weights with a mantissa of zero have a shorter way down, and are counted apart where the `masks` record knows them;
    elsewhere they are taken to be one in 128 of each exponent's.

    Returns
    -------
    ndarray, ``[256]``, by exponent field of w0 rounded to bf16; sums to the number of entries changed under bf16
        None where no entry or every entry changed (no noise, and any, would do), where fp16 or fp8 rounded the weights
        (`noise_is_known`), and for integers.
    """
    fit = _fitted(measured)
    if fit is None:
        return None
    expected = np.zeros(EXPONENTS)
    np.add.at(expected, fit.exponent, fit.counts * fit.chance(fit.std))
    return expected


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """Entries ``[S]`` that rounding treats alike, and the noise that flips as many of them as changed."""

    counts: Counts
    exponent: Counts
    is_power: NDArray[np.bool_]
    finer: bool
    std: float

    def chance(self, std: float) -> Floats:
        return flip_probability(self.exponent, self.is_power, std, finer=self.finer)

    @property
    def one_step(self) -> Floats:
        """Probability of moving to a neighbouring bf16 number.

        The cells of both neighbours end three times as far away as the weight's own: ``p(s) − p(s/3)``. From a uniform
        place in a cell of width w, ``2 (p(s) − p(s/2))``: leaving 2w is leaving w under half the noise. Exact but for
        the first and last numbers of a binade.
        """
        if self.finer:
            return 2 * (self.chance(self.std) - self.chance(self.std / 2))
        return self.chance(self.std) - self.chance(self.std / 3)


def _fitted(measured: Measured) -> _Fit | None:
    fields = float_fields(measured)
    if fields is None or not noise_is_known(measured.match):
        return None
    fit = _counted_strata(measured) if MASKS in measured.records else _assumed_strata(measured, fields)
    return fit if isfinite(fit.std) else None


def _counted_strata(measured: Measured) -> _Fit:
    fields = measured.records[MASKS].fields
    counts, exponent = fields["counts"].astype(np.int64).sum(axis=1), fields["exponent"].astype(np.int64)
    return _Fit(counts, exponent, fields["power_of_two"] != 0, bool(fields["finer"]), fitted_noise(measured))


def _assumed_strata(measured: Measured, fields: Fields) -> _Fit:
    n, changed = fields["exponent_n"].astype(np.int64), int(fields["exponent_changed"].astype(np.int64).sum())
    powers = np.rint(n * _POWERS).astype(np.int64)
    counts, exponent = np.concatenate([n - powers, powers]), np.concatenate([_FIELD, _FIELD])
    is_power, finer = np.repeat([False, True], EXPONENTS), measured.match.base.dtype not in EXACT_IN_BF16
    return _Fit(counts, exponent, is_power, finer, noise_that_flips(counts, exponent, is_power, changed, finer=finer))


def one_ulp_shares(group: Iterable[Measured]) -> tuple[float, float] | None:
    """Share of the changed entries that moved by one ULP, as observed and as isotropic noise would have moved them.

    Over the tensors that noise can be fitted to (see `expected_flips`); None where there is none.
    """
    fits = [(m, fit) for m in group if (fit := _fitted(m)) is not None]
    seen = ulp_histogram(m for m, _ in fits)
    if seen is None:
        return None
    middle = seen.counts.size // 2
    one, changed = int(seen.counts[middle - 1] + seen.counts[middle + 1]), seen.n - int(seen.counts[middle])
    expected = sum(float(fit.counts @ fit.one_step) for _, fit in fits)
    return one / changed, expected / sum(float(fit.counts @ fit.chance(fit.std)) for _, fit in fits)


def noise_flip_rate(group: Iterable[Measured]) -> NoiseFlipRate | None:
    """`flip_rate_by_exponent` of the isotropic noise that flips as many entries, tensor by tensor.

    None where it is defined for no tensor of the group. Tensors without a curve of their own (see `expected_flips`)
    enter as they are, so that both curves are of the same entries.
    """
    n, expected, defined = np.zeros(EXPONENTS, np.int64), np.zeros(EXPONENTS), False
    for measured in group:
        fields, of_noise = float_fields(measured), expected_flips(measured)
        if fields is not None:
            n += fields["exponent_n"].astype(np.int64)
            expected += fields["exponent_changed"].astype(np.float64) if of_noise is None else of_noise
            defined = defined or of_noise is not None
    occurring = np.flatnonzero(n)
    return NoiseFlipRate(occurring - 127, n[occurring], expected[occurring]) if defined else None


def misplaced_flips(group: Iterable[Measured]) -> float:
    """Share of the flips that lie in other binades than isotropic noise would put them: ``½ Σ|x_e − E x_e| / Σ x_e``.

    0 where the flip rate is the noise's in every binade, summed over each tensor's own curve before the distance is
    taken. What sampling alone gives is of the order of ``√(binades / flips)``.

    Returns
    -------
    float
        In [0, 1]; NaN where `noise_flip_rate` is None.
    """
    observed, expected = np.zeros(EXPONENTS), np.zeros(EXPONENTS)
    for m in group:
        fields, of_noise = float_fields(m), expected_flips(m)
        if fields is not None and of_noise is not None:
            observed += fields["exponent_changed"].astype(np.float64)
            expected += of_noise
    return float(np.abs(observed - expected).sum() / 2 / observed.sum()) if observed.any() else float("nan")
