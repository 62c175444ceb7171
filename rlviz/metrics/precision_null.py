"""What isotropic noise and rounding alone would do to the masks of a pair (metric specification, section 3, number 2).

No learning, no geometry: Gaussian noise on W0, then bf16. Within a stratum (an exponent of w0, and whether its mantissa
is zero) all entries flip with the same probability, so that a mask's expected share of the changes, and its spread, are
sums over the strata of the record.
"""

from __future__ import annotations

from functools import lru_cache
from math import isfinite, nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rlviz.metrics.base import Metric, Value
from rlviz.rounding import flip_probability
from rlviz.types import Measured, MetricParams

PROBE = "masks"
SOURCE = "this tool; flip condition: arXiv:2511.08567, section 2.1"
_LITTLE = 1e-3  # relative step of s in a numerical derivative


class Expected(NamedTuple):
    """Changes inside a mask under the null: expected number, and variance about it once s is fitted to their total."""

    changed: float
    variance: float


def fitted_noise(measured: Measured) -> float:
    """Standard deviation of the isotropic noise that flips as many entries as changed, in units of the weights.

    NaN where no entry changed or all did, or where fp16 or fp8 rounded the tuned weights (see the masks probe).
    """
    return float(measured.records[PROBE].fields["noise_std"])


def strata_chance(measured: Measured, std: float) -> NDArray[np.float64]:
    """Flip probability ``[S]`` per stratum of the record under noise of standard deviation `std`."""
    return _chance(*_strata(measured), std)


def _strata(measured: Measured) -> tuple[bytes, bytes, bool]:
    """What flip probabilities depend on beside the noise, as it can be looked up."""
    fields = measured.records[PROBE].fields
    exponent, edges = np.asarray(fields["exponent"], dtype=np.int16), np.asarray(fields["power_of_two"], dtype=np.uint8)
    return exponent.tobytes(), edges.tobytes(), bool(fields["finer"])


def _chance(exponent: bytes, edges: bytes, finer: bool, std: float) -> NDArray[np.float64]:
    fields, at_edge = np.frombuffer(exponent, dtype=np.int16), np.frombuffer(edges, dtype=np.uint8) != 0
    return flip_probability(fields, at_edge, std, finer=finer)


@lru_cache(maxsize=4096)  # eight metrics of four masks ask the same of every matrix
def _chance_and_slope(
    exponent: bytes, edges: bytes, finer: bool, std: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Flip probabilities ``[S]``, and how they rise with s, up to a common factor."""
    above, below = (_chance(exponent, edges, finer, std * (1 + little)) for little in (_LITTLE, -_LITTLE))
    return _chance(exponent, edges, finer, std), above - below


def expected(measured: Measured, inside: NDArray[np.int64]) -> Expected | None:
    """The null of a mask that holds `inside` ``[S]`` entries per stratum; None where no noise fits.

    ``E = Σ n p`` over the mask. The noise was fitted to the total of changes, so a replicate's excess over its own null
    is ``X − c (X + Y)`` to first order, X inside the mask, Y outside, ``c = (dE[X]/ds) / (dE[X + Y]/ds)``; its variance
    is ``(1 − c)² Var X + c² Var Y`` with ``Var = Σ n p (1 − p)``.
    """
    std = fitted_noise(measured)
    if not isfinite(std):
        return None
    everywhere = np.asarray(measured.records[PROBE].fields["counts"], dtype=np.int64).sum(axis=1)
    p, slope = _chance_and_slope(*_strata(measured), std)
    rise = float(everywhere @ slope)
    share = float(inside @ slope) / rise if rise > 0 else float(inside.sum() / everywhere.sum())
    spread = p * (1 - p)
    within, beyond = float(inside @ spread), float((everywhere - inside) @ spread)
    return Expected(float(inside @ p), (1 - share) ** 2 * within + share**2 * beyond)


def _noise_std(measured: Measured, _params: MetricParams) -> float:
    return fitted_noise(measured)


def _dispersion(part: str) -> Value:
    def value(measured: Measured, _params: MetricParams) -> float:
        return float(measured.records[PROBE].fields.get(f"dispersion_null_{part}", nan))

    return value


def _dispersion_metric(part: str, across: str) -> Metric:
    return Metric(
        key=f"{part}_dispersion_null",
        title=f"{part.capitalize()} dispersion under the precision-only null",
        formula=rf"\frac{{\mathrm{{Var}}(\mu)+\overline{{v}}}}{{p(1-p)/{across}}}",
        unit="",
        source=SOURCE,
        meaning=f"The {part} dispersion that isotropic noise and rounding alone give at this pair's density.",
        probe=PROBE,
        scale="log",
        value=_dispersion(part),
        caveat="An expectation, without its spread: a dispersion slightly above it is no stripe yet.",
        companion=True,
    )


METRICS: tuple[Metric, ...] = (
    Metric(
        key="precision_noise_std",
        title="Fitted isotropic noise",
        formula=r"s:\ \sum_i P_i(s)=|M|",
        unit="",
        source=SOURCE,
        meaning="Standard deviation of the isotropic noise that would flip as many bf16 entries as changed.",
        probe=PROBE,
        scale="log",
        value=_noise_std,
        caveat="In units of the weights. Undefined where no entry changed or all did, and for fp16 pairs.",
    ),
    _dispersion_metric("row", r"d_\mathrm{in}"),
    _dispersion_metric("column", r"d_\mathrm{out}"),
)
