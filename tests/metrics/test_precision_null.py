"""The precision-only null of a record: fitted noise, expected changes, dispersion."""

from __future__ import annotations

from math import isnan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlviz.metrics import METRICS
from rlviz.metrics.precision_null import expected, fitted_noise, strata_chance
from rlviz.rounding import bf16_step, flip_probability
from rlviz.types import MetricParams
from tests.metrics.mask_tables import record
from tests.probes.mask_pairs import measure, pair_of

PARAMS = MetricParams()


def noisy(shape=(60, 50), std=2e-5, seed=0, dtypes=("BF16", "BF16")):
    rng = np.random.default_rng(seed)
    base = 0.02 * rng.standard_normal(shape)
    pair = pair_of(base, base, dtypes)
    from tests.probes.mask_pairs import Oracle

    stored = Oracle(pair).w0
    return measure(pair_of(stored, stored + std * rng.standard_normal(shape), dtypes))


def test_fitted_noise_explains_the_density():
    one = noisy()
    counts = one.records["masks"].fields["counts"]
    chance = strata_chance(one, fitted_noise(one))
    assert counts.sum(axis=1) @ chance == pytest.approx(counts[:, 1].sum(), rel=1e-9)


@pytest.mark.parametrize("std", [1e-5, 1e-4, 1e-3])
@pytest.mark.parametrize("dtypes", [("BF16", "BF16"), ("F32", "F32"), ("F32", "BF16")], ids="-".join)
def test_fitted_noise_is_the_noise(dtypes, std):
    found = fitted_noise(noisy((200, 150), std, dtypes=dtypes))
    assert found == pytest.approx(std, rel=0.05)


def test_chances_are_those_of_the_strata():
    one = record([[5, 5], [5, 5]], [[1, 1], [1, 1]], exponent=[105, 106], edges=[0, 1], std=1e-6, finer=True)
    expected_ones = flip_probability(np.array([105, 106]), np.array([False, True]), 1e-6, finer=True)
    assert strata_chance(one, 1e-6).tolist() == expected_ones.tolist()


STRATA = st.lists(st.tuples(st.integers(100, 112), st.booleans(), st.integers(1, 10**5), st.floats(0, 1)), min_size=1)


@settings(deadline=None)
@given(STRATA, st.floats(0.05, 5), st.booleans())
def test_a_mask_and_the_rest_share_the_null(strata, steps, finer):
    exponent, edges, n, share = (np.array(x) for x in zip(*strata, strict=True))
    size = np.floor(n * share).astype(np.int64)
    std = steps * float(bf16_step(np.array([106]))[0])
    one = record(np.c_[n, 0 * n], np.c_[size, 0 * n], exponent=exponent, edges=edges, std=std, finer=finer)
    mask, rest, all_of_it = (expected(one, inside) for inside in (size, n - size, n))
    assert mask.changed + rest.changed == pytest.approx(all_of_it.changed, rel=1e-9)
    # what the mask has too many, the rest has too few: the total was fitted
    assert mask.variance == pytest.approx(rest.variance, rel=1e-6, abs=1e-6)
    assert all_of_it.variance == pytest.approx(0, abs=1e-6)
    p = flip_probability(exponent, edges, std, finer=finer)
    assert 0 <= mask.variance <= n @ (p * (1 - p)) + 1e-9


def test_undefined_without_noise():
    one = record([[5, 5]], [[1, 1]])
    assert isnan(fitted_noise(one))
    assert expected(one, np.array([2])) is None
    assert isnan(METRICS["precision_noise_std"].of(one, PARAMS))
    assert isnan(METRICS["overlap_principal_null"].of(one, PARAMS))
    assert METRICS["overlap_principal"].of(one, PARAMS) == pytest.approx(0.2)  # an overlap needs no noise


def test_dispersion_reads_the_record():
    one = noisy()
    fields = one.records["masks"].fields
    for part in ("row", "column"):
        assert METRICS[f"{part}_dispersion_null"].of(one, PARAMS) == float(fields[f"dispersion_null_{part}"])
