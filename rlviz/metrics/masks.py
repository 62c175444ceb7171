"""Where among the weights changes fall: principal, small, or neither (metric specification, section 3).

All from the counts of the masks probe at the chosen k and α; no weight is read. The principal mask holds the α largest
entries of the base's rank-k reconstruction, the low-magnitude mask the α smallest weights. An overlap is the mask's
share of all changes, and stands next to its baseline, the range it can take at all, and what rounding alone would give.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
from numpy.typing import NDArray

from rlviz.metrics.base import Metric, Parts, Sums
from rlviz.metrics.precision_null import PROBE, SOURCE, expected
from rlviz.types import Measured, MetricParams

Counts = NDArray[np.int64]

LIFT, OPDG, PNT = "arXiv:2506.00772", "arXiv:2606.07082", "arXiv:2511.08567"


@dataclass(frozen=True, slots=True)
class Mask:
    """One of the masks: key, words for titles, and its symbol."""

    key: str
    words: str
    symbol: str
    source: str


MASKS = (
    Mask("principal", "principal weights", r"M_\mathrm{princ}", LIFT),
    Mask("low_magnitude", "low-magnitude weights", r"M_\mathrm{low}", PNT),
    Mask("principal_not_low", "principal weights that are not small", r"M_\mathrm{princ\setminus low}", PNT),
    Mask("safe", "non-principal or small weights", r"M_\mathrm{safe}", PNT),
)


@dataclass(frozen=True, slots=True)
class Table:
    """Entries ``[S, 2]`` (unchanged, changed) per stratum, inside a mask and altogether."""

    inside: Counts
    everywhere: Counts

    @property
    def n(self) -> int:
        """All entries."""
        return int(self.everywhere.sum())

    @property
    def n_changed(self) -> int:
        """Entries that changed."""
        return int(self.everywhere[:, 1].sum())

    @property
    def size(self) -> int:
        """Entries in the mask."""
        return int(self.inside.sum())

    @property
    def hits(self) -> int:
        """Entries in the mask that changed."""
        return int(self.inside[:, 1].sum())


def mask_rank(measured: Measured, k: int) -> int:
    """The preset rank used for k: the largest one counted that does not exceed it, else the smallest."""
    ranks = measured.records[PROBE].fields["k"].tolist()
    return ranks[max(bisect_right(ranks, k) - 1, 0)]


def table(measured: Measured, mask: str, params: MetricParams) -> Table:
    """Counts of a mask (a key of `MASKS`) at the presets nearest to `params.k` (from below) and `params.alpha`."""
    fields = measured.records[PROBE].fields
    at_k = fields["k"].tolist().index(mask_rank(measured, params.k))
    alphas = fields["alpha"].tolist()
    at_alpha = min(range(len(alphas)), key=lambda i: abs(alphas[i] - params.alpha))
    everywhere = np.asarray(fields["counts"], dtype=np.int64)
    if mask == "low_magnitude":
        return Table(np.asarray(fields["counts_low"][at_alpha], dtype=np.int64), everywhere)
    if mask == "safe":
        apart = np.asarray(fields["counts_principal_not_low"][at_k, at_alpha], dtype=np.int64)
        return Table(everywhere - apart, everywhere)
    return Table(np.asarray(fields[f"counts_{mask}"][at_k, at_alpha], dtype=np.int64), everywhere)


def _changed_table(measured: Measured, mask: str, params: MetricParams) -> Table | None:
    """The same where overlaps are defined: some entries changed, not all, and the mask is neither empty nor full."""
    found = table(measured, mask, params)
    return found if 0 < found.n_changed < found.n and 0 < found.size < found.n else None


Ratio = Callable[[Table], tuple[float, float]]

_RATIOS: dict[str, Ratio] = {
    "": lambda t: (t.hits, t.n_changed),
    "_baseline": lambda t: (t.size / t.n * t.n_changed, t.n_changed),
    "_feasible_min": lambda t: (max(0, t.size + t.n_changed - t.n), t.n_changed),
    "_feasible_max": lambda t: (min(t.size, t.n_changed), t.n_changed),
    "_coverage": lambda t: (t.hits, t.size),
    "_enrichment": lambda t: (t.hits, t.size / t.n * t.n_changed),
}


def _ratio(mask: str, ratio: Ratio) -> Parts:
    def parts(measured: Measured, params: MetricParams) -> tuple[float, float] | None:
        found = _changed_table(measured, mask, params)
        return None if found is None else ratio(found)

    return parts


def _against_null(mask: str) -> Sums:
    """Observed changes in the mask, expected ones, their variance under the null, and all changes."""

    def sums(measured: Measured, params: MetricParams) -> Sequence[float] | None:
        found = _changed_table(measured, mask, params)
        null = None if found is None else expected(measured, found.inside.sum(axis=1))
        return None if found is None or null is None else (found.hits, null.changed, null.variance, found.n_changed)

    return sums


_NULLS: dict[str, Callable[[Sequence[float]], float]] = {
    "_null": lambda s: s[1] / s[3],
    "_null_sd": lambda s: sqrt(s[2]) / s[3],
    "_excess": lambda s: (s[0] - s[1]) / s[3],
    "_z": lambda s: (s[0] - s[1]) / sqrt(s[2]) if s[2] > 0 else nan,
}


def _baseline(mask: str) -> Callable[[Measured, MetricParams], float]:
    def chance(measured: Measured, params: MetricParams) -> float:
        found = _changed_table(measured, mask, params)
        return nan if found is None else found.size / found.n

    return chance


_USES = ("k", "alpha")
_ROUNDING = "Rounding alone lowers it for large weights and raises it for small ones: read it against its null."


def _family(mask: Mask) -> tuple[Metric, ...]:
    symbol, uses = mask.symbol, ("alpha",) if mask.key == "low_magnitude" else _USES
    key, title = f"overlap_{mask.key}", f"Changes in {mask.words}"

    def ratio(suffix: str, name: str, formula: str, meaning: str) -> Metric:
        return Metric(
            key=f"{key}{suffix}",
            title=f"{title}, {name}",
            formula=formula,
            unit="fraction",
            source=SOURCE,
            meaning=meaning,
            probe=PROBE,
            scale="fraction",
            parts=_ratio(mask.key, _RATIOS[suffix]),
            uses=uses,
            companion=True,
        )

    def null(suffix: str, name: str, formula: str, meaning: str) -> Metric:
        return Metric(
            key=f"{key}{suffix}",
            title=f"{title}, {name}",
            formula=formula,
            unit="" if suffix == "_z" else "fraction",
            source=SOURCE,
            meaning=meaning,
            probe=PROBE,
            scale="fraction" if suffix in ("_null", "_null_sd") else "linear",
            sums=_against_null(mask.key),
            from_sums=_NULLS[suffix],
            uses=uses,
            companion=suffix in ("_null", "_null_sd"),
        )

    overlap = rf"|{symbol}\cap M|/|M|"
    return (
        Metric(
            key=key,
            title=title,
            formula=overlap,
            unit="fraction",
            source=mask.source,
            meaning=f"Share of all changed entries that lie in {mask.words}.",
            probe=PROBE,
            scale="fraction",
            parts=_ratio(mask.key, _RATIOS[""]),
            chance=_baseline(mask.key),
            chance_text="the mask's own share of all entries",
            caveat=_ROUNDING,
            uses=uses,
        ),
        ratio("_baseline", "by chance", rf"|{symbol}|/n", "The mask's share of all entries: the overlap by chance."),
        ratio("_feasible_min", "at least", r"\max(0,(m+d-1)/d)", "The smallest overlap this density allows."),
        ratio("_feasible_max", "at most", r"\min(1,m/d)", "The largest overlap this density allows."),
        null("_null", "by rounding alone", rf"\sum_{{{symbol}}}P_i/\sum P_i", "The overlap of noise plus rounding."),
        null(
            "_null_sd",
            "spread of rounding alone",
            r"\mathrm{SD}",
            "Spread of the overlap about that fitted null.",
        ),
        null(
            "_excess", "beyond rounding", r"\text{observed}-\text{null}", "The overlap less what rounding alone gives."
        ),
        null(
            "_z",
            "beyond rounding, in SD",
            r"(\text{observed}-\text{null})/\mathrm{SD}",
            "The excess in SDs of its null.",
        ),
        Metric(
            key=f"coverage_{mask.key}",
            title=f"Changed share of {mask.words}",
            formula=rf"|{symbol}\cap M|/|{symbol}|",
            unit="fraction",
            source=mask.source,
            meaning=f"Share of the {mask.words} that changed.",
            probe=PROBE,
            scale="fraction",
            parts=_ratio(mask.key, _RATIOS["_coverage"]),
            chance=lambda m, p: table(m, mask.key, p).n_changed / table(m, mask.key, p).n,
            chance_text="the density of the whole matrix",
            caveat=_ROUNDING,
            uses=uses,
        ),
        Metric(
            key=f"enrichment_{mask.key}",
            title=f"Enrichment of changes in {mask.words}",
            formula=rf"\frac{{|{symbol}\cap M|}}{{m\,|M|}}",
            unit="",
            source=OPDG,
            meaning=f"Changes in {mask.words} over what chance would put there.",
            probe=PROBE,
            scale="log",
            parts=_ratio(mask.key, _RATIOS["_enrichment"]),
            chance=lambda m, p: 1.0,
            chance_text="1 for changes placed at random",
            caveat=f"At most 1/d. {_ROUNDING}",
            uses=uses,
        ),
    )


METRICS: tuple[Metric, ...] = tuple(metric for mask in MASKS for metric in _family(mask))
