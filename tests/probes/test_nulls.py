"""The nulls probe against brute force: shuffles counted entry by entry, noise of exactly the wanted norm."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from functools import partial

import ml_dtypes
import numpy as np
import pytest

from rlviz.dtypes import ELEMENT_TYPES
from rlviz.engine import plan
from rlviz.engine.request import Request
from rlviz.probes import probe_called
from rlviz.probes.base import NotMeasurable, TensorPair
from rlviz.probes.masks.probe import ALPHAS, preset_ranks
from rlviz.probes.nulls.isotropic import tall_noisy
from rlviz.probes.nulls.kernels import bf16_code
from rlviz.probes.nulls.probe import sampled
from rlviz.probes.nulls.shuffle import permute
from rlviz.probes.nulls.streams import Purpose, stream
from rlviz.probes.spectrum.blocks import TallUpdate, tall_weight
from rlviz.sources import pair, resolve
from rlviz.store import Store
from rlviz.types import TensorMatch, TensorMeta
from tests.probes.mask_pairs import to_bf16
from tests.probes.spectrum_pairs import Memory

NULLS, SPECTRUM, MASKS = (probe_called(name) for name in ("nulls", "spectrum", "masks"))


def pair_of(base, tuned, dtype="F32", name="model.layers.3.mlp.up_proj.weight"):
    """A bf16 base and a tuned side of the given type, in memory."""
    sides = []
    for values, code in ((base, "BF16"), (tuned, dtype)):
        element = ELEMENT_TYPES[code]
        sides.append((TensorMeta(name, code, values.shape, "s", 0, 0, 3, "up_proj"), values.astype(element.values)))
    codes = [np.ascontiguousarray(values).view(ELEMENT_TYPES[meta.dtype].codes) for meta, values in sides]
    match = TensorMatch(sides[0][0], sides[1][0], len(base))
    return TensorPair(match, *(Memory(c.ravel()) for c in codes), *(c.dtype for c in codes))


def drawn(shape=(60, 40), step=4e-5, seed=0):
    rng = np.random.default_rng(seed)
    base = (rng.standard_normal(shape) * 0.02).astype(ml_dtypes.bfloat16).astype(np.float64)
    return base, base + rng.standard_normal(shape) * step


def run(pair, **params):
    chosen = {**NULLS.defaults(), **params}
    of_spectrum = {name: chosen[name] for name in SPECTRUM.defaults()}
    return NULLS.run(pair, chosen, SPECTRUM.run_base(pair, of_spectrum))


def bf16_codes(values):
    return to_bf16(values).astype(ml_dtypes.bfloat16).view(np.uint16)


class TestShuffle:
    def test_one_shuffle_is_what_brute_force_counts(self):
        base, tuned = drawn()
        tuned = tuned.astype(np.float32).astype(np.float64)
        given = pair_of(base, tuned)
        fields = run(given, draws=0, shuffles=1, seed=5)
        update, moved = (tuned - base).astype(np.float32).ravel(), np.empty(base.size, np.float32)
        permute(update, stream(5, given.match.name, Purpose.SHUFFLE, 0), moved)
        assert np.array_equal(np.sort(moved), np.sort(update))
        changed = to_bf16(base + moved.reshape(base.shape).astype(np.float64)) != to_bf16(base)
        assert 0.05 < changed.mean() < 0.95
        u, s, vt = np.linalg.svd(base)
        assert int(fields["shuffle_changed"][0]) == changed.sum()
        low = [np.abs(base) <= np.sort(np.abs(base).ravel())[int(np.ceil(a * base.size)) - 1] for a in ALPHAS]
        assert fields["shuffle_low"][0].tolist() == [int((m & changed).sum()) for m in low]
        for row, k in enumerate(fields["k"].tolist()):
            score = np.abs((u[:, :k] * s[:k]) @ vt[:k])
            for column, alpha in enumerate(ALPHAS):
                top = score >= np.sort(score.ravel())[base.size - int(np.ceil(alpha * base.size))]
                assert int(fields["size_principal"][row, column]) == top.sum()
                assert int(fields["shuffle_principal"][0, row, column]) == (top & changed).sum()
                apart = top & ~low[column] & changed
                assert int(fields["shuffle_principal_not_low"][0, row, column]) == apart.sum()
        for lines, axis in (("row", 1), ("column", 0)):
            share, p = changed.mean(axis=axis), changed.mean()
            index = share.var(ddof=1) / (p * (1 - p) / base.shape[axis])
            assert float(fields[f"shuffle_dispersion_{lines}"][0]) == pytest.approx(index, rel=1e-12)

    def test_observed_counts_are_those_of_the_masks_probe(self):
        given = pair_of(*drawn((90, 130)))
        found = run(given, draws=0)
        of_masks = MASKS.run(given, MASKS.defaults(), SPECTRUM.run_base(given, SPECTRUM.defaults()))
        for mask in ("principal", "low", "principal_not_low"):
            counts = of_masks[f"counts_{mask}"].sum(axis=-2)
            assert np.array_equal(found[f"observed_{mask}"], counts[..., 1])
            assert np.array_equal(found[f"size_{mask}"], counts.sum(axis=-1))

    def test_same_seed_same_bytes_other_seed_other_bytes(self):
        given = pair_of(*drawn())
        first, again, other = run(given), run(given), run(given, seed=1)
        assert {n: a.tobytes() for n, a in first.items()} == {n: a.tobytes() for n, a in again.items()}
        for name in ("shuffle_principal", "isotropic_shift"):
            assert first[name].tobytes() != other[name].tobytes()
        assert len({tuple(row.ravel()) for row in first["shuffle_principal"]}) == 5, "every shuffle is its own"

    def test_streams_depend_on_tensor_and_purpose(self):
        draws = [stream(0, n, p, 0).integers(1 << 40) for n in ("a", "b") for p in Purpose]
        assert len(set(draws)) == 4

    def test_a_planted_place_vanishes_when_shuffled(self):
        # all steps in the smallest tenth: the shuffles put them anywhere
        base, _ = drawn((80, 80))
        small = np.abs(base) <= np.sort(np.abs(base).ravel())[639]
        fields = run(pair_of(base, base + small * 1.7e-3), draws=0)
        assert int(fields["observed_low"][2]) == int(fields["observed_changed"]) == small.sum()
        shares = fields["shuffle_low"][:, 2] / fields["shuffle_changed"]
        assert (shares < 0.25).all()

    @pytest.mark.parametrize("dtype", ["BF16", "F32"])
    def test_nothing_is_shuffled_where_bf16_holds_every_value(self, dtype):
        base, tuned = drawn()
        fields = run(pair_of(base, tuned.astype(ml_dtypes.bfloat16), dtype), draws=0)
        assert not any(name.startswith("shuffle") for name in fields)

    def test_an_unchanged_matrix_has_no_null(self):
        base, _ = drawn()
        assert run(pair_of(base, base)) == {}

    def test_permutations_are_uniform(self):
        # every value in every place: a chi-square over 4 x 4 places, 0.999 quantile at 9 degrees of freedom is 27.9
        counts, values, out = np.zeros((4, 4)), np.arange(4, dtype=np.float32), np.empty(4, np.float32)
        rng = np.random.default_rng(3)
        for _ in range(1000):
            permute(values, rng, out)
            counts[out.astype(int), np.arange(4)] += 1
        assert ((counts - 250) ** 2 / 250).sum() < 27.9

    def test_rounds_once(self):
        # just above the middle of two bf16 numbers, by less than float32 resolves
        step = 2.0**-7
        values = np.array([1 + step / 2, 1 + step / 2 + 2.0**-40, 1 + step / 2 - 2.0**-40, -(1 + 1.5 * step), 0.0])
        assert [bf16_code(v) for v in values] == [0x3F80, 0x3F81, 0x3F80, 0xBF82, 0]
        rng = np.random.default_rng(0)
        many = rng.standard_normal(2000) * 10.0 ** rng.integers(-30, 30, 2000)
        assert [bf16_code(v) for v in many] == bf16_codes(many).tolist()

    def test_refuses_what_is_not_finite(self):
        base, tuned = drawn()
        tuned[3, 4] = np.nan
        with pytest.raises(NotMeasurable):
            run(pair_of(base, tuned), draws=0)


class TestIsotropic:
    @pytest.mark.parametrize("shape", [(60, 40), (40, 60), (2600, 2000)], ids=["tall", "wide", "streamed"])
    def test_noise_has_exactly_the_wanted_norm_on_every_pass(self, shape):
        base = tall_weight(pair_of(*drawn(shape)), "base")
        noisy = tall_noisy(base, 0.25, partial(stream, 0, "w", Purpose.ISOTROPIC, 0))
        assert (noisy.values is None) == (shape[0] > 1000)
        first, second = (np.vstack([b.copy() for b in TallUpdate(base, noisy).blocks()]) for _ in range(2))
        assert np.linalg.norm(first) == pytest.approx(0.25, rel=1e-9)
        assert first.tobytes() == second.tobytes()
        assert np.std(first) * np.sqrt(first.size) == pytest.approx(0.25, rel=1e-2)
        assert abs(np.corrcoef(first.ravel()[:-1], first.ravel()[1:])[0, 1]) < 0.1

    @pytest.mark.parametrize("shape", [(300, 200), (200, 300)])
    def test_first_order_spectral_shift_of_a_tiny_step_is_one(self, shape):
        base, _ = drawn(shape)
        tuned = base + np.random.default_rng(1).standard_normal(shape) * 1e-7
        fields = run(pair_of(base, tuned, "F64"), shuffles=0, draws=6)
        kappa = fields["isotropic_shift"] * max(shape) / fields["update_energy"]
        assert kappa.mean() == pytest.approx(1, abs=3 * np.sqrt(2 / min(shape)) / np.sqrt(6))
        assert float(fields["update_energy"]) == pytest.approx(np.linalg.norm(tuned - base) ** 2, rel=1e-9)

    def test_energies_are_those_of_isotropic_noise(self):
        base, tuned = drawn((300, 200))
        fields = run(pair_of(base, tuned), shuffles=0)
        k, total = fields["isotropic_k"], float(fields["update_energy"])
        assert k[-1] == 128
        assert fields["isotropic_energy_left"].mean(axis=0) / total == pytest.approx(k / 300, rel=0.2)
        assert fields["isotropic_energy_right"].mean(axis=0) / total == pytest.approx(k / 200, rel=0.2)

    def test_an_isotropic_update_is_like_its_null(self):
        base, tuned = drawn((300, 200), step=4e-4)
        given = pair_of(base, tuned, "F64")
        fields = run(given, shuffles=0, draws=4)
        start = SPECTRUM.run_base(given, SPECTRUM.defaults())
        seen = SPECTRUM.run(given, SPECTRUM.defaults(), start)
        cosines = np.linalg.svd(seen["cross_left"][:64, :64], compute_uv=False)
        null = fields["isotropic_mean_angle_left"][:, fields["isotropic_k"].tolist().index(64)]
        assert np.arccos(np.minimum(cosines, 1)).mean() == pytest.approx(null.mean(), rel=0.15)
        assert seen["singular_values_update"][0] == pytest.approx(
            fields["isotropic_singular_values_update"][:, 0].mean(), rel=0.05
        )

    def test_ranks_end_with_the_one_that_k_is_clamped_to(self):
        fields = run(pair_of(*drawn((60, 40))), shuffles=0)
        assert fields["isotropic_k"].tolist() == [1, 2, 4, 8, 16, 32, 39]
        assert fields["isotropic_max_angle_right"].shape == (3, 7)
        assert fields["isotropic_angles_right"].shape == (3, 7, 39)
        assert np.isfinite(fields["isotropic_angles_left"]).sum(axis=2).tolist() == [[1, 2, 4, 8, 16, 32, 39]] * 3


class TestSample:
    def test_the_middle_layer_of_every_module_and_shape(self):
        def match(layer, module, shape):
            name = f"{layer}.{module}"
            made = TensorMeta(name, "BF16", shape, "s", 0, 0, layer, module)
            return TensorMatch(made, made, shape[0])

        layers = [match(i, m, (8, 4)) for i in range(11) for m in ("q_proj", "up_proj")]
        odd, huge = match(3, "q_proj", (16, 4)), match(None, "embed_tokens", (1 << 20, 128))
        assert sampled([*layers, odd, huge]) == {"5.q_proj", "5.up_proj", "3.q_proj"}
        assert sampled([*reversed(layers), huge, odd]) == sampled([odd, huge, *layers])

    @pytest.mark.parametrize(("tuned", "expected"), [("demo:rl", 30), ("demo:base", 9)])
    def test_a_plan_holds_only_what_there_is_to_do(self, tmp_path, tuned, expected):
        with resolve("demo:base") as base, resolve(tuned) as other:
            made = plan(pair(base, other), Store(tmp_path), Request(probes=("spectrum", "nulls"), seed=7))
        nulls = [s for s in made.steps if s.probe.name == "nulls"]
        assert len(nulls) == expected
        assert sum(s.params["draws"] > 0 for s in nulls) == 9
        assert {s.params["seed"] for s in nulls} == {7}
        of_base = {s.match.name: s.base_key for s in made.steps if s.probe.name == "spectrum"}
        assert all(of_base[s.match.name] == s.base_key for s in nulls), "the base is decomposed once"

    def test_the_seed_is_part_of_the_key_only_where_something_is_drawn(self, tmp_path):
        with resolve("demo:base") as base, resolve("demo:rl") as tuned:
            keys = {
                (probes, seed): plan(pair(base, tuned), Store(tmp_path), Request(probes=probes, seed=seed)).key
                for probes in (("coordinate",), ("nulls",))
                for seed in (0, 1)
            }
        assert keys[("coordinate",), 0] == keys[("coordinate",), 1]
        assert keys[("nulls",), 0] != keys[("nulls",), 1]


@pytest.mark.parametrize("params", [{"draws": 0}, {"shuffles": 0}, {}], ids=["shuffles", "draws", "both"])
@pytest.mark.parametrize("shape", [(1500, 500), (500, 1500)])
def test_stays_within_the_memory_it_announces(shape, params):
    given = pair_of(*drawn(shape))
    run(pair_of(*drawn()), **params)  # compiles
    start = SPECTRUM.run_base(given, SPECTRUM.defaults())
    chosen = {**NULLS.defaults(), **params}
    tracemalloc.start()
    NULLS.run(given, chosen, start)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    announced = NULLS.cost(given.match, chosen).memory_bytes
    assert peak < announced < 4 * peak


def test_starts_from_the_base_record_only():
    given = pair_of(*drawn())
    assert preset_ranks(40, 40) == [16, 32]
    with pytest.raises(ValueError, match="base record"):
        NULLS.run(given, NULLS.defaults(), None)
    assert NULLS.run_base(given, NULLS.defaults()) is None
    vector = replace(given.match, base=replace(given.match.base, shape=(60,)), tuned=given.match.tuned)
    assert not NULLS.applies(vector)
