"""Log odds by hand, and within strata against published numbers and an independent implementation."""

from __future__ import annotations

from math import exp, isnan, log

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from statsmodels.stats.contingency_tables import StratifiedTable

from rlviz.metrics import METRICS
from rlviz.types import MetricParams
from tests.metrics.mask_tables import record

PARAMS = MetricParams()
MH = "log_odds_principal_mh"


def value(key, *group):
    return METRICS[key].pooled(group, PARAMS)


def of_tables(tables, **kwargs):
    """A record of tables ``[[changed, unchanged] inside, [changed, unchanged] outside]``, one a stratum."""
    inside, outside = (np.array(tables)[:, row, ::-1] for row in (0, 1))
    return record(inside + outside, inside, **kwargs)


# Admissions to Berkeley in 1973 by department: men admitted and rejected, women admitted and rejected
# (Bickel, Hammel and O'Connell 1975; R's UCBAdmissions). `mantelhaen.test(UCBAdmissions)` prints the odds ratio
# 0.9046968 and its interval 0.7719074 to 1.0603298.
BERKELEY = [
    [[512, 313], [89, 19]],
    [[353, 207], [17, 8]],
    [[120, 205], [202, 391]],
    [[138, 279], [131, 244]],
    [[53, 138], [94, 299]],
    [[22, 351], [24, 317]],
]


def test_published_example():
    one = of_tables(BERKELEY)
    assert exp(value(MH, one)) == pytest.approx(0.9046968, abs=5e-8)
    assert exp(value(f"{MH}_ci_low", one)) == pytest.approx(0.7719074, abs=5e-8)
    assert exp(value(f"{MH}_ci_high", one)) == pytest.approx(1.0603298, abs=5e-8)
    assert exp(value("log_odds_principal", one)) == pytest.approx(1198 * 1278 / (1493 * 557))  # Simpson's paradox


CELL = st.integers(0, 10**6)
TABLES = st.lists(st.tuples(st.tuples(CELL, CELL), st.tuples(CELL, CELL)), min_size=1, max_size=8)


@settings(deadline=None)
@given(TABLES)
def test_against_statsmodels(tables):
    cells = np.array(tables, float)
    cells = cells[cells.sum(axis=(1, 2)) > 0]
    assume(len(cells))
    n = cells.sum(axis=(1, 2))
    assume((cells[:, 0, 0] * cells[:, 1, 1] / n).sum() > 0)
    assume((cells[:, 0, 1] * cells[:, 1, 0] / n).sum() > 0)
    other = StratifiedTable(list(cells))
    one = of_tables(tables)
    low, high = other.logodds_pooled_confint()
    assert value(MH, one) == pytest.approx(other.logodds_pooled, rel=1e-9, abs=1e-9)
    assert value(f"{MH}_ci_low", one) == pytest.approx(low, rel=1e-8, abs=1e-8)
    assert value(f"{MH}_ci_high", one) == pytest.approx(high, rel=1e-8, abs=1e-8)


def test_one_stratum_is_the_plain_table():
    one = of_tables([[[10, 20], [30, 50]]])
    assert value("log_odds_principal", one) == pytest.approx(log(10 * 50 / (20 * 30)))
    assert value(MH, one) == pytest.approx(log(10 * 50 / (20 * 30)))
    # with one table the variance is Woolf's, 1/a + 1/b + 1/c + 1/d
    half = 1.959963984540054 * (1 / 10 + 1 / 20 + 1 / 30 + 1 / 50) ** 0.5
    assert value(f"{MH}_ci_high", one) - value(MH, one) == pytest.approx(half)
    assert value(MH, one) - value(f"{MH}_ci_low", one) == pytest.approx(half)


@settings(deadline=None)
@given(TABLES, TABLES)
def test_tensors_pool_as_strata(first, second):
    together, apart = of_tables(first + second), (of_tables(first), of_tables(second))
    for key in ("log_odds_principal", MH, f"{MH}_ci_low", f"{MH}_ci_high"):
        assert value(key, *apart) == pytest.approx(value(key, together), rel=1e-9, abs=1e-9, nan_ok=True)


@settings(deadline=None)
@given(TABLES, st.integers(2, 50))
def test_exchanging_inside_and_outside_turns_the_sign(tables, times):
    one, other = of_tables(tables), of_tables([(outside, inside) for inside, outside in tables])
    for key in ("log_odds_principal", MH):
        assert value(key, one) == pytest.approx(-value(key, other), rel=1e-9, abs=1e-9, nan_ok=True)
    more = of_tables((times * np.array(tables)).tolist())
    assert value(MH, more) == pytest.approx(value(MH, one), rel=1e-9, abs=1e-9, nan_ok=True)
    width, narrow = (value(f"{MH}_ci_high", x) - value(f"{MH}_ci_low", x) for x in (one, more))
    assert narrow == pytest.approx(width / times**0.5, rel=1e-6, nan_ok=True)


def test_a_stratum_that_flips_alike_inside_and_outside_says_nothing():
    # the mask holds most of the weights that rarely flip: raw odds say much, stratified ones nothing
    one = of_tables([[[9, 891], [1, 99]], [[50, 50], [450, 450]]])
    assert value("log_odds_principal", one) < -1
    assert value(MH, one) == pytest.approx(0, abs=1e-12)
    assert value(f"{MH}_ci_low", one) < 0 < value(f"{MH}_ci_high", one)


@pytest.mark.parametrize(
    "tables", [[[[0, 20], [0, 30]]], [[[20, 0], [30, 0]]], [[[0, 0], [10, 30]]], [[[0, 20], [10, 30]]]]
)
def test_undefined(tables):
    one = of_tables(tables)
    for key in ("log_odds_principal", MH, f"{MH}_ci_low", f"{MH}_ci_high"):
        assert isnan(value(key, one))
