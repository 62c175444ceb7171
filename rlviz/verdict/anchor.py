"""Gate I: what the length of the update says about the divergence it was allowed."""

from __future__ import annotations

from rlviz.result import PairResult
from rlviz.types import MetricParams
from rlviz.verdict.finding import Finding, Question
from rlviz.views.words import number, percent

SHORT = Question(
    "I",
    "Was the step held short by a KL budget?",
    "K/μ ≥ ½‖ΔW‖² (Frobenius). Weights do not tell the curvature μ: lengths order runs on one base, and bound no "
    "divergence.",
    "budget",
)


def length(result: PairResult, params: MetricParams) -> Finding:
    """Relative norm and implied budget. Never answered: the curvature μ that turns a length into a KL is unknown."""
    norm, budget = (result.pooled(key, params) for key in ("relative_update_norm", "kl_budget"))
    sentence = f"The update is {percent(norm)} as long as the base's weights, which takes K/μ ≥ {number(budget)}."
    return Finding(SHORT, sentence, None, f"{percent(norm)} of ‖W₀‖")
