"""From findings to one sentence, and what none of them can show (metric specification, section 7)."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite

from rlviz.metrics.coordinate import n_compared
from rlviz.result import PairResult
from rlviz.types import Lens, MetricParams
from rlviz.verdict.anchor import length
from rlviz.verdict.answer import Evidence, answer
from rlviz.verdict.bounds import tightness, wedin
from rlviz.verdict.finding import Clause, Verdict
from rlviz.verdict.isotropy import alignment, concentration, directions, energy
from rlviz.verdict.movement import rotation, shift, times_noise
from rlviz.verdict.overlaps import MASKS, Mask, Overlap, odds, overlap, overlaps, stratified_odds
from rlviz.verdict.precision import flips, moves, unchanged
from rlviz.verdict.significance import METHOD
from rlviz.views.remember import remembered
from rlviz.views.words import count, masters_published

NOTHING_COUNTED = "Nothing has been counted yet: the verdict appears with the first tensors"

_ALWAYS = (
    "Sparsity alone does not show that RL was used: SFT on in-distribution data leaves 91 % unchanged "
    "(arXiv:2505.11711, Table 5).",
    "Weights do not show what was forgotten (arXiv:2509.04259).",
    "Angles and shifts grow with the length of the update: a run that is called unlike RL may only have gone further.",
)
_BF16_ONLY = (
    "Both sides are published in bf16: what the update did below half a rounding step is lost, and nulls that need its "
    "own sizes cannot be run."
)


@remembered
def verdict(result: PairResult, params: MetricParams) -> Verdict:
    """What one pair shows, gate by gate. Pure: every number is a metric of the result at `params`.

    Overlaps, energies and angles are taken at `params.k` and `params.alpha`; the lens is bf16 throughout, as in what is
    published. A result without an update, or without counts, has no findings.
    """
    params = replace(params, lens=Lens.BF16)
    changed = result.pooled("density", replace(params, lens=Lens.STORED))
    if not isfinite(changed):
        return Verdict((Clause(NOTHING_COUNTED),))
    if changed == 0:
        n = sum(n_compared(m) for m in result.floats if "coordinate" in m.records)
        return Verdict((Clause(f"No update: all {count(n)} weights equal the base's; there is nothing to judge"),))
    masks: dict[Mask, Overlap | None] = {mask: overlap(result, mask, params) for mask in MASKS}
    energies, strongest = alignment(result, params), concentration(result, params)
    of_principal, misplaced = stratified_odds(result, params), flips(result)
    findings = (
        length(result, params),
        rotation(result, params),
        shift(result, params),
        directions(strongest, result),
        energy(energies, result, params),
        wedin(result, params),
        tightness(result, params),
        unchanged(result, params),
        moves(result),
        misplaced,
        *(overlaps(found, mask, result, params) for mask, found in masks.items()),
        odds(of_principal, result, params),
    )
    evidence = Evidence(masks, of_principal, misplaced, energies, strongest, times_noise(result, params))
    landed = sum(bool(m.records) for m in result.measured)
    return Verdict(
        answer(result, params, evidence),
        findings,
        _ALWAYS if masters_published(result) else (*_ALWAYS, _BF16_ONLY),
        METHOD,
        "" if result.complete else f"So far ({landed} of {result.total} tensors): ",
    )
