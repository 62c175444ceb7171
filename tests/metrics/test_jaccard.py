"""How far the two masks of a base are the same set, against sets counted one by one."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlviz.metrics import METRICS
from rlviz.metrics.jaccard import chance_jaccard
from rlviz.types import MetricParams
from tests.metrics.mask_tables import record
from tests.probes.mask_pairs import ALPHAS, Oracle, measure, noisy, pair_of, structured

KEY, NULL = "jaccard_principal_low", "jaccard_principal_low_null"
SHARE = st.floats(0, 1)


@pytest.mark.parametrize("shape", [(96, 64), (64, 96)])
def test_is_the_share_of_the_union_that_is_in_both(shape):
    base = structured(shape)
    pair = pair_of(base, noisy(base, 5e-5, np.random.default_rng(1)))
    oracle, one = Oracle(pair), measure(pair)
    for alpha in ALPHAS:
        params = MetricParams(k=32, alpha=float(alpha))
        principal = oracle.scores(32) >= oracle.threshold(32, alpha)
        low = oracle.low(alpha)
        assert METRICS[KEY].of(one, params) == pytest.approx((principal & low).sum() / (principal | low).sum())
        chance = chance_jaccard(principal.mean(), low.mean())
        assert METRICS[NULL].of(one, params) == pytest.approx(chance)
        assert METRICS[KEY].chance_of(one, params) == pytest.approx(chance)
        assert METRICS[KEY].of(one, params) < chance  # large entries of the leading part are large weights


def test_independent_masks_are_at_chance():
    rng = np.random.default_rng(0)
    p, q = rng.random((2, 400, 400)) < np.array([0.3, 0.2])[:, None, None]
    assert (p & q).sum() / (p | q).sum() == pytest.approx(chance_jaccard(0.3, 0.2), rel=0.03)


@given(SHARE, SHARE)
def test_chance_is_symmetric_and_below_either(p, q):
    found = chance_jaccard(p, q)
    if max(p, q) == 0:
        assert isnan(found)
        return
    assert found == pytest.approx(chance_jaccard(q, p))
    assert 0 <= found <= min(p, q) * (1 + 1e-9)
    assert chance_jaccard(1.0, q) == pytest.approx(q)


def test_pooled_by_counts():
    # of 100 entries 30 principal, 40 low, 10 in both; of 10 entries 2, 4 and none
    one = record([[60, 40]], [[20, 10]], low=[[30, 10]], apart=[[15, 5]])
    two = record([[10, 0]], [[2, 0]], low=[[4, 0]], apart=[[2, 0]])
    params = MetricParams()
    assert METRICS[KEY].of(one, params) == 10 / 60
    assert METRICS[KEY].pooled([one, two], params) == 10 / 66
    assert METRICS[NULL].pooled([one, two], params) == pytest.approx((12 + 0.8) / (58 + 5.2))
