"""What the Masks page says: where changes fall, and what of that rounding alone does not give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan

from rlviz.metrics import METRICS
from rlviz.metrics.masks import mask_rank
from rlviz.metrics.precision_null import PROBE
from rlviz.probes.masks.probe import PRESET_RANKS
from rlviz.result import PairResult
from rlviz.types import MetricParams
from rlviz.views.formats import UNDEFINED, number, percent, sentences, setting
from rlviz.views.remember import remembered
from rlviz.views.words import Headline, tuned_labels

Z_NOTABLE = 3.0  # SDs of the null: below, what is left is its own scatter
EXCESS_NOTABLE = 0.01  # of all changes: below, a pattern may be certain and still be too small to matter
EVEN = 0.05  # an overlap this close to its baseline, relative to it, is called even

SHOWN: tuple[tuple[str, str], ...] = (
    ("principal", "principal weights"),
    ("low_magnitude", "low-magnitude weights"),
    ("principal_not_low", "principal weights that are not small"),
)


@dataclass(frozen=True, slots=True)
class Overlap:
    """One mask of one tuned model, pooled over its matrices: shares of all changes in [0, 1], z in SDs.

    `shuffle` is the overlap of the same update with its entries shuffled, `shuffle_z` how far the observed one lies
    from it in SDs of the shuffles. Undefined is NaN.
    """

    mask: str
    words: str
    observed: float
    baseline: float
    feasible_min: float
    feasible_max: float
    null: float
    null_sd: float
    excess: float
    z: float
    shuffle: float
    shuffle_z: float

    @property
    def enrichment(self) -> float:
        """Observed over baseline."""
        return self.observed / self.baseline

    @property
    def null_enrichment(self) -> float:
        """What rounding alone gives, over baseline."""
        return self.null / self.baseline

    @property
    def shuffle_enrichment(self) -> float:
        """What the shuffled update gives, over baseline."""
        return self.shuffle / self.baseline

    @property
    def notable(self) -> bool:
        """Beyond the scatter of the null, and large enough to matter."""
        return abs(self.z) >= Z_NOTABLE and abs(self.excess) >= EXCESS_NOTABLE


@remembered
def overlap_of(result: PairResult, mask: str, params: MetricParams) -> Overlap:
    """A mask (a key of `SHOWN`) of one result at the chosen k and α."""
    key = f"overlap_{mask}"

    def pooled(suffix: str) -> float:
        return result.pooled(f"{key}{suffix}", params) if f"{key}{suffix}" in METRICS else nan

    against_null = _against_null(result, key, params)
    return Overlap(
        mask,
        dict(SHOWN)[mask],
        observed=pooled(""),
        baseline=pooled("_baseline"),
        feasible_min=pooled("_feasible_min"),
        feasible_max=pooled("_feasible_max"),
        null=against_null["_null"],
        null_sd=against_null["_null_sd"],
        excess=against_null["_excess"],
        z=against_null["_z"],
        shuffle=pooled("_shuffle"),
        shuffle_z=pooled("_shuffle_z"),
    )


_NULLS = ("_null", "_null_sd", "_excess", "_z")


def _against_null(result: PairResult, key: str, params: MetricParams) -> dict[str, float]:
    """The four metrics of the precision-only null, whose sums are the same, from one pass over the tensors."""
    sums = METRICS[f"{key}_z"].sums
    assert sums is not None
    rows = [s for m in result.floats if PROBE in m.records and (s := sums(m, params)) is not None]
    total = [sum(column) for column in zip(*rows, strict=True)]
    found = {suffix: METRICS[f"{key}{suffix}"].from_sums for suffix in _NULLS}
    return {suffix: of(total) if of is not None and total else nan for suffix, of in found.items()}


def measured_masks(result: PairResult) -> bool:
    """Whether any matrix of the result has its masks counted."""
    return any(PROBE in m.records for m in result.floats)


def masks_missing(results: Sequence[PairResult]) -> str:
    """Why no mask is shown, and what to do about it."""
    if any(not r.complete for r in results):
        return "No mask has been counted yet: masks follow the spectra, matrix by matrix."
    left_out = [s.detail for r in results for s in r.skipped if s.detail.startswith(f"{PROBE}:")]
    if left_out:
        return f"Masks were left out of this comparison ({left_out[0]})."
    return (
        "Masks were not measured in this comparison. Measure it anew on the Compare page, or from a shell with "
        "--probes coordinate,spectrum,masks,nulls."
    )


def counted_ranks(results: Sequence[PairResult]) -> tuple[int, ...]:
    """The preset ranks at which some matrix had its masks counted, ascending."""
    found = {int(k) for r in results for m in r.floats if PROBE in m.records for k in m.records[PROBE].fields["k"]}
    return tuple(k for k in PRESET_RANKS if k in found)


def masks_setting(results: Sequence[PairResult], params: MetricParams) -> str:
    """``k = 64, α = 0.3`` as the masks were counted, and why k is another one than was chosen.

    Masks are counted at preset ranks; k stands for the largest preset that does not exceed it (the smallest preset,
    where all do), matrix by matrix.
    """
    ranks = sorted({mask_rank(m, params.k) for r in results for m in r.floats if PROBE in m.records})
    if not ranks:
        return f"k = {params.k}, α = {setting(params.alpha)}"
    above = f"the smallest preset, for {params.k}" if ranks[-1] > params.k else ""
    below = f"the preset below {params.k}" if ranks[-1] < params.k else ""
    small = f"{ranks[0]} where a matrix has too few directions" if len(ranks) > 1 else ""
    note = "; ".join(n for n in (above, below, small) if n)
    return f"k = {ranks[-1]}{f' ({note})' if note else ''}, α = {setting(params.alpha)}"


def signed(x: float) -> str:
    """A number with its sign, two digits."""
    if not isfinite(x):
        return UNDEFINED
    return f"{'−' if x < 0 else '+' if x > 0 else ''}{number(abs(x))}"


def points(share: float) -> str:
    """A difference of shares in percentage points.

    Examples
    --------
    >>> points(-0.0003), points(0.0512)
    ('−0.030 points', '+5.1 points')
    """
    return f"{signed(100 * share)} points"


def ratio(x: float) -> str:
    """A ratio to chance, to hundredths where it is near 1: what differs from a null differs there.

    Examples
    --------
    >>> ratio(0.6864), ratio(1.4703), ratio(12.3)
    ('0.69', '1.47', '12')
    """
    return number(x, 3 if 1 <= x < 10 else 2)


def overlap_label(overlap: Overlap, *, shuffled: bool = True) -> str:
    """What stands beside the observed overlap: ``0.69× of chance; rounding alone gives 0.69×``."""
    if not isfinite(overlap.observed):
        return "undefined: no weight changed, or all did"
    null, moved = overlap.null_enrichment, overlap.shuffle_enrichment
    beside = f"; rounding alone gives {ratio(null)}×" if isfinite(null) else "; rounding alone: undefined"
    beside += f", the shuffled update {ratio(moved)}×" if shuffled and isfinite(moved) else ""
    return f"{ratio(overlap.enrichment)}× of chance{beside}"


def verdict(overlap: Overlap) -> str:
    """What is left of the overlap once rounding has had its share, by `Z_NOTABLE` and `EXCESS_NOTABLE`."""
    if not isfinite(overlap.z):
        return "what rounding alone gives is not known here"
    left = f"{points(overlap.excess)}, z {signed(overlap.z)}"
    if abs(overlap.z) < Z_NOTABLE:
        return f"nothing beyond rounding over all changes ({left})"
    if not overlap.notable:
        return f"a trace beyond rounding ({left}), too little to matter"
    return f"{'more' if overlap.excess > 0 else 'fewer'} than rounding explains ({left})"


def _clause(label: str, overlap: Overlap) -> str:
    if not isfinite(overlap.observed):
        return f"{label}: no overlap is defined, because no weight changed or all did"
    of_chance, null = overlap.enrichment, overlap.null_enrichment
    does = "avoid" if of_chance < 1 - EVEN else "favour" if of_chance > 1 + EVEN else "neither avoid nor favour"
    beside = f", and rounding alone gives {ratio(null)}×" if isfinite(null) else ""
    return f"{label}: changes {does} {overlap.words} ({ratio(of_chance)}× of chance){beside}: {verdict(overlap)}"


@remembered
def far_matrices(result: PairResult, params: MetricParams) -> tuple[int, int, int]:
    """Matrices with a z of the principal mask at or below ``-Z_NOTABLE``, at or above it, and all with one."""
    metric = METRICS["overlap_principal_z"]
    known = [z for m in result.floats if isfinite(z := metric.of(m, params))]
    return sum(z <= -Z_NOTABLE for z in known), sum(z >= Z_NOTABLE for z in known), len(known)


def _matrices(result: PairResult, params: MetricParams) -> str:
    """What single matrices say where that is more than noise would: 0.3 % of them lie beyond 3 SD by chance."""
    below, above, known = far_matrices(result, params)
    if below + above <= max(1.0, 0.03 * known):
        return ""
    apart = f"{below} of {known} have fewer, {above} more"
    return f"; matrix by matrix {apart} than isotropic noise (|z| of {Z_NOTABLE:.0f} and over)"


def masks_answer(results: Sequence[PairResult], params: MetricParams) -> tuple[str, ...]:
    """The answer of the page: one sentence per tuned model on the principal mask, e.g.

    "rl: changes avoid principal weights (0.69× of chance), and rounding alone gives 0.69×: nothing here beyond rounding
    (−0.030 points, z −1.7)."
    """
    known = [(la, r) for la, r in zip(tuned_labels(results), results, strict=True) if measured_masks(r)]
    if not known:
        return (masks_missing(results),)
    return tuple(
        sentences(f"{_clause(label, overlap_of(r, 'principal', params))}{_matrices(r, params)}") for label, r in known
    )


def mask_numbers(result: PairResult, params: MetricParams) -> tuple[Headline, ...]:
    """The three overlaps and the stratified odds of one tuned model, each with its null beside it."""
    numbers: list[Headline] = []
    for mask, words in SHOWN:
        overlap = overlap_of(result, mask, params)
        if isfinite(overlap.observed):
            null = f"chance {percent(overlap.baseline)}; rounding alone {percent(overlap.null)}"
            help_ = f"Share of all changed entries that lie in {words}. Beyond rounding: {verdict(overlap)}."
            numbers.append(Headline(f"In {_SHORT[mask]}", percent(overlap.observed), null, help_))
    odds = METRICS["log_odds_principal_mh"]
    value = result.pooled(odds.key, params)
    if isfinite(value):
        low, high = (result.pooled(f"{odds.key}_ci_{end}", params) for end in ("low", "high"))
        null = f"95 %: {signed(low)} to {signed(high)}; null 0"
        numbers.append(Headline("Log odds in strata", signed(value), null, odds.meaning))
    return tuple(numbers)


_SHORT = {"principal": "principal", "low_magnitude": "low-magnitude", "principal_not_low": "principal, not small"}


def _bare(share: float) -> str:
    return percent(share).removesuffix(" %")


def overlap_table(results: Sequence[PairResult], params: MetricParams) -> list[dict[str, str]]:
    """Overlaps as text, pooled over matrices: one row per tuned model and mask."""
    key = "overlap_principal_shuffle"
    shuffled = key in METRICS and any(isfinite(r.pooled(key, params)) for r in results)
    return [
        {
            "model": label,
            "mask": _SHORT[overlap.mask],
            "overlap": percent(overlap.observed),
            "chance": percent(overlap.baseline),
            "possible": f"{_bare(overlap.feasible_min)} – {percent(overlap.feasible_max)}",
            "rounding alone": f"{percent(overlap.null)} ± {number(100 * overlap.null_sd)}",
            "beyond rounding": points(overlap.excess),
            "z": signed(overlap.z),
        }
        | ({"shuffled": percent(overlap.shuffle), "z, shuffled": signed(overlap.shuffle_z)} if shuffled else {})
        for label, r in zip(tuned_labels(results), results, strict=True)
        if measured_masks(r)
        for overlap in (overlap_of(r, mask, params) for mask, _ in SHOWN)
        if isfinite(overlap.observed)
    ]
