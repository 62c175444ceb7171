"""Spectral metrics on planted and on really trained matrices."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest

from rlviz.metrics import METRICS
from rlviz.metrics.spectrum import effective_rank, hill_alpha, numerical_rank, spectra, stable_rank
from rlviz.types import MetricParams
from tests.probes.spectrum_pairs import demo_pairs, haar, measure, measure_pair

SPECTRAL = [metric for metric in METRICS.values() if metric.probe == "spectrum"]
PARAMS = MetricParams(k=8)


def value(key, measured, params=PARAMS):
    return METRICS[key].of(measured, params)


@pytest.fixture(scope="module")
def demo_rl():
    return [measure_pair(pair) for pair in demo_pairs("rl")]


def planted(shift, step=None, seed=0):
    rng = np.random.default_rng(seed)
    left, right, sigma = haar(rng, 60, 30), haar(rng, 30, 30), np.linspace(3, 1, 30)
    return measure((left * sigma) @ right.T, (left * (sigma + shift)) @ right.T)


def test_required_columns_exist():
    columns = {metric.column for metric in SPECTRAL}
    assert columns >= {
        "nss",
        "nss_median",
        "max_principal_angle_left_deg",
        "max_principal_angle_right_deg",
        "energy_principal",
        "energy_principal_enrichment",
        "stable_rank_update",
        "effective_rank_update",
    }


def test_nss_of_a_planted_shift():
    measured = planted(np.full(30, 1e-3))
    expected = np.sqrt(30) * 1e-3 / np.linalg.norm(np.linspace(3, 1, 30))
    assert value("nss", measured) == pytest.approx(expected, rel=1e-9)
    assert value("kappa_iso", measured) == pytest.approx(60, rel=1e-6)
    assert value("stable_rank_update", measured) == pytest.approx(30, rel=1e-6)
    assert value("effective_rank_update", measured) == pytest.approx(30, rel=1e-6)
    assert value("update_energy_top_4", measured) == pytest.approx(4 / 30, rel=1e-6)


def test_nss_pools_squares_and_the_median_does_not():
    small, large = planted(np.full(30, 1e-4)), planted(np.full(30, 1e-2))
    group = (small, small, large)
    ratios = [value("nss", m) for m in group]
    assert METRICS["nss"].pooled(group, PARAMS) == pytest.approx(np.sqrt(np.mean(np.square(ratios))), rel=1e-9)
    assert METRICS["nss_median"].pooled(group, PARAMS) == pytest.approx(np.median(ratios), rel=1e-9)


def test_nss_is_at_most_the_relative_update():
    rng = np.random.default_rng(1)
    base, step = rng.standard_normal((40, 25)), 0.1 * rng.standard_normal((40, 25))
    measured = measure(base, base + step)
    assert 0 < value("nss", measured) < np.linalg.norm(step) / np.linalg.norm(base)


@pytest.mark.parametrize("tolerance", ["1e-4", "1e-5", "1e-6"])
def test_numerical_rank(tolerance):
    rng = np.random.default_rng(2)
    left, right = haar(rng, 50, 6), haar(rng, 40, 6)
    update = (left * np.array([1, 0.5, 2e-4, 2e-5, 2e-6, 2e-7])) @ right.T
    measured = measure(np.zeros((50, 40)), update)
    assert value(f"numerical_rank_update_{tolerance}", measured) == {"1e-4": 3, "1e-5": 4, "1e-6": 5}[tolerance]


def test_formulas_by_hand():
    assert stable_rank(np.array([2.0, 2.0, 0.0])) == 2
    assert effective_rank(np.array([1.0, 0.0])) == 1
    assert numerical_rank(np.array([1.0, 1e-3]), 1e-2) == 1
    assert hill_alpha(np.exp(-np.arange(8.0))) == pytest.approx(1 / 2)  # mean of 3, 2, 1
    assert all(isnan(f(np.zeros(4))) for f in (stable_rank, effective_rank, hill_alpha))


def test_undefined_is_not_zero():
    weight = np.random.default_rng(3).standard_normal((20, 12))
    same, from_zero = measure(weight, weight), measure(0 * weight, weight)
    assert value("nss", same) == 0
    assert value("numerical_rank_update_1e-4", same) == 0
    for key in ("kappa_iso", "stable_rank_update", "effective_rank_update", "update_energy_top_1", "hill_alpha"):
        assert isnan(value(key, same))
    for key in ("energy_principal", "energy_left_enrichment"):
        assert isnan(value(key, same))
    for key in ("nss", "kappa_iso", "relative_gap", "max_principal_angle_left", "energy_principal", "intruders"):
        assert isnan(value(key, from_zero))
    assert value("max_principal_angle_left", same) == 0


def test_leading_records_leave_full_spectrum_metrics_undefined():
    rng = np.random.default_rng(4)
    base = rng.standard_normal((200, 90))
    measured = measure(base, base + 1e-2 * rng.standard_normal((200, 90)), k_max=10, method="leading")
    assert spectra(measured) is None
    for key in ("nss", "kappa_iso", "stable_rank_update", "update_energy_top_1"):
        assert isnan(value(key, measured))
    for key in ("max_principal_angle_left", "energy_principal", "relative_gap", "principal_angle_error"):
        assert np.isfinite(value(key, measured))


def test_metrics_of_the_demo(demo_rl):
    """The demo's own description: energy in the top-16 block 54 times isotropic pooled, 23 in the median matrix."""
    at_16 = MetricParams(k=16)
    enrichment = METRICS["energy_principal_enrichment"]
    assert enrichment.pooled(demo_rl, at_16) == pytest.approx(54, abs=0.5)
    assert np.median([enrichment.of(m, at_16) for m in demo_rl]) == pytest.approx(23, abs=0.5)
    assert np.degrees(METRICS["max_principal_angle_left"].pooled(demo_rl, PARAMS)) < 5
    assert METRICS["intruders"].pooled(demo_rl, PARAMS) == 0


@pytest.mark.parametrize("metric", SPECTRAL, ids=lambda metric: metric.key)
def test_every_metric_is_defined_and_in_range_on_the_demo(metric, demo_rl):
    for measured in demo_rl:
        found, chance = metric.of(measured, PARAMS), metric.chance_of(measured, PARAMS)
        if metric.key == "hill_alpha" and np.median(spectra(measured)[2]) == 0:
            continue  # embedding rows of characters that never occur do not move: half the spectrum is zero
        if metric.key == "wedin_rigorous" and METRICS["wedin_printed"].of(measured, PARAMS) >= 1:
            assert np.isnan(found)  # an update wider than the gap: the theorem says nothing
            continue
        assert np.isfinite(found)
        assert found >= 0
        if metric.unit == "fraction":
            assert found <= 1 + 1e-12
        if metric.scale == "angle":
            assert found <= np.pi / 2
        assert isnan(chance) == (metric.chance is None)


def test_spectra_are_descending(demo_rl):
    for values in spectra(demo_rl[0]):
        assert np.all(np.diff(values) <= 0)
