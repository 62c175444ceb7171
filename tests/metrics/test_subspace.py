"""Angles, energies and their random expectations."""

from __future__ import annotations

import numpy as np
import pytest

from rlviz.metrics import METRICS
from rlviz.metrics.alignment import alignment_curve, direction_table
from rlviz.metrics.chance import chance_angle_curve, random_subspace_angles
from rlviz.metrics.subspace import angle_curve, chance_angles, max_angle_over_k, rank_used
from rlviz.types import MetricParams
from tests.probes.spectrum_pairs import haar, measure


def noisy(shape=(80, 50), size=0.05, seed=0, **params):
    rng = np.random.default_rng(seed)
    base = rng.standard_normal(shape)
    return measure(base, base + size * rng.standard_normal(shape), **params)


@pytest.mark.parametrize(("d", "k"), [(40, 10), (40, 20), (24, 18), (151_936, 64), (7, 1)])
def test_chance_mean_squared_cosine_is_k_over_d(d, k):
    angles = random_subspace_angles(d, k)
    assert np.array_equal(chance_angle_curve(d, k), angles.mean(axis=0))
    assert np.all(np.diff(angles, axis=1) >= 0)
    assert angles.max() <= np.pi / 2
    means = np.mean(np.cos(angles) ** 2, axis=1)
    assert abs(means.mean() - k / d) < 4 * means.std() / np.sqrt(len(means)) + 1e-12


@pytest.mark.parametrize(("d", "k"), [(30, 4), (30, 12), (30, 22)])
def test_chance_curve_equals_plain_simulation(d, k):
    rng = np.random.default_rng(1)
    cosines = [np.linalg.svd(haar(rng, d, k).T @ haar(rng, d, k), compute_uv=False) for _ in range(400)]
    plain = np.arccos(np.clip(cosines, 0, 1))
    spread = plain.std(axis=0) * np.sqrt(1 / 32 + 1 / 400)
    np.testing.assert_array_less(np.abs(chance_angle_curve(d, k) - plain.mean(axis=0)), 4.5 * spread + 1e-6)


def test_chance_angles_vanish_by_dimension():
    assert np.count_nonzero(chance_angle_curve(24, 18)) == 6
    assert not chance_angle_curve(5, 5).any()


def test_chance_of_unrelated_matrices_is_what_the_metrics_report():
    rng = np.random.default_rng(2)
    unrelated = measure(rng.standard_normal((90, 60)), rng.standard_normal((90, 60)))
    params = MetricParams(k=20)
    for side in ("left", "right"):
        metric = METRICS[f"mean_principal_angle_{side}"]
        assert metric.of(unrelated, params) == pytest.approx(metric.chance_of(unrelated, params), rel=0.05)
    energy = METRICS["energy_principal_enrichment"]
    isotropic = [noisy(size=1e-3, seed=seed) for seed in range(12)]
    assert energy.pooled(isotropic, params) == pytest.approx(1, abs=0.06)
    assert energy.chance_of(isotropic[0], params) == 1
    share = METRICS["energy_principal"]
    assert share.chance_of(isotropic[0], params) == pytest.approx(400 / (80 * 50))
    assert METRICS["energy_left"].chance_of(isotropic[0], params) == pytest.approx(20 / 80)
    assert METRICS["energy_right"].chance_of(isotropic[0], params) == pytest.approx(20 / 50)


def test_enrichment_pools_observed_over_expected():
    rng = np.random.default_rng(3)
    group = [noisy((80, 50)), noisy((30, 60), size=0.5)]
    params = MetricParams(k=int(rng.integers(5, 20)))
    observed = sum(m.records["spectrum"].fields["block_energy"][params.k - 1] for m in group)
    expected = sum(
        float(m.records["spectrum"].fields["update_energy"]) * params.k**2 / (m.shape[0] * m.shape[1]) for m in group
    )
    found = METRICS["energy_principal_enrichment"].pooled(group, params)
    assert found == pytest.approx(observed / expected, rel=1e-12)


@pytest.mark.parametrize("k", [1, 3, 16, 25, 32, 49, 64, 500])
def test_k_is_a_slider(k):
    measured = noisy()
    used = rank_used(measured, k)
    assert used == min(k, 49)
    angles = angle_curve(measured, "left", k)
    assert angles.shape == chance_angles(measured, "left", k).shape == (used,)
    assert np.all(np.diff(angles) >= 0)
    params = MetricParams(k=k)
    assert METRICS["max_principal_angle_left"].of(measured, params) == angles[-1]
    assert METRICS["mean_principal_angle_left"].of(measured, params) == pytest.approx(angles.mean())
    assert METRICS["subspace_rotation_left"].of(measured, params) == pytest.approx(np.sin(angles).mean())


def test_presets_equal_the_slider():
    measured = noisy((300, 200), size=0.2)
    fields = measured.records["spectrum"].fields
    assert fields["preset_k"].tolist() == [2, 10, 16, 20, 32, 40, 64, 128]
    for row, k in enumerate(fields["preset_k"]):
        cosines = np.linalg.svd(fields["cross_right"][:k, :k], compute_uv=False)
        np.testing.assert_allclose(fields["preset_cosines_right"][row, :k], cosines, atol=1e-14)
        assert np.all(np.isnan(fields["preset_cosines_right"][row, k:]))


def test_k_max_bounds_the_slider():
    assert rank_used(noisy(k_max=6), 64) == 6


def test_max_angle_over_k_shows_the_gap():
    measured = noisy((300, 200))
    k, left, right, gap = max_angle_over_k(measured)
    assert k.shape == left.shape == right.shape == gap.shape
    sigma = measured.records["spectrum"].fields["singular_values_base"]
    np.testing.assert_allclose(gap, [(sigma[i - 1] - sigma[i]) / sigma[0] for i in k])
    assert METRICS["relative_gap"].of(measured, MetricParams(k=int(k[0]))) == gap[0]


def test_alignment_curve_ends_at_the_whole_update_when_k_is_everything():
    k, observed, isotropic = alignment_curve(noisy((40, 40)))
    assert k[-1] == 40
    assert observed[-1] == pytest.approx(1)
    assert isotropic[-1] == 1
    assert np.all(np.diff(observed) >= 0)


def test_alignment_of_no_update_is_undefined():
    weight = np.random.default_rng(0).standard_normal((20, 9))
    assert np.all(np.isnan(alignment_curve(measure(weight, weight))[1]))


@pytest.mark.parametrize("shape", [(50, 20), (20, 50)])
def test_direction_table_of_a_planted_update(shape):
    rng = np.random.default_rng(4)
    left, right, sigma = haar(rng, shape[0], 20), haar(rng, shape[1], 20), np.linspace(4, 2, 20)
    step = np.zeros((20, 20))
    step[0, 0] = -0.01  # along component 1
    step[5, 1] = 0.01  # of component 2, wholly sideways
    step[2, 2] = step[7, 2] = 0.01  # of component 3, at 45 degrees
    base = (left * sigma) @ right.T
    table = direction_table(measure(base, base + left @ step @ right.T))
    np.testing.assert_allclose(np.degrees(table.angle[:3]), [0, 90, 45], atol=1e-5)
    np.testing.assert_allclose(table.relative_projection[:3], [-0.01 / 4, 0, 0.01 / sigma[2]], atol=1e-9)
    np.testing.assert_allclose(table.singular_value, sigma, rtol=1e-9)
    assert table.component.tolist() == list(range(1, 21))


def test_intruders_of_a_new_strong_direction():
    rng = np.random.default_rng(5)
    base = rng.standard_normal((90, 60))
    foreign = 60 * np.outer(haar(rng, 90, 1), haar(rng, 60, 1))
    params = MetricParams()
    assert METRICS["intruders"].of(measure(base, base + foreign), params) >= 1
    assert METRICS["intruders"].of(measure(base, 1.01 * base), params) == 0
