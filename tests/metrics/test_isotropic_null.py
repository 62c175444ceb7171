"""Isotropic noise of the update's norm: against dense linear algebra on it, and told apart from structure."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import pytest

from rlviz.metrics import METRICS
from rlviz.metrics.isotropic_null import (
    noise_angles,
    noise_spectral_shift,
    noise_update_values,
    simulated_draws,
    simulated_ranks,
)
from rlviz.probes import probe_called
from rlviz.probes.nulls.isotropic import tall_noisy
from rlviz.probes.nulls.streams import Purpose, stream
from rlviz.probes.spectrum.blocks import tall_weight
from rlviz.types import Measured, MetricParams, Record
from tests.probes.spectrum_pairs import pair_of, with_spectrum

NULLS, SPECTRUM = probe_called("nulls"), probe_called("spectrum")
K = 16
PARAMS = MetricParams(k=K)
SHAPES = [(90, 50), (50, 90)]
EVERY = [m for m in METRICS.values() if m.key.endswith("_isotropic") and m.companion]


def measured(base, tuned, draws=3, seed=0) -> tuple[Measured, object]:
    """Spectrum and nulls records of a pair, and the pair."""
    pair = pair_of(base, tuned)
    of_base = SPECTRUM.run_base(pair, SPECTRUM.defaults())
    params = {**NULLS.defaults(), "shuffles": 0, "draws": draws, "seed": seed}
    records = {
        probe.name: Record("w", probe.name, probe.version, chosen, probe.run(pair, chosen, of_base))
        for probe, chosen in ((SPECTRUM, SPECTRUM.defaults()), (NULLS, params))
    }
    return Measured(pair.match, records), pair


def base_of(shape, seed=0):
    return with_spectrum(np.random.default_rng(seed), shape, np.geomspace(3, 0.3, min(shape)))


def noise_of(shape, std, seed=1):
    return std * np.random.default_rng(seed).standard_normal(shape)


def dense_noise(pair, norm, draw):
    """The noise that the probe drew, as a dense matrix."""
    base = tall_weight(pair, "base")
    noisy = tall_noisy(base, norm, partial(stream, 0, "w", Purpose.ISOTROPIC, draw))
    difference = np.vstack(list(noisy.blocks())) - np.vstack([b.copy() for b in base.blocks()])
    return difference.T if base.transposed else difference


@pytest.fixture(scope="module", params=SHAPES, ids=["tall", "wide"])
def oracle(request):
    """The records of an update, the base, and its three draws of noise, dense."""
    base = base_of(request.param)
    update = noise_of(request.param, 1e-2)
    found, pair = measured(base, base + update)
    noise = [dense_noise(pair, float(np.linalg.norm(update)), i) for i in range(3)]
    return found, base, update, noise


def value(key, one, params=PARAMS):
    return METRICS[f"{key}_isotropic"].of(one, params)


def test_every_number_is_that_of_dense_linear_algebra(oracle):
    found, base, update, noise = oracle
    u0, s0, v0 = np.linalg.svd(base, full_matrices=False)
    length, dims = np.linalg.norm(update), base.shape
    assert [np.linalg.norm(n) for n in noise] == pytest.approx([length] * 3, rel=1e-12)
    svds = [np.linalg.svd(base + n, full_matrices=False) for n in noise]
    shifts = [np.sum((s1 - s0) ** 2) for _, s1, _ in svds]
    assert value("nss", found) == pytest.approx(np.sqrt(np.mean(shifts)) / np.linalg.norm(s0), rel=1e-6)
    assert value("kappa_iso", found) == pytest.approx(np.mean(shifts) * max(dims) / length**2, rel=1e-6)
    own = [np.linalg.svd(n, compute_uv=False) for n in noise]
    assert value("stable_rank_update", found) == pytest.approx(np.mean([length**2 / s[0] ** 2 for s in own]), rel=1e-6)
    ranks = [np.exp(-np.sum(p * np.log(p))) for p in (s / s.sum() for s in own)]
    assert value("effective_rank_update", found) == pytest.approx(np.mean(ranks), rel=1e-6)
    u, v = u0[:, :K], v0[:K].T
    for key, parts in {
        "principal": [np.linalg.norm(u.T @ n @ v) ** 2 for n in noise],
        "left": [np.linalg.norm(u.T @ n) ** 2 for n in noise],
        "right": [np.linalg.norm(n @ v) ** 2 for n in noise],
    }.items():
        assert value(f"energy_{key}", found) == pytest.approx(np.mean(parts) / length**2, rel=1e-6), key
    for side, cosines in {
        "left": [np.linalg.svd(u.T @ u1[:, :K], compute_uv=False) for u1, _, _ in svds],
        "right": [np.linalg.svd(v.T @ v1[:K].T, compute_uv=False) for _, _, v1 in svds],
    }.items():
        angles = np.arccos(np.minimum(cosines, 1))
        assert noise_angles(found, side, K) == pytest.approx(angles.mean(axis=0), abs=1e-6), side
        assert value(f"max_principal_angle_{side}", found) == pytest.approx(angles[:, -1].mean(), abs=1e-6)
        assert value(f"mean_principal_angle_{side}", found) == pytest.approx(angles.mean(), abs=1e-6)
        assert value(f"subspace_rotation_{side}", found) == pytest.approx(np.sin(angles).mean(), abs=1e-6)
    moved = np.mean([np.abs(s1 - s0) for _, s1, _ in svds], axis=0)
    assert noise_spectral_shift(found, s0) == pytest.approx(moved, abs=1e-9)
    assert noise_update_values(found) == pytest.approx(np.mean(own, axis=0), rel=1e-6)


def test_isotropic_updates_are_like_their_null(oracle):
    """Negative control: the update is noise, and nothing of it stands out."""
    found = oracle[0]
    for metric in EVERY:
        key = metric.key.removesuffix("_isotropic")
        tolerance = 0.5 if key.startswith(("max_principal", "energy_principal")) else 0.25
        assert METRICS[key].of(found, PARAMS) == pytest.approx(metric.of(found, PARAMS), rel=tolerance), key
    assert METRICS["nss_over_isotropic"].of(found, PARAMS) == pytest.approx(1, rel=0.25)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_update_along_the_principal_directions_stands_out(shape):
    """Positive control: the leading values grow, nothing turns."""
    base = base_of(shape)
    u, s, vt = np.linalg.svd(base, full_matrices=False)
    found, _ = measured(base, base + 0.01 * (u[:, :K] * s[:K]) @ vt[:K])
    assert METRICS["nss_over_isotropic"].of(found, PARAMS) > 3
    assert METRICS["energy_principal"].of(found, PARAMS) > 0.99 > 5 * value("energy_principal", found)
    assert METRICS["max_principal_angle_left"].of(found, PARAMS) < value("max_principal_angle_left", found) / 100
    assert METRICS["effective_rank_update"].of(found, PARAMS) < value("effective_rank_update", found) / 2


def test_a_longer_update_has_a_wider_null():
    base, step = base_of((90, 50)), noise_of((90, 50), 1e-4)
    short, long = (measured(base, base + c * step)[0] for c in (1, 10))
    for key in ("nss", "mean_principal_angle_left", "subspace_rotation_right"):
        assert value(key, long) == pytest.approx(10 * value(key, short), rel=0.1), key
    for key in ("stable_rank_update", "effective_rank_update", "energy_left"):  # of the shape alone
        assert value(key, long) == pytest.approx(value(key, short), rel=1e-3), key


def test_the_nulls_of_energies_are_the_isotropic_shares():
    found, _ = measured(base_of((200, 120)), base_of((200, 120)) + noise_of((200, 120), 1e-3), draws=8)
    for k in (16, 64):
        params = MetricParams(k=k)
        for kind in ("principal", "left", "right"):
            chance = METRICS[f"energy_{kind}"].chance_of(found, params)
            assert value(f"energy_{kind}", found, params) == pytest.approx(chance, rel=0.1), (k, kind)


def test_every_rank_of_the_pages_slider_is_kept():
    from rlviz.ui.controls import K_CHOICES

    found, _ = measured(base_of((200, 160)), base_of((200, 160)) + noise_of((200, 160), 1e-3), draws=1)
    assert {int(k) for k in K_CHOICES} <= set(simulated_ranks(found).tolist())
    for k in map(int, K_CHOICES):
        assert math.isfinite(value("max_principal_angle_left", found, MetricParams(k=k)))
        assert len(noise_angles(found, "right", k)) == k
    assert noise_angles(found, "right", 17) is None
    assert math.isnan(value("energy_left", found, MetricParams(k=17)))


def test_draws_are_as_many_as_asked_for_and_follow_the_seed():
    base = base_of((40, 30))
    one, again, other = (measured(base, base + noise_of((40, 30), 1e-3), draws=4, seed=s)[0] for s in (0, 0, 1))
    assert simulated_draws(one) == 4
    assert value("nss", one) == value("nss", again) != value("nss", other)


@pytest.mark.parametrize("metric", EVERY, ids=lambda m: m.key)
def test_undefined_where_nothing_was_drawn(metric):
    base = base_of((40, 30))
    same, _ = measured(base, base)
    none, _ = measured(base, base + noise_of((40, 30), 1e-3), draws=0)
    without = Measured(none.match, {"spectrum": none.records["spectrum"]})
    for one in (same, none, without):
        assert math.isnan(metric.of(one, PARAMS))
        assert simulated_draws(one) == 0
        assert noise_angles(one, "left", K) is None
        assert noise_update_values(one) is None
        assert noise_spectral_shift(one, np.ones(30)) is None
        assert simulated_ranks(one).size == 0


def test_each_stands_beside_the_metric_it_is_the_null_of():
    assert {m.key.removesuffix("_isotropic") for m in EVERY} == {
        "nss", "kappa_iso", "stable_rank_update", "effective_rank_update",
        *(f"energy_{kind}" for kind in ("principal", "left", "right")),
        *(f"{angle}_{side}" for angle in ("max_principal_angle", "mean_principal_angle", "subspace_rotation")
          for side in ("left", "right")),
    }  # fmt: skip
    assert all("middle layer" in m.caveat for m in EVERY)
    assert all(m.unit == METRICS[m.key.removesuffix("_isotropic")].unit for m in EVERY)
