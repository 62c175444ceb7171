"""The verdict on the controls: nothing, noise, dense SFT, and runs that were really trained, as stored and in bf16."""

from __future__ import annotations

import pytest

from bench.verdicts import beyond, controls, like_rl, row
from rlviz.types import MetricParams
from rlviz.verdict import FIGURES, GATES, Finding, Verdict, verdict
from rlviz.verdict.overlaps import BEYOND

NOTHING = "nothing here that noise of its length would not do"
BY_ROUNDING = "rounding alone explains where they lie"


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory) -> dict[str, Verdict]:
    """By the first words of what a pair is; matrices of the synthetic pairs are small."""
    pairs = controls(tmp_path_factory.mktemp("controls"), "tiny", 8)
    return {name.split(" (")[0]: verdict(result, MetricParams()) for name, result in pairs}


def finding(found: Verdict, question: str) -> Finding:
    [one] = [f for f in found.findings if question in f.question]
    return one


def test_a_model_against_itself_is_not_judged(verdicts):
    found = verdicts["a model against itself"]
    assert found.answer.startswith("No update: all ")
    assert not found.findings


def test_noise_is_sparse_like_rl_and_nothing_else(verdicts):
    found = verdicts["isotropic noise, rounded to bf16"]
    assert [c.text for c in found.clauses[1:]] == [BY_ROUNDING, NOTHING]
    assert "as in published RL" in found.answer
    assert "share unchanged" in like_rl(found)
    assert beyond(found) == []


def test_dense_sft_is_like_published_sft(verdicts):
    for name in ("synthetic dense SFT: rank 16 and noise", "SFT, new format"):
        found = verdicts[name]
        assert "as in published SFT" in found.answer
        assert like_rl(found) == []
        assert any("strong directions" in b for b in beyond(found))
        assert NOTHING not in found.answer


def test_a_real_rl_run_is_sparse_by_rounding_and_points_somewhere(verdicts):
    """What is known of this run: masks are rounding's, the energy lies on the principal block."""
    for name in ("RL, GRPO", "the same RL run, published in bf16"):
        found = verdicts[name]
        assert found.answer.startswith("40.4 % of weights are unchanged in bf16, as in published RL")
        assert found.clauses[1].text.startswith(BY_ROUNDING)  # but for single matrices, which are counted
        assert "directions of its own and lies on the principal block" in found.answer
        assert [b.split(" (")[0] for b in beyond(found)] == ["strong directions", "energy on the principal block"]


def test_what_decides_is_named(verdicts):
    """Shuffling needs finer weights: in bf16 only noise is left to compare with, and the sentence says so."""
    stored, rounded = (
        next(f for f in verdicts[name].findings if f.asked is BEYOND["principal"])
        for name in ("RL, GRPO", "the same RL run, published in bf16")
    )
    assert "its own steps in random places" in stored.sentence
    assert "in random places" not in rounded.sentence
    assert "Noise and rounding explain it" in rounded.sentence
    assert any("published in bf16" in limit for limit in verdicts["the same RL run, published in bf16"].limits)


def test_sft_at_the_learning_rate_of_rl_differs_in_nothing_but_a_published_range(verdicts):
    """Why sparsity alone proves nothing."""
    rl, sft = verdicts["RL, GRPO"], verdicts["SFT at RL's learning rate"]
    assert all(v.clauses[1].text.startswith(BY_ROUNDING) for v in (rl, sft))
    assert [b.split(" (")[0] for b in beyond(sft)] == [b.split(" (")[0] for b in beyond(rl)]
    assert (like_rl(rl), like_rl(sft)) == (["share unchanged"], [])


def test_rows_of_the_readme(verdicts):
    line = row("noise", verdicts["isotropic noise, rounded to bf16"])
    assert line.count("|") == 5
    assert line.endswith("| – |")


def test_the_demo_run_is_sparse_by_rounding_and_on_the_principals(verdicts):
    demo = verdicts["RL, GRPO"]
    assert demo.answer.startswith(
        "40.4 % of weights are unchanged in bf16, as in published RL; rounding alone explains"
    )
    assert "on the principal block" in demo.answer
    for question, holds in (
        ("unchanged one of published RL", True),
        ("keep off the principal", False),
        ("directions that noise", True),
        ("avoid principal", False),
        ("prefer small", False),
        ("less likely", False),
        ("KL budget", None),
    ):
        assert finding(demo, question).holds is holds, question
    assert "0.69× of chance" in finding(demo, "avoid principal").sentence
    assert "0.69×, null 0.69×" in finding(demo, "avoid principal").value
    assert "its own steps in random places" in finding(demo, "avoid principal").sentence
    assert "what noise gives" in finding(demo, "leading directions").sentence


def test_every_finding_names_its_gate_and_figure_and_every_limit_is_stated(verdicts):
    demo = verdicts["RL, GRPO"]
    for f in demo.findings:
        assert f.gate in GATES
        assert f.figure in FIGURES
        assert f.question.endswith("?")
        assert f.sentence.endswith(".")
        assert f.asked.test.endswith(".")
        assert "nan" not in f.sentence.lower().split()
        assert "–" not in f.sentence, "an undefined number in a sentence"
    assert [f.gate for f in demo.findings] == sorted((f.gate for f in demo.findings), key=list(GATES).index)
    assert "Sparsity alone does not show that RL was used" in demo.limits[0]
    assert any("forgotten" in limit for limit in demo.limits)
    assert "Benjamini-Hochberg" in demo.method
