"""How far two masks are the same set of entries (metric specification, section 5), here the two masks of one base."""

from __future__ import annotations

from math import nan

from rlviz.metrics.base import Metric
from rlviz.metrics.masks import table
from rlviz.metrics.precision_null import PROBE
from rlviz.types import Measured, MetricParams


def chance_jaccard(p: float, q: float) -> float:
    """Jaccard index expected of two independent masks: ``p q / (p + q − p q)``.

    Parameters
    ----------
    p, q : float
        Shares of the entries in each mask, in [0, 1].

    Returns
    -------
    float
        In [0, 1], symmetric; NaN where both masks are empty. The ratio of expectations, which for masks of thousands of
        entries is the expectation of the ratio.

    Examples
    --------
    >>> round(chance_jaccard(0.3, 0.3), 4), chance_jaccard(1.0, 0.25)
    (0.1765, 0.25)
    """
    either = p + q - p * q
    return p * q / either if either > 0 else nan


def _sizes(measured: Measured, params: MetricParams) -> tuple[int, int, int, int]:
    """Entries of the principal mask, of the low one, of both, and all."""
    principal, low = table(measured, "principal", params), table(measured, "low_magnitude", params)
    both = principal.size - table(measured, "principal_not_low", params).size
    return principal.size, low.size, both, principal.n


def _jaccard(measured: Measured, params: MetricParams) -> tuple[float, float]:
    principal, low, both, _ = _sizes(measured, params)
    return both, principal + low - both


def _independent(measured: Measured, params: MetricParams) -> tuple[float, float]:
    principal, low, _, n = _sizes(measured, params)
    both = principal * low / n if n else 0.0
    return both, principal + low - both


def _chance(measured: Measured, params: MetricParams) -> float:
    principal, low, _, n = _sizes(measured, params)
    return chance_jaccard(principal / n, low / n) if n else nan


_P, _L = r"M_\mathrm{princ}", r"M_\mathrm{low}"

METRICS: tuple[Metric, ...] = (
    Metric(
        key="jaccard_principal_low",
        title="Overlap of the principal and the low-magnitude mask",
        formula=rf"|{_P}\cap {_L}|\,/\,|{_P}\cup {_L}|",
        unit="fraction",
        source="Jaccard 1901; masks: arXiv:2506.00772, arXiv:2511.08567",
        meaning="Share of the entries in either mask that are in both: a property of the base alone.",
        probe=PROBE,
        scale="fraction",
        parts=_jaccard,
        chance=_chance,
        chance_text="pq/(p + q − pq) for independent masks with shares p and q of the entries",
        caveat="Below chance where large entries of the rank-k part are large weights: the two masks are then no "
        "independent witnesses.",
        uses=("k", "alpha"),
    ),
    Metric(
        key="jaccard_principal_low_null",
        title="Overlap of the two masks, were they independent",
        formula=r"\sum npq\Big/\sum n(p+q-pq)",
        unit="fraction",
        source="Jaccard 1901",
        meaning="The same for independent masks of these sizes.",
        probe=PROBE,
        scale="fraction",
        parts=_independent,
        uses=("k", "alpha"),
        companion=True,
    ),
)
