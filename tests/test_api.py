"""The public calls, as a notebook makes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rlviz
from rlviz.errors import InvalidInput, NotFound
from rlviz.store import Store
from tests.checkpoints import tiny_base, tiny_pair, tuned_from, write_checkpoint
from tests.fakehub import FakeHub


def test_paths_are_folders_and_several_tuned_models_give_a_list(tmp_path):
    base, tuned = map(Path, tiny_pair(tmp_path))
    results = rlviz.compare(base, [tuned, base], probes=("coordinate",), store=tmp_path / "store")
    assert [r.pooled("update_sparsity") == 1 for r in results] == [False, True]


def test_table_summary_and_spectrum(tmp_path):
    base, tuned = tiny_pair(tmp_path)
    result = rlviz.compare(base, tuned, store=tmp_path / "store")
    table = result.table()
    assert len(table) == len(result.measured)
    assert table["n"].sum() == result.summary()["n"]
    name = "model.layers.0.mlp.gate_proj.weight"
    assert np.all(np.diff(result.spectrum(name).update) <= 0)
    with pytest.raises(InvalidInput, match="Did you mean"):
        result.spectrum(name.replace("gate", "gatee"))
    with pytest.raises(InvalidInput, match="not measured"):
        result.spectrum("model.norm.weight")
    with pytest.raises(InvalidInput, match="no such metric"):
        result.pooled("sparsity")


def test_a_kept_result_is_found_by_an_unambiguous_prefix(tmp_path):
    base, tuned = tiny_pair(tmp_path)
    store = Store(tmp_path / "store")
    first = rlviz.compare(base, tuned, probes=("coordinate",), store=store)
    assert rlviz.load_result(first.key[:9], store).key == first.key
    with pytest.raises(NotFound, match="store list"):
        rlviz.load_result("nothing", store)
    rlviz.compare(base, base, probes=("coordinate",), store=store)
    with pytest.raises(InvalidInput, match="2 results"):
        rlviz.load_result("", store)


def test_restricted_result_keeps_only_what_is_asked(tmp_path):
    base, tuned = tiny_pair(tmp_path)
    result = rlviz.compare(base, tuned, probes=("coordinate",), store=tmp_path / "store")
    norms = result.restricted(lambda m: len(m.shape) == 1)
    assert {m.module for m in norms.measured} == {"input_layernorm", "norm"}
    assert norms.summary()["n"] == sum(m.match.n for m in norms.measured)


def test_import_is_light():
    heavy = ("torch", "pandas", "numba", "streamlit")
    code = f"import sys, rlviz, rlviz.cli; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_preview_warms_the_plan_of_the_exact_run(tmp_path, monkeypatch):
    base = tiny_base(layers=4, width=384)
    write_checkpoint(tmp_path / "base", base)
    write_checkpoint(tmp_path / "tuned", tuned_from(base))
    with FakeHub(latency_s=0.02, bytes_per_s=20e6) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        for name in ("base", "tuned"):
            hub.add_repo(f"acme/{name}", tmp_path / name)
        store = tmp_path / "store"
        cold = rlviz.plan("acme/base", "acme/tuned", store=store)
        found = rlviz.preview("acme/base", "acme/tuned", store=store)
        warm = rlviz.plan("acme/base", "acme/tuned", store=store)
    assert cold.speed is None
    assert found.speed is not None
    assert warm.speed == found.speed
    assert warm.reading_seconds != cold.reading_seconds
