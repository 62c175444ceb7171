"""Which of the two a pair shows: the estimate until every tensor is counted, the exact result from then on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rlviz import compare, preview
from rlviz.result import PairResult
from rlviz.sampling import Preview
from rlviz.ui.loading import Pair
from tests.checkpoints import tiny_pair


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> tuple[PairResult, Preview]:
    folder = tmp_path_factory.mktemp("shown")
    pair, store = tiny_pair(folder), str(folder / "store")
    found = compare(*pair, store=store)
    assert isinstance(found, PairResult)
    return found, preview(*pair, store=store)


def under_way(result: PairResult, without: str) -> PairResult:
    """The same run before the records of one probe have landed for the last tensor."""
    *landed, last = result.measured
    rest = {name: record for name, record in last.records.items() if name != without}
    return replace(result, complete=False, measured=(*landed, replace(last, records=rest)))


def shown(result: PairResult | None, estimate: Preview | None) -> PairResult | None:
    return Pair("base", "tuned", "k", "p", result, estimate, None, None).shown


def test_an_estimate_of_the_whole_model_stays_until_every_tensor_is_counted(measured):
    result, estimate = measured
    partial = under_way(result, "coordinate")
    assert shown(partial, estimate) is None
    assert shown(partial, None) is partial, "without an estimate, what has landed is all there is"


def test_the_result_is_shown_while_only_spectra_are_missing(measured):
    result, estimate = measured
    partial = under_way(result, "spectrum")
    assert shown(partial, estimate) is partial
    assert shown(result, estimate) is result


def test_nothing_is_shown_of_nothing(measured):
    assert shown(None, measured[1]) is None
