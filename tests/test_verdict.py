"""The verdict on pairs whose truth is known: nothing, noise, a dense low-rank step, a real run, planted patterns."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest
from scipy.stats import binomtest, false_discovery_control

import rlviz
from rlviz.metrics.noise_edge import edge_chance, edge_ratio
from rlviz.types import MetricParams
from rlviz.verdict import Finding, Verdict, command, missing_probes, verdict
from rlviz.verdict.significance import (
    Tally,
    agree_in_sign,
    discoveries,
    signs_of_scores,
    signs_of_shuffles,
    tally_of_block_energies,
    tally_of_edges,
)
from tests.checkpoints import write_checkpoint

BF16 = ml_dtypes.bfloat16
SHAPE, LAYERS = (256, 128), 4
PARAMS = MetricParams(k=16, alpha=0.3)
PROBES = ("coordinate", "spectrum", "masks")
Arrays = dict[str, np.ndarray]
Step = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def power_law(rng: np.random.Generator, rows: float = 0.0) -> np.ndarray:
    """A decaying head on a Gaussian bulk; `rows` is how unequal rows are (standard deviation of their log size)."""
    rank = 32
    head = (rng.standard_normal((SHAPE[0], rank)) * np.arange(1, rank + 1) ** -0.8) @ rng.standard_normal(
        (rank, SHAPE[1])
    )
    weights = head * (0.012 / head.std()) + 0.016 * rng.standard_normal(SHAPE)
    return weights * np.exp(rows * rng.standard_normal((SHAPE[0], 1)))


def model(seed: int = 0, rows: float = 0.0) -> Arrays:
    rng = np.random.default_rng(seed)
    names = [f"model.layers.{i}.{part}.weight" for i in range(LAYERS) for part in ("self_attn.q_proj", "mlp.up_proj")]
    return {name: power_law(rng, rows).astype(BF16) for name in names}


def tuned(base: Arrays, step: Step, dtype: object = BF16, seed: int = 1) -> Arrays:
    rng = np.random.default_rng(seed)
    return {name: (w.astype(np.float64) + step(w.astype(np.float64), rng)).astype(dtype) for name, w in base.items()}


@pytest.fixture(scope="module")
def judge(tmp_path_factory) -> Callable[..., Verdict]:
    def judged(base: Arrays, other: Arrays, probes: tuple[str, ...] = PROBES) -> Verdict:
        folder = tmp_path_factory.mktemp("pair")
        paths = [str(write_checkpoint(folder / side, arrays)) for side, arrays in (("base", base), ("tuned", other))]
        return verdict(rlviz.compare(*paths, store=folder / "store", probes=probes), PARAMS)

    return judged


def noise(std: float) -> Step:
    return lambda w, rng: std * rng.standard_normal(w.shape)


def low_rank(w: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    directions = rng.standard_normal((w.shape[0], 16)) @ rng.standard_normal((16, w.shape[1]))
    return directions * (4e-4 / directions.std()) + 2e-4 * rng.standard_normal(w.shape)


def finding(found: Verdict, question: str) -> Finding:
    [one] = [f for f in found.findings if question in f.question]
    return one


def test_a_model_against_itself_has_nothing_to_judge(judge):
    base = model()
    found = judge(base, base)
    assert found.answer.startswith("No update")
    assert "nothing to judge" in found.answer
    assert found.findings == found.limits == ()


@pytest.mark.parametrize("rows", [0.0, 0.7])
@pytest.mark.parametrize("std", [1e-5, 5e-5])
def test_noise_and_rounding_are_called_that(judge, rows, std):
    """Rows of unequal size are the trap: rounding then moves energy off the principal block by itself."""
    base = model(rows=rows)
    found = judge(base, tuned(base, noise(std)))
    assert "as in published RL" in found.answer
    assert "rounding alone explains where they lie" in found.answer
    assert "nothing here that noise of its length would not do" in found.answer
    for question in ("avoid principal", "prefer small", "directions that noise", "less likely"):
        assert finding(found, question).holds is False, question
    assert finding(found, "keep off the principal").holds in (None, False)
    assert finding(found, "rounding lets noise flip").holds is True
    assert any("Both sides are published in bf16" in limit for limit in found.limits)


def test_noise_that_rounding_almost_hides_is_not_called_directions(judge):
    """One entry in a hundred changed: a few large steps have strong directions, which are no finding."""
    base = model()
    found = judge(base, tuned(base, noise(1e-6)))
    assert finding(found, "directions that noise").holds is None
    assert "nothing here that noise" in found.answer


def test_a_dense_low_rank_step_is_supervised_like_and_has_directions(judge):
    base = model()
    found = judge(base, tuned(base, low_rank))
    assert "as in published SFT" in found.answer
    assert "directions of its own" in found.answer
    assert "spread like isotropic noise" in found.answer
    assert finding(found, "unchanged").holds is False
    assert finding(found, "directions that noise").holds is True
    assert finding(found, "spectrum shift").holds is False
    assert "published SFT" in finding(found, "spectrum shift").sentence


def test_what_was_not_measured_is_said(judge):
    base = model()
    found = judge(base, tuned(base, noise(1e-5)), probes=("coordinate",))
    assert "was not measured" in found.answer
    assert "nothing here" not in found.answer
    for question in ("avoid principal", "prefer small", "less likely", "directions", "spectrum", "keep off"):
        for f in found.findings:
            if question in f.question and f.gate != "I":
                assert f.holds is None
                assert f.sentence.startswith("Not measured")


def test_what_to_run_is_said(tmp_path):
    base = model()
    paths = [
        str(write_checkpoint(tmp_path / side, a)) for side, a in (("base", base), ("t w", tuned(base, noise(1e-5))))
    ]
    found = rlviz.compare(*paths, store=tmp_path / "store", probes=("coordinate",))
    assert missing_probes(found) == ("spectrum", "masks", "nulls")
    words = shlex.split(command(found))
    assert words[:4] == ["python", "-m", "rlviz", "compare"]
    assert words[4:] == [found.base.pinned_ref, found.tuned.pinned_ref, "--probes", "coordinate,spectrum,masks,nulls"]
    whole = rlviz.compare(*paths, store=tmp_path / "store", probes=tuple(words[-1].split(",")))
    assert missing_probes(whole) == (), "what was run and had nothing to do is not missing"
    assert missing_probes(replace(found, complete=False)) == (), "what is under way may still come"


def test_fp16_rounds_otherwise_and_no_noise_is_held_against_it(judge):
    base = {name: w.astype(np.float16) for name, w in model().items()}
    found = judge(base, tuned(base, noise(1e-5), dtype=np.float16))
    for question in ("avoid principal", "prefer small", "rounding lets noise flip", "one ULP"):
        f = finding(found, question)
        assert f.holds is None
        assert "fp16 or fp8 rounded these weights" in f.sentence
    assert "rounding" not in found.answer


def test_a_matrix_with_few_expected_changes_is_not_tested(judge, tmp_path):
    """z is not normal there: the tally says over how many matrices it speaks."""
    base = model()
    some = {name: w if "layers.0" in name else tuned({name: w}, noise(3e-5))[name] for name, w in base.items()}
    one = "model.layers.0.self_attn.q_proj.weight"
    few = some[one].astype(np.float32)
    few[0, :6] *= np.float32(1.02)
    found = judge(base, some | {one: few.astype(BF16)})
    assert "of 6 matrices tested" in finding(found, "avoid principal").sentence
    nearly_none = judge(base, base | {one: few.astype(BF16)})
    assert finding(nearly_none, "avoid principal").holds is None
    assert "too little changed" in finding(nearly_none, "avoid principal").sentence


def test_steps_of_unequal_size_are_not_called_geometry(judge):
    """Rows with large weights that move less: far from isotropic noise, and explained by the sizes of the steps alone.

    In bf16 that cannot be told, and is not claimed; the odds within strata see it as well, and say what they see.
    """
    base = model(rows=0.7)

    def unequal(w: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return 2e-5 / np.std(w, axis=1, keepdims=True) * np.std(w) * rng.standard_normal(w.shape)

    f = finding(judge(base, tuned(base, unequal)), "avoid principal")
    assert "Isotropic noise does not explain it" in f.sentence
    assert "only finer weights would tell" in f.sentence
    assert "geometry" not in f.sentence


def test_an_update_that_bf16_hides_altogether(judge):
    base = model()
    found = judge(base, tuned(base, lambda w, rng: 1e-5 * w * rng.standard_normal(w.shape), dtype=np.float32))
    assert found.answer.startswith("The update does not show in bf16")
    assert finding(found, "avoid principal").holds is None
    assert "nothing changed" in finding(found, "avoid principal").sentence
    assert finding(found, "rounding lets noise flip").holds is None


def test_an_update_of_every_weight_leaves_no_mask_to_judge(judge):
    base = model()
    found = judge(base, tuned(base, lambda w, rng: w + 0.1 * np.sign(w)))
    assert found.answer.startswith("0 % of weights are unchanged in bf16, as in no published run; the update")
    assert "everything changed" in finding(found, "avoid principal").sentence
    assert finding(found, "rounding lets noise flip").holds is None


def principal_mask(w: np.ndarray, k: int, share: float) -> np.ndarray:
    u, s, vt = np.linalg.svd(w, full_matrices=False)
    score = np.abs((u[:, :k] * s[:k]) @ vt[:k])
    return score >= np.quantile(score, 1 - share)


def test_changes_planted_off_and_on_the_principal_weights_are_found_with_their_sign(judge):
    base = model()
    for inside, words in ((False, "fewer principal weights"), (True, "more principal weights")):

        def planted(w: np.ndarray, rng: np.random.Generator, inside: bool = inside) -> np.ndarray:
            return np.where(principal_mask(w, PARAMS.k, PARAMS.alpha) == inside, 5e-5 * rng.standard_normal(w.shape), 0)

        found = judge(base, tuned(base, planted))
        assert words in found.answer
        assert "nothing here" not in found.answer
        assert finding(found, "avoid principal").holds is not inside
        assert finding(found, "less likely").holds is not inside


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16])
def test_changes_planted_in_some_matrices_are_counted_not_voted_down(judge, dtype):
    """A third of the matrices keep to principal weights, the others are noise: a median over matrices sees nothing."""
    base, asked = model(), iter(range(1000))

    def planted(w: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        step = 5e-5 * rng.standard_normal(w.shape)
        return np.where(principal_mask(w, PARAMS.k, PARAMS.alpha), step, 0) if next(asked) % 3 == 0 else step

    found = judge(base, tuned(base, planted, dtype=dtype))
    assert "more principal weights changed than under" in found.answer
    assert re.search(r"in \d of \d+ matrices more principal", found.answer)
    assert "rounding alone explains" not in found.answer
    assert finding(found, "avoid principal").holds is False
    assert "does not explain it" in finding(found, "avoid principal").sentence


def test_opposite_structure_does_not_cancel(judge):
    base, asked = model(), iter(range(1000))

    def planted(w: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        inside = next(asked) % 2 == 0
        return np.where(principal_mask(w, PARAMS.k, PARAMS.alpha) == inside, 5e-5 * rng.standard_normal(w.shape), 0)

    found = judge(base, tuned(base, planted, dtype=np.float32))
    assert "matrices disagree on principal weights" in found.answer
    assert finding(found, "avoid principal").holds is False


def test_an_update_off_the_principal_block_is_found_where_nothing_was_rounded(judge):
    def off(w: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        u, _, vt = np.linalg.svd(w, full_matrices=False)
        left, right = u[:, : PARAMS.k], vt[: PARAMS.k].T
        step = 5e-5 * rng.standard_normal(w.shape)
        return step - left @ (left.T @ step @ right) @ right.T

    base = model()
    found = judge(base, tuned(base, off, dtype=np.float32))
    assert finding(found, "keep off the principal").holds is True
    assert "lies off the principal block" in found.answer
    rounded = judge(base, tuned(base, off))
    assert finding(rounded, "keep off the principal").holds is None
    assert "as rounding alone may do" in finding(rounded, "keep off the principal").sentence


def test_discoveries_are_those_of_benjamini_and_hochberg():
    rng = np.random.default_rng(0)
    for n in (1, 2, 30, 400):
        p = np.concatenate([rng.random(n), 10.0 ** rng.uniform(-9, -1, n)])
        assert np.array_equal(discoveries(p), false_discovery_control(p, method="bh") <= 0.01)
    assert discoveries(np.array([])).tolist() == []


def test_nulls_that_are_true_make_no_discoveries():
    """Each test against its own null, 300 matrices of noise: of a hundred such tables one may hold an alarm."""
    rng = np.random.default_rng(1)
    d_out, d_in, k = 90, 60, 12
    shares, ratios = [], []
    for _ in range(300):
        step = rng.standard_normal((d_out, d_in))
        shares.append(np.sum(step[:k, :k] ** 2) / np.sum(step**2))
        ratios.append(edge_ratio(np.linalg.svd(step, compute_uv=False), step.shape))
    many = np.full(300, 1)
    assert tally_of_block_energies(np.array(shares), k * many, d_out * d_in * many).differing == 0
    assert tally_of_edges(np.array(ratios), d_out * many, d_in * many).above == 0
    chance = edge_chance(np.array(ratios), d_out * many, d_in * many)
    assert 0.01 < np.mean(chance < 0.05) < 0.1, "the tail of the law is where it should be"
    assert 0.4 < np.median(chance) < 0.65
    assert not signs_of_scores(rng.standard_normal(300)).any()
    shuffles = rng.standard_normal((300, 6))
    z = (shuffles[:, 0] - shuffles[:, 1:].mean(axis=1)) / shuffles[:, 1:].std(axis=1, ddof=1)
    assert np.mean(np.abs(z) > 3) > 0.02, "which normal tests would call significant"
    assert not signs_of_shuffles(z, 5).any()


def test_matrices_agree_as_coins_do_not():
    for n in (1, 7, 8, 30):
        for below in range(n + 1):
            values = np.array([-1.0] * below + [1.0] * (n - below) + [0.0])
            assert agree_in_sign(values) == (binomtest(below, n).pvalue <= 0.01)
    assert not agree_in_sign(np.array([]))


def test_effects_are_discovered_with_their_sign():
    z = np.array([8.0, 7.0, -6.0, 0.3, np.nan, -0.2])
    assert signs_of_scores(z).tolist() == [1, 1, -1, 0, 0, 0]
    assert Tally.of(signs_of_scores(z), 5) == Tally(5, 2, 1)
    many = np.full(3, 1)
    energies = tally_of_block_energies(np.array([0.2, 0.04, 0.001]), 20 * many, 10_000 * many)
    assert (energies.above, energies.below) == (1, 1)
