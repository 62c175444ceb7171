"""Log odds that a principal weight changed, raw and within strata of equal rounding (specification, section 3, 4)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log, nan, sqrt

from rlviz.metrics.base import Metric
from rlviz.metrics.masks import table
from rlviz.metrics.precision_null import PROBE
from rlviz.types import Measured, MetricParams

Z_95 = 1.959963984540054
MANTEL_HAENSZEL = "Mantel and Haenszel 1959; variance: Robins, Breslow and Greenland 1986"


def _cells(measured: Measured, params: MetricParams) -> Sequence[float]:
    """The 2 × 2 table: changed and unchanged inside the principal mask, then outside."""
    found = table(measured, "principal", params)
    inside, hits = found.size, found.hits
    outside = found.n - inside
    missed = found.n_changed - hits
    return (hits, inside - hits, missed, outside - missed)


def _log_odds(cells: Sequence[float]) -> float:
    a, b, c, d = cells
    return log(a * d / (b * c)) if a * b * c * d > 0 else nan


def stratified_sums(measured: Measured, params: MetricParams) -> Sequence[float]:
    """Sums over the strata of one tensor that Mantel-Haenszel pooling needs; they add up over tensors.

    With a stratum's table ``a, b; c, d`` (changed, unchanged; inside, outside) of n entries, ``R = ad/n``,
    ``S = bc/n``, ``P = (a + d)/n``, ``Q = (b + c)/n``:

    Returns
    -------
    R, S, PR, PS + QR, QS : float
    """
    found = table(measured, "principal", params)
    inside, outside = found.inside.astype(float), (found.everywhere - found.inside).astype(float)
    n = found.everywhere.sum(axis=1)
    used = n > 0
    (b, a), (d, c), n = inside[used].T, outside[used].T, n[used]
    r, s, p, q = a * d / n, b * c / n, (a + d) / n, (b + c) / n
    return tuple(float(x.sum()) for x in (r, s, p * r, p * s + q * r, q * s))


def mantel_haenszel(sums: Sequence[float]) -> float:
    """``ln(ΣR/ΣS)``; NaN where either is zero."""
    r, s = sums[:2]
    return log(r / s) if r > 0 and s > 0 else nan


def mantel_haenszel_se(sums: Sequence[float]) -> float:
    """``√(ΣPR/2R² + Σ(PS + QR)/2RS + ΣQS/2S²)``; NaN where either of R, S is zero."""
    r, s, pr, mixed, qs = sums
    return sqrt(pr / (2 * r * r) + mixed / (2 * r * s) + qs / (2 * s * s)) if r > 0 and s > 0 else nan


def _limit(sign: int) -> Callable[[Sequence[float]], float]:
    return lambda sums: mantel_haenszel(sums) + sign * Z_95 * mantel_haenszel_se(sums)


def _interval(side: str, sign: int) -> Metric:
    return Metric(
        key=f"log_odds_principal_mh_ci_{side}",
        title=f"Log odds within strata, 95 % interval, {side} end",
        formula=r"\ln\frac{\sum R}{\sum S}" + ("+" if sign > 0 else "-") + r"1.96\,\mathrm{SE}",
        unit="",
        source=MANTEL_HAENSZEL,
        meaning=f"The {side} end of the 95 % interval of the log odds within strata.",
        probe=PROBE,
        scale="linear",
        sums=stratified_sums,
        from_sums=_limit(sign),
        uses=("k", "alpha"),
        companion=True,
    )


METRICS: tuple[Metric, ...] = (
    Metric(
        key="log_odds_principal",
        title="Log odds of change, principal against other weights",
        formula=r"\ln\frac{a\,d}{b\,c}",
        unit="",
        source="arXiv:2511.08567, section 2.3 (masks); log odds: this tool",
        meaning="Natural logarithm of how much more likely principal weights changed than others; 0 is no difference.",
        probe=PROBE,
        scale="linear",
        sums=_cells,
        from_sums=_log_odds,
        chance=lambda m, p: 0.0,
        chance_text="0 for changes placed at random; rounding alone makes it negative",
        caveat="Unlike an overlap it is not squeezed by the density, but it still holds the magnitude confound.",
        uses=("k", "alpha"),
    ),
    Metric(
        key="log_odds_principal_mh",
        title="Log odds of change within strata of equal rounding",
        formula=r"\ln\frac{\sum_s a_s d_s/n_s}{\sum_s b_s c_s/n_s}",
        unit="",
        source=MANTEL_HAENSZEL,
        meaning="The same among weights of equal exponent, where rounding hides equally much: what geometry is left.",
        probe=PROBE,
        scale="linear",
        sums=stratified_sums,
        from_sums=mantel_haenszel,
        chance=lambda m, p: 0.0,
        chance_text="0 for noise plus rounding, whatever its size",
        caveat="Strata are exponents of w0, powers of two apart; within a stratum the step size is constant.",
        uses=("k", "alpha"),
    ),
    _interval("low", -1),
    _interval("high", 1),
)
