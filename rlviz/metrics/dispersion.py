"""Do changes come in stripes? Row and column profiles of the change mask, against independent entries."""

from __future__ import annotations

from math import nan

import numpy as np
from numpy.typing import NDArray

from rlviz.metrics.base import Metric, Value
from rlviz.metrics.coordinate import PNT, PROBE, float_fields, record_fields
from rlviz.metrics.precision_null import PROBE as MASKS
from rlviz.types import Measured, MetricParams


def dispersion(changed: NDArray[np.integer], sizes: NDArray[np.integer]) -> float:
    """How unevenly change is spread over rows (or columns), against independent entries.

    ``Var(ρ) / (p(1 − p) · mean(1/n_i))`` with ``ρ_i = changed_i / n_i``, ``p = Σ changed / Σ n`` and ddof 1; with
    all n_i = d_in it is the dispersion index ``Var(ρ) / (p(1 − p)/d_in)``. Unaffected by the order of rows.

    Parameters
    ----------
    changed, sizes : ndarray, shape (rows,)
        Changed and compared entries per row; rows without entries are left out.

    Returns
    -------
    float
        At least 0; 1 in expectation for independent entries. NaN for fewer than two rows or p ∈ {0, 1}.

    Examples
    --------
    >>> dispersion(np.array([4, 0]), np.array([4, 4]))  # Var = ½, p(1 − p)/4 = 1/16
    8.0
    >>> dispersion(np.array([4, 4]), np.array([4, 4]))
    nan
    """
    used = sizes > 0
    hits, n = changed[used].astype(np.float64), sizes[used].astype(np.float64)
    if n.size < 2:
        return nan
    p = float(hits.sum() / n.sum())
    if p in (0.0, 1.0):
        return nan
    return float(np.var(hits / n, ddof=1) / (p * (1 - p) * np.mean(1 / n)))


def profile(measured: Measured, part: str) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Changed and compared entries per "row" or "column" under the bf16 lens (integers: as stored)."""
    fields = record_fields(measured)
    if fields is None:
        return None
    changed = fields[f"{part}_changed"].astype(np.int64)
    across = fields["column_changed" if part == "row" else "row_changed"].size
    lost = fields[f"{part}_nonfinite"].astype(np.int64)
    return changed, across - lost if lost.size else np.full(changed.size, across)


def _dispersion(part: str) -> Value:
    def value(measured: Measured, _params: MetricParams) -> float:
        counted = profile(measured, part) if float_fields(measured) is not None else None
        return nan if counted is None else dispersion(*counted)

    return value


def _null(part: str) -> Value:
    """What isotropic noise and rounding give at this density, where the masks probe measured it; NaN elsewhere."""

    def chance(measured: Measured, _params: MetricParams) -> float:
        record = measured.records.get(MASKS)
        return nan if record is None else float(record.fields.get(f"dispersion_null_{part}", nan))

    return chance


_CHANCE = "isotropic noise plus rounding at the same density (needs the masks probe); 1 only for independent entries"
_STRIPES = (
    "Read it against its null, not against 1: magnitudes differ between rows, and rounding alone makes small weights "
    "flip together. The null is an expectation, without its spread."
)

METRICS: tuple[Metric, ...] = (
    Metric(
        key="row_dispersion",
        title="Row dispersion",
        formula=r"\frac{\mathrm{Var}_i(\rho_i)}{p(1-p)/d_\mathrm{in}}",
        unit="",
        source=f"{PNT}, section 2.2 (row and column stripes); index: this tool",
        meaning="How much more the changed share varies between rows than independent entries would make it.",
        probe=PROBE,
        scale="log",
        value=_dispersion("row"),
        chance=_null("row"),
        chance_text=_CHANCE,
        caveat=_STRIPES,
    ),
    Metric(
        key="column_dispersion",
        title="Column dispersion",
        formula=r"\frac{\mathrm{Var}_j(\kappa_j)}{p(1-p)/d_\mathrm{out}}",
        unit="",
        source=f"{PNT}, section 2.2 (row and column stripes); index: this tool",
        meaning="How much more the changed share varies between columns than independent entries would make it.",
        probe=PROBE,
        scale="log",
        value=_dispersion("column"),
        chance=_null("column"),
        chance_text=_CHANCE,
        caveat=_STRIPES,
    ),
)
