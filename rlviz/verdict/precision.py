"""Gate III: how much of the update is seen in bf16, and whether it is seen where and as noise would be."""

from __future__ import annotations

from dataclasses import replace
from math import isfinite

from rlviz.metrics.noise_flips import misplaced_flips, one_ulp_shares
from rlviz.published import KINDS, published_range, published_values
from rlviz.result import PairResult
from rlviz.types import Lens, MetricParams
from rlviz.verdict.finding import Finding, Question
from rlviz.verdict.missing import no_noise
from rlviz.views.words import listed, masters_published, number, percent

MISPLACED = 0.05
"""Flips follow rounding where at most this share of them lies in other binades than noise would put them."""

ONE_STEP = 0.05
"""One-ULP moves are as many as noise makes within five percentage points."""


def ranges_around(share: float) -> list[str]:
    """The published ranges of shares unchanged in bf16 that `share` lies in, e.g. ["RL (36.3 % to 91.7 %)"]."""
    return [f"{kind} ({percent(low)} to {percent(high)})" for kind, low, high in _ranges() if low <= share <= high]


def _ranges() -> list[tuple[str, float, float]]:
    values = published_values("update_sparsity_bf16")
    found = [(kind, published_range([v for v in values if v.kind == kind])) for kind in KINDS]
    words = {"preference": "preference tuning"}
    return [(words.get(kind, kind), *span) for kind, span in found if span is not None]


def _published() -> str:
    spans = listed([f"{kind} {percent(low)} to {percent(high)}" for kind, low, high in _ranges()])
    return f"Published shares unchanged in bf16: {spans}."


UNCHANGED = Question("III", "Is the share unchanged one of published RL?", _published(), "published")
FLIPS = Question(
    "III",
    "Do weights flip where rounding lets noise flip them?",
    f"At most {number(100 * MISPLACED, 1)} % of the flips lie in other binades than noise, flipping as many, has them.",
    "flips",
)
MOVES = Question(
    "III",
    "Do changed weights move by one ULP as often as noise would move them?",
    f"Share of one-ULP moves within {number(100 * ONE_STEP, 1)} points of that of isotropic noise that flips as many "
    "entries.",
    "ulp",
)


def unchanged(result: PairResult, params: MetricParams) -> Finding:
    """The share unchanged in bf16 among published ranges, beside what is unchanged as stored."""
    share, stored = (result.pooled("update_sparsity", replace(params, lens=lens)) for lens in (Lens.BF16, Lens.STORED))
    inside = ranges_around(share)
    place = f"within the published range of {listed(inside)}" if inside else "in no published range"
    if masters_published(result):
        hidden = result.pooled("hidden_fraction", replace(params, lens=Lens.BF16))
        finer = f"As stored it is {percent(stored)}: bf16 hides {percent(hidden)} of the changes."
    else:
        finer = "What finer weights would show is not known: both sides are published in bf16."
    held = any(text.startswith("RL ") for text in inside)
    return Finding(UNCHANGED, f"{percent(share)} of weights are unchanged, {place}. {finer}", held, percent(share))


def moves(result: PairResult) -> Finding:
    """Whether steps are as short as those of isotropic noise that flips as many entries."""
    group = [m for m in result.floats if "coordinate" in m.records]
    found = one_ulp_shares(group)
    if found is None:
        return MOVES.open(no_noise(result))
    seen, of_noise = found
    sentence = (
        f"Of what changed in bf16, {percent(seen)} moved by one ULP; noise would move {percent(of_noise)} so far."
    )
    value, as_noise = f"{percent(seen)}, noise {percent(of_noise)}", abs(seen - of_noise) <= ONE_STEP
    return Finding(MOVES, sentence, as_noise, value, "" if as_noise else f"one-ULP moves ({value})")


def flips(result: PairResult) -> Finding:
    """Whether the flip rate by exponent is that of isotropic noise that flips as many entries."""
    share = misplaced_flips(m for m in result.floats if "coordinate" in m.records)
    if not isfinite(share):
        return FLIPS.open(no_noise(result))
    sentence = f"{percent(share)} of the flips lie in other binades than noise puts them."
    beyond = "" if share <= MISPLACED else f"flips in other binades ({percent(share)})"
    return Finding(FLIPS, sentence, share <= MISPLACED, percent(share), beyond)
