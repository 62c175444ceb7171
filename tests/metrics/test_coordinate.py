"""Metrics of the coordinate record: against direct NumPy on the weights, and pooling by counts."""

from __future__ import annotations

from math import isnan, sqrt

import ml_dtypes
import numpy as np
import pytest

from rlviz.bins import ETA_EDGES, TAU_EDGES
from rlviz.errors import InvalidInput
from rlviz.metrics import METRICS
from rlviz.metrics import coordinate_series as series
from rlviz.probes.coordinate import PROBE
from rlviz.types import Lens, Measured, MetricParams, Record
from tests.probes.test_coordinate import make_pair

BF16 = ml_dtypes.bfloat16
PARAMS = MetricParams()


def measure(base: np.ndarray, tuned: np.ndarray) -> Measured:
    """Probe two arrays; float32, bfloat16 or int8."""
    codes = {"float32": ("F32", "<u4"), "bfloat16": ("BF16", "<u2"), "int8": ("I8", "i1")}
    (base_code, base_view), (tuned_code, tuned_view) = codes[base.dtype.name], codes[tuned.dtype.name]
    flat = base.ravel().view(base_view), tuned.ravel().view(tuned_view)
    pair = make_pair(*flat, (base_code, tuned_code), base.shape)
    fields = PROBE.run(pair, {}, None)
    return Measured(pair.match, {"coordinate": Record("w", "coordinate", PROBE.version, {}, fields)})


def noisy(shape: tuple[int, ...], std: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A bf16 base and an fp32 tuned side."""
    rng = np.random.default_rng(seed)
    base = (0.02 * rng.standard_normal(shape)).astype(BF16)
    return base, (base.astype(np.float32) + std * rng.standard_normal(shape)).astype(np.float32)


BASE, TUNED = noisy((400, 300), 3e-5, seed=1)
MEASURED = measure(BASE, TUNED)
DELTA = TUNED.astype(np.float64) - BASE.astype(np.float64)
CHANGED = TUNED.astype(BF16) != BASE
OTHER = measure(*noisy((50, 20), 3e-3, seed=2))
INTEGERS = measure(np.zeros((4, 4), np.int8), np.eye(4, dtype=np.int8))


def value(key: str, measured: Measured = MEASURED, **params: object) -> float:
    return METRICS[key].of(measured, MetricParams(**params))  # type: ignore[arg-type]


def test_sparsity_density_and_hidden_share_follow_the_lens() -> None:
    density = CHANGED.mean()
    assert value("density") == density
    assert value("update_sparsity") == (~CHANGED).mean()
    assert value("update_sparsity", lens=Lens.STORED) == (DELTA == 0).mean()
    assert value("hidden_fraction") == pytest.approx(1 - CHANGED.sum() / (DELTA != 0).sum())
    assert value("hidden_fraction", lens=Lens.FP32) == 0.0
    assert 0.2 < density < 0.8


def test_tolerances_are_exact_on_the_slider() -> None:
    largest = np.maximum(abs(BASE.astype(np.float64)), abs(TUNED.astype(np.float64)))
    for eta in (1e-3, 1.12e-3, 1e-8, 1.0):
        assert eta in ETA_EDGES
        assert value("changed_rel_share", eta=eta) == (abs(DELTA) > eta * largest).mean()
    for tau in (1e-5, 1e-8, 5.01e-5):
        assert tau in TAU_EDGES
        assert value("changed_abs_share", tau=tau) == (abs(DELTA) > tau).mean()


def test_a_tolerance_off_the_slider_names_the_nearest() -> None:
    with pytest.raises(InvalidInput, match=r"eta 0\.00105: is not one of the slider values\. The nearest is 0\.001\."):
        value("changed_rel_share", eta=1.05e-3)


def test_norms() -> None:
    assert value("update_norm") == pytest.approx(np.linalg.norm(DELTA), rel=1e-12)
    assert value("base_norm") == pytest.approx(np.linalg.norm(BASE.astype(np.float64)), rel=1e-12)
    ratio = np.linalg.norm(DELTA) / np.linalg.norm(BASE.astype(np.float64))
    assert value("relative_update_norm") == pytest.approx(ratio, rel=1e-12)
    assert value("max_abs_update") == abs(DELTA).max()
    assert METRICS["update_norm"].pooled([MEASURED, OTHER], PARAMS) == pytest.approx(
        sqrt(value("update_norm") ** 2 + value("update_norm", OTHER) ** 2)
    )


@pytest.mark.parametrize(("key", "share"), [("top_energy_0p1", 1e-3), ("top_energy_1", 1e-2), ("top_energy_5", 5e-2)])
def test_top_energy_is_near_the_sorted_answer_and_the_gaussian_one(key: str, share: float) -> None:
    energy = np.sort(DELTA.ravel() ** 2)[::-1]
    exact = energy[: round(share * energy.size)].sum() / energy.sum()
    assert value(key) == pytest.approx(exact, rel=0.02)
    assert METRICS[key].chance_of(MEASURED, PARAMS) == pytest.approx(exact, rel=0.05)  # ΔW is Gaussian here


def test_one_ulp_share_and_histogram() -> None:
    codes = [a.view("<u2").astype(np.int64) for a in (BASE, TUNED.astype(BF16))]
    base, tuned = (np.where(c < 0x8000, c, 0x8000 - c) for c in codes)
    assert value("one_ulp_share") == (abs(tuned - base) == 1).sum() / CHANGED.sum()
    histogram = series.ulp_histogram([MEASURED])
    assert histogram is not None
    counts = dict(zip(histogram.labels, histogram.counts.tolist(), strict=True))
    assert counts["0"] == (~CHANGED).sum()
    assert counts["-1"] == (tuned - base == -1).sum()
    assert counts["+3-4"] == ((tuned - base >= 3) & (tuned - base <= 4)).sum()
    assert histogram.share.sum() == pytest.approx(1)


def test_dispersion_sees_stripes_and_not_scatter() -> None:
    rng = np.random.default_rng(4)
    base = np.full((200, 300), 0.5, np.float32)
    scatter = np.where(rng.random(base.shape) < 0.3, 0.75, base).astype(np.float32)
    stripes = np.where(rng.random((200, 1)) < 0.3, 0.75, base).astype(np.float32)
    assert value("row_dispersion", measure(base, scatter)) == pytest.approx(1, abs=0.35)
    assert value("row_dispersion", measure(base, stripes)) > 200
    assert value("column_dispersion", measure(base, stripes)) < 1e-20
    rho = CHANGED.mean(1)
    p = CHANGED.mean()
    assert value("row_dispersion") == pytest.approx(np.var(rho, ddof=1) / (p * (1 - p) / 300))


def test_undefined_is_nan_and_never_zero() -> None:
    same = measure(BASE, BASE.copy())
    vector = measure(BASE[:1].ravel(), TUNED[:1].ravel())
    for key in ("hidden_fraction", "one_ulp_share", "top_energy_1", "row_dispersion", "column_dispersion"):
        assert isnan(value(key, same)), key
    assert isnan(value("row_dispersion", vector))
    assert isnan(value("overflow_share", lens=Lens.STORED))
    absent = Measured(MEASURED.match, {})
    assert all(isnan(value(m.key, absent)) for m in METRICS.values() if m.probe == "coordinate")
    assert value("update_sparsity", same) == 1.0


def test_groups_pool_counts_and_leave_integers_apart() -> None:
    group = [MEASURED, OTHER, INTEGERS]
    changed = [int(m.records["coordinate"].fields["n_changed"][2]) for m in group[:2]]
    assert METRICS["density"].pooled(group, PARAMS) == sum(changed) / (BASE.size + 1000)
    assert isnan(value("density", INTEGERS))
    assert METRICS["update_sparsity_integer"].pooled(group, PARAMS) == 0.75
    assert series.eta_curve([INTEGERS]) is None


def test_patch_is_sparse_or_dense_whichever_is_smaller() -> None:
    tuned = BASE.copy()
    tuned[0, :7] = 3.0
    sparse, dense = measure(BASE, tuned), measure(BASE, (BASE.astype(np.float32) + 1).astype(BF16))
    assert value("patch_bytes", sparse) == 7 * (4 + 2)
    assert value("patch_bytes", dense) == BASE.size * 2
    assert METRICS["patch_bytes"].pooled([sparse, dense], PARAMS) == 42 + BASE.size * 2
    assert METRICS["patch_ratio"].pooled([sparse, dense], PARAMS) == (42 + BASE.size * 2) / (BASE.size * 4)


def test_curves_fall_and_agree_with_the_metrics() -> None:
    for curve, key, edge in (
        (series.eta_curve([MEASURED]), "changed_rel_share", 1e-3),
        (series.tau_curve([MEASURED]), "changed_abs_share", 1e-5),
    ):
        assert curve is not None
        assert (np.diff(curve.share) <= 0).all()
        assert curve.share[curve.edges.tolist().index(edge)] == value(key)


def test_flip_rate_by_exponent() -> None:
    flips = series.flip_rate_by_exponent([MEASURED])
    assert flips is not None
    exponent = np.frexp(BASE.astype(np.float64))[1] - 1
    assert flips.n.sum() == BASE.size
    for e, rate in zip(flips.exponent.tolist(), flips.rate.tolist(), strict=True):
        assert rate == CHANGED[exponent == e].mean()


def test_profiles_and_map_leave_out_what_is_not_finite() -> None:
    tuned = TUNED.copy()
    tuned[3, :] = np.nan
    tuned[5, 7] = np.inf
    measured = measure(BASE, tuned)
    finite = np.isfinite(tuned)
    rows, columns, blocks = (f(measured) for f in (series.row_density, series.column_density, series.block_density))
    assert rows is not None
    assert columns is not None
    assert blocks is not None
    assert isnan(rows[3])
    hits = (CHANGED & finite).sum(1)
    np.testing.assert_allclose(np.delete(rows, 3), np.delete(hits, 3) / np.delete(finite.sum(1), 3))
    np.testing.assert_allclose(columns, (CHANGED & finite).sum(0) / finite.sum(0))
    assert blocks.shape == (256, 256)
    assert value("density", measured) == (CHANGED & finite).sum() / finite.sum()


def test_every_coordinate_metric_is_documented() -> None:
    for metric in (m for m in METRICS.values() if m.probe == "coordinate"):
        assert metric.formula, metric.key
        assert metric.source, metric.key
        assert metric.meaning.endswith("."), metric.key
        assert (metric.parts is None) != (metric.value is None), metric.key
        assert bool(metric.chance) == bool(metric.chance_text), metric.key
