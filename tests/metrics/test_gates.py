"""The bounds of Gate II as theorems, the printed bound's counter-example, and the flips that noise would make."""

from __future__ import annotations

from dataclasses import replace
from math import isnan

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlviz.metrics import METRICS
from rlviz.metrics.coordinate_series import flip_rate_by_exponent
from rlviz.metrics.gates import ky_fan_ratio, largest_sine, wedin_curve, wedin_printed, wedin_rigorous, weyl_ratio
from rlviz.metrics.noise_flips import expected_flips, misplaced_flips, noise_flip_rate, one_ulp_shares
from rlviz.types import MetricParams
from tests.metrics.test_coordinate import measure as counted
from tests.probes.spectrum_pairs import demo_pairs, haar, measure, measure_pair

BF16 = ml_dtypes.bfloat16
RATIOS = ("weyl_ratio", "hoffman_wielandt_ratio", "ky_fan_ratio")
PARAMS = MetricParams(k=8)
ROUNDING = 1e-9


def value(key, measured, params=PARAMS):
    return METRICS[key].of(measured, params)


@st.composite
def pairs(draw):
    """A base with a decaying spectrum and an update of any size, dense, of low rank, or along the base's own axes."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    shape = draw(st.integers(2, 24)), draw(st.integers(2, 24))
    r = min(shape)
    left, right = haar(rng, shape[0], r), haar(rng, shape[1], r)
    base = (left * np.sort(rng.lognormal(0, draw(st.floats(0, 2)), r))[::-1]) @ right.T
    kind = draw(st.sampled_from(("dense", "rank one", "aligned")))
    if kind == "dense":
        step = rng.standard_normal(shape)
    elif kind == "rank one":
        step = np.outer(rng.standard_normal(shape[0]), rng.standard_normal(shape[1]))
    else:
        step = (left * rng.standard_normal(r)) @ right.T
    return base, base + 10.0 ** draw(st.floats(-4, 1)) * step


@given(pairs())
def test_no_singular_value_moves_further_than_the_bounds(pair):
    measured = measure(*pair)
    for key in RATIOS:
        assert 0 <= value(key, measured) <= 1 + ROUNDING


@given(pairs())
def test_the_rigorous_bound_holds_wherever_it_applies(pair):
    measured = measure(*pair)
    curve = wedin_curve(measured)
    assert curve is None or not np.any(curve.observed > curve.rigorous + 1e-6)
    for k in range(1, min(measured.shape)):
        bound = value("wedin_rigorous", measured, MetricParams(k=k))
        assert isnan(bound) or largest_sine(measured, MetricParams(k=k)) <= bound + 1e-6


def test_the_rigorous_bound_holds_and_says_something_on_trained_weights():
    """A property that is never put to the test proves nothing: here the bound is below 1 at many k."""
    curves = [wedin_curve(measure_pair(pair)) for pair in demo_pairs("rl")[:12]]
    assert sum(int(c.says_something.sum()) for c in curves) >= 10
    assert all(np.all(c.observed[c.says_something] <= c.rigorous[c.says_something]) for c in curves)


def test_the_printed_bound_is_no_theorem():
    """W0 = diag(1, 0), ΔW = diag(-.51, .51): both directions change places, at a printed bound of .51."""
    base = np.diag([1.0, 0.0])
    measured = measure(base, base + np.diag([-0.51, 0.51]))
    first = MetricParams(k=1)
    assert largest_sine(measured, first) == pytest.approx(1)
    assert value("wedin_printed", measured, first) == pytest.approx(0.51)
    assert value("wedin_rigorous", measured, first) == pytest.approx(0.51 / 0.49)
    assert value("wedin_rigorous", measured, first) > 1, "vacuous: it claims nothing that fails here"
    assert not wedin_curve(measured) or not wedin_curve(measured).says_something.any()


def test_the_rigorous_bound_applies_below_the_gap_only():
    assert wedin_rigorous(0.4, 1.0) == pytest.approx(2 / 3)
    assert isnan(wedin_rigorous(1.0, 1.0))
    assert isnan(wedin_rigorous(1.5, 1.0))
    assert isnan(wedin_printed(0.1, 0.0))
    assert isnan(wedin_rigorous(0.1, 0.0))


def test_tight_pairs_reach_the_bounds():
    """An update along the base's own leading axis is as effective as any: all three are equalities."""
    rng = np.random.default_rng(0)
    left, right, sigma = haar(rng, 40, 20), haar(rng, 30, 20), np.linspace(3, 1, 20)
    base = (left * sigma) @ right.T
    measured = measure(base, base + 0.1 * np.outer(left[:, 0], right[:, 0]))
    for key in RATIOS:
        assert value(key, measured) == pytest.approx(1, rel=1e-9)
    rotation = (left * sigma) @ right.T @ haar(rng, 30, 30)  # turned as a whole: no value moves
    for key in RATIOS:
        assert value(key, measure(base, rotation)) < 1e-9


def test_ky_fan_sees_what_cancels_in_no_single_value():
    base, tuned = np.array([3.0, 2.0, 1.0]), np.array([3.1, 2.1, 1.1])
    update = np.array([0.2, 0.1, 0.1])
    assert weyl_ratio(base, tuned, update) == pytest.approx(0.5)
    assert ky_fan_ratio(base, tuned, update) == pytest.approx(0.3 / 0.4)


def test_hoffman_wielandt_pools_squares():
    rng = np.random.default_rng(1)
    base = rng.standard_normal((30, 20))
    group = [measure(base, base + step * rng.standard_normal((30, 20))) for step in (0.01, 0.3)]
    found = [m.records["spectrum"].fields for m in group]
    moved = sum(np.sum((f["singular_values_tuned"] - f["singular_values_base"]) ** 2) for f in found)
    expected = np.sqrt(moved / sum(np.sum(f["singular_values_update"] ** 2) for f in found))
    assert METRICS["hoffman_wielandt_ratio"].pooled(group, PARAMS) == pytest.approx(expected)


def test_no_update_has_no_tightness_and_bounds_of_zero():
    base = np.random.default_rng(2).standard_normal((30, 20))
    measured = measure(base, base)
    assert all(isnan(value(key, measured)) for key in RATIOS)
    assert value("wedin_rigorous", measured) == value("wedin_printed", measured) == 0
    assert largest_sine(measured, PARAMS) == 0


def test_a_matrix_with_leading_directions_only_has_no_bound():
    rng = np.random.default_rng(3)
    base = rng.standard_normal((60, 40))
    measured = measure(base, base + 0.01, method="leading", k_max=8)
    assert wedin_curve(measured) is None
    assert isnan(value("wedin_printed", measured))
    assert largest_sine(measured, PARAMS) > 0


def test_the_curve_agrees_with_the_metrics():
    rng = np.random.default_rng(4)
    base = rng.standard_normal((90, 70))
    measured = measure(base, base + 1e-3 * rng.standard_normal((90, 70)))
    curve = wedin_curve(measured)
    for i, k in enumerate(curve.k):
        params = MetricParams(k=int(k))
        assert curve.observed[i] == pytest.approx(largest_sine(measured, params))
        assert curve.printed[i] == pytest.approx(value("wedin_printed", measured, params), nan_ok=True)
        assert curve.rigorous[i] == pytest.approx(value("wedin_rigorous", measured, params), nan_ok=True)


def test_the_budget_is_half_the_squared_length_and_adds_up():
    base = np.zeros((4, 5), np.float32)
    group = [counted(base, base + np.float32(step)) for step in (0.5, 2.0)]
    assert value("kl_budget", group[0]) == pytest.approx(20 * 0.25 / 2)
    assert METRICS["kl_budget"].pooled(group, PARAMS) == pytest.approx(20 * (0.25 + 4) / 2)


def noise(std, seed, shape=(600, 500), base_dtype=BF16):
    rng = np.random.default_rng(seed)
    base = (0.02 * rng.standard_normal(shape)).astype(base_dtype)
    return counted(base, (base.astype(np.float32) + std * rng.standard_normal(shape)).astype(np.float32))


@pytest.mark.parametrize("base_dtype", [BF16, np.float32])
@pytest.mark.parametrize("std", [1e-5, 1e-4])
def test_noise_flips_what_noise_is_expected_to_flip(std, base_dtype):
    measured = noise(std, seed=5, base_dtype=base_dtype)
    observed, expected = flip_rate_by_exponent([measured]), noise_flip_rate([measured])
    assert expected.expected.sum() == pytest.approx(observed.changed.sum())
    populous = observed.n > 2000
    rates, of_noise = observed.rate[populous], expected.rate[populous]
    spread = np.sqrt(np.maximum(of_noise * (1 - of_noise), 1e-6) / observed.n[populous])
    # one mantissa in 128 is taken to be zero: off by at most as much again
    assert np.all(np.abs(rates - of_noise) < 4 * spread + 0.004)
    assert misplaced_flips([measured]) < 0.01


def test_flips_that_ignore_the_exponent_are_misplaced():
    """The negative control: a quarter of the entries is changed, wherever they lie."""
    rng = np.random.default_rng(6)
    base = (0.02 * rng.standard_normal((600, 500))).astype(BF16)
    changed = np.where(rng.random(base.shape) < 0.25, base.astype(np.float32) * np.float32(1.01), base)
    assert misplaced_flips([counted(base, changed.astype(np.float32))]) > 0.2


def test_noise_is_fitted_tensor_by_tensor():
    group = [noise(1e-5, seed=7), noise(2e-4, seed=8)]
    expected = np.sum([expected_flips(m) for m in group], axis=0)
    pooled = noise_flip_rate(group)
    assert pooled.expected == pytest.approx(expected[pooled.exponent + 127])


def test_no_noise_is_fitted_to_none_or_all():
    base = np.full((20, 30), 0.02, BF16)
    same, all_changed = counted(base, base), counted(base, (base.astype(np.float32) * 2).astype(BF16))
    assert expected_flips(same) is expected_flips(all_changed) is None
    assert noise_flip_rate([same, all_changed]) is None
    assert isnan(misplaced_flips([same]))


@pytest.mark.parametrize("base_dtype", [BF16, np.float32])
@pytest.mark.parametrize("std", [1e-5, 5e-5, 1e-3])
def test_noise_moves_by_one_ulp_as_often_as_noise_should(std, base_dtype):
    seen, of_noise = one_ulp_shares([noise(std, seed=9, base_dtype=base_dtype)])
    assert seen == pytest.approx(of_noise, abs=0.01)  # the ends of binades are taken for their middle


def test_steps_of_one_size_move_by_one_ulp_more_often_than_noise():
    """The negative control: every flip is the shortest there is."""
    rng = np.random.default_rng(10)
    base = (0.02 * rng.standard_normal((200, 300))).astype(BF16)
    codes = base.view(np.uint16) + (rng.random(base.shape) < 0.3).astype(np.uint16)
    seen, of_noise = one_ulp_shares([counted(base, codes.view(BF16))])
    assert seen == 1
    assert of_noise < 0.7


@pytest.mark.parametrize(("base", "tuned"), [("F16", "F16"), ("BF16", "F16"), ("F16", "BF16"), ("BF16", "F8_E4M3")])
def test_no_noise_is_fitted_to_what_fp16_or_fp8_rounded(base, tuned):
    known = noise(1e-4, seed=11, shape=(60, 50))
    assert one_ulp_shares([known]) is not None
    match = replace(
        known.match, base=replace(known.match.base, dtype=base), tuned=replace(known.match.tuned, dtype=tuned)
    )
    measured = replace(known, match=match)
    assert expected_flips(measured) is None
    assert noise_flip_rate([measured]) is None
    assert isnan(misplaced_flips([measured]))
    assert one_ulp_shares([measured]) is None
