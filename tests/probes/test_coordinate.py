"""The coordinate probe against an oracle that shares nothing with it but the definitions.

The oracle rounds with exact fractions, entry by entry, and counts in Python.
"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import fsum, inf, isfinite, prod

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rlviz.bins import ETA_EDGES, TAU_EDGES
from rlviz.dtypes import ELEMENT_TYPES
from rlviz.probes.base import Fields, TensorPair
from rlviz.probes.coordinate import PROBE, count
from rlviz.types import LENSES, TensorMatch, TensorMeta

FLOATS = [e.code for e in ELEMENT_TYPES.values() if e.is_float]
INTEGERS = [e.code for e in ELEMENT_TYPES.values() if not e.is_float]
SHAPES = [
    (),
    (0,),
    (1,),
    (7,),
    (60,),
    (1, 1),
    (3, 0),
    (0, 3),
    (5, 9),
    (9, 5),
    (1, 40),
    (40, 1),
    (2, 3, 4),
    (3, 1, 2, 4),
]

# significant bits, exponent of the smallest normal, largest finite value, what lies above
ORACLE_FORMATS = {
    "fp32": (24, -126, Fraction(2**24 - 1) * 2**104, inf),
    "bf16": (8, -126, Fraction(2**8 - 1) * 2**120, inf),
    "fp16": (11, -14, Fraction(65504), inf),
    "fp8_e4m3": (4, -6, Fraction(448), 448.0),
    "fp8_e5m2": (3, -14, Fraction(57344), inf),
}


@dataclass
class Memory:
    """A code source in memory."""

    codes: np.ndarray

    def read_into(self, start: int, codes: np.ndarray) -> None:
        codes[:] = self.codes[start : start + codes.size]


def make_pair(base: np.ndarray, tuned: np.ndarray, dtypes: tuple[str, str], shape: tuple[int, ...]) -> TensorPair:
    metas = [TensorMeta("w", d, shape, "s", 0, prod(shape) * ELEMENT_TYPES[d].itemsize, None, "w") for d in dtypes]
    match = TensorMatch(metas[0], metas[1], shape[0] if shape else 1)
    elements = [ELEMENT_TYPES[d] for d in dtypes]
    sides = [np.ascontiguousarray(c.astype(e.codes)) for c, e in zip((base, tuned), elements, strict=True)]
    return TensorPair(match, Memory(sides[0]), Memory(sides[1]), elements[0].codes, elements[1].codes)


# ---------------------------------------------------------------------------------------------------- the oracle


@cache
def round_exactly(value: Fraction, lens: str) -> tuple[float, bool]:
    """`value` to nearest even, and whether it overflowed: by the definition, in integers."""
    precision, emin, largest, above = ORACLE_FORMATS[lens]
    magnitude = abs(value)
    exponent = emin
    while magnitude >= Fraction(2) ** (exponent + 1):
        exponent += 1
    step = Fraction(2) ** (exponent - precision + 1)
    whole, rest = divmod(magnitude, step)
    whole += 1 if rest * 2 > step or (rest * 2 == step and whole % 2) else 0
    rounded = whole * step
    overflow = rounded > largest
    size = above if overflow else float(rounded)
    return (-size if value < 0 else size), overflow


def bf16_ordinal(value: float) -> int:
    """Number of bf16 values between 0 and a bf16 value, with its sign."""
    code = int(np.float32(abs(value)).view(np.uint32)) >> 16
    return -code if value < 0 else code


def ulp_bin(distance: int) -> int:
    size, b = abs(distance), 0
    while size > (0, *(2**i for i in range(17)))[b]:
        b += 1
    return 17 + (b if distance > 0 else -b)


def decode(codes: np.ndarray, dtype: str) -> list[float]:
    element = ELEMENT_TYPES[dtype]
    with np.errstate(invalid="ignore"):
        return codes.astype(element.codes).view(element.values).astype(np.float64).tolist()


def oracle(base: np.ndarray, tuned: np.ndarray, dtypes: tuple[str, str], shape: tuple[int, ...]) -> Fields:
    x, y = decode(base, dtypes[0]), decode(tuned, dtypes[1])
    amax = max((abs(v) for v in x if isfinite(v)), default=0.0)
    factors = {"fp8_e4m3": 448.0, "fp8_e5m2": 57344.0}
    with np.errstate(over="ignore"):
        factors = {k: min(float(np.float64(v) / amax), sys.float_info.max) if amax else 1.0 for k, v in factors.items()}
    width = shape[-1] if shape else 1
    height = prod(shape[:-1])
    n_changed, n_overflow = Counter(), Counter()
    eta, tau, ulp = np.zeros(162, int), np.zeros(282, int), np.zeros(35, int)
    exponent_n, exponent_changed = np.zeros(256, int), np.zeros(256, int)
    rows, columns, blocks = (
        np.zeros(height, int),
        np.zeros(width, int),
        np.zeros((min(256, height), min(256, width)), int),
    )
    lost, n, sizes = np.zeros((height, width), int), 0, []
    kept = []
    for i, (a, b) in enumerate(zip(x, y, strict=True)):
        if not (isfinite(a) and isfinite(b)):
            lost[i // width, i % width] = 1
            continue
        n += 1
        kept.append((a, b))
        seen = {"stored": (a, b)}
        for lens in ORACLE_FORMATS:
            factor = factors.get(lens, 1.0)
            scaled = [float(np.float64(v) * np.float64(factor)) if isfinite(v * factor) else v * factor for v in (a, b)]
            sides = [
                round_exactly(Fraction(v), lens) if isfinite(v) else (np.copysign(ORACLE_FORMATS[lens][3], v), True)
                for v in scaled
            ]
            seen[lens] = (sides[0][0], sides[1][0])
            n_overflow[lens] += sides[0][1] or sides[1][1]
        for lens, (p, q) in seen.items():
            n_changed[lens] += p != q
        p, q = seen["bf16"]
        exponent = abs(bf16_ordinal(p)) // 128
        exponent_n[exponent] += 1
        ulp[ulp_bin(bf16_ordinal(q) - bf16_ordinal(p))] += 1
        if p != q:
            exponent_changed[exponent] += 1
            r, c = i // width, i % width
            rows[r] += 1
            columns[c] += 1
            blocks[r * min(256, height) // height, c * min(256, width) // width] += 1
        if a != b:
            with np.errstate(over="ignore"):
                size = float(abs(np.float64(b) - np.float64(a)))
            sizes.append(size)
            eta[sum(size > e * max(abs(a), abs(b)) for e in ETA_EDGES.tolist())] += 1
            tau[sum(size > e for e in TAU_EDGES.tolist())] += 1
    square = lambda values: fsum(v * v for v in values) if all(abs(v) < 1e150 for v in values) else None  # noqa: E731
    return {
        "n": n,
        "n_nonfinite": len(x) - n,
        "n_changed": np.array([n_changed[lens] for lens in LENSES]),
        "n_overflow": np.array([n_overflow[lens] for lens in LENSES]),
        "eta_counts": eta,
        "tau_counts": tau,
        "ulp_counts": ulp,
        "exponent_n": exponent_n,
        "exponent_changed": exponent_changed,
        "max_abs_update": max(sizes, default=0.0),
        "base_norm_sq": square([a for a, _ in kept]),
        "tuned_norm_sq": square([b for _, b in kept]),
        "update_norm_sq": square(sizes),
        "row_changed": rows,
        "column_changed": columns,
        "block_changed": blocks,
        "row_nonfinite": lost.sum(1) if lost.any() else np.zeros(0),
        "column_nonfinite": lost.sum(0) if lost.any() else np.zeros(0),
        "fp8_factor": np.array([factors["fp8_e4m3"], factors["fp8_e5m2"]]),
    }


def assert_equal(fields: Fields, expected: Fields) -> None:
    for name, want in expected.items():
        if name.endswith("norm_sq"):
            if want is not None:
                np.testing.assert_allclose(fields[name], want, rtol=1e-12, atol=0, err_msg=name)
        else:
            np.testing.assert_array_equal(fields[name], want, err_msg=name)


# ------------------------------------------------------------------------------------------------------ the input


def special_codes(dtype: str) -> list[int]:
    """±0, ±subnormals, ±smallest normal, ±1, ±largest, ±Inf or what lies above, NaN."""
    element = ELEMENT_TYPES[dtype]
    info = ml_dtypes.finfo(element.values)
    named = np.array([0.0, info.smallest_subnormal, info.smallest_normal, 1.0, info.max]).astype(element.values)
    magnitudes = {int(c) + d for c in named.view(element.codes) for d in (-1, 0, 1)}
    sign = 1 << (8 * element.itemsize - 1)
    magnitudes = {m for m in magnitudes if 0 <= m < sign} | {sign - 1}
    return sorted(magnitudes | {m | sign for m in magnitudes})


def codes_of(dtype: str, size: int) -> st.SearchStrategy[list[int]]:
    bits = 8 * ELEMENT_TYPES[dtype].itemsize
    element = ELEMENT_TYPES[dtype]
    ordinary = st.floats(-0.5, 0.5).map(lambda v: int(np.array(v).astype(element.values).view(element.codes)))
    code = st.one_of(st.integers(0, 2**bits - 1), st.sampled_from(special_codes(dtype)), ordinary)
    return st.lists(code, min_size=size, max_size=size)


@st.composite
def pairs(draw: st.DrawFn, dtypes: tuple[str, str]) -> tuple[np.ndarray, np.ndarray, tuple[int, ...]]:
    """Two tensors of codes: unrelated, or the base carried into the tuned dtype and moved by a few codes."""
    shape = draw(st.sampled_from(SHAPES))
    size = prod(shape)
    base_t, tuned_t = (ELEMENT_TYPES[d] for d in dtypes)
    base = np.array(draw(codes_of(dtypes[0], size)), dtype=np.uint64).astype(base_t.codes)
    if draw(st.booleans()):
        return base, np.array(draw(codes_of(dtypes[1], size)), dtype=np.uint64).astype(tuned_t.codes), shape
    with np.errstate(all="ignore"):
        tuned = base.view(base_t.values).astype(np.float64).astype(tuned_t.values).view(tuned_t.codes)
    reach = draw(st.sampled_from([1, 3, 60]))
    moves = draw(st.lists(st.integers(-reach, reach), min_size=size, max_size=size))
    return base, tuned + np.array(moves, dtype=np.int64).astype(tuned_t.codes), shape


QUICK = settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize("tuned_dtype", FLOATS)
@pytest.mark.parametrize("base_dtype", FLOATS)
def test_counts_equal_the_oracle_for_every_dtype_pair(base_dtype: str, tuned_dtype: str) -> None:
    @QUICK
    @given(pairs((base_dtype, tuned_dtype)), st.sampled_from([1, 3, 7, 1 << 16]))
    def check(drawn: tuple[np.ndarray, np.ndarray, tuple[int, ...]], window: int) -> None:
        base, tuned, shape = drawn
        pair = make_pair(base, tuned, (base_dtype, tuned_dtype), shape)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(count, "VALUE_WINDOW", window)
            fields = count.count_values(pair)
        assert_equal(fields, oracle(base, tuned, (base_dtype, tuned_dtype), shape))

    check()


@settings(QUICK, max_examples=80)
@given(pairs(("BF16", "BF16")), st.sampled_from([1, 3, 7, 1 << 18]), st.sampled_from([0, 2, 1 << 20]))
def test_the_table_of_bf16_codes_equals_the_oracle(
    drawn: tuple[np.ndarray, np.ndarray, tuple[int, ...]], window: int, listed: int
) -> None:
    base, tuned, shape = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(count, "CODE_WINDOW", window)
        patch.setattr(count, "LISTED", listed)
        patch.setattr(count, "TABLE_CAPACITY", max(listed, 5))
        fields = count.count_codes(make_pair(base, tuned, ("BF16", "BF16"), shape))
    assert_equal(fields, oracle(base, tuned, ("BF16", "BF16"), shape))


def noisy_pair(dtype: str, shape: tuple[int, ...], std: float, seed: int) -> TensorPair:
    rng = np.random.default_rng(seed)
    element = ELEMENT_TYPES[dtype]
    base = (0.02 * rng.standard_normal(prod(shape))).astype(element.values)
    tuned = (base.astype(np.float64) + std * rng.standard_normal(base.size)).astype(element.values)
    return make_pair(base.view(element.codes), tuned.view(element.codes), (dtype, dtype), shape)


@pytest.mark.parametrize("std", [1e-5, 5e-4, 3e-2])
def test_table_and_values_agree_on_a_large_pair(std: float) -> None:
    pair = noisy_pair("BF16", (613, 701), std, seed=3)
    codes, values = count.count_codes(pair), count.count_values(pair)
    assert codes.keys() == values.keys()
    for name, field in codes.items():
        assert field.dtype == values[name].dtype
        np.testing.assert_allclose(field, values[name], rtol=1e-12 if field.dtype.kind == "f" else 0, err_msg=name)
    assert codes["n_changed"][2] > 0


@pytest.mark.parametrize("dtype", ["BF16", "F32"])
@pytest.mark.parametrize("window", [997, 4096, 100_000])
def test_fields_do_not_depend_on_the_window(dtype: str, window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pair = noisy_pair(dtype, (301, 401), 5e-4, seed=5)
    whole = PROBE.run(pair, {}, None)
    monkeypatch.setattr(count, "VALUE_WINDOW", window)
    monkeypatch.setattr(count, "CODE_WINDOW", window)
    pieces = PROBE.run(pair, {}, None)
    for name, field in whole.items():
        np.testing.assert_allclose(pieces[name], field, rtol=1e-13 if field.dtype.kind == "f" else 0, err_msg=name)


def test_a_second_run_is_byte_identical_even_after_a_failed_read() -> None:
    pair = noisy_pair("BF16", (300, 400), 5e-4, seed=7)
    first = PROBE.run(pair, {}, None)
    broken = noisy_pair("BF16", (900, 400), 5e-4, seed=8)
    whole = broken.tuned.codes
    broken.tuned.codes = whole[:300_000]
    with pytest.raises(ValueError, match="broadcast"):
        PROBE.run(broken, {}, None)
    again = PROBE.run(pair, {}, None)
    for name, field in first.items():
        assert field.tobytes() == again[name].tobytes(), name


def test_threads_do_not_disturb_each_other() -> None:
    from concurrent.futures import ThreadPoolExecutor

    jobs = [noisy_pair("BF16", (200, 300), std, seed=9) for std in (1e-5, 5e-4) * 6]
    alone = [PROBE.run(pair, {}, None) for pair in jobs]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda pair: PROBE.run(pair, {}, None), jobs))
    for one, other in zip(alone, together, strict=True):
        assert all(one[name].tobytes() == other[name].tobytes() for name in one)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_are_compared_as_stored(dtype: str) -> None:
    rng = np.random.default_rng(1)
    base = rng.integers(0, 2, (50, 30))
    tuned = np.where(rng.random((50, 30)) < 0.2, 1 - base, base)
    fields = PROBE.run(make_pair(base.ravel(), tuned.ravel(), (dtype, dtype), (50, 30)), {}, None)
    assert fields["n"] == 1500
    assert fields["n_changed"].tolist() == [(base != tuned).sum()]
    np.testing.assert_array_equal(fields["row_changed"], (base != tuned).sum(1))
    np.testing.assert_array_equal(fields["block_changed"], base != tuned)
    assert "update_norm_sq" not in fields


def test_float64_is_rounded_to_bf16_once() -> None:
    # just above the midpoint of two bf16 values, by less than float32 can hold: through float32 it would go down
    value = 1 + 2.0**-8 + 2.0**-40
    base, tuned = np.array([value, value]), np.array([1.0, 1 + 2.0**-7])
    fields = PROBE.run(make_pair(base.view("<u8"), tuned.view("<u8"), ("F64", "F64"), (2,)), {}, None)
    assert fields["n_changed"][LENSES.index("bf16")] == 1
    assert fields["row_changed"].tolist() == [1]
    assert fields["column_changed"].tolist() == [1, 0]


def test_e4m3_saturates_and_counts_the_overflow() -> None:
    base = np.array([1.0, 1.0, 1.0, 0.5], dtype=np.float32)  # scaled by 448
    tuned = np.array([1.0, 1.03, 1.2, 2.0], dtype=np.float32)  # 448, 461 (rounds to 448), 538, 896
    fields = PROBE.run(make_pair(base.view("<u4"), tuned.view("<u4"), ("F32", "F32"), (4,)), {}, None)
    row = LENSES.index("fp8_e4m3")
    assert fields["n_changed"][row] == 1  # only 0.5 → 2.0: the others are 448 on both sides
    assert fields["n_overflow"][row] == 2


def test_the_update_map_of_a_large_tensor_is_at_most_256_blocks_a_side() -> None:
    pair = noisy_pair("BF16", (700, 530), 1e-4, seed=11)
    changed = pair.base.codes.reshape(700, 530) != pair.tuned.codes.reshape(700, 530)
    fields = PROBE.run(pair, {}, None)
    want = np.zeros((256, 256), int)
    r, c = np.nonzero(changed)
    np.add.at(want, (r * 256 // 700, c * 256 // 530), 1)
    np.testing.assert_array_equal(fields["block_changed"], want)
    assert fields["block_changed"].dtype == np.uint8


def test_slider_values_are_exact_bin_edges() -> None:
    base, tuned = np.zeros(4), np.array([1e-5, np.nextafter(1e-5, 1), 0.5, 0.0])
    fields = PROBE.run(make_pair(base.view("<u8"), tuned.view("<u8"), ("F64", "F64"), (4,)), {}, None)
    assert fields["tau_counts"][TAU_EDGES.tolist().index(1e-5) + 1 :].sum() == 2  # > 1e-5, not >=


def test_a_planted_change_is_seen_where_it_is() -> None:
    base = np.full(300 * 500, 0x3C00, dtype=np.uint16)
    tuned = base.copy()
    tuned[123 * 500 + 45] += 1
    fields = PROBE.run(make_pair(base, tuned, ("BF16", "BF16"), (300, 500)), {}, None)
    assert fields["n_changed"][:3].tolist() == [1, 1, 1]
    assert np.flatnonzero(fields["row_changed"]).tolist() == [123]
    assert np.flatnonzero(fields["column_changed"]).tolist() == [45]
    assert fields["ulp_counts"][16:19].tolist() == [0, 300 * 500 - 1, 1]
    assert fields["max_abs_update"] == 2.0**-14  # one ULP of 2^-7
    assert fields["exponent_changed"].nonzero()[0].tolist() == [127 - 7]


def test_reads_the_base_ahead_only_where_the_list_fills_up(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = noisy_pair("BF16", (200, 300), 5e-4, seed=13)
    reads: list[int] = []
    read_into = pair.base.read_into
    monkeypatch.setattr(
        pair.base, "read_into", lambda start, codes: (reads.append(codes.size), read_into(start, codes))
    )
    PROBE.run(pair, {}, None)
    assert sum(reads) == 200 * 300
    monkeypatch.setattr(count, "LISTED", 10)
    PROBE.run(pair, {}, None)
    assert sum(reads) == 3 * 200 * 300


def test_importing_the_probe_does_not_load_numba_or_torch() -> None:
    code = "import sys, rlviz.probes.coordinate; print([m for m in ('numba', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_applies_to_floats_and_to_equal_integers() -> None:
    def meta(dtype: str) -> TensorMeta:
        return TensorMeta("w", dtype, (1,), "s", 0, 8, None, "w")

    assert PROBE.applies(TensorMatch(meta("F8_E4M3"), meta("F64"), 1))
    assert PROBE.applies(TensorMatch(meta("BOOL"), meta("BOOL"), 1))
    assert not PROBE.applies(TensorMatch(meta("I8"), meta("U8"), 1))
    assert not PROBE.applies(TensorMatch(meta("I8"), meta("F32"), 1))
    assert not PROBE.applies(TensorMatch(meta("F4"), meta("F4"), 1))
