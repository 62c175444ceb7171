"""Noise plus rounding looks like nothing, and planted updates are found: calibration of every null of the masks."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import chi2

import rlviz
from bench import make_pair
from bench.calibration import MASKS, MH, PARAMS, PLANTED, SHAPES, STDS, covered, planted, replicates, values
from rlviz.metrics import METRICS
from rlviz.types import MetricParams
from tests.probes.mask_pairs import ALPHAS

COUNT = 11


@pytest.fixture(scope="module")
def noise():
    """Draws of noise by base and size of the noise."""
    return {(shape, std): replicates(shape, std, COUNT) for shape in SHAPES for std in STDS}


@pytest.fixture(scope="module")
def every(noise):
    return [one for group in noise.values() for one in group]


@pytest.fixture(scope="module")
def controls():
    return {where: planted(where) for where in PLANTED}


@pytest.mark.parametrize("mask", MASKS)
def test_the_null_is_the_mean_of_simulations(noise, mask):
    for group in noise.values():
        off = values(f"overlap_{mask}", group) - values(f"overlap_{mask}_null", group)
        assert abs(off.mean()) < 0.002


@pytest.mark.parametrize("mask", MASKS)
def test_its_spread_is_that_of_simulations(noise, mask):
    total = 0.0
    for group in noise.values():
        off = values(f"overlap_{mask}_excess", group) / values(f"overlap_{mask}_null_sd", group)
        squares = ((off - off.mean()) ** 2).sum()
        assert chi2.ppf(1e-4, COUNT - 1) < squares < chi2.ppf(1 - 1e-4, COUNT - 1)
        total += squares
    freedom = (COUNT - 1) * len(noise)
    assert chi2.ppf(1e-3, freedom) < total < chi2.ppf(1 - 1e-3, freedom)


PRESETS = list(product((16, 32, 64), (float(a) for a in ALPHAS)))
LARGE = [(k, alpha) for k, alpha in PRESETS if alpha >= 0.1]  # enough changes are expected in each mask


@pytest.mark.parametrize(("k", "alpha"), LARGE)
@pytest.mark.parametrize("mask", MASKS)
def test_z_is_standard_normal_under_noise(every, mask, k, alpha):
    z = values(f"overlap_{mask}_z", every, MetricParams(k=k, alpha=alpha))
    assert (np.abs(z) < 3).mean() >= 0.97
    assert abs(z.mean()) < 0.3
    assert 0.85 < z.std() < 1.15


@pytest.mark.parametrize(("k", "alpha"), PRESETS)
@pytest.mark.parametrize("mask", MASKS)
def test_excess_over_many_matrices_is_none_under_noise(every, mask, k, alpha):
    params = MetricParams(k=k, alpha=alpha)
    assert abs(METRICS[f"overlap_{mask}_z"].pooled(every, params)) < 3.5
    assert abs(METRICS[f"overlap_{mask}_excess"].pooled(every, params)) < 0.002


@pytest.mark.parametrize(("k", "alpha"), [(k, alpha) for k, alpha in LARGE if alpha >= 0.2])
def test_the_interval_of_the_odds_covers_none(every, k, alpha):
    params = MetricParams(k=k, alpha=alpha)
    assert np.isfinite(values(MH, every, params)).mean() > 0.95
    assert 0.91 < covered(every, params) < 0.99


def test_a_base_between_bf16_numbers():
    every = [one for shape in SHAPES for std in STDS for one in replicates(shape, std, 4, "F32")]
    for mask in MASKS:
        z = values(f"overlap_{mask}_z", every)
        assert (np.abs(z) < 3).mean() >= 0.97
        assert abs(z.mean()) < 0.3
        assert 0.8 < z.std() < 1.15  # the places within cells are given, not drawn: a little less than their spread


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """`make_pair.py`'s rl run, isotropic noise plus rounding, through the public API."""
    folder = tmp_path_factory.mktemp("pair")
    with pytest.MonkeyPatch.context() as patch:
        arguments = [str(folder), "--size", "tiny", "--layers", "8", "--runs", "rl"]
        patch.setattr("sys.argv", ["make_pair.py", *arguments])
        make_pair.main()
    return rlviz.compare(str(folder / "base"), str(folder / "rl"), probes=("masks",), store=folder / "store")


def test_noise_looks_as_if_it_avoided_principal_weights(run):
    assert run.pooled("enrichment_principal", PARAMS) < 0.9
    assert run.pooled("enrichment_low_magnitude", PARAMS) > 1.1
    assert run.pooled("log_odds_principal", PARAMS) < -0.1


def test_and_is_nothing_once_rounding_is_known(run):
    matrices = [m for m in run.measured if "masks" in m.records]
    assert len(matrices) == 57
    for mask in MASKS:
        z = values(f"overlap_{mask}_z", matrices)
        assert (np.abs(z) < 3).mean() >= 0.97
        assert abs(z.mean()) < 0.3
    assert covered(matrices) >= 0.9
    for k, alpha in product((16, 32), (float(a) for a in ALPHAS)):
        params = MetricParams(k=k, alpha=alpha)
        for mask in MASKS:
            assert abs(run.pooled(f"overlap_{mask}_z", params)) < 3.5
            assert abs(run.pooled(f"overlap_{mask}_excess", params)) < 0.01
        if alpha >= 0.1:  # else no principal entry of these small matrices changed
            assert covered(matrices, params) >= 0.9
            assert run.pooled(f"{MH}_ci_low", params) < 0.05
            assert run.pooled(f"{MH}_ci_high", params) > -0.05


def test_about_half_of_what_a_planted_update_reaches_flips(controls):
    for where, reached in (
        ("everywhere", 1.0),
        ("off-principal", 0.715),
        ("principal", 0.335),
        ("low-magnitude", 0.335),
    ):
        counts = controls[where].records["masks"].fields["counts"].sum(axis=0)
        assert 0.3 < counts[1] / counts.sum() / reached < 0.7


def test_nothing_is_found_where_nothing_was_planted(controls):
    one = controls["everywhere"]
    assert all(abs(METRICS[f"overlap_{mask}_z"].of(one, PARAMS)) < 3 for mask in MASKS)
    assert covered([one])


@pytest.mark.parametrize(("where", "sign"), [("off-principal", -1), ("principal", 1)])
def test_updates_off_or_on_principal_weights_are_found(controls, where, sign):
    one = controls[where]
    assert sign * METRICS["overlap_principal_z"].of(one, PARAMS) > 5
    assert sign * METRICS["overlap_principal_not_low_z"].of(one, PARAMS) > 5
    low, high = (METRICS[f"{MH}_ci_{end}"].of(one, PARAMS) for end in ("low", "high"))
    assert min(sign * low, sign * high) > 0.5


def test_updates_on_small_weights_are_found_and_not_taken_for_geometry(controls):
    one = controls["low-magnitude"]
    assert METRICS["overlap_low_magnitude_z"].of(one, PARAMS) > 5
    assert METRICS["enrichment_principal"].of(one, PARAMS) < 0.3  # raw, it avoids principal weights
    assert covered([one])  # which are large; among weights of equal size it does not


def test_stripes_are_found_by_dispersion(controls):
    def over_null(where, part):
        one = controls[where]
        return METRICS[f"{part}_dispersion"].of(one, PARAMS) / METRICS[f"{part}_dispersion_null"].of(one, PARAMS)

    assert over_null("every fourth row", "row") > 20
    assert over_null("every fourth row", "column") < 1.3
    assert over_null("everywhere", "row") == pytest.approx(1, abs=0.3)
    assert over_null("everywhere", "column") == pytest.approx(1, abs=0.3)
