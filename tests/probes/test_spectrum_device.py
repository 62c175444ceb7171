"""`RLVIZ_DEVICE`: PyTorch's code (here on its CPU) gives what LAPACK gives, and what cannot be used says so."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rlviz import api
from rlviz.errors import InvalidInput
from rlviz.probes.spectrum import PROBE
from rlviz.probes.spectrum.device import VARIABLE, Lapack, selected
from tests.checkpoints import tiny_pair
from tests.probes.spectrum_pairs import pair_of, with_spectrum


def fields_on(device, monkeypatch, pair, params):
    monkeypatch.setenv(VARIABLE, device)
    return PROBE.run(pair, params, PROBE.run_base(pair, params))


@pytest.mark.parametrize("method", ["exact", "leading"])
@pytest.mark.parametrize("smallest", [1e-2, 1e-6])
@pytest.mark.parametrize("shape", [(130, 40), (40, 130), (50, 50)])
def test_torch_gives_what_lapack_gives(shape, smallest, method, monkeypatch):
    rng = np.random.default_rng(0)
    base = with_spectrum(rng, shape, np.geomspace(1, smallest, min(shape)))
    update = 1e-4 * rng.standard_normal(shape) * (rng.random(shape) < 0.1)
    pair, params = pair_of(base, base + update), {"k_max": 12, "method": method}
    ours, theirs = (fields_on(device, monkeypatch, pair, params) for device in ("cpu", "torch-cpu"))
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert theirs[name].dtype == ours[name].dtype
        if "singular_values" in name:
            np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-6, err_msg=name)
        elif "energy" in name or "cosines" in name:
            np.testing.assert_allclose(theirs[name], ours[name], rtol=1e-7, atol=1e-12, err_msg=name)


def test_the_cpu_is_the_default(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert isinstance(selected(), Lapack)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_auto_falls_back_and_cuda_does_not(monkeypatch):
    monkeypatch.setenv(VARIABLE, "auto")
    assert isinstance(selected(), Lapack)
    monkeypatch.setenv(VARIABLE, "cuda")
    with pytest.raises(InvalidInput, match="finds no CUDA device"):
        selected()


@pytest.mark.parametrize(("word", "told"), [("mps", "no float64"), ("gpu", "is no device. Write cpu, cuda or auto")])
def test_unusable_devices_are_refused_before_anything_is_read(word, told, monkeypatch, tmp_path):
    monkeypatch.setenv(VARIABLE, word)
    with pytest.raises(InvalidInput, match=told):
        api.compare("demo:base", "demo:rl", probes=("spectrum",), store=tmp_path)
    assert not list((tmp_path / "records").rglob("*"))


def test_the_provenance_names_the_device(monkeypatch, tmp_path):
    base, tuned = tiny_pair(tmp_path)
    monkeypatch.setenv(VARIABLE, "torch-cpu")
    for probes, device in ((("coordinate",), "cpu"), (("coordinate", "spectrum"), "torch cpu")):
        assert api.compare(base, tuned, probes=probes, store=tmp_path / "store").provenance.device == device
