from __future__ import annotations

from dataclasses import replace

import pytest

from rlviz.metrics import METRICS
from rlviz.result import PairResult
from rlviz.types import Lens, MetricParams
from rlviz.views.words import (
    headline,
    headline_numbers,
    number,
    percent,
    provenance_line,
    shorten,
    tuned_labels,
    value_text,
)
from tests.views.pairs import base_weights, identity, result_of

PARAMS = MetricParams()


@pytest.mark.parametrize(
    ("fraction", "text"),
    [(0.5381726, "53.8 %"), (0.028, "2.8 %"), (0.0034, "0.34 %"), (0.99961, "99.961 %"), (0.999999, "99.9999 %")],
)
def test_percent_never_claims_exactly_all_or_none(fraction: float, text: str) -> None:
    assert percent(fraction) == text


def test_undefined_is_a_dash_and_zero_is_zero() -> None:
    assert percent(float("nan")) == number(float("inf")) == "–"
    assert percent(0.0) == "0 %"
    assert number(0.0) == "0"


def test_angles_are_written_in_degrees() -> None:
    assert value_text(METRICS["max_principal_angle_left"], 0.0087266463) == "0.50°"


def test_labels_are_unique_and_short(rl: PairResult) -> None:
    same = replace(rl, tuned=identity("other/sft"))
    again = replace(rl, tuned=identity("org/sft"))
    labels = tuned_labels([rl, same, again])
    assert len(set(labels)) == 3
    assert all(len(label) <= 30 for label in labels)
    assert shorten("a" * 20 + "b" * 20, 11) == "aaaaa…bbbbb"


def test_headline_states_every_share_and_the_fp32_gap(results: list[PairResult]) -> None:
    sentence = headline(results, PARAMS)
    for result in results:
        assert percent(result.pooled("update_sparsity", PARAMS)) in sentence
        assert percent(result.pooled("update_sparsity", MetricParams(lens=Lens.FP32))) in sentence
    assert "in fp32" in sentence
    assert sentence.endswith(".")


def test_headline_admits_unpublished_masters() -> None:
    both_bf16 = result_of("org/bf16", base_weights(), dtype="BF16")
    assert "fp32 masters were not published" in headline([both_bf16], PARAMS)


def test_headline_of_nothing_counted(rl: PairResult) -> None:
    empty = replace(rl, measured=tuple(replace(m, records={}) for m in rl.measured))
    assert headline([empty], PARAMS) == "Nothing has been counted yet."


def test_headline_numbers_carry_a_null(rl: PairResult) -> None:
    numbers = headline_numbers(rl, PARAMS)
    assert 3 <= len(numbers) <= 4
    assert all(n.null and n.help for n in numbers)
    assert "RL 36.3 % to 91.7 %" in numbers[0].null


def test_provenance_names_both_sides_and_the_cost(rl: PairResult) -> None:
    line = provenance_line(rl)
    assert "base @0123456" in line
    assert "12 MB read in 1.5 s" in line
    assert "not finished" in provenance_line(replace(rl, provenance=None))
