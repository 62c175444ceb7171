"""The formats of the lenses, as numbers that a kernel can round with: one rounding, from float64.

Every stored float type is exact in float64, so rounding the float64 value once to nearest even is rounding the
stored value once. Going through float32 first, as ml_dtypes and torch do, rounds twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import frexp, inf, nextafter

import numpy as np
from numpy.typing import NDArray

from rlviz.types import LENSES, Lens


@dataclass(frozen=True, slots=True)
class LensFormat:
    """A binary floating-point format.

    `precision` counts significant bits with the hidden one, `emin` is the exponent of the smallest normal and
    `largest` the largest finite value. `above` is what a finite value becomes that rounds beyond `largest`.
    """

    precision: int
    emin: int
    largest: float
    above: float

    @property
    def overflow(self) -> float:
        """Smallest float64 that would round beyond `largest` if the exponent had no limit.

        Half a step above `largest`; there a tie goes up if the significand of `largest` is odd, else down.

        Examples
        --------
        >>> FORMATS[Lens.FP16].overflow, FORMATS[Lens.FP8_E5M2].overflow
        (65520.0, 61440.0)
        >>> FORMATS[Lens.FP8_E4M3].overflow > 464.0
        True
        """
        half_step = 2.0 ** (frexp(self.largest)[1] - self.precision - 1)
        tie = self.largest + half_step
        return tie if self.largest / (2 * half_step) % 2 == 1 else nextafter(tie, inf)


FORMATS: dict[Lens, LensFormat] = {
    Lens.FP32: LensFormat(24, -126, float(np.finfo(np.float32).max), inf),
    Lens.BF16: LensFormat(8, -126, (2 - 2**-7) * 2.0**127, inf),
    Lens.FP16: LensFormat(11, -14, 65504.0, inf),
    Lens.FP8_E4M3: LensFormat(4, -6, 448.0, 448.0),
    Lens.FP8_E5M2: LensFormat(3, -14, 57344.0, inf),
}


def scale_factor(lens: Lens, amax: float) -> float:
    """The factor both sides are multiplied by before they are rounded to `lens`.

    ``largest / amax|W0|`` for the fp8 lenses, in float64, as FP8 deployments scale; 1 where amax is 0 and for
    the other lenses. Where the quotient overflows (amax below 2.5e-306) it is the largest float64.

    Examples
    --------
    >>> scale_factor(Lens.FP8_E4M3, 2.0), scale_factor(Lens.FP8_E4M3, 0.0), scale_factor(Lens.BF16, 2.0)
    (224.0, 1.0, 1.0)
    """
    if amax == 0.0 or lens not in (Lens.FP8_E4M3, Lens.FP8_E5M2):
        return 1.0
    with np.errstate(over="ignore"):
        return float(min(np.float64(FORMATS[lens].largest) / np.float64(amax), np.finfo(np.float64).max))


def rounding_table(amax: float) -> NDArray[np.float64]:
    """What the kernels need to round to each lens.

    Returns
    -------
    ndarray of float64, shape (len(LENSES), 7)
        Columns: discarded bits, smallest normal, the number whose addition rounds a subnormal, largest,
        what lies above, scale factor, smallest value that overflows. The row of `stored` is unused.
    """
    table = np.zeros((len(LENSES), 7))
    for row, lens in enumerate(LENSES):
        if lens in FORMATS:
            f = FORMATS[lens]
            magic = 1.5 * 2.0 ** (52 + f.emin - f.precision + 1)
            factor = scale_factor(lens, amax)
            table[row] = (53 - f.precision, 2.0**f.emin, magic, f.largest, f.above, factor, f.overflow)
    return table
