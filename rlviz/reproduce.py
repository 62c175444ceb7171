"""The published table measured again: every pair that can be reached beside the number somebody reported for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from math import isfinite
from typing import Any, Literal

from rlviz import api
from rlviz.engine.run import Report, silent
from rlviz.errors import Cancelled, InvalidInput, Offline, RlvizError
from rlviz.published import PublishedValue, published_values
from rlviz.sampling import Estimate
from rlviz.types import Lens, MetricParams, ModelIdentity
from rlviz.version import __version__

METRIC = "update_sparsity_bf16"
TOLERANCE = 0.01
"""How far a value may lie from the published one, as a share: 1 percentage point."""

_SLACK = 1e-9  # of the comparison with the tolerance: 0.548 - 0.538 is 0.010000000000000009
_OFFLINE_IN_A_ROW = 2  # then the hub, not the model, is what cannot be reached
_NOT_ASKED = f"The hub did not answer for {_OFFLINE_IN_A_ROW} pairs in a row, so it was not asked again."

Verdict = Literal["within", "outside", "unclear", "not reached"]


@dataclass(frozen=True, slots=True)
class Remeasured:
    """Share unchanged in bf16 of one pair; an interval of zero width where every weight was read."""

    share: Estimate
    base: ModelIdentity
    tuned: ModelIdentity


Measure = Callable[[str, str], Remeasured]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row of the published table, and what was measured for it, or why nothing was."""

    published: PublishedValue
    found: Remeasured | None
    reason: str = ""

    @property
    def difference(self) -> float | None:
        """Measured minus published, as a share; None where nothing was measured."""
        return None if self.found is None else self.found.share.estimate - self.published.value

    @property
    def verdict(self) -> Verdict:
        """Whether the published value lies within ± 1 point.

        *within*: at most 1 point from the estimate, and the estimate is known to ± 1 point or better. *outside*: more
        than 1 point from every value in the 95 % interval. *unclear*: the interval is too wide to tell.
        """
        if self.found is None:
            return "not reached"
        share, value, reach = self.found.share, self.published.value, TOLERANCE + _SLACK
        if not share.low - reach <= value <= share.high + reach:
            return "outside"
        near = abs(share.estimate - value) <= reach and share.half_width <= reach
        return "within" if near else "unclear"

    @property
    def remarks(self) -> tuple[str, ...]:
        """What to know before reading the difference: another definition, another measurement, the row's note."""
        p, found = self.published, list[str]()
        if p.tolerance is not None:
            counted = f"|tuned - base| <= {p.tolerance:g}"
            found.append(f"another definition: the paper counts {counted} as unchanged, rlviz what is equal in bf16")
        if p.remeasured is not None:
            value, source = p.remeasured
            found.append(f"re-measured {100 * value:.4g} % in {source}")
        return (*found, p.remark) if p.remark else tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON; shares are fractions, null where there is none."""
        p, found = self.published, self.found
        again = None if p.remeasured is None else {"value": p.remeasured[0], "source": p.remeasured[1]}
        share = found and {"estimate": found.share.estimate, "low": found.share.low, "high": found.share.high}
        return {
            "source": p.source,
            "base": found.base.pinned_ref if found else p.base,
            "tuned": found.tuned.pinned_ref if found else p.tuned or None,
            "method": p.method,
            "data": p.data,
            "published": p.value,
            "tolerance": p.tolerance,
            "remeasured": again,
            "note": p.note,
            "update_sparsity": {Lens.BF16.value: share or None},
            "difference_points": None if self.difference is None else 100 * self.difference,
            "verdict": self.verdict,
            "reason": self.reason or None,
        }


def by_preview(budget: int | str, store: str | None) -> Measure:
    """Measure a pair by sampling at most `budget` bytes of each model; refuses a budget that is none."""
    from rlviz.sampling.budget import asked

    asked(budget, 0, 0.0)

    def measure(base: str, tuned: str) -> Remeasured:
        found = api.preview(base, tuned, budget=budget, store=store)
        return Remeasured(found.pooled.sparsity(Lens.BF16), found.base, found.tuned)

    return measure


def in_full(store: str | None, report: Report = silent) -> Measure:
    """Measure a pair exactly: every weight is read."""

    def measure(base: str, tuned: str) -> Remeasured:
        result = api.compare(base, tuned, probes=("coordinate",), store=store, report=report)
        share = result.pooled("update_sparsity", MetricParams(lens=Lens.BF16))
        return Remeasured(Estimate(share, share, share), result.base, result.tuned)

    return measure


def rows_matching(only: str) -> tuple[PublishedValue, ...]:
    """Rows of the published table whose tuned or base name matches a glob, letter case aside, with or without owner.

    Raises
    ------
    InvalidInput
        Where none does.
    """
    rows = tuple(v for v in published_values(METRIC) if any(_matches(name, only) for name in (v.title, v.base)))
    if not rows:
        raise InvalidInput(f"--only {only}", "matches no pair of the published table", "Try --only '*Qwen*'.")
    return rows


def reproduce(rows: Sequence[PublishedValue], measure: Measure) -> Iterator[Outcome]:
    """Measure the pairs of `rows` in order, each once; an outcome for every row, reached or not."""
    known: dict[tuple[str, str], Outcome] = {}
    offline_in_a_row = 0
    for row in rows:
        pair = row.base, row.tuned
        if pair in known:
            yield Outcome(row, known[pair].found, known[pair].reason)
        elif not row.tuned:
            yield Outcome(row, None, "The paper names no repository of this model.")
        elif offline_in_a_row >= _OFFLINE_IN_A_ROW:
            yield Outcome(row, None, _NOT_ASKED)
        else:
            outcome, offline = _tried(row, measure)
            offline_in_a_row = offline_in_a_row + 1 if offline else 0
            known[pair] = outcome
            yield outcome


def reproduction_dict(outcomes: Sequence[Outcome], method: Literal["preview", "exact"]) -> dict[str, Any]:
    """All outcomes as JSON (schema 1)."""
    verdicts: tuple[Verdict, ...] = ("within", "outside", "unclear", "not reached")
    return {
        "schema": 1,
        "rlviz": __version__,
        "method": method,
        "tolerance_points": 100 * TOLERANCE,
        "summary": {verdict: sum(o.verdict == verdict for o in outcomes) for verdict in verdicts},
        "rows": [o.to_dict() for o in outcomes],
    }


def _tried(row: PublishedValue, measure: Measure) -> tuple[Outcome, bool]:
    """The outcome, and whether the hub itself was out of reach."""
    try:
        found = measure(row.base, row.tuned)
    except Cancelled:
        raise
    except RlvizError as error:
        return Outcome(row, None, str(error)), isinstance(error, Offline)
    if not isfinite(found.share.estimate):
        return Outcome(row, None, "The two models have no float tensor in common."), False
    return Outcome(row, found), False


def _matches(name: str, glob: str) -> bool:
    full = name.lower()
    return any(fnmatchcase(text, glob.lower()) for text in (full, full.rpartition("/")[2]))
