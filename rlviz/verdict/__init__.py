"""The written verdict on one pair: what each gate's tests say, with thresholds, nulls and multiplicity stated."""

from __future__ import annotations

from rlviz.verdict.assemble import verdict
from rlviz.verdict.finding import FIGURES, GATES, Clause, Figure, Finding, Gate, Question, Verdict
from rlviz.verdict.missing import command, missing_probes

__all__ = [
    "FIGURES",
    "GATES",
    "Clause",
    "Figure",
    "Finding",
    "Gate",
    "Question",
    "Verdict",
    "command",
    "missing_probes",
    "verdict",
]
