"""The promised accuracy (σ, NSS, angles, energies) over a small version of the matrix zoo of `bench.accuracy`."""

from __future__ import annotations

from dataclasses import fields

import mpmath
import numpy as np
import pytest
import torch

from bench.accuracy import PROMISED, ZOO, Errors, errors_of
from rlviz.probes.spectrum import decompose as routes
from rlviz.probes.spectrum.blocks import tall_weight
from rlviz.probes.spectrum.device import VARIABLE, Lapack
from tests.probes.spectrum_pairs import pair_of, with_spectrum

SIZE, K_MAX = 24, 24
UNDEFINED = {  # where one of the four has no meaning: no gap, no k, no base
    "condition 1": {"angle_deg", "energy"},
    "zero base": {"nss", "angle_deg", "energy"},
    "1×n": {"angle_deg", "energy"},
    "n×1": {"angle_deg", "energy"},
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def broken(found: Errors) -> set[str]:
    """Promises that are not kept."""
    names = [field.name for field in fields(Errors)]
    return {name for name in names if getattr(found, name) > getattr(PROMISED, name)}


@pytest.mark.parametrize("device", ["cpu", "torch-cpu"])
@pytest.mark.parametrize("kind", ZOO)
def test_promises_are_kept(kind, device, monkeypatch):
    monkeypatch.setenv(VARIABLE, device)
    found = errors_of(kind, SIZE, K_MAX)
    assert broken(found) == set()
    assert {f.name for f in fields(Errors) if np.isnan(getattr(found, f.name))} == UNDEFINED.get(kind, set())


class Coarse(Lapack):
    """Gram matrices with the rounding of float32."""

    def add_gram(self, total, block):
        total += np.tril(block.T @ block).astype(np.float32)


def test_a_gram_matrix_in_single_precision_would_be_seen(monkeypatch):
    monkeypatch.setattr(routes, "selected", Coarse)
    assert broken(errors_of("condition 100", SIZE, K_MAX)) >= {"sigma", "nss"}
    assert broken(errors_of("stored in bf16", SIZE, K_MAX)) >= {"sigma", "angle_deg", "energy"}


@pytest.mark.parametrize("device", ["cpu", "torch-cpu"])
@pytest.mark.parametrize("shape", [(14, 8), (8, 14), (9, 9)])
def test_against_forty_digits(shape, device, monkeypatch):
    """Down to 1e-8 σ1, where LAPACK on float64 matrices is itself only good to about 1e-8."""
    monkeypatch.setenv(VARIABLE, device)
    matrix = with_spectrum(np.random.default_rng(7), shape, np.geomspace(1, 1e-8, min(shape)))
    with mpmath.workdps(40):
        exact = mpmath.svd_r(mpmath.matrix(matrix.tolist()), compute_uv=False)
        true = np.sort([float(value) for value in exact])[::-1]
    found = routes.decompose(tall_weight(pair_of(matrix, matrix), "base"), 2)
    assert found.method is routes.Method.GRAM
    np.testing.assert_allclose(found.values, true, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.svd(matrix, compute_uv=False), true, rtol=1e-6)
