"""What the intervals promise, checked by hand and by brute force."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import beta, binom

from rlviz.sampling.intervals import Norms, Shares, norm_intervals, share_intervals


def shares(p, v, units, *, df=30.0, unknown=0.0, floor=0.0, ceiling=1.0, fixed=0.0, weight=None, drawn=None):
    one = np.ones((1, 1))
    row = np.ones(1)
    weight = 1 / max(units, 1) if weight is None else weight
    drawn = units * weight if drawn is None else drawn
    return Shares(
        estimate=p * one, p=p * one, v=v * one, df=df * one, floor=floor * one, ceiling=ceiling * one,
        fixed=fixed * one, drawn=drawn * row, weight=weight * row, equal=units * row, unknown=unknown * row,
    )  # fmt: skip


def limits(*args, **kwargs):
    low, high = share_intervals(shares(*args, **kwargs))
    return float(low[0, 0]), float(high[0, 0])


@pytest.mark.parametrize("units", [1, 2, 7, 40])
def test_where_all_units_are_unchanged_the_upper_limit_is_that_of_clopper_and_pearson(units):
    low, high = limits(0.0, 0.0, units)
    assert low == 0
    assert high == pytest.approx(beta.ppf(0.975, 1, units), abs=1e-9)


def test_the_bound_holds_for_every_binomial():
    units = 6
    for truth in np.linspace(0.01, 0.99, 33):
        hits = np.arange(units + 1)
        held = [limits(k / units, 0.01, units)[0] <= truth <= limits(k / units, 0.01, units)[1] for k in hits]
        assert binom.pmf(hits[held], units, truth).sum() >= 0.95


@pytest.mark.parametrize("weights", [(0.5, 0.1, 0.1, 0.1, 0.1, 0.1), (0.25, 0.25, 0.25, 0.125, 0.125)])
def test_the_bound_holds_for_unequal_weights_too(weights):
    """Every outcome of units that are changed or unchanged, likelier where they weigh more."""
    weights, misses = np.array(weights), 0.0
    chances = np.minimum(2.5 * weights, 1)
    for outcome in product((0, 1), repeat=weights.size):
        p = float(weights @ outcome)
        low, high = limits(p, 0.0, weights.size, drawn=1.0, weight=weights.max())
        if not low <= weights @ chances <= high:
            misses += float(np.prod(np.where(outcome, chances, 1 - chances)))
    assert misses <= 0.05


def test_many_differing_units_give_nearly_the_t_interval():
    low, high = limits(0.4, 0.01**2, 100, df=99.0)
    t = 2.081  # of 99 degrees of freedom at 96 %: a hundredth in reserve
    assert (low, high) == pytest.approx((0.4 - t * 0.01, 0.4 + t * 0.01), abs=2e-4)


def test_what_was_not_read_may_be_anything():
    known, half = limits(0.4, 1e-4, 100), limits(0.4, 1e-4, 100, unknown=0.5)
    assert half == pytest.approx((known[0] / 2, known[1] / 2 + 0.5))


def test_what_was_read_is_certain():
    assert limits(0.5, 0.0, 2, floor=0.45, ceiling=0.55) == (0.45, 0.55)


def test_everything_read_is_exact():
    assert limits(0.3, 0.0, 0, fixed=0.3, weight=0.0) == pytest.approx((0.3, 0.3))


def test_a_norm_is_unbounded_where_nothing_bounds_it():
    def interval(ratio, v, *, whole=False, bounded=True):
        row = np.ones(1)
        low, high = norm_intervals(Norms(ratio * row, v * row, 20.0 * row, np.array([whole]), np.array([bounded])))
        return float(low[0]), float(high[0])

    assert interval(0.0, 0.0, bounded=False) == (0.0, np.inf)
    assert interval(0.04, 0.0, whole=True) == pytest.approx((0.2, 0.2))
    low, high = interval(0.04, 0.001**2)
    assert 0 < low < 0.2 < high < 0.21
    assert np.isnan(interval(np.nan, np.nan, bounded=False)[0])
