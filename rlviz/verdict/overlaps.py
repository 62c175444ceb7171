"""Gate III: whether where changes lie says more than rounding does, against noise and against the update shuffled.

A distance from isotropic noise is no geometry yet: an update's steps differ in size from row to row, noise's do not. So
where finer weights are stored the update's own steps in random places decide, and "less likely" is said of the odds
within strata of equal rounding alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, isfinite, log
from typing import Literal

import numpy as np

from rlviz.metrics import METRICS
from rlviz.metrics.masks import table
from rlviz.result import PairResult
from rlviz.types import Measured, MetricParams
from rlviz.verdict.finding import Finding, Question
from rlviz.verdict.missing import no_masks
from rlviz.verdict.significance import Tally, agree_in_sign, signs_of_scores, signs_of_shuffles
from rlviz.views.masks_words import ratio
from rlviz.views.words import listed, number, percent, setting

Mask = Literal["principal", "low_magnitude"]
NullName = Literal["isotropic noise", "its own steps in random places"]
NOISE, SHUFFLED = "isotropic noise", "its own steps in random places"
_SUFFIXES: Mapping[NullName, tuple[str, str]] = {NOISE: ("_null", "_z"), SHUFFLED: ("_shuffle", "_shuffle_z")}

SMALL_EXCESS = 0.01
"""A matrix counts as off its null where it is so significantly and by more than one percentage point of its changes."""

FEW = 0.05
"""A null explains what lies within `SMALL_EXCESS` of it over all changes, with so few matrices to either side."""

FEWEST = 5
"""A matrix is tested where its null expects as many entries in every cell of mask × changed: else z is not normal."""

SMALL_ODDS = log(1.05)
"""Odds that differ by less than 5 % count as equal."""

WORDS: Mapping[Mask, str] = {"principal": "principal weights", "low_magnitude": "small weights"}
MASKS: tuple[Mask, ...] = tuple(WORDS)

OPDG = "arXiv:2606.07082v3, one pair each at α = 0.3"
_PUBLISHED: Mapping[Mask, str] = {
    "principal": f"Published shares ({OPDG}): RL 26.7 %, on-policy distillation 27.3 %, SFT 29.7 %",
    "low_magnitude": f"Published shares ({OPDG}): RL 73.5 %, on-policy distillation 53.6 %, SFT 31.9 %",
}
_BEYOND = (
    "Null: isotropic noise and rounding; where finer weights are stored also the update's own steps in random places, "
    f"which then decides. Counts where over {number(100 * FEW, 1)} % of the matrices lie to one side, significantly "
    f"and by over {number(100 * SMALL_EXCESS, 1)} point of their changes, or all changes together are by as much."
)
BEYOND: Mapping[Mask, Question] = {
    "principal": Question(
        "III",
        "Do changes avoid principal weights beyond rounding?",
        f"{_PUBLISHED['principal']}. {_BEYOND}",
        "overlaps",
    ),
    "low_magnitude": Question(
        "III",
        "Do changes prefer small weights beyond rounding?",
        f"{_PUBLISHED['low_magnitude']}. {_BEYOND}",
        "overlaps",
    ),
}
ODDS = Question(
    "III",
    "Is a principal weight less likely to change than others of its exponent?",
    "Odds within strata of equal rounding (Mantel-Haenszel): 1 is no difference. Counts from 5 % on where the 95 % "
    "interval excludes 1 and the matrices agree (sign test at 1 %): the interval takes entries as independent, and is "
    "too narrow where changes come in stripes.",
    "odds",
)


@dataclass(frozen=True, slots=True)
class Null:
    """What a null gives for an overlap, pooled over the matrices where it is defined, beside what was observed there.

    `typical` is the median over matrices of the distance between the two; `tally` counts the matrices tested that lie
    significantly off the null, and `counting` those of them that do so by more than `SMALL_EXCESS`.
    """

    name: NullName
    observed: float
    expected: float
    typical: float
    tally: Tally
    counting: Tally

    @property
    def explains(self) -> bool:
        """Whether it gives the overlap by itself, see `SMALL_EXCESS` and `FEW`."""
        most = max(self.counting.above, self.counting.below)
        return most <= FEW * self.counting.n and abs(self.excess) <= SMALL_EXCESS

    @property
    def excess(self) -> float:
        """Observed less expected, of all changes."""
        return self.observed - self.expected

    @property
    def leaning(self) -> int:
        """To which side of the null the matrices lie that count: 1 above, −1 below, 0 where they disagree.

        A minority of up to `FEW` of all is no disagreement; where no matrix counts, all changes together say it.
        """
        above, below = self.counting.above, self.counting.below
        if not above and not below:
            return 1 if self.excess > 0 else -1
        if min(above, below) > FEW * self.counting.n or above == below:
            return 0
        return 1 if above > below else -1


@dataclass(frozen=True, slots=True)
class Overlap:
    """A mask's share of all changes and its nulls, the most telling last: it decides."""

    observed: float
    baseline: float
    nulls: tuple[Null, ...]

    @property
    def decisive(self) -> Null:
        """The update's own steps shuffled where that could be done, else noise."""
        return self.nulls[-1]

    @property
    def explained(self) -> bool:
        """Whether the most telling null gives the overlap by itself."""
        return self.decisive.explains


def overlap(result: PairResult, mask: Mask, params: MetricParams) -> Overlap | None:
    """One overlap against its nulls; None where it is undefined, was not measured, or no matrix can be tested.

    Against noise plus rounding, and, where the stored update is finer than bf16, against its own entries shuffled:
    noise has one size per matrix, an update need not.
    """
    nulls = tuple(null for name in _SUFFIXES if (null := null_of(result, mask, name, params)) and null.tally.n)
    if not nulls:
        return None
    observed, baseline = (result.pooled(f"overlap_{mask}{end}", params) for end in ("", "_baseline"))
    return Overlap(observed, baseline, nulls)


def null_of(result: PairResult, mask: Mask, name: NullName, params: MetricParams) -> Null | None:
    """One null of one overlap; None where it is defined for no matrix."""
    metric = METRICS[f"overlap_{mask}"]
    null, score = (METRICS[f"overlap_{mask}{suffix}"] for suffix in _SUFFIXES[name])
    group = [m for m in result.floats if isfinite(null.of(m, params))]
    if not group:
        return None

    def distance(measured: Measured) -> float:
        return metric.of(measured, params) - null.of(measured, params)

    tested = [m for m in group if _testable(m, mask, null.of(m, params), params)]
    z, off = (np.array([value(m) for m in tested]) for value in (lambda m: score.of(m, params), distance))
    if name == SHUFFLED:  # every record of one run has as many shuffles
        signs = signs_of_shuffles(z, int(group[0].records["nulls"].params["shuffles"]))
    else:
        signs = signs_of_scores(z)
    n = int(np.isfinite(z).sum())
    tally, counting = Tally.of(signs, n), Tally.of(np.where(np.abs(off) > SMALL_EXCESS, signs, 0), n)
    typical = float(np.median([abs(distance(m)) for m in group]))
    return Null(name, metric.pooled(group, params), null.pooled(group, params), typical, tally, counting)


def _testable(measured: Measured, mask: Mask, share: float, params: MetricParams) -> bool:
    """Whether a null that puts this share of the changes into the mask expects `FEWEST` in each cell of the table."""
    found = table(measured, mask, params)
    inside = share * found.n_changed
    outside = found.n_changed - inside
    return min(inside, outside, found.size - inside, found.n - found.size - outside) >= FEWEST


def overlaps(found: Overlap | None, mask: Mask, result: PairResult, params: MetricParams) -> Finding:
    """Whether changes avoid (principal) or prefer (small) weights beyond what rounding alone makes of noise."""
    asked, sign = BEYOND[mask], -1 if mask == "principal" else 1
    if found is None:
        return asked.open(no_masks(result, params))
    sentence = (
        f"{WORDS[mask].capitalize()} (α = {setting(params.alpha)}) take {percent(found.observed)} of the changes, "
        f"{ratio(found.observed / found.baseline)}× of chance; {listed([_against(null) for null in found.nulls])}. "
        f"{_conclusion(found)}"
    )
    observed, null = (ratio(share / found.baseline) for share in (found.observed, found.decisive.expected))
    holds = not found.explained and found.decisive.leaning == sign
    beyond = "" if found.explained else f"{WORDS[mask]} ({observed}× of chance against {null}×)"
    return Finding(asked, sentence, holds, f"{observed}×, null {null}×", beyond)


def _against(null: Null) -> str:
    t = null.tally
    return (
        f"{null.name}, rounded, {'puts' if null.name == NOISE else 'put'} {percent(null.expected)} there "
        f"({number(100 * null.typical)} points off in the median; of {t.n} matrices tested {t.above} lie significantly "
        f"above, {t.below} below)"
    )


def _conclusion(found: Overlap) -> str:
    null = found.decisive
    if found.explained:
        said = "Rounding explains it" if null.name == SHUFFLED else "Noise and rounding explain it"
        return f"{said}{exceptions(null.counting)}."
    t, points = null.counting, f"{number(100 * abs(null.excess))} points {'more' if null.excess > 0 else 'fewer'}"
    off = f"{points} over all changes, and by over a point {t.above} of {t.n} matrices above, {t.below} below"
    if null.name == SHUFFLED:
        return f"Rounding does not explain it: {off}."
    return f"Isotropic noise does not explain it: {off}. Steps of unequal size might; only finer weights would tell."


def exceptions(counting: Tally) -> str:
    """The matrices that a null does not explain although it explains the pair, as the end of a sentence."""
    return f", but for {counting.differing} of {counting.n} matrices" if counting.differing else ""


@dataclass(frozen=True, slots=True)
class Odds:
    """Odds of change of principal weights over those of others within strata, pooled, and the matrices behind them.

    `below` of `n` matrices have odds below 1; `agree` says whether a sign test finds that they lean to one side.
    """

    ratio: float
    low: float
    high: float
    below: int
    n: int
    agree: bool

    @property
    def less(self) -> bool:
        """Principal weights are less likely to change, by more than `SMALL_ODDS` and beyond chance."""
        return self.agree and self.high < 1 and log(self.ratio) < -SMALL_ODDS and 2 * self.below > self.n

    @property
    def more(self) -> bool:
        """They are more likely to, likewise."""
        return self.agree and self.low > 1 and log(self.ratio) > SMALL_ODDS and 2 * self.below < self.n

    @property
    def disputed(self) -> bool:
        """The pooled odds differ by more than `SMALL_ODDS` and beyond chance, but the matrices do not agree."""
        apart = self.high < 1 or self.low > 1
        return apart and abs(log(self.ratio)) > SMALL_ODDS and not (self.less or self.more)

    @property
    def said(self) -> str:
        """What that comes to."""
        if self.less or self.more:
            return f"{'less' if self.less else 'more'} likely"
        if abs(log(self.ratio)) <= SMALL_ODDS:
            return "equal to within 5 %"
        return "the interval includes 1" if self.low <= 1 <= self.high else "the matrices do not agree"


def stratified_odds(result: PairResult, params: MetricParams) -> Odds | None:
    """Mantel-Haenszel odds over strata of equal rounding; None where undefined."""
    keys = ("log_odds_principal_mh", "log_odds_principal_mh_ci_low", "log_odds_principal_mh_ci_high")
    value, low, high = (result.pooled(key, params) for key in keys)
    if not all(map(isfinite, (value, low, high))):
        return None
    each = np.array([METRICS[keys[0]].of(m, params) for m in result.floats])
    known = each[np.isfinite(each)]
    return Odds(exp(value), exp(low), exp(high), int(np.sum(known < 0)), known.size, agree_in_sign(known))


def odds(found: Odds | None, result: PairResult, params: MetricParams) -> Finding:
    """Odds of change of principal weights against others of the same exponent: free of the magnitude confound."""
    if found is None:
        return ODDS.open(no_masks(result, params))
    sentence = (
        f"Within strata of equal rounding the odds are {ratio(found.ratio)}× (95 % interval {number(found.low, 3)} to "
        f"{number(found.high, 3)}, below 1 in {found.below} of {found.n} matrices): {found.said}."
    )
    value = f"odds {ratio(found.ratio)}×"
    beyond = f"{value} within strata of equal rounding" if found.less or found.more else ""
    return Finding(ODDS, sentence, found.less, value, beyond)
