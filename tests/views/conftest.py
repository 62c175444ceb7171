from __future__ import annotations

import pytest

from rlviz.result import PairResult
from tests.views.pairs import result_of, tuned_weights

HOSTILE = "org/<b>rl&co"  # plotly renders a subset of HTML; ids come from outside


@pytest.fixture(scope="session")
def rl() -> PairResult:
    return result_of(HOSTILE, tuned_weights(step=2e-3, seed=1))


@pytest.fixture(scope="session")
def sft() -> PairResult:
    return result_of("org/sft", tuned_weights(step=5e-2, seed=2))


@pytest.fixture(scope="session")
def results(rl: PairResult, sft: PairResult) -> list[PairResult]:
    return [rl, sft]
