"""The written verdict on a page: an answer per model, a table of questions, and each sentence above its figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import streamlit as st

from rlviz.metrics import Metric
from rlviz.result import PairResult
from rlviz.types import MetricParams
from rlviz.ui.show import render_plot
from rlviz.ui.text import escaped
from rlviz.verdict import FIGURES, GATES, Clause, Figure, Finding, Gate, Verdict, command, missing_probes, verdict
from rlviz.views import Plot
from rlviz.views.words import listed, tuned_labels

_ANSWERS = {True: "Yes", False: "No", None: "Open"}
_STATEMENTS: dict[Gate, str] = {
    "I": "A policy kept within a KL budget K of its base, at Fisher curvature μ or more, moves by ‖ΔW‖ ≤ √(2K/μ). Two "
    "checkpoints show the length, and the budget it implies.",
    "II": "A short step can turn and stretch a matrix only so far. Does that explain what is seen, does it go beyond "
    "what noise of the same length does, and where does the update point?",
    "III": "A weight changes in bf16 only where its step crosses a rounding boundary, about half a ULP away. What is "
    "seen is the update behind that sieve: a pattern must be more than the sieve's own.",
}


def verdicts_of(results: Sequence[PairResult], params: MetricParams) -> dict[str, Verdict]:
    """The verdict on every tuned model, by its label."""
    return {label: verdict(r, params) for label, r in zip(tuned_labels(results), results, strict=True)}


def render_verdict(verdicts: Mapping[str, Verdict]) -> None:
    """One sentence per model, then every question with its answers, each linked to the figure it rests on.

    Where no model has an update the page ends here: every figure would be empty.
    """
    for label, found in verdicts.items():
        clauses = "; ".join(map(_linked, found.clauses))
        st.markdown(f"#### {escaped(label)}: {escaped(found.prelude)}{clauses}.")
    judged = _judged(verdicts)
    if not judged:
        st.stop()
    st.markdown(_table(judged))
    with st.expander("The verdict in words: every answer with its numbers and the figure it rests on"):
        for label, found in judged.items():
            lines = [
                f"- {escaped(f.question)} **{_ANSWERS[f.holds]}.** {escaped(f.sentence)} [Figure](#{f.figure})"
                for f in found.findings
            ]
            st.markdown("\n".join([f"**{escaped(label)}**", "", *lines]))
        st.markdown("**What cannot be concluded**")
        _render_limits(judged)


def _linked(clause: Clause) -> str:
    """The clause, and an arrow to its figure that stays on its line."""
    return f"{escaped(clause.text)}\u00a0[↓](#{clause.figure})" if clause.figure else escaped(clause.text)


def render_unmeasured(results: Sequence[PairResult]) -> None:
    """What a finished result lacks, and the command line that measures it."""
    for label, result in zip(tuned_labels(results), results, strict=True):
        if lacking := missing_probes(result):
            probes = f"the {listed(lacking)} probe{'s' if len(lacking) > 1 else ''}"
            st.info(
                f"{escaped(label)} was measured without {probes}: questions that rest on them stay open. To measure it:"
            )
            st.code(command(result), language="shell")


def _judged(verdicts: Mapping[str, Verdict]) -> dict[str, Verdict]:
    return {label: found for label, found in verdicts.items() if found.findings}


def render_gate(gate: Gate) -> None:
    """The heading of a gate, and its statement."""
    st.divider()
    st.header(GATES[gate], anchor=f"gate-{gate.lower()}")
    st.markdown(_STATEMENTS[gate])


def render_evidence(
    figure: Figure, plot: Plot, results: Sequence[PairResult], verdicts: Mapping[str, Verdict], metric: Metric
) -> None:
    """One figure under the title that answers link to, below what it answers."""
    st.subheader(FIGURES[figure], anchor=figure)
    judged = _judged(verdicts)
    for findings in zip(*(found.findings for found in judged.values()), strict=True):
        asked = findings[0].asked
        if asked.figure == figure:
            st.markdown(f"**{escaped(asked.text)}**")
            st.caption(escaped(asked.test))
            st.markdown("\n".join(_line(label, f) for label, f in zip(judged, findings, strict=True)))
    render_plot(plot, f"gates_{figure}", results, metric)


def _line(label: str, finding: Finding) -> str:
    return f"- {escaped(label)}: **{_ANSWERS[finding.holds].lower()}.** {escaped(finding.sentence)}"


def render_limits(verdicts: Mapping[str, Verdict]) -> None:
    """What cannot be concluded from any of it."""
    st.divider()
    st.header("What cannot be concluded", anchor="limits")
    _render_limits(_judged(verdicts))


def _render_limits(judged: Mapping[str, Verdict]) -> None:
    limits = dict.fromkeys(limit for found in judged.values() for limit in found.limits)
    st.markdown("\n".join(f"- {escaped(limit)}" for limit in limits))
    for method in dict.fromkeys(found.method for found in judged.values()):
        st.caption(escaped(method))


def _table(judged: Mapping[str, Verdict]) -> str:
    """Questions down, models across. All verdicts ask the same questions in the same order."""
    rows = [f"| Gate | Question | {' | '.join(map(escaped, judged))} |", f"|:--|:--|{':--|' * len(judged)}"]
    gate = None
    for findings in zip(*(found.findings for found in judged.values()), strict=True):
        asked = findings[0].asked
        answers = " | ".join(f"**{_ANSWERS[f.holds]}**{f' · {escaped(f.value)}' if f.value else ''}" for f in findings)
        shown = asked.gate if asked.gate != gate else ""
        rows.append(f"| {shown} | [{escaped(asked.text)}](#{asked.figure}) | {answers} |")
        gate = asked.gate
    return "\n".join(rows)
