"""The spectrum probe against dense float64 decompositions, planted answers and its own other routes."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from rlviz.metrics.subspace import angle_curve
from rlviz.probes.base import NotMeasurable
from rlviz.probes.spectrum import PROBE
from rlviz.probes.spectrum.blocks import tall_weight
from rlviz.probes.spectrum.decompose import Method, decompose
from rlviz.probes.spectrum.lapack import SymmetricEigen
from rlviz.probes.spectrum.probe import compare
from rlviz.types import TensorMatch
from tests.probes.spectrum_pairs import demo_pairs, dense, haar, measure, measure_pair, meta, pair_of, with_spectrum

SHAPES = [(300, 120), (120, 300), (150, 150), (7, 3), (3, 7), (2, 2), (2, 40), (400, 2)]
DEGREE = np.pi / 180


def fields_of(measured):
    return measured.records["spectrum"].fields


def perturbed(shape, size=1e-3, seed=0):
    rng = np.random.default_rng(seed)
    base = rng.standard_normal(shape)
    return base, base + size * rng.standard_normal(shape)


def relative(found, true, floor=1e-6):
    kept = true >= floor * true[0]
    return np.abs(found[kept] / true[kept] - 1).max()


@pytest.mark.parametrize("shape", SHAPES)
def test_matches_dense_decompositions(shape):
    base, tuned = perturbed(shape)
    update = tuned - base
    measured = measure(base, tuned)
    fields = fields_of(measured)
    u0, s0, v0 = np.linalg.svd(base, full_matrices=False)
    u1, s1, v1 = np.linalg.svd(tuned, full_matrices=False)
    assert relative(fields["singular_values_base"], s0) < 1e-7
    assert relative(fields["singular_values_tuned"], s1) < 1e-7
    assert relative(fields["singular_values_update"], np.linalg.svd(update, compute_uv=False)) < 1e-7
    for k in {1, min(5, min(shape) - 1), min(64, min(shape) - 1)}:
        left = np.arccos(np.clip(np.linalg.svd(u0[:, :k].T @ u1[:, :k], compute_uv=False), 0, 1))
        right = np.arccos(np.clip(np.linalg.svd(v0[:k] @ v1[:k].T, compute_uv=False), 0, 1))
        np.testing.assert_allclose(angle_curve(measured, "left", k), left, atol=1e-4 * DEGREE)
        np.testing.assert_allclose(angle_curve(measured, "right", k), right, atol=1e-4 * DEGREE)
        core = u0[:, :k].T @ update @ v0[:k].T
        assert fields["block_energy"][k - 1] == pytest.approx(np.sum(core**2), rel=1e-9)
        assert fields["direction_energy_left"][:k].sum() == pytest.approx(np.sum((u0[:, :k].T @ update) ** 2), rel=1e-9)
        assert fields["direction_energy_right"][:k].sum() == pytest.approx(np.sum((update @ v0[:k].T) ** 2), rel=1e-9)
        np.testing.assert_allclose(fields["direction_projection"][:k], np.diag(core), rtol=1e-7, atol=1e-12)
    assert float(fields["update_energy"]) == pytest.approx(np.sum(update**2), rel=1e-12)
    best = np.abs(u0.T @ u1[:, :10]).max(axis=0)
    np.testing.assert_allclose(fields["intruder_cosines"], best, atol=1e-9)


@pytest.mark.parametrize("shape", [(240, 100), (100, 240), (130, 130)])
@pytest.mark.parametrize("smallest", [1e-3, 2e-5, 1e-6])
def test_singular_values_to_a_millionth_whatever_the_conditioning(shape, smallest):
    rng = np.random.default_rng(5)
    true = np.geomspace(3.0, 3.0 * smallest, min(shape))
    step = 1e-4 * true
    base = with_spectrum(rng, shape, true)
    update = with_spectrum(rng, shape, step)
    fields = fields_of(measure(base, base + update))
    assert relative(fields["singular_values_base"], true) < 1e-6
    assert relative(fields["singular_values_tuned"], np.linalg.svd(base + update, compute_uv=False)) < 1e-6
    exact = np.linalg.svd((base + update) - base, compute_uv=False)  # what float64 kept of the planted update
    assert relative(fields["singular_values_update"], exact) < 1e-6


def test_the_route_follows_the_conditioning():
    rng = np.random.default_rng(1)
    shape, methods = (90, 60), {}
    for smallest in (1e-3, 1e-6):
        pair = pair_of(with_spectrum(rng, shape, np.geomspace(1, smallest, 60)), np.zeros(shape))
        for k in (10, 60):  # a tail is squared again; vectors that belong to it need the direct route
            methods[smallest, k] = decompose(tall_weight(pair, "base"), k).method
    gram = dict.fromkeys([(1e-3, 10), (1e-3, 60), (1e-6, 10)], Method.GRAM)
    assert methods == gram | {(1e-6, 60): Method.DIRECT}


def test_both_sides_take_the_same_route():
    rng = np.random.default_rng(1)
    left, right, true = haar(rng, 90, 60), haar(rng, 60, 60), np.geomspace(1, 1e-3, 60)
    near, far = (left * true) @ right.T, (left * np.append(true[:-1], 1e-5)) @ right.T
    for base, tuned in ((near, far), (far, near)):
        fields = fields_of(measure(base, tuned, k_max=60))
        assert fields["method_base"] == fields["method_tuned"] == Method.DIRECT
        assert relative(fields["singular_values_base"], np.linalg.svd(base, compute_uv=False)) < 1e-9
        assert relative(fields["singular_values_tuned"], np.linalg.svd(tuned, compute_uv=False)) < 1e-9


@pytest.mark.parametrize("condition", [3.0, 1e4, 1e6])
@pytest.mark.parametrize("shape", [(260, 110), (140, 140)])
def test_tiny_spectral_shift_to_a_thousandth(shape, condition):
    rng = np.random.default_rng(11)
    r = min(shape)
    left, right, true = haar(rng, shape[0], r), haar(rng, shape[1], r), np.geomspace(1.0, 1 / condition, r)
    shifted = true * (1 + 8e-6 * rng.uniform(-1, 1, r))
    fields = fields_of(measure((left * true) @ right.T, (left * shifted) @ right.T))
    base, tuned = fields["singular_values_base"], fields["singular_values_tuned"]
    expected = np.linalg.norm(shifted - true) / np.linalg.norm(true)
    assert expected < 6e-6
    assert np.linalg.norm(tuned - base) / np.linalg.norm(base) == pytest.approx(expected, rel=1e-3)


def rotation(rng, d, inside, outside, angle):
    """The orthogonal matrix that turns the plane of two orthonormal vectors by `angle`."""
    turned = np.cos(angle) * inside + np.sin(angle) * outside
    back = -np.sin(angle) * inside + np.cos(angle) * outside
    return np.eye(d) + np.outer(turned - inside, inside) + np.outer(back - outside, outside)


@pytest.mark.parametrize("degrees", [1e-5, 1e-3, 0.17, 11.0, 80.0])
@pytest.mark.parametrize(("level", "gap"), [(0.5, 0.01), (0.5, 2e-8), (1e-3, 2e-8), (1e-5, 2e-8)])
@pytest.mark.parametrize("shape", [(150, 60), (60, 150)])
def test_planted_angle(shape, level, gap, degrees):
    rng = np.random.default_rng(3)
    k, r = 7, 60
    left, right = haar(rng, shape[0], r), haar(rng, shape[1], r)
    true = np.concatenate([np.linspace(1.0, level, k), np.linspace(level - gap, level / 50, r - k)])
    base = (left * true) @ right.T
    turn_left = rotation(rng, shape[0], left[:, 2], left[:, k], degrees * DEGREE)
    turn_right = rotation(rng, shape[1], right[:, 1], right[:, k + 3], 2 * degrees * DEGREE)
    measured = measure(base, turn_left @ base @ turn_right.T)
    assert angle_curve(measured, "left", k)[-1] == pytest.approx(degrees * DEGREE, abs=1e-4 * DEGREE)
    planted = min(2 * degrees, 180 - 2 * degrees) * DEGREE
    assert angle_curve(measured, "right", k)[-1] == pytest.approx(planted, abs=1e-4 * DEGREE)
    assert angle_curve(measured, "left", k)[0] < 1e-4 * DEGREE
    assert fields_of(measured)["angle_error"][k - 1] < 1e-4 * DEGREE


@pytest.mark.parametrize("shape", [(80, 30), (30, 80), (40, 40)])
def test_planted_energy(shape):
    rng = np.random.default_rng(4)
    r = min(shape)
    left, right = haar(rng, shape[0], r), haar(rng, shape[1], r)
    base = (left * np.linspace(2, 1, r)) @ right.T
    inside, outside = np.outer(left[:, 1], right[:, 2]), np.outer(left[:, 20], right[:, 0])
    fields = fields_of(measure(base, base + 3e-4 * inside + 4e-4 * outside))
    total = float(fields["update_energy"])
    assert total == pytest.approx(25e-8, rel=1e-9)
    assert fields["block_energy"][:3] / total == pytest.approx([0, 0, 9 / 25], abs=1e-9)
    assert fields["block_energy"][[19, 20]] / total == pytest.approx([9 / 25, 1], rel=1e-9)
    assert fields["direction_energy_left"][[1, 20]] / total == pytest.approx([9 / 25, 16 / 25], rel=1e-9)
    assert fields["direction_energy_right"][[2, 0]] / total == pytest.approx([9 / 25, 16 / 25], rel=1e-9)
    assert fields["singular_values_update"][:3] == pytest.approx([4e-4, 3e-4, 0], abs=1e-12)


def test_low_rank_update_keeps_its_rank():
    rng = np.random.default_rng(8)
    base = rng.standard_normal((200, 90))
    update = np.float32(1e-3) * rng.standard_normal((200, 4)) @ rng.standard_normal((4, 90))
    values = fields_of(measure(base, base + update))["singular_values_update"]
    assert np.count_nonzero(values > 1e-9 * values[0]) == 4


@pytest.mark.parametrize("shape", [(60, 25), (25, 60)])
def test_zero_rows_and_columns(shape):
    base, tuned = perturbed(shape)
    base[[3, 9]] = tuned[[3, 9]] = 0
    base[:, [0, 7]] = tuned[:, [0, 7]] = 0
    tuned[4] = base[4]
    fields = fields_of(measure(base, tuned))
    true = np.linalg.svd(base, compute_uv=False)
    np.testing.assert_allclose(fields["singular_values_base"], true, rtol=1e-7, atol=1e-13)
    assert np.count_nonzero(fields["singular_values_base"]) == min(shape) - 2
    exact = np.linalg.svd(tuned - base, compute_uv=False)
    np.testing.assert_allclose(fields["singular_values_update"], exact, rtol=1e-7, atol=1e-13)
    assert fields["cross_left"].shape == (min(shape) - 2,) * 2


def test_zero_base_and_zero_tuned():
    weight = np.random.default_rng(0).standard_normal((30, 12))
    for base, tuned in ((0 * weight, weight), (weight, 0 * weight), (0 * weight, 0 * weight)):
        fields = fields_of(measure(base, tuned))
        assert fields["cross_left"].shape == (0, 0)
        assert fields["preset_k"].size == 0
        true = np.linalg.svd(tuned - base, compute_uv=False)
        np.testing.assert_allclose(fields["singular_values_update"], true, rtol=1e-9)


@pytest.mark.parametrize("shape", [(60, 25), (25, 60), (25, 25)])
@pytest.mark.parametrize("rank", [25, 6])
def test_identical_matrices_have_no_angle_and_no_shift(shape, rank):
    weight = with_spectrum(np.random.default_rng(2), shape, np.linspace(2, 1, rank))
    measured = measure(weight, weight)
    fields = fields_of(measured)
    assert np.array_equal(fields["singular_values_base"], fields["singular_values_tuned"])
    assert not fields["singular_values_update"].any()
    for side in ("left", "right"):
        for k in (1, 5, 20):
            assert not angle_curve(measured, side, k).any()


def test_negative_zero_is_no_update():
    weight = np.random.default_rng(2).standard_normal((20, 10))
    weight[0] = 0.0
    other = weight.copy()
    other[0] = -0.0
    assert float(fields_of(measure(weight, other))["update_energy"]) == 0


@pytest.mark.parametrize("seed", range(3))
def test_invariances(seed):
    rng = np.random.default_rng(seed)
    shape = (70, 40)
    base, tuned = perturbed(shape, 0.05, seed)
    plain = measure(base, tuned)
    left, right = haar(rng, 70, 70), haar(rng, 40, 40)
    for other, swap, factor in (
        (measure(left @ base @ right, left @ tuned @ right), False, 1.0),
        (measure(-1e-7 * base, -1e-7 * tuned), False, 1e-7),
        (measure(base.T, tuned.T), True, 1.0),
    ):
        ours, theirs = fields_of(plain), fields_of(other)
        for side in ("base", "tuned", "update"):
            name = f"singular_values_{side}"
            np.testing.assert_allclose(theirs[name], factor * ours[name], rtol=1e-9)
        np.testing.assert_allclose(theirs["block_energy"], factor**2 * ours["block_energy"], rtol=1e-8)
        sides = ("right", "left") if swap else ("left", "right")
        for mine, its in zip(("left", "right"), sides, strict=True):
            energies = factor**2 * ours[f"direction_energy_{mine}"]
            np.testing.assert_allclose(theirs[f"direction_energy_{its}"], energies, rtol=1e-8)
            np.testing.assert_allclose(angle_curve(other, its, 11), angle_curve(plain, mine, 11), atol=1e-7)


@pytest.mark.parametrize("shape", [(90, 20), (20, 90), (31, 31)])
@pytest.mark.parametrize("smallest", [1e-2, 1e-6])
@pytest.mark.parametrize("entries", [1, 61, 500])
def test_row_windows_do_not_matter(shape, smallest, entries):
    rng = np.random.default_rng(6)
    base = with_spectrum(rng, shape, np.geomspace(1, smallest, min(shape)))
    pair = pair_of(base, base + 1e-3 * rng.standard_normal(shape))
    params = {"k_max": 10, "method": "exact"}
    whole = fields_of(measure_pair(pair, k_max=10))
    w0, w1 = (tall_weight(pair, side, entries) for side in ("base", "tuned"))
    pieces = compare(w0, w1, decompose(w0, 10), params)
    assert pieces.keys() == whole.keys()
    for name in ("singular_values_base", "singular_values_tuned", "singular_values_update"):
        np.testing.assert_allclose(pieces[name], whole[name], rtol=1e-8 if smallest == 1e-2 else 1e-6)
    for name in ("block_energy", "direction_energy_left", "direction_energy_right", "preset_cosines_left"):
        np.testing.assert_allclose(pieces[name], whole[name], rtol=1e-7)


def test_grown_vocabulary_compares_the_common_rows():
    base, tuned = perturbed((40, 12))
    grown = pair_of(base, np.vstack([tuned, np.ones((12, 12))]))
    assert grown.match.shape == (40, 12)
    ours, theirs = fields_of(measure_pair(grown)), fields_of(measure(base, tuned))
    assert all(np.array_equal(ours[name], theirs[name], equal_nan=True) for name in ours)


@pytest.mark.parametrize("dtype", ["F32", "F16"])
def test_stored_values_are_decoded_exactly(dtype):
    base, tuned = perturbed((50, 20))
    pair = pair_of(base, tuned, dtype)
    w0, w1 = dense(pair)
    values = fields_of(measure_pair(pair))["singular_values_update"]
    np.testing.assert_allclose(values, np.linalg.svd(w1 - w0, compute_uv=False), rtol=1e-9)


@pytest.mark.parametrize("side", ["base", "tuned"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("shape", [(30, 8), (8, 30)])
def test_non_finite_entries_are_named(side, value, shape):
    matrices = dict(zip(("base", "tuned"), perturbed(shape), strict=True))
    matrices[side][1, 2] = value
    with pytest.raises(NotMeasurable, match=f"the {side} matrix holds NaN or infinity") as caught:
        measure(**matrices)
    assert caught.value.reason == "non_finite"


@pytest.mark.parametrize("scale", [1e200, 1e-200])
def test_squares_beyond_float64_are_refused(scale):
    base, tuned = perturbed((30, 8))
    with pytest.raises(NotMeasurable, match="range of float64"):
        measure(scale * base, scale * tuned)


@pytest.mark.parametrize("shape", [(120, 50), (50, 120)])
def test_intruders_hidden_in_the_trailing_base_directions(shape):
    """A tuned direction outside the base vectors kept may still be one base vector, or a mix of several."""
    rng = np.random.default_rng(9)
    left, right = haar(rng, shape[0], 50), haar(rng, shape[1], 50)
    true = np.linspace(2, 1, 50)
    base = (left * true) @ right.T
    lifted = base + 3 * np.outer(left[:, 30], right[:, 30])
    mixed = base + 3 * np.outer((left[:, 20:44] @ np.ones(24)) / 24**0.5, (right[:, 20:44] @ np.ones(24)) / 24**0.5)
    for tuned, is_intruder in ((lifted, False), (mixed, True)):
        cosines = fields_of(measure(base, tuned, k_max=8))["intruder_cosines"]
        u1 = np.linalg.svd(tuned, full_matrices=False)[0]
        np.testing.assert_allclose(cosines, np.abs(left.T @ u1[:, : len(cosines)]).max(axis=0), atol=1e-9)
        assert (cosines[0] < 0.5) is np.bool_(is_intruder)


@pytest.mark.parametrize("shape", [(400, 150), (150, 400)])
def test_leading_method_finds_separated_directions(shape):
    rng = np.random.default_rng(10)
    true = np.concatenate([np.geomspace(100, 5, 12), np.linspace(1, 0.5, 138)])
    base = with_spectrum(rng, shape, true)
    tuned = base + 0.02 * rng.standard_normal(shape)
    exact, leading = measure(base, tuned, k_max=12), measure(base, tuned, k_max=12, method="leading")
    fields = fields_of(leading)
    assert "singular_values_base" not in fields
    assert "singular_values_update" not in fields
    values = fields_of(exact)["singular_values_base"]
    np.testing.assert_allclose(fields["leading_singular_values_base"][:12], values[:12], rtol=1e-8)
    for k in (4, 12):
        for side in ("left", "right"):
            np.testing.assert_allclose(angle_curve(leading, side, k), angle_curve(exact, side, k), atol=1e-6)
        assert fields["angle_error"][k - 1] < 1e-3
        assert fields["block_energy"][k - 1] == pytest.approx(fields_of(exact)["block_energy"][k - 1], rel=1e-5)


def test_leading_method_owns_up_to_an_unresolved_bulk():
    base, tuned = perturbed((1500, 600), 0.01)
    exact, leading = measure(base, tuned, k_max=32), measure(base, tuned, k_max=32, method="leading")
    off = np.abs(angle_curve(exact, "right", 32)[-1] - angle_curve(leading, "right", 32)[-1])
    estimate = fields_of(leading)["angle_error"][31]
    assert estimate > 0.1
    assert off <= estimate


def test_leading_method_of_a_small_matrix_is_exact():
    base, tuned = perturbed((30, 12))
    exact, leading = measure(base, tuned), measure(base, tuned, method="leading")
    for side in ("left", "right"):
        np.testing.assert_allclose(angle_curve(leading, side, 6), angle_curve(exact, side, 6), atol=1e-6)


@pytest.mark.parametrize("method", ["exact", "leading"])
def test_records_are_deterministic_across_threads_and_the_store(method):
    pair = pair_of(*perturbed((90, 300)), "F32")
    params = {"k_max": 20, "method": method}
    base = PROBE.run_base(pair, params)
    kept = {name: np.frombuffer(value.tobytes(), value.dtype).reshape(value.shape) for name, value in base.items()}
    with ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda given: PROBE.run(pair, params, given), [base, kept, None, base]))
    for other in runs[1:]:
        assert other.keys() == runs[0].keys()
        assert all(other[name].tobytes() == runs[0][name].tobytes() for name in other)


@pytest.mark.parametrize("method", ["exact", "leading"])
@pytest.mark.parametrize("shape", [(70_000, 96), (96, 70_000), (9_000, 400), (300, 300)])
def test_memory_stays_within_the_stated_cost(shape, method):
    rng = np.random.default_rng(0)
    base = rng.standard_normal(shape, dtype=np.float32)
    pair = pair_of(base, base + np.float32(1e-3), "F32")
    params = {"k_max": 64, "method": method}
    stated = PROBE.cost(pair.match, params).memory_bytes
    tracemalloc.start()
    try:
        PROBE.run(pair, params, PROBE.run_base(pair, params))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.2 * stated
    assert stated < 4 * peak


def test_embedding_of_half_a_billion_parameters_fits():
    match = TensorMatch(meta((151_936, 896), "BF16"), meta((151_936, 896), "BF16"), 151_936)
    assert PROBE.cost(match, PROBE.defaults()).memory_bytes < 250e6


def test_applies_to_floating_matrices_only():
    def match(shape, dtype="BF16"):
        return TensorMatch(meta(shape, dtype), meta(shape, dtype), shape[0])

    assert PROBE.applies(match((4, 4)))
    assert not PROBE.applies(match((4,)))
    assert not PROBE.applies(match((1, 4)))
    assert not PROBE.applies(match((4, 4), "I8"))


@pytest.mark.parametrize("kind", ["gaussian", "repeated", "diagonal", "blocks", "low rank"])
def test_leading_eigenpairs(kind):
    rng = np.random.default_rng(0)
    n, k = 120, 30
    frame = haar(rng, n, n)
    wide, square, thin = (rng.standard_normal((rows, columns)) for rows, columns in ((300, n), (50, 30), (n, 5)))
    matrix = {
        "gaussian": wide.T @ wide,
        "repeated": (frame * np.repeat([5.0, 3.0, 1.0], 40)) @ frame.T,
        "diagonal": np.diag(np.linspace(1, 2, n)),
        "blocks": np.kron(np.eye(4), square.T @ square),
        "low rank": thin @ thin.T,
    }[kind]
    before = matrix.copy()
    found = SymmetricEigen(matrix)
    values, vectors = found.values, found.vectors(0, k)
    assert np.array_equal(matrix, before)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(matrix)[::-1], atol=1e-12 * values[0])
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(k), atol=1e-12)
    np.testing.assert_allclose(matrix @ vectors, vectors * values[:k], atol=1e-12 * values[0])


def test_demo_spectra_match_dense():
    for pair in demo_pairs("sft")[:8]:
        fields = fields_of(measure_pair(pair))
        w0, w1 = dense(pair)
        for name, matrix in (("base", w0), ("tuned", w1), ("update", w1 - w0)):
            true = np.linalg.svd(matrix, compute_uv=False)
            assert relative(fields[f"singular_values_{name}"], true) < 1e-6
