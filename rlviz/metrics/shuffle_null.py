"""Where changes fall once the update's entries are shuffled (metric specification, section 3, number 3).

The update keeps the sizes of its steps and loses their places. Only where the tuned side is stored finer than bf16, and
the matrix was small enough to hold; undefined elsewhere. Pooled over tensors shuffle by shuffle.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan

import numpy as np
from numpy.typing import NDArray

from rlviz.metrics.base import Metric, Parts, Sums, Value
from rlviz.metrics.masks import MASKS, Mask
from rlviz.types import Measured, MetricParams

PROBE = "nulls"
SOURCE = "this tool"
FIELDS = {"principal": "principal", "low_magnitude": "low", "principal_not_low": "principal_not_low"}


def observed_hits(measured: Measured, mask: str, params: MetricParams, probe: str = PROBE) -> tuple[int, int] | None:
    """Changes inside a mask and altogether, of the pair as it is.

    None where they were not counted, none or all entries changed, or the mask is empty or full: there an overlap says
    nothing.
    """
    fields = measured.records[probe].fields
    if "observed_changed" not in fields:
        return None
    name, at = FIELDS[mask], _place(fields, mask, params)
    hits, changed = int(fields[f"observed_{name}"][at]), int(fields["observed_changed"])
    sound = 0 < changed < measured.match.n and 0 < int(fields[f"size_{name}"][at]) < measured.match.n
    return (hits, changed) if sound else None


def _place(fields: Mapping[str, NDArray[np.generic]], mask: str, params: MetricParams) -> tuple[int, ...]:
    """Where the counts of a mask stand at the chosen k and α."""
    ranks = np.asarray(fields["k"], dtype=np.int64)
    at_k = max(int(np.searchsorted(ranks, params.k, side="right")) - 1, 0)
    at_alpha = int(np.abs(np.asarray(fields["alpha"], dtype=np.float64) - params.alpha).argmin())
    return (at_alpha,) if mask == "low_magnitude" else (at_k, at_alpha)


def shuffled_hits(measured: Measured, mask: str, params: MetricParams) -> NDArray[np.int64] | None:
    """`observed_hits` first, then those of every shuffle: ``[1 + n, 2]``. None likewise."""
    observed = observed_hits(measured, mask, params)
    if observed is None:
        return None
    fields = measured.records[PROBE].fields
    at = (slice(None), *_place(fields, mask, params))
    hits, changed = fields[f"shuffle_{FIELDS[mask]}"][at], fields["shuffle_changed"]
    return np.vstack([observed, np.stack([hits, changed], axis=1)]).astype(np.int64)


def _overlap(mask: str) -> Parts:
    def parts(measured: Measured, params: MetricParams) -> tuple[float, float] | None:
        found = shuffled_hits(measured, mask, params)
        if found is None or not found[1:, 1].sum():
            return None
        return float(found[1:, 0].sum()), float(found[1:, 1].sum())

    return parts


def _all_hits(mask: str) -> Sums:
    def sums(measured: Measured, params: MetricParams) -> Sequence[float] | None:
        found = shuffled_hits(measured, mask, params)
        return None if found is None else found.astype(np.float64).ravel().tolist()

    return sums


def beyond_shuffles(sums: Sequence[float]) -> float:
    """``(o − mean o') / SD(o')`` of the observed overlap o and those of the shuffles o', SD with ddof 1.

    Parameters
    ----------
    sums : sequence of float
        Hits and changes of the pair as it is, then of every shuffle.

    Returns
    -------
    float
        NaN for fewer than two shuffles, where one of them changed nothing, or where all agree.

    Examples
    --------
    >>> round(beyond_shuffles([8, 10, 3, 10, 5, 10]), 2)  # 0.8 against 0.3 and 0.5, whose SD is 0.1414
    2.83
    """
    hits, changed = np.asarray(sums, dtype=np.float64).reshape(-1, 2).T
    if len(hits) < 3 or (changed == 0).any():
        return nan
    overlaps = hits / changed
    spread = float(overlaps[1:].std(ddof=1))
    return float(overlaps[0] - overlaps[1:].mean()) / spread if spread > 0 else nan


def _dispersion(part: str) -> Value:
    def value(measured: Measured, _params: MetricParams) -> float:
        fields = measured.records[PROBE].fields
        name = f"shuffle_dispersion_{part}"
        return float(fields[name].astype(np.float64).mean()) if name in fields else nan

    return value


_WHERE = "Where the tuned side is stored finer than bf16, on matrices of up to 32 Mi entries."


def _family(mask: Mask) -> tuple[Metric, Metric]:
    uses = ("alpha",) if mask.key == "low_magnitude" else ("k", "alpha")
    overlap = Metric(
        key=f"overlap_{mask.key}_shuffle",
        title=f"Changes in {mask.words}, update shuffled",
        formula=rf"\sum_\pi|{mask.symbol}\cap M_\pi|\Big/\sum_\pi|M_\pi|",
        unit="fraction",
        source=SOURCE,
        meaning="The overlap once the update's entries are put in random places of the same matrix.",
        probe=PROBE,
        scale="fraction",
        parts=_overlap(mask.key),
        caveat=_WHERE,
        uses=uses,
        companion=True,
    )
    z = Metric(
        key=f"overlap_{mask.key}_shuffle_z",
        title=f"Changes in {mask.words}, beyond shuffling, in SD",
        formula=r"(o-\overline{o_\pi})/\mathrm{SD}(o_\pi)",
        unit="",
        source=SOURCE,
        meaning="The overlap less its mean over shuffles of the update, in SDs of those shuffles.",
        probe=PROBE,
        scale="linear",
        sums=_all_hits(mask.key),
        from_sums=beyond_shuffles,
        caveat=f"The SD is of five shuffles: chance alone passes 3 in one of 20 matrices. {_WHERE}",
        uses=uses,
    )
    return overlap, z


def _dispersion_metric(part: str, across: str) -> Metric:
    return Metric(
        key=f"{part}_dispersion_shuffle",
        title=f"{part.capitalize()} dispersion, update shuffled",
        formula=rf"\overline{{\mathrm{{Var}}(\rho_\pi)\big/\big(p_\pi(1-p_\pi)/{across}\big)}}",
        unit="",
        source=SOURCE,
        meaning=f"The {part} dispersion once the update's entries are put in random places, mean over shuffles.",
        probe=PROBE,
        scale="log",
        value=_dispersion(part),
        caveat=_WHERE,
        companion=True,
    )


METRICS: tuple[Metric, ...] = (
    *(metric for mask in MASKS if mask.key in FIELDS for metric in _family(mask)),
    _dispersion_metric("row", r"d_\mathrm{in}"),
    _dispersion_metric("column", r"d_\mathrm{out}"),
)
