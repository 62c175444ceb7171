"""Several runs at the smallest norm among them: the right matrices, by the right factor, and the right numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlviz import api
from rlviz.engine.matching import scales
from rlviz.errors import InvalidInput
from rlviz.result import PairResult
from rlviz.store import Store
from rlviz.types import MetricParams
from tests.checkpoints import tiny_base, tuned_from, write_checkpoint

PARAMS = MetricParams(k=4)
STILL = "model.layers.1.self_attn.q_proj.weight"  # left alone by one of the runs
Q0 = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A base; a near run, shorter everywhere but in one matrix; a far one that leaves one matrix alone."""
    root, base = tmp_path_factory.mktemp("runs"), tiny_base(dtype=np.float32)
    near, far = tuned_from(base, seed=1, std=1e-4), tuned_from(base, seed=2, std=5e-4)
    near["model.layers.0.mlp.gate_proj.weight"] = tuned_from(base, seed=3, std=2e-3)[
        "model.layers.0.mlp.gate_proj.weight"
    ]
    far[STILL] = base[STILL].copy()
    return {
        name: str(write_checkpoint(root / name, arrays))
        for name, arrays in (("base", base), ("near", near), ("far", far))
    }


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def runs(folders: dict[str, str], store: Path) -> list[PairResult]:
    return api.compare(folders["base"], [folders["near"], folders["far"]], store=store)


def norms(result: PairResult) -> dict[str, float]:
    return {
        m.name: float(np.sqrt(m.records["spectrum"].fields["update_energy"]))
        for m in result.measured
        if "spectrum" in m.records
    }


@given(st.lists(st.floats(1e-12, 1e12), min_size=1, max_size=5))
def test_every_run_is_brought_to_the_shortest(energies: list[float]):
    runs = [{"w": energy} for energy in energies]
    found = [scales(run, runs[:i] + runs[i + 1 :])["w"] for i, run in enumerate(runs)]
    assert max(found) == 1
    assert all(0 < c <= 1 for c in found)
    assert [c**2 * e for c, e in zip(found, energies, strict=True)] == pytest.approx([min(energies)] * len(energies))


def test_a_rescaled_run_is_what_a_shorter_run_would_be(runs, folders, tmp_path):
    # The oracle: checkpoints in float64, tuned so that every update already has the common norm.
    from safetensors.numpy import load_file

    near, far = runs
    shorter = {name: min(norms(near)[name], norms(far)[name]) for name in norms(far)}
    weights = {name: load_file(Path(folder) / "model.safetensors") for name, folder in folders.items()}
    base = {name: array.astype(np.float64) for name, array in weights["base"].items()}
    short = dict(base)
    for name, norm in shorter.items():
        update = weights["far"][name].astype(np.float64) - base[name]
        short[name] = base[name] + (update * (norm / np.linalg.norm(update)) if update.any() else 0)
    pair = [str(write_checkpoint(tmp_path / name, arrays)) for name, arrays in (("base", base), ("short", short))]
    oracle = api.compare(*pair, probes=["spectrum"], store=tmp_path / "store")
    checked = 0
    for name in set(shorter) - {STILL}:
        assert far.value("energy_left_matched", name, PARAMS) == pytest.approx(far.value("energy_left", name, PARAMS))
        for key in ("nss", "max_principal_angle_left", "subspace_rotation_right"):
            assert far.value(f"{key}_matched", name, PARAMS) == pytest.approx(oracle.value(key, name, PARAMS), rel=1e-6)
            checked += 1
    assert checked >= 24


def test_the_shortest_run_shows_its_own_numbers(runs):
    near, far = runs
    shortest = [name for name, norm in norms(near).items() if 0 < norm < norms(far).get(name, 0)]
    assert len(shortest) > 5
    for name in shortest:
        assert near.value("nss_matched", name) == near.value("nss", name)
        assert near.value("overlap_principal_matched", name) == near.value("overlap_principal", name)
    gate = "model.layers.0.mlp.gate_proj.weight"
    assert norms(near)[gate] > norms(far)[gate]
    assert near.value("nss_matched", gate) < near.value("nss", gate) / 2
    assert far.value("nss_matched", gate) == far.value("nss", gate)


def test_masks_at_matched_norm_round_the_shorter_update(runs, folders):
    from ml_dtypes import bfloat16
    from safetensors.numpy import load_file

    near, far = runs
    base, tuned = (
        load_file(Path(folders[name]) / "model.safetensors")[Q0].astype(np.float64) for name in ("base", "far")
    )
    scale = norms(near)[Q0] / norms(far)[Q0]
    moved = (base + scale * (tuned - base)).astype(np.float32).astype(bfloat16)
    changed = np.mean(moved != base.astype(np.float32).astype(bfloat16))
    assert far.value("density_matched", Q0) == pytest.approx(changed, abs=1 / base.size)
    assert far.value("density_matched", Q0) < far.value("density", Q0)


def test_a_matrix_that_one_run_left_alone_has_no_common_norm(runs):
    for result in runs:
        assert np.isnan(result.value("nss_matched", STILL))


def test_bf16_updates_have_no_masks_at_matched_norm(folders, tmp_path):
    from ml_dtypes import bfloat16

    base = tiny_base()
    pair = [write_checkpoint(tmp_path / "base", base)]
    pair += [
        write_checkpoint(tmp_path / f"run{std}", tuned_from(base, std=std, dtype=bfloat16)) for std in (1e-3, 4e-3)
    ]
    _, far = api.compare(str(pair[0]), list(map(str, pair[1:])), store=tmp_path / "store")
    assert np.isnan(far.pooled("overlap_principal_matched"))
    assert far.pooled("nss_matched") < far.pooled("nss")


def test_it_is_kept_and_read_no_more(runs, folders, store, monkeypatch):
    from rlviz.probes.base import TensorPair

    monkeypatch.setattr(TensorPair, "windows", lambda *_: pytest.fail("a weight was read"))
    monkeypatch.setattr(TensorPair, "rows", lambda *_: pytest.fail("a weight was read"))
    again = api.compare(folders["base"], [folders["far"], folders["near"]], store=store)  # in the other order
    assert again[0].pooled("nss_matched") == runs[1].pooled("nss_matched")


def test_a_single_run_has_none(folders, store):
    assert np.isnan(api.compare(folders["base"], folders["near"], store=store).pooled("nss_matched"))
    assert api.matched_request([], api.request()) is None


def test_what_is_missing_is_said(runs, folders, tmp_path, store):
    near, far = runs
    with pytest.raises(InvalidInput, match="is no finished result of this store"):
        api.rescale(folders["base"], folders["far"], ["f" * 64], store=tmp_path)
    with pytest.raises(InvalidInput, match="is not among the results"):
        api.rescale(folders["base"], folders["far"], [near.key], store=store)
    with pytest.raises(InvalidInput, match="no such probe"):
        api.compare(folders["base"], folders["far"], probes=["matched"], store=tmp_path)
    assert api.matched_request([near, replace(far, complete=False)], api.request()) is None


def test_a_run_that_did_not_move_leaves_no_common_norm(folders, store):
    near, still = api.compare(folders["base"], [folders["near"], folders["base"]], store=store)
    assert api.matched_request([near, still], api.request()) is None
    assert np.isnan(near.pooled("nss_matched"))


def test_rescaled_alone_is_the_same_record(runs, folders, store):
    near, far = runs
    alone = api.rescale(folders["base"], folders["far"], [far.key, near.key], store=store)
    request = api.matched_request(runs, api.request())
    assert request is not None
    assert alone.key == api.matched_key(far, request)
    assert {name for name, _ in Store(store).results()} >= {alone.key}
    joined = api.with_matched(runs, [alone, alone])
    assert joined[1].pooled("nss_matched") == far.pooled("nss_matched")
