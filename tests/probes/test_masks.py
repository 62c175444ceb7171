"""The masks probe against whole masks made by their definitions, entry by entry in float64."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from math import isnan

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

import rlviz
from rlviz.probes.base import NotMeasurable
from rlviz.probes.masks import PROBE, probe, scores
from rlviz.probes.masks.probe import preset_ranks
from rlviz.types import TensorMatch
from tests.checkpoints import tiny_base, tuned_from, write_checkpoint
from tests.probes.mask_pairs import (
    ALPHAS,
    Oracle,
    base_record,
    measure,
    measured_with,
    pair_of,
    pair_of_codes,
    stored,
)
from tests.probes.spectrum_pairs import meta

DTYPES = ["BF16", "F16", "F32", "F64", "F8_E4M3"]
SHAPES = [(90, 40), (40, 90), (64, 64), (2, 2), (3, 20), (20, 3), (2, 60), (61, 2), (33, 17), (35, 20)]


def fields_of(pair, k_max=128):
    return dict(measure(pair, k_max).records["masks"].fields)


def drawn(shape, seed=0, scale=0.5, step=0.02):
    rng = np.random.default_rng(seed)
    head = np.outer(rng.standard_normal(shape[0]), rng.standard_normal(shape[1]))
    base = scale * (rng.standard_normal(shape) + 0.3 * head)
    return base, base + step * rng.standard_normal(shape)


def check(pair, fields):
    """Every count of a record: exact where the definition is, between bounds where a score is within rounding of a
    threshold. Returns the share of entries that were so close, at worst."""
    oracle, n = Oracle(pair), pair.match.n
    exponent, edge = oracle.strata
    strata = np.unique(2 * exponent + edge)
    assert (2 * fields["exponent"] + fields["power_of_two"]).tolist() == strata.tolist()
    np.testing.assert_array_equal(fields["counts"], oracle.counts(np.ones_like(oracle.changed), fields))
    np.testing.assert_allclose(fields["alpha"], [float(a) for a in ALPHAS])
    close = 0.0
    for a, alpha in enumerate(ALPHAS):
        low = oracle.low(alpha)
        np.testing.assert_array_equal(fields["counts_low"][a], oracle.counts(low, fields))
        assert fields["threshold_low"][a] == np.float32(np.abs(oracle.w0[low]).max())
        for p, k in enumerate(fields["k"].tolist()):
            score, off = oracle.scores(k), oracle.rounding(k)
            threshold = float(fields["threshold_principal"][p, a])
            assert abs(threshold - oracle.threshold(k, alpha)) <= off.max()
            surely, perhaps = score >= threshold + off, score >= threshold - off
            for name, outside in (("counts_principal", False), ("counts_principal_not_low", low)):
                found = fields[name][p, a]
                assert (found >= oracle.counts(surely & ~np.asarray(outside), fields)).all()
                assert (found <= oracle.counts(perhaps & ~np.asarray(outside), fields)).all()
            inside = fields["counts_principal"][p, a].sum()
            assert oracle.size(alpha) <= inside
            close = max(close, float((perhaps & ~surely).mean()))
            assert inside <= max(oracle.size(alpha), perhaps.sum()) <= n
    return close


@pytest.mark.parametrize("dtypes", list(product(DTYPES, DTYPES)), ids="-".join)
def test_every_pair_of_types(dtypes):
    pair = pair_of(*drawn((44, 30)), dtypes)
    fields = fields_of(pair)
    assert 0 < fields["counts"][:, 1].sum() < pair.match.n
    assert check(pair, fields) < 0.02
    assert fields["k"].tolist() == [16]
    assert bool(fields["finer"]) == (dtypes[0] in ("F16", "F32", "F64"))


@pytest.mark.parametrize("dtypes", [("BF16", "BF16"), ("F32", "BF16")], ids="-".join)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_shape(shape, dtypes):
    pair = pair_of(*drawn(shape, seed=sum(shape)), dtypes)
    check(pair, fields_of(pair))


@pytest.mark.parametrize("shape", [(150, 140), (140, 150)], ids=str)
def test_several_ranks_in_one_pass(shape):
    pair = pair_of(*drawn(shape), ("F32", "F32"))
    fields = fields_of(pair)
    assert fields["k"].tolist() == [16, 32, 64, 128]
    assert check(pair, fields) < 0.02
    assert (fields["counts_principal"].sum(axis=(2, 3)) == [Oracle(pair).size(a) for a in ALPHAS]).all()


@pytest.mark.parametrize("shape", [(70, 50), (50, 70)], ids=str)
def test_blocks_and_held_reconstructions_change_nothing(shape, monkeypatch):
    pair = pair_of(*drawn(shape), ("F32", "BF16"))
    monkeypatch.setattr(scores, "BLOCK_ENTRIES", 7 * shape[1] + 3)
    held = fields_of(pair)
    monkeypatch.setattr(scores, "HELD_ENTRIES", 100)
    again = fields_of(pair)
    assert held.keys() == again.keys()
    assert all(held[name].tobytes() == again[name].tobytes() for name in held)
    check(pair, again)
    monkeypatch.setattr(scores, "BLOCK_ENTRIES", 1)  # a row at a time
    check(pair, fields_of(pair))


def test_ties_in_abundance():
    rng = np.random.default_rng(3)
    base = rng.choice([-0.5, -0.25, 0.25, 0.5, 1.0], size=(60, 45))
    pair = pair_of(base, base * rng.choice([1.0, 1.01], size=base.shape))
    fields = fields_of(pair)
    check(pair, fields)
    low = fields["counts_low"].sum(axis=(1, 2))
    assert set(low) == {(np.abs(base) <= t).sum() for t in (0.25, 0.5)}  # equal weights are all in or all out


def test_a_constant_matrix_is_one_tie():
    base = np.full((30, 20), 0.75)
    pair = pair_of(base, base + 0.01 * np.arange(600).reshape(30, 20) / 600)
    fields = fields_of(pair)
    check(pair, fields)
    assert (fields["counts_low"].sum(axis=(1, 2)) == 600).all()
    np.testing.assert_allclose(fields["threshold_principal"], 0.75, rtol=1e-5)


@pytest.mark.parametrize("shape", [(40, 30), (30, 40)], ids=str)
def test_zero_rows_and_columns(shape):
    base, tuned = drawn(shape)
    base[5:20], base[:, 3] = 0, 0
    pair = pair_of(base, tuned)
    fields = fields_of(pair)
    check(pair, fields)
    zeros = int((base == 0).sum())
    assert fields["counts"][0].sum() == zeros
    assert (fields["exponent"][0], fields["power_of_two"][0]) == (0, 1)
    assert (fields["counts_low"][:3].sum(axis=(1, 2)) == zeros).all()


def test_signed_zeros_and_subnormals():
    rng = np.random.default_rng(1)
    base = stored(0.1 * rng.standard_normal((24, 20)), "BF16")
    base[:6] = rng.choice(np.array([0, 0x8000, 1, 0x8001, 0x40, 0x7F, 0x80, 0x8080, 0x81], np.uint16), size=(6, 20))
    tuned = base.copy()
    tuned[:3] ^= 0x8000  # −0 is +0, yet −x is not x
    tuned[3] = 0
    pair = pair_of_codes(base, tuned, ("BF16", "BF16"))
    fields = fields_of(pair)
    check(pair, fields)
    assert fields["counts"][fields["exponent"] == 0].sum() > 60


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.integers(2, 12), st.integers(0, 2**32 - 1), st.sampled_from(DTYPES))
def test_any_small_pair(rows, columns, seed, dtype):
    rng = np.random.default_rng(seed)
    base = np.round(4 * rng.standard_normal((rows, columns))) / 4 * 2.0 ** rng.integers(-3, 3, size=(rows, columns))
    base += rng.standard_normal(base.shape) * (seed % 2)
    base[0, 0] = 1.0
    pair = pair_of(base, base + 0.1 * rng.standard_normal(base.shape), (dtype, "BF16"))
    check(pair, fields_of(pair))


def test_float64_is_rounded_once():
    # 1 + 2^-8 + 2^-30 lies above the middle of two bf16 numbers; by way of float32 it falls on it, and then to 1
    above, below = 1 + 2.0**-8 + 2.0**-30, 1 + 3 * 2.0**-8 - 2.0**-30
    assert float(np.float64(above).astype(np.float32)) == 1 + 2.0**-8
    values = np.array([above, below, -above, -below, 1e-45, 2.0**-134 * (1 + 2.0**-40), 0.0, -0.0])
    once = scores.bf16_codes(values.view("<u8"), "F64").view(ml_dtypes.bfloat16).astype(np.float64)
    step = 2.0**-7
    assert once.tolist() == [1 + step, 1 + step, -1 - step, -1 - step, 0, 2.0**-133, 0, 0]
    base, tuned = np.full((6, 6), 1.0) + np.eye(6), np.full((6, 6), 1.0) + np.eye(6)
    tuned[2, 3], base[4, 1], tuned[4, 1] = above, above, 1 + step
    assert fields_of(pair_of(base, tuned, ("F64", "F64")))["counts"][:, 1].sum() == 1


@settings(max_examples=300, deadline=None)
@given(st.floats(allow_nan=False, allow_infinity=False, width=64, min_value=-3e38, max_value=3e38))
def test_float64_rounding_is_the_definition(x):
    from tests.probes.mask_pairs import to_bf16

    code = scores.bf16_codes(np.array([x]).view("<u8"), "F64").view(ml_dtypes.bfloat16)
    assert float(code[0]) == to_bf16(np.array([x]))[0]


NAN_CODES = {
    "BF16": [0x7FC0, 0xFFFF, 0x7F80, 0x7F81],
    "F16": [0x7E00, 0x7FFF, 0x7C00, 0xFFFF],
    "F32": [0x7FC00000, 0x7FFFFFFF, 0xFFFFFFFF, 0x7F800001, 0xFF800000, 0x7F7FFFFF],
    "F64": [0x7FF8 << 48, (1 << 63) - 1, (1 << 64) - 1, 0x7FF << 52, 0x7FEFFFFFFFFFFFFF],
    "F8_E4M3": [0x7F, 0xFF],
}
BAD = [(dtype, code) for dtype, codes in NAN_CODES.items() for code in codes]


@pytest.mark.parametrize(("dtype", "code"), BAD, ids=lambda x: x if isinstance(x, str) else hex(x))
@pytest.mark.parametrize("side", ["base", "tuned"])
def test_what_bf16_cannot_hold_is_refused(side, dtype, code):
    base, tuned = (stored(x, dtype) for x in drawn((12, 9)))
    clean = pair_of_codes(base, tuned, (dtype, dtype))
    of_base = base_record(clean)
    broken = base.copy(), tuned.copy()
    broken[side == "tuned"][7, 4] = code
    with pytest.raises(NotMeasurable) as refusal:
        measured_with(pair_of_codes(*broken, (dtype, dtype)), of_base)
    assert refusal.value.reason == "non_finite"
    assert side in refusal.value.detail


def test_the_engine_lists_it_as_skipped(tmp_path):
    base = tiny_base()
    tuned, names = tuned_from(base), [name for name, array in base.items() if array.ndim == 2]
    tuned[names[1]][3, 2] = np.nan
    base[names[2]][1, 1] = np.inf
    base[names[3]][:] = 0
    for name, arrays in (("base", base), ("tuned", tuned)):
        write_checkpoint(tmp_path / name, arrays)
    result = rlviz.compare(str(tmp_path / "base"), str(tmp_path / "tuned"), probes=("masks",), store=tmp_path / "store")
    refused = {s.name: s.reason for s in result.skipped if "masks" in s.detail}
    assert refused == {names[1]: "non_finite", names[2]: "non_finite", names[3]: "no_directions"}
    counted = {m.name for m in result.measured if "masks" in m.records}
    assert counted == set(names) - set(refused)


def direct_dispersion(pair, fields):
    """Row and column dispersion expected of Gaussian noise, from each entry's own cell of bf16 numbers."""
    w0 = np.abs(Oracle(pair).w0)
    std, exponent = float(fields["noise_std"]), np.where(w0 > 0, np.maximum(np.frexp(w0)[1], -125), -125)
    step = np.ldexp(1.0, exponent - 8)
    down = np.where((np.frexp(w0)[0] == 0.5) & (exponent > -125), step / 2, step)
    p = norm.sf(step / 2 / std) + norm.sf(down / 2 / std)
    for axis in (1, 0):
        rho, n = p.mean(axis=axis), p.shape[axis]
        noise = (p * (1 - p)).sum(axis=axis).mean() / n**2
        yield (np.var(rho, ddof=1) + noise) / (p.mean() * (1 - p.mean()) / n)


@pytest.mark.parametrize("shape", [(60, 35), (35, 60)], ids=str)
def test_dispersion_of_the_null(shape):
    base, _ = drawn(shape)
    base *= np.geomspace(0.2, 4, shape[0])[:, None]
    base[3, 4], base[5] = 0, 2.0
    tuned = base + 0.003 * np.random.default_rng(5).standard_normal(shape)
    pair = pair_of(base, tuned)
    fields = fields_of(pair)
    row, column = direct_dispersion(pair, fields)
    assert float(fields["dispersion_null_row"]) == pytest.approx(row, rel=1e-9)
    assert float(fields["dispersion_null_column"]) == pytest.approx(column, rel=1e-9)
    assert row > 2  # rows of different sizes: not 1


@pytest.mark.parametrize("dtypes", list(product(DTYPES, DTYPES)), ids="-".join)
def test_noise_is_fitted_where_bf16_alone_rounded(dtypes):
    fields = fields_of(pair_of(*drawn((24, 18)), dtypes))
    known = dtypes[0] != "F16" and dtypes[1] not in ("F16", "F8_E4M3")
    assert isnan(fields["noise_std"]) != known
    assert isnan(fields["dispersion_null_row"]) != known


def test_no_noise_fits_none_or_all():
    base, _ = drawn((20, 15))
    for tuned in (base, base + 10):
        fields = fields_of(pair_of(base, tuned))
        assert isnan(fields["noise_std"])
        assert isnan(fields["dispersion_null_row"])
        assert isnan(fields["dispersion_null_column"])


def test_a_base_of_zeros_has_no_principal_part():
    with pytest.raises(NotMeasurable) as refusal:
        measure(pair_of(np.zeros((8, 6)), np.ones((8, 6))))
    assert refusal.value.reason == "no_directions"


def test_preset_ranks_stay_below_the_rank():
    assert preset_ranks(128, 129) == [16, 32, 64, 128]
    assert preset_ranks(128, 128) == [16, 32, 64]
    assert preset_ranks(300, 257) == [16, 32, 64, 128, 256]
    assert preset_ranks(5, 40) == [5]
    assert preset_ranks(2, 2) == [1]
    assert preset_ranks(0, 2) == []


def test_inputs_stay_and_records_do_not_depend_on_threads():
    pair = pair_of(*drawn((80, 60)), ("F32", "BF16"))
    before = pair.base.codes.copy(), pair.tuned.codes.copy()
    of_base = base_record(pair)
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda _: PROBE.run(pair, PROBE.defaults(), of_base), range(4)))
    assert all(run[name].tobytes() == runs[0][name].tobytes() for run in runs for name in runs[0])
    assert np.array_equal(before[0], pair.base.codes)
    assert np.array_equal(before[1], pair.tuned.codes)


@pytest.mark.parametrize("dtypes", [("BF16", "BF16"), ("F64", "F64")], ids="-".join)
@pytest.mark.parametrize("shape", [(6000, 160), (160, 6000), (1100, 1000), (2, 400_000)], ids=str)
@pytest.mark.parametrize("held", [True, False])
def test_memory_stays_within_the_stated_cost(shape, dtypes, held, monkeypatch):
    if not held:
        for module in (scores, probe):
            monkeypatch.setattr(module, "HELD_ENTRIES", 100)
    rng = np.random.default_rng(0)
    base = rng.standard_normal(shape)
    pair = pair_of(base, base + 1e-3, dtypes)
    k_max = min(64, *shape)
    of_base = {"basis": np.linalg.qr(rng.standard_normal((min(shape), k_max)))[0]}
    params = {"k_max": k_max, "method": "exact"}
    stated = PROBE.cost(pair.match, params).memory_bytes
    PROBE.run(pair_of(*drawn((4, 4))), params, {"basis": np.eye(4)})  # imports and compiled code are not the matrix's
    tracemalloc.start()
    try:
        PROBE.run(pair, params, of_base)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < stated
    assert stated < 4 * peak


def test_applies_to_floating_matrices_only():
    def match(shape, dtype="BF16"):
        return TensorMatch(meta(shape, dtype), meta(shape, dtype), shape[0])

    assert PROBE.applies(match((4, 4)))
    assert not PROBE.applies(match((4,)))
    assert not PROBE.applies(match((1, 4)))
    assert not PROBE.applies(match((4, 4), "I8"))
