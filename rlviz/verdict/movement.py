"""Gate II: how far directions and singular values moved, among published orders and against simulated noise."""

from __future__ import annotations

from math import isfinite, nan

import numpy as np

from rlviz.metrics import METRICS
from rlviz.metrics.gates import largest_angle, numerical_error
from rlviz.result import PairResult
from rlviz.types import Measured, MetricParams
from rlviz.verdict.finding import Finding, Question
from rlviz.verdict.matrices import each, matrices
from rlviz.verdict.missing import no_spectrum
from rlviz.views.gates.orders import ANGLE, NSS, SOURCE, Quantity, matrix_values
from rlviz.views.words import listed, number


def _reported(quantity: Quantity) -> str:
    orders = listed([f"{o.kind} {o.reported}" for o in quantity.orders])
    return f"Published ({SOURCE}, one layer each): {orders}. Null: isotropic noise of the same length, simulated."


ROTATION = Question("II", "Do the leading directions turn as little as in published RL?", _reported(ANGLE), "orders")
SHIFT = Question("II", "Does the spectrum shift as little as in published RL?", _reported(NSS), "orders")


def rotation(result: PairResult, params: MetricParams) -> Finding:
    """The median over matrices of the largest angle, among published orders. Unresolved angles are left out."""
    group = matrices(result)
    resolved = tuple(m for m in group if largest_angle(m, params) > numerical_error(m, params))
    if not resolved:
        return ROTATION.open(no_spectrum(result))
    low, middle, high = (float(q) for q in np.quantile(matrix_values(resolved, ANGLE, params), (0.25, 0.5, 0.75)))
    left_out = len(group) - len(resolved)
    unresolved = f" ({left_out} more below what float64 resolves)" if left_out else ""
    noise = _turn_over_noise(resolved, params)
    beside = (
        f", {number(noise[0])}× of what noise gives (median of {noise[1]} matrices sampled)"
        if noise
        else "; noise was not simulated"
    )
    sentence = (
        f"At k = {params.k} the largest angle is {number(middle)}° in the median of {len(resolved)} matrices"
        f"{unresolved}, {number(low)} to {number(high)}° in the middle half: {_place(middle, ANGLE)}"
        f"{beside}."
    )
    return Finding(ROTATION, sentence, _like_rl(middle, ANGLE), f"{number(middle)}°{_times_noise(noise)}")


def times_noise(result: PairResult, params: MetricParams) -> float:
    """How many times as far as simulated noise of its length the update turns or shifts, the larger of the two.

    NaN where no noise was simulated.
    """
    group = tuple(m for m in matrices(result) if largest_angle(m, params) > numerical_error(m, params))
    found = (_turn_over_noise(group, params) if group else None, _shift_over_noise(result, params))
    return max((times for times, _ in filter(None, found)), default=nan)


def _turn_over_noise(group: tuple[Measured, ...], params: MetricParams) -> tuple[float, int] | None:
    """Median of the observed angle over that of simulated noise, and on how many matrices; None where none was."""
    keys = [f"max_principal_angle_{side}" for side in ("left", "right")]
    observed, noise = (
        np.concatenate([each(f"{key}{suffix}", group, params) for key in keys]) for suffix in ("", "_isotropic")
    )
    known = noise > 0
    if not known.any():
        return None
    n = sum(isfinite(METRICS[f"{keys[0]}_isotropic"].of(m, params)) for m in group)
    return float(np.median(observed[known] / noise[known])), n


def _times_noise(found: tuple[float, int] | None) -> str:
    return f", {number(found[0])}× noise" if found else ""


def _place(value: float, quantity: Quantity) -> str:
    order = quantity.order_of(value)
    return f"the order of published {order.kind}" if order else "between the orders published"


def _like_rl(value: float, quantity: Quantity) -> bool:
    order = quantity.order_of(value)
    return order is not None and order.kind == "RL"


def shift(result: PairResult, params: MetricParams) -> Finding:
    """The median NSS among published orders, beside what isotropic noise shifts."""
    values = matrix_values(matrices(result), NSS, params)
    values = values[np.isfinite(values)]
    if not values.size:
        return SHIFT.open(no_spectrum(result))
    middle = float(np.median(values))
    noise = _shift_over_noise(result, params)
    sentence = (
        f"Singular values shift by {number(middle)} of their norm in the median of {values.size} matrices: "
        f"{_place(middle, NSS)}, {_shifted_by_noise(noise, result, params)}."
    )
    return Finding(SHIFT, sentence, _like_rl(middle, NSS), f"{number(middle)}{_times_noise(noise)}")


def _shift_over_noise(result: PairResult, params: MetricParams) -> tuple[float, int] | None:
    """The pooled shift over that of simulated noise, and on how many matrices; None where none was simulated."""
    ratio = result.pooled("nss_over_isotropic", params)
    n = sum(isfinite(METRICS["nss_over_isotropic"].of(m, params)) for m in matrices(result))
    return (ratio, n) if isfinite(ratio) else None


def _shifted_by_noise(noise: tuple[float, int] | None, result: PairResult, params: MetricParams) -> str:
    if noise:
        return f"{number(noise[0])}× of what noise gives (pooled over {noise[1]} matrices sampled)"
    return (
        f"{number(result.pooled('kappa_iso', params))}× (median κ_iso) of what noise gives to first order; for tall "
        "matrices and long steps noise gives more, and was not simulated"
    )
