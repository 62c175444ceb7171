"""How large the update is: norms in float64, and how its energy concentrates on few entries."""

from __future__ import annotations

from math import nan, sqrt

import numpy as np

from rlviz.metrics.base import Metric, Parts, Value
from rlviz.metrics.coordinate import MUK, PNT, PROBE, field, is_float, n_compared, n_overflow, number
from rlviz.types import Measured, MetricParams


def energy_of_largest(measured: Measured, share: float) -> float:
    """Sum of ``ΔW²`` over the `share` of entries that moved most, from the |ΔW| histogram.

    Whole bins from the top; of the bin that the share cuts, the part that its count gives (entries of one bin
    differ by at most 12 %, so the result is good to a few tenths of a percent).
    """
    counts = np.asarray(field(measured, "tau_counts"), dtype=np.float64)[::-1]
    energies = np.asarray(field(measured, "tau_sumsq"), dtype=np.float64)[::-1]
    wanted = share * n_compared(measured)
    before = np.concatenate([[0.0], np.cumsum(counts)[:-1]])
    taken = np.clip(wanted - before, 0.0, counts)
    return float(np.sum(energies * np.divide(taken, counts, out=np.zeros_like(taken), where=counts > 0)))


def _relative(measured: Measured, _params: MetricParams) -> tuple[float, float] | None:
    if not is_float(measured):
        return None
    return number(measured, "update_norm_sq"), number(measured, "base_norm_sq")


def _concentration(share: float) -> Parts:
    def parts(measured: Measured, _params: MetricParams) -> tuple[float, float] | None:
        if not is_float(measured):
            return None
        return energy_of_largest(measured, share), number(measured, "update_norm_sq")

    return parts


def _overflow(measured: Measured, params: MetricParams) -> tuple[float, float] | None:
    return (n_overflow(measured, params.lens), n_compared(measured)) if is_float(measured) else None


def _largest(measured: Measured, _params: MetricParams) -> float:
    return number(measured, "max_abs_update") if is_float(measured) else nan


def _norm(name: str) -> Value:
    def value(measured: Measured, _params: MetricParams) -> float:
        return sqrt(number(measured, name)) if is_float(measured) else nan

    return value


def _concentration_metric(share: float, label: str) -> Metric:
    return Metric(
        key=f"top_energy_{label}",
        title=f"Energy in the top {100 * share:g} % of entries",
        formula=rf"\sum_{{\text{{largest }}{100 * share:g}\,\%}}\Delta w_i^2\Big/\|\Delta W\|_F^2",
        unit="fraction",
        source="arXiv:2606.13657",
        meaning=f"Share of the update's energy held by the {100 * share:g} % of entries that moved most.",
        probe=PROBE,
        scale="fraction",
        parts=_concentration(share),
        caveat="From a histogram with twenty bins a decade: good to a few tenths of a percent. "
        "Groups rank entries within each tensor.",
    )


METRICS: tuple[Metric, ...] = (
    Metric(
        key="relative_update_norm",
        title="Relative update norm",
        formula=r"\|\Delta W\|_F/\|W_0\|_F",
        unit="",
        source=f"{PNT} (Gate I, KL anchor)",
        meaning="How far the weights moved, against how large they are.",
        probe=PROBE,
        scale="log",
        parts=_relative,
        finish=sqrt,
        caveat="Near 1 the base is not the ancestor of the tuned model.",
    ),
    Metric(
        key="update_norm",
        title="Update norm",
        formula=r"\|\Delta W\|_F=\Big(\sum_i(w_{1,i}-w_{0,i})^2\Big)^{1/2}",
        unit="",
        source=f"{PNT} (Gate I, KL anchor)",
        meaning="Frobenius norm of the update, in units of the weights.",
        probe=PROBE,
        scale="log",
        value=_norm("update_norm_sq"),
    ),
    Metric(
        key="base_norm",
        title="Base norm",
        formula=r"\|W_0\|_F",
        unit="",
        source=f"{PNT} (Gate I, KL anchor)",
        meaning="Frobenius norm of the base, in units of the weights.",
        probe=PROBE,
        scale="log",
        value=_norm("base_norm_sq"),
    ),
    Metric(
        key="max_abs_update",
        title="Largest single update",
        formula=r"\max_i|w_{1,i}-w_{0,i}|",
        unit="",
        source=MUK,
        meaning="The largest change of any one weight, in units of the weights.",
        probe=PROBE,
        scale="log",
        value=_largest,
    ),
    _concentration_metric(0.001, "0.1pct"),
    _concentration_metric(0.01, "1pct"),
    _concentration_metric(0.05, "5pct"),
    Metric(
        key="overflow_share",
        title="Overflow under the lens",
        formula=r"\frac{\#\{i:\operatorname{lens}\text{ overflows on either side}\}}{n}",
        unit="fraction",
        source="IEEE 754; OCP 8-bit floating point",
        meaning="Share of finite weights that lie beyond the lens's largest value on either side.",
        probe=PROBE,
        scale="fraction",
        parts=_overflow,
        caveat="Compared as infinity, or as ±448 in e4m3.",
        uses=("lens",),
    ),
)
