"""Overlaps by hand, their range and their null, at the presets that were asked for."""

from __future__ import annotations

from math import inf, isnan, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlviz.metrics import METRICS
from rlviz.metrics.masks import MASKS, mask_rank, table
from rlviz.rounding import flip_probability
from rlviz.types import MetricParams
from tests.metrics.mask_tables import ALPHAS, record
from tests.probes.mask_pairs import ALPHAS as PRESETS
from tests.probes.mask_pairs import Oracle, measure, pair_of

PARAMS = MetricParams()
OWN = [metric for metric in METRICS.values() if metric.probe == "masks"]
CELLS = st.lists(st.tuples(*[st.integers(0, 10**6)] * 4), min_size=1, max_size=6)
ONE = settings(deadline=None)


def value(key, *group, params=PARAMS):
    return METRICS[key].pooled(group, params)


def of_cells(cells, **kwargs):
    """A record of strata ``(unchanged inside, changed inside, unchanged outside, changed outside)``."""
    cells = np.array(cells)
    return record(cells[:, :2] + cells[:, 2:], cells[:, :2], **kwargs)


def test_the_columns_of_the_specification():
    suffixes = ("", "_baseline", "_feasible_min", "_feasible_max", "_null", "_null_sd", "_excess", "_z")
    masks = ("principal", "low_magnitude", "principal_not_low")
    assert {f"overlap_{mask}{suffix}" for mask in masks for suffix in suffixes} <= METRICS.keys()
    assert {f"{what}_{mask}" for mask in masks for what in ("coverage", "enrichment")} <= METRICS.keys()


def test_by_hand():
    # 100 entries, 40 changed; the mask holds 30, of which 6 changed
    one = record([[60, 40]], [[24, 6]])
    assert value("overlap_principal", one) == pytest.approx(6 / 40)
    assert value("overlap_principal_baseline", one) == pytest.approx(0.3)
    assert value("coverage_principal", one) == pytest.approx(6 / 30)
    assert value("enrichment_principal", one) == pytest.approx(0.5)
    assert value("overlap_principal_feasible_min", one) == 0
    assert value("overlap_principal_feasible_max", one) == pytest.approx(30 / 40)
    dense = record([[10, 90]], [[5, 25]])  # 90 changed: at least 20 of the mask's 30 are among them
    assert value("overlap_principal_feasible_min", dense) == pytest.approx(20 / 90)
    assert value("overlap_principal_feasible_max", dense) == pytest.approx(30 / 90)
    sparse = record([[95, 5]], [[27, 3]])
    assert value("overlap_principal_feasible_max", sparse) == 1


def test_safe_is_what_is_not_large_and_principal():
    one = record([[60, 40]], [[24, 6]], apart=[[20, 2]])
    assert value("overlap_principal_not_low", one) == pytest.approx(2 / 40)
    assert value("overlap_principal_not_low_baseline", one) == pytest.approx(22 / 100)  # its own density, not α
    assert value("overlap_safe", one) == pytest.approx(38 / 40)
    assert value("overlap_safe_baseline", one) == pytest.approx(78 / 100)
    assert value("coverage_safe", one) == pytest.approx(38 / 78)


def test_null_by_hand():
    """Two strata, one noise: expected changes and their spread once the noise is fitted to the total."""
    std, exponent, step = 2.0**-22, [105, 107], 1e-5
    everywhere, inside = np.array([[300, 100], [500, 100]]), np.array([[60, 20], [210, 30]])
    one = record(everywhere, inside, exponent=exponent, std=std)
    p = flip_probability(np.array(exponent), np.zeros(2, bool), std)
    size, n = inside.sum(axis=1), everywhere.sum(axis=1)
    assert value("overlap_principal_null", one) == pytest.approx(size @ p / 200)
    assert value("overlap_principal_excess", one) == pytest.approx((50 - size @ p) / 200)
    assert value("precision_noise_std", one) == std
    wider = flip_probability(np.array(exponent), np.zeros(2, bool), std * (1 + step))
    c = size @ (wider - p) / (n @ (wider - p))
    variance = (1 - c) ** 2 * (size @ (p * (1 - p))) + c**2 * ((n - size) @ (p * (1 - p)))
    assert value("overlap_principal_null_sd", one) == pytest.approx(sqrt(variance) / 200, rel=1e-4)
    assert value("overlap_principal_z", one) == pytest.approx((50 - size @ p) / sqrt(variance), rel=1e-4)


def test_within_one_stratum_the_null_is_a_draw_without_replacement():
    """All entries alike and their number of changes given: the binomial spread falls to (1 − m) of it."""
    one = record([[600, 400]], [[200, 100]], exponent=[107], std=1e-6)
    p = flip_probability(np.array([107]), np.array([False]), 1e-6)[0]
    assert value("overlap_principal_null_sd", one) == pytest.approx(sqrt(300 * 0.7 * p * (1 - p)) / 400, rel=1e-6)


@ONE
@given(CELLS)
def test_overlap_lies_within_its_range(cells):
    one = of_cells(cells)
    overlap = value("overlap_principal", one)
    if isnan(overlap):
        return
    low, high = (value(f"overlap_principal_feasible_{end}", one) for end in ("min", "max"))
    assert low - 1e-12 <= overlap <= high + 1e-12
    assert 0 <= low <= high <= 1
    assert value("enrichment_principal", one) == pytest.approx(overlap / value("overlap_principal_baseline", one))
    n, changed = (np.sum(cells), np.sum([c[1::2] for c in cells]))
    assert value("coverage_principal", one) == pytest.approx(overlap * changed / np.sum([c[:2] for c in cells]))
    m, d = value("overlap_principal_baseline", one), changed / n
    assert low == pytest.approx(max(0, (m + d - 1) / d), abs=1e-9)
    assert high == pytest.approx(min(1, m / d))


@ONE
@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 999))
def test_the_range_is_attained(size, changed, n):
    n = max(n, size + 1, changed + 1)
    most = min(size, changed)
    fewest = max(0, size + changed - n)
    for hits, end in ((most, "max"), (fewest, "min")):
        one = record([[n - changed, changed]], [[size - hits, hits]])
        assert value("overlap_principal", one) == pytest.approx(value(f"overlap_principal_feasible_{end}", one))


@ONE
@given(CELLS, CELLS)
def test_tensors_pool_as_entries_do(one, other):
    defined = [cells for cells in (one, other) if not isnan(value("overlap_principal", of_cells(cells)))]
    pooled = value("overlap_principal", of_cells(one), of_cells(other))
    if not defined:
        assert isnan(pooled)
        return
    hits, changed = (sum(c[i] for cells in defined for c in cells) for i in (1, 3))
    assert pooled == pytest.approx(hits / (hits + changed))


def test_nulls_pool_by_adding():
    tensors = [
        record([[300, 100]], [[60, 20]], exponent=[105], std=2.0**-23),
        record([[500, 300]], [[210, 30]], exponent=[106], std=2.0**-21),
    ]
    changed = np.array([100, 300])
    for key, weights in (("_null", changed), ("_excess", changed)):
        single = [value(f"overlap_principal{key}", one) for one in tensors]
        assert value(f"overlap_principal{key}", *tensors) == pytest.approx(weights @ single / 400)
    spread = [value("overlap_principal_null_sd", one) * n for one, n in zip(tensors, changed, strict=True)]
    together = value("overlap_principal_null_sd", *tensors)
    assert together == pytest.approx(np.hypot(*spread) / 400)
    assert value("overlap_principal_z", *tensors) == pytest.approx(
        value("overlap_principal_excess", *tensors) / together
    )


@pytest.mark.parametrize("shift", [0, inf])
def test_undefined_where_nothing_or_everything_changed(shift):
    base = np.random.default_rng(0).standard_normal((24, 20))
    one = measure(pair_of(base, base if shift == 0 else base + 100))
    known = {metric.key for metric in OWN if not isnan(metric.of(one, PARAMS))}
    assert known == {"jaccard_principal_low", "jaccard_principal_low_null"}  # of the base alone


def test_undefined_for_an_empty_or_a_full_mask():
    for inside in ([[0, 0]], [[60, 40]]):
        one = record([[60, 40]], inside, std=1e-6)
        assert all(isnan(value(f"overlap_principal{s}", one)) for s in ("", "_null", "_z", "_feasible_max"))


def test_k_and_alpha_choose_the_preset():
    rng = np.random.default_rng(2)
    base = rng.standard_normal((90, 80)) + np.outer(rng.standard_normal(90), rng.standard_normal(80))
    pair = pair_of(base, base + 0.01 * rng.standard_normal(base.shape))
    one, oracle = measure(pair), Oracle(pair)
    assert [mask_rank(one, k) for k in (1, 16, 31, 32, 64, 79, 500)] == [16, 16, 16, 32, 64, 64, 64]
    for k in (16, 32, 64):
        for alpha in PRESETS:
            params = MetricParams(k=k, alpha=float(alpha))
            principal = oracle.scores(k) >= oracle.threshold(k, alpha)
            low = oracle.low(alpha)
            for mask, name in (
                (principal, "principal"),
                (low, "low_magnitude"),
                (principal & ~low, "principal_not_low"),
            ):
                expected = (mask & oracle.changed).sum() / oracle.changed.sum()
                assert value(f"overlap_{name}", one, params=params) == pytest.approx(expected, abs=3 / pair.match.n)
                assert value(f"overlap_{name}_baseline", one, params=params) == pytest.approx(
                    mask.mean(), abs=3 / pair.match.n
                )
    assert table(one, "principal", MetricParams(k=64, alpha=0.29)).size == oracle.size(PRESETS[4])


def test_low_magnitude_does_not_depend_on_k():
    assert METRICS["overlap_low_magnitude"].uses == ("alpha",)
    assert METRICS["overlap_principal"].uses == ("k", "alpha")
    assert len(ALPHAS) == len(PRESETS)
    assert [mask.key for mask in MASKS] == ["principal", "low_magnitude", "principal_not_low", "safe"]
