"""Under the answer of the Masks page: what shuffling the update's own entries says, and how far the masks overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from rlviz.metrics import METRICS
from rlviz.metrics.shuffle_null import PROBE, shuffled_hits
from rlviz.result import PairResult
from rlviz.types import Measured, MetricParams
from rlviz.views.masks_words import EXCESS_NOTABLE, Z_NOTABLE, measured_masks, points, ratio, signed
from rlviz.views.remember import remembered
from rlviz.views.words import listed, percent, sentences, tuned_labels

SHUFFLED: tuple[tuple[str, str], ...] = (("principal", "principal weights"), ("low_magnitude", "low-magnitude weights"))


@dataclass(frozen=True, slots=True)
class Shuffled:
    """One overlap and that of the update shuffled, pooled over the matrices that were shuffled; shares of all changes.

    `z` is their distance in SDs of the shuffles.
    """

    words: str
    observed: float
    shuffled: float
    baseline: float
    z: float
    shuffles: int
    matrices: int

    @property
    def excess(self) -> float:
        """Observed less shuffled."""
        return self.observed - self.shuffled

    @property
    def reproduced(self) -> bool:
        """Whether shuffling gives the overlap again: within a point of all changes, or within its own scatter."""
        return abs(self.excess) < EXCESS_NOTABLE or abs(self.z) < Z_NOTABLE


@remembered
def shuffled_overlap(result: PairResult, mask: str, params: MetricParams) -> Shuffled | None:
    """A mask (a key of `SHUFFLED`) of one result against its shuffles; None where no matrix was shuffled."""
    group: list[Measured] = []
    hits = changed = shuffles = 0
    for m in result.floats:
        found = shuffled_hits(m, mask, params) if PROBE in m.records else None
        if found is not None:
            group.append(m)
            hits, changed, shuffles = hits + int(found[0, 0]), changed + int(found[0, 1]), len(found) - 1
    if not group:
        return None
    key = f"overlap_{mask}"
    shuffled, baseline, z = (METRICS[f"{key}{end}"].pooled(group, params) for end in _ENDS)
    return Shuffled(dict(SHUFFLED)[mask], hits / changed, shuffled, baseline, z, shuffles, len(group))


_ENDS = ("_shuffle", "_baseline", "_shuffle_z")


def masks_remarks(results: Sequence[PairResult], params: MetricParams) -> tuple[str, ...]:
    """A sentence per tuned model on the shuffle null, and one on the two masks, e.g.

    "rl with its own entries shuffled within each matrix and rounded again: principal weights take 0.69× of chance
    (0.69× as it is) and …. Shuffling reproduces the raw overlaps: pooled over matrices they are rounding, not
    geometry."
    """
    known = [(la, r) for la, r in zip(tuned_labels(results), results, strict=True) if measured_masks(r)]
    return (*(_shuffle_sentence(label, r, params) for label, r in known), *_alike(known, params))


def _shuffle_sentence(label: str, result: PairResult, params: MetricParams) -> str:
    found = [s for mask, _ in SHUFFLED if (s := shuffled_overlap(result, mask, params)) is not None and s.baseline > 0]
    if not found:
        return sentences(f"{label}: not shuffled. {_why_not(result)}")
    overlaps = listed(
        [
            f"{s.words} take {ratio(s.shuffled / s.baseline)}× of chance ({ratio(s.observed / s.baseline)}× as it is)"
            for s in found
        ]
    )
    return sentences(
        f"{label} with its own entries shuffled within each matrix and rounded again ({found[0].shuffles} shuffles of "
        f"{found[0].matrices} matrices): {overlaps}. {_conclusion(found)}"
    )


def _conclusion(found: Sequence[Shuffled]) -> str:
    off = "; ".join(f"{s.words} {points(s.excess)}, z {signed(s.z)}" for s in found)
    if all(s.reproduced for s in found):
        return f"Shuffling reproduces the raw overlaps ({off}): pooled over matrices they are rounding, not geometry"
    return f"Shuffling does not reproduce the raw overlaps ({off}): where the update went matters"


def _why_not(result: PairResult) -> str:
    if not any(PROBE in m.records for m in result.floats):
        return "Measure it with the nulls probe"
    finer = any(m.match.tuned.dtype in ("F64", "F32", "F16") for m in result.floats)
    if finer:
        return "The update changed nothing or everything, or bf16 holds every tuned value: rounding is done already"
    return "It is stored in bf16, so the sizes that its steps had before rounding are not known"


def _alike(known: Sequence[tuple[str, PairResult]], params: MetricParams) -> tuple[str, ...]:
    """Of the base alone, so said once."""
    if not known:
        return ()
    share, chance = (known[0][1].pooled(f"jaccard_principal_low{end}", params) for end in ("", "_null"))
    if not (isfinite(share) and isfinite(chance)):
        return ()
    return (
        sentences(
            f"The two masks share {percent(share)} of the weights in either (Jaccard); independent masks of these "
            f"sizes share {percent(chance)}"
        ),
    )
