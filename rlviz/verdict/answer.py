"""The answer in one sentence: what is seen, whether where it is seen means anything, and where the update points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rlviz.result import PairResult
from rlviz.types import MetricParams
from rlviz.verdict.finding import Clause, Finding
from rlviz.verdict.isotropy import Alignment, Concentration
from rlviz.verdict.overlaps import WORDS, Mask, Null, Odds, Overlap, exceptions
from rlviz.verdict.precision import ranges_around
from rlviz.views.masks_words import ratio
from rlviz.views.words import listed, number, percent

ALONE = "rounding alone explains where they lie"
AS_NOISE = 1.5
"""An update that turns and shifts at most so many times as far as noise of its length does what noise does."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the answer is made from."""

    masks: Mapping[Mask, Overlap | None]
    odds: Odds | None
    flips: Finding
    energies: Alignment | None
    strongest: Concentration | None
    times_noise: float  # the larger of shift and turn, over simulated noise's; NaN where none was simulated


def answer(result: PairResult, params: MetricParams, found: Evidence) -> tuple[Clause, ...]:
    """Its clauses, each with the figure it rests on."""
    where = _where(result, found)
    return tuple(c for c in (_unchanged(result, params), where, _structure(where, found)) if c is not None)


def _unchanged(result: PairResult, params: MetricParams) -> Clause:
    share = result.pooled("update_sparsity", params)
    if share == 1:
        return Clause("The update does not show in bf16: every weight rounds to the base's", "published")
    kinds = [text.split(" (")[0] for text in ranges_around(share)]
    place = f"as in published {listed(kinds)}" if kinds else "as in no published run"
    return Clause(f"{percent(share)} of weights are unchanged in bf16, {place}", "published")


def _where(result: PairResult, found: Evidence) -> Clause | None:
    known: dict[Mask, Overlap] = {mask: overlap for mask, overlap in found.masks.items() if overlap is not None}
    if not known:
        counted = any("masks" in m.records for m in result.floats)
        return None if counted else Clause("where changes lie was not measured")
    beyond: dict[Mask, Null] = {mask: overlap.decisive for mask, overlap in known.items() if not overlap.explained}
    parts = [_off(mask, null) for mask, null in beyond.items()]
    remarks = [*_odds(found.odds, asked="principal" in beyond), *_binades(found.flips)]
    if parts:
        return Clause(listed([*parts, *remarks]), "overlaps")
    if remarks:
        return Clause(f"no mask differs from rounding alone, but {listed(remarks)}", "overlaps")
    most = max((overlap.decisive.counting for overlap in known.values()), key=lambda tally: tally.differing)
    return Clause(f"{ALONE}{exceptions(most)}", "overlaps")


def _off(mask: Mask, null: Null) -> str:
    """How a mask differs from the null that decides, and in how many matrices."""
    t, words = null.counting, WORDS[mask]
    if not null.leaning:
        return f"matrices disagree on {words}: {t.above} of {t.n} changed more than under {null.name}, {t.below} fewer"
    does, some = ("more", t.above) if null.leaning > 0 else ("fewer", t.below)
    where = f"in {some} of {t.n} matrices " if some else ""
    return f"{where}{does} {words} changed than under {null.name}"


def _odds(found: Odds | None, *, asked: bool) -> list[str]:
    """What the odds within strata add: a difference, or, where a mask has `asked` for it, that there is none."""
    if found is None or not (asked or found.less or found.more or found.disputed):
        return []
    if found.disputed:
        return [f"at equal exponent principal weights have {ratio(found.ratio)}× the odds, matrices disagreeing"]
    often = "less often" if found.less else "more often" if found.more else "about as often as others"
    return [f"among weights of equal exponent principal ones changed {often}"]


def _binades(flips: Finding) -> list[str]:
    if flips.holds is not False:
        return []
    return [f"{flips.value} of the flips lie in other binades than noise puts them"]


def _structure(where: Clause | None, found: Evidence) -> Clause | None:
    if found.energies is None:
        return None
    own = found.strongest is not None and found.strongest.beyond_noise
    plain = where is not None and where.text == ALONE and not (found.energies.beyond_noise or own)
    if plain and not found.times_noise > AS_NOISE:  # also where noise was not simulated
        return Clause("nothing here that noise of its length would not do", "isotropic")
    moved = f", but turns or shifts {number(found.times_noise, 2)}× as far as noise" if plain else ""
    if found.strongest is None:
        return Clause(f"the update {found.energies.words}{moved}", "isotropic")
    directions = "directions of its own" if own else "no direction that noise has not"
    return Clause(f"the update has {directions} and {found.energies.words}{moved}", "isotropic")
