"""The chosen tensor in every result that measured it: what figures about one tensor start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rlviz.result import PairResult
from rlviz.types import Measured, Skipped
from rlviz.views.figure import Plot, blank
from rlviz.views.theme import ThemeName, tuned_colour
from rlviz.views.words import tuned_labels


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """One tuned model's side of the chosen tensor."""

    label: str
    colour: str
    result: PairResult
    measured: Measured


def chosen(results: Sequence[PairResult], name: str, probe: str, theme: ThemeName) -> list[Chosen]:
    """The results in which tensor `name` has a record of `probe`, in order, with label and colour."""
    labelled = zip(tuned_labels(results), results, strict=True)
    return [
        Chosen(label, tuned_colour(i, theme), result, m)
        for i, (label, result) in enumerate(labelled)
        for m in result.measured
        if m.name == name and probe in m.records
    ]


def not_measured(results: Sequence[PairResult], name: str, what: str, theme: ThemeName) -> Plot:
    """An empty figure whose sentence says why: skipped with a reason, or not reached yet."""
    reasons: list[Skipped] = [s for r in results for s in r.skipped if s.name == name]
    if reasons:
        return blank(theme, f"{name}: {what} was not measured. {reasons[0].detail}")
    running = any(not r.complete for r in results)
    return blank(theme, f"{name}: {what} {'has not landed yet' if running else 'is not defined for this tensor'}.")


def default_tensor(result: PairResult) -> str:
    """The tensor shown before one is chosen: the middle one of the matrices inside layers, or of whatever there is."""
    matrices = [m for m in result.measured if m.match.is_matrix and m.layer is not None]
    pool = matrices or list(result.measured)
    return pool[len(pool) // 2].name
