"""Previews over the fake hub: a 70 B pair within its budget, and what a small one asks for."""

from __future__ import annotations

import pytest

import rlviz
from rlviz.sampling.design import REMOTE
from rlviz.sampling.reading import fitted_speed
from rlviz.types import Lens
from tests.checkpoints import tiny_pair
from tests.fakehub import FakeHub
from tests.fakehub.generated import BASE, TUNED, Llama, Shard, add_generated


def test_generated_bytes_do_not_depend_on_how_they_are_asked_for():
    llama = Llama(layers=2, hidden=64, mlp=128, kv=32, vocabulary=100, shards=3)
    for tensors in llama.shard_tensors():
        shard = Shard(tensors, True, llama.seed)
        whole = shard.content(0, shard.size)
        assert len(whole) == shard.size
        assert shard.content(7, 4001) == whole[7:4001]
        assert b"".join(shard.content(i, min(i + 333, shard.size)) for i in range(0, shard.size, 333)) == whole


def test_a_70_b_pair_is_known_to_a_point_within_64_mib(tmp_path, monkeypatch):
    llama = Llama()
    with FakeHub() as hub:
        for repo_id, tuned in ((BASE, False), (TUNED, True)):
            add_generated(hub, repo_id, llama, tuned=tuned)
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        found = rlviz.preview(BASE, TUNED, store=tmp_path / "store")
    sent = [r for r in hub.requests if r.method == "GET" and r.origin == "cdn"]
    pooled = found.pooled.density[Lens.BF16]
    assert abs(pooled.estimate - llama.density) < 0.01
    assert pooled.low <= llama.density <= pooled.high
    assert found.bytes_read <= 64 << 20
    assert sum(r.nbytes for r in sent) <= 2 * (64 << 20) + (2 << 20)  # the headers come on top
    assert found.requests < 3000  # at 60 ms over 16 connections: eleven seconds
    assert len(found.tensors) == 723
    assert all(t.sampled.n_sampled > 0 for t in found.tensors)
    assert found.speed is not None
    assert found.speed.connections == 16


@pytest.mark.parametrize("budget", ["64KiB", "1MiB"])
def test_a_small_pair_over_the_hub_is_the_pair_on_disk(tmp_path, monkeypatch, budget):
    folders = tiny_pair(tmp_path)
    with FakeHub() as hub:
        for name, folder in zip(("acme/base", "acme/tuned"), folders, strict=True):
            hub.add_repo(name, folder)
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        remote = rlviz.preview("acme/base", "acme/tuned", budget=budget, store=tmp_path / "store", target=0)
    local = rlviz.preview(*folders, budget="1MiB", store=tmp_path / "store")
    truth = local.pooled.density[Lens.BF16].estimate
    assert local.stopped == "everything read"
    assert remote.pooled.density[Lens.BF16].low - 1e-12 <= truth <= remote.pooled.density[Lens.BF16].high + 1e-12


def test_latency_and_speed_are_recovered_from_timings():
    timings = [(n, 0.06 + n / 4e7) for n in range(10_000, 200_000, 10_000)]
    speed = fitted_speed(timings, REMOTE, 16)
    assert speed is not None
    assert speed.latency_s == pytest.approx(0.06)
    assert speed.bytes_per_s == pytest.approx(4e7)
    assert fitted_speed(timings[:3], REMOTE, 16) is None
    alike = fitted_speed([(5000, 0.06)] * 20, REMOTE, 16)
    assert alike is not None
    assert alike.bytes_per_s == REMOTE.bytes_per_s  # sizes alike: the speed is assumed, the rest is latency
    assert alike.latency_s == pytest.approx(0.06 - 5000 / REMOTE.bytes_per_s)
