"""A real Ray of two workers: the bytes of a local run, whatever dies; errors in their own words; no secret in tasks."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from threading import Event

import numpy as np
import pytest
import ray
from ray import cloudpickle

from rlviz import api, cli, engine
from rlviz.engine import executors, feeds
from rlviz.engine.executors import ray as ray_executor
from rlviz.engine.executors import ray_cluster, task
from rlviz.engine.executors.ray import RayExecutor, as_typed, ordered
from rlviz.engine.executors.ray_cluster import PROCESS_BYTES, Cluster
from rlviz.engine.executors.task import Parcel, Place
from rlviz.engine.request import MIB
from rlviz.errors import (
    Cancelled,
    Gated,
    InvalidInput,
    NotFound,
    Offline,
    RlvizError,
    Unavailable,
    UnsupportedCheckpoint,
)
from rlviz.result import PairResult
from rlviz.sources import pair, resolve
from rlviz.store import Store
from tests.checkpoints import tiny_base, tuned_from, write_checkpoint
from tests.engine.ray_hook import disturbed
from tests.fakehub import FakeHub, Fault
from tests.fakehub.rules import LIMITED_FOR_LONG, weights

ROOT = Path(__file__).parents[2]
DRIVERS, WORKERS = "hf_of_the_driver", "hf_of_the_workers"
PROBES = ("coordinate", "spectrum", "masks")
NAN = "model.layers.0.self_attn.q_proj.weight"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A base, and two tuned from it, the first with a tensor that has no spectrum; large enough for several tasks."""
    root, base = tmp_path_factory.mktemp("pair"), tiny_base(width=128)
    tuned = tuned_from(base)
    tuned[NAN][3, 4] = np.nan
    arrays = {"base": base, "tuned": tuned, "other": tuned_from(base, seed=9)}
    return {name: write_checkpoint(root / name, array) for name, array in arrays.items()}


@pytest.fixture(scope="module")
def hub(folders: dict[str, Path]) -> Iterator[FakeHub]:
    with FakeHub(tokens={DRIVERS: ["org/base", "org/tuned", "org/mine"], WORKERS: ["org/base", "org/tuned"]}) as hub:
        hub.add_repo("org/base", folders["base"], gated=True)
        hub.add_repo("org/tuned", folders["tuned"], private=True)
        hub.add_repo("org/mine", folders["other"], private=True)
        yield hub


@pytest.fixture(scope="module")
def control(hub: FakeHub, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A Ray of two workers with an environment of their own; what is put into the folder disturbs them."""
    folder, before = tmp_path_factory.mktemp("control"), signal.getsignal(signal.SIGTERM)
    session = mkdtemp(prefix="ray-")  # pytest's own folders are too long for the path of a socket
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_AUTH_MODE", "disabled")  # no token file in anybody's home
        environment.setenv("RAY_USAGE_STATS_ENABLED", "0")
        environment.setenv("RAY_TMPDIR", session)
        environment.delenv("RAY_ADDRESS", raising=False)
        environment.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
        environment.setenv("RLVIZ_TEST_CONTROL", str(folder))
        environment.setenv("HF_ENDPOINT", hub.endpoint)
        environment.setenv("HF_TOKEN", WORKERS)
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            object_store_memory=128 * MIB,
            runtime_env={"worker_process_setup_hook": disturbed},
        )
        yield folder
        ray.shutdown()
    signal.signal(signal.SIGTERM, before)
    shutil.rmtree(session, ignore_errors=True)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks of a hundred kilobytes, so that a tiny pair has many."""
    monkeypatch.setattr(feeds, "PART_BYTES", 1 << 16)


def compared(folders: dict[str, Path], store: Path | Store, **how: object) -> PairResult:
    return api.compare(str(folders["base"]), str(folders["tuned"]), probes=PROBES, store=store, **how)  # type: ignore[call-overload]


def kept(store: Path) -> dict[str, bytes]:
    """All records, and the manifests; provenance has its own times."""
    files = [*store.glob("records/*/*.safetensors"), *store.glob("results/*/manifest.json")]
    return {str(path.relative_to(store)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def local(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a local run."""
    store = tmp_path_factory.mktemp("local")
    compared(folders, store)
    return store


# --- the same bytes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("blind", [False, True], ids=["workers write", "workers hand back"])
def test_a_worker_killed_in_the_middle_changes_no_byte(
    blind: bool, control: Path, folders, local: Path, tmp_path: Path
):
    store, word = tmp_path / "store", "kill" if blind else "kill-writing"
    seen = []
    with ordered_of_workers(control, word, *(["blind"] if blind else [])):
        result = compared(folders, store, backend="ray", report=seen.append)
        (victim,) = control.glob("killed-*")
    assert not Path(f"/proc/{victim.name.removeprefix('killed-')}").exists()
    assert kept(store) == kept(local)
    # what the dead one was writing is no record, and nobody takes it for one
    assert len(list(store.glob("records/*/.*.tmp"))) == (0 if blind else 1)
    assert {s.reason for s in result.skipped} >= {"non_finite"}
    assert seen[-1].steps_done == seen[-1].steps_total == len(kept(local)) - 1 - records_of_bases(local)
    assert {p.state for p in seen[1:-1]} == {"measuring on Ray"}
    ours, theirs = (Store(root).read_json(result.key, "provenance") or {} for root in (store, local))
    assert seen[-1].bytes_read == ours["bytes_read"] == theirs["bytes_read"] > 0
    assert 1 <= ours["workers"] <= 3


@contextmanager
def ordered_of_workers(control: Path, *words: str) -> Iterator[None]:
    """What is to happen in workers while the block lasts; see `tests.engine.ray_hook`."""
    for word in words:
        (control / word).touch()
    try:
        yield
    finally:
        for left in control.iterdir():
            left.unlink()


def records_of_bases(store: Path) -> int:
    (_, manifest), *_ = Store(store).results()
    return sum(name.endswith(".base") for tensor in manifest["tensors"] for name in tensor["records"])


@pytest.mark.parametrize("blind", [False, True], ids=["workers write", "workers hand back"])
def test_bases_are_decomposed_once_for_several_tuned_models(blind, control, folders, tmp_path, monkeypatch):
    landed: list[Parcel] = []
    original = ray_executor._Flight._land

    def noted(self, parcel, batch):
        landed.append(parcel)
        original(self, parcel, batch)

    monkeypatch.setattr(ray_executor._Flight, "_land", noted)
    with ordered_of_workers(control, *(["blind"] if blind else [])):
        for backend in ("local", "ray"):
            models = [str(folders["tuned"]), str(folders["other"])]
            api.compare(str(folders["base"]), models, probes=PROBES, store=tmp_path / backend, backend=backend)
    assert not any(parcel.written if blind else parcel.records for parcel in landed)
    keys = [key for parcel in landed for key in (*parcel.written, *parcel.records)]
    assert len(keys) == len(set(keys)) == len(list((tmp_path / "ray").glob("records/*/*")))
    assert kept(tmp_path / "ray") == kept(tmp_path / "local")
    assert not list((tmp_path / "ray" / "runs").iterdir())


@pytest.mark.usefixtures("control")
def test_records_that_the_driver_does_not_find_are_asked_for_again(folders, local: Path, tmp_path: Path, monkeypatch):
    missed: list[str] = []
    original = ray_executor.seal_of_file

    def late(path: Path):
        if not missed:
            missed.append(path.name)
            return None
        return original(path)

    monkeypatch.setattr(ray_executor, "seal_of_file", late)
    compared(folders, tmp_path, backend="ray")
    assert missed
    assert kept(tmp_path) == kept(local)


def test_a_folder_of_the_same_name_is_not_taken_for_the_store(tmp_path: Path):
    (mark := tmp_path / "runs" / "one").mkdir(parents=True)
    assert Place(tmp_path, mark).seen()
    assert not Place(tmp_path, tmp_path / "runs" / "another").seen()


@pytest.mark.usefixtures("control")
def test_workers_read_the_hub_with_their_own_token(hub: FakeHub, local, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("HF_TOKEN", DRIVERS)
    orders = []
    monkeypatch.setattr(ray_executor, "ordered", lambda *about: orders.append(ordered(*about)) or orders[-1])
    hub.requests.clear()
    result = api.compare("org/base", "org/tuned", probes=PROBES, store=tmp_path, backend="ray")
    shards = [r for r in hub.requests if r.range and not r.range.startswith("bytes=0-")]
    assert shards
    assert {r.authorization for r in hub.requests if r.authorization} == {f"Bearer {DRIVERS}", f"Bearer {WORKERS}"}
    assert sorted(contents(tmp_path)) == sorted(contents(local))
    assert len(orders) > 4
    for order in orders:
        text = cloudpickle.dumps((task.work, order))
        assert b"hf_of" not in text
        assert b"numpy" not in text  # no array, of weights or of anything else
        assert len(text) < 4096 + 1024 * sum(len(t.steps) for t in order.batch)
    assert {step.match.name for o in orders for t in o.batch for step in t.steps} == {m.name for m in result.measured}
    assert all(len(order.tuned.commit) == 40 and order.tuned.ref.endswith(order.tuned.commit) for order in orders)


def contents(store: Path) -> list[bytes]:
    """The arrays of all records, without the headers that hold their keys."""
    files = [path.read_bytes() for path in store.glob("records/*/*.safetensors")]
    return [content[8 + int.from_bytes(content[:8], "little") :] for content in files]


def test_what_is_kept_needs_no_ray(local: Path, folders, monkeypatch):
    monkeypatch.setattr(Cluster, "open", lambda *_: pytest.fail("Ray was asked"))
    assert compared(folders, local, backend="ray").complete


# --- what ends early --------------------------------------------------------------------------------------------

DRIVER = """
import sys, time
from rlviz import api
from rlviz.engine import feeds
from rlviz.engine.executors import ray
feeds.PART_BYTES = 1 << 16
land = ray._Flight._land
def slowly(self, parcel, batch):
    land(self, parcel, batch)
    time.sleep(0.4)
ray._Flight._land = slowly
api.compare(*sys.argv[1:3], probes=sys.argv[4].split(","), store=sys.argv[3], backend="ray://local", workers=2)
"""


def test_a_dead_driver_resumes(control: Path, folders, local: Path, tmp_path: Path):
    sides = (str(folders["base"]), str(folders["tuned"]))
    command = [sys.executable, "-c", DRIVER, *sides, str(tmp_path), ",".join(PROBES)]
    process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
    try:
        while len(written_at(tmp_path)) < 3:
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.02)
        process.kill()
        process.wait()
    finally:
        with suppress(ProcessLookupError):  # what its Ray would take a minute to notice
            os.killpg(process.pid, signal.SIGKILL)
    before = written_at(tmp_path)
    assert 3 <= len(before) < len(kept(local)) - 1
    compared(folders, tmp_path, backend="ray")
    assert kept(tmp_path) == kept(local)
    assert all(path.stat().st_mtime_ns == at for path, at in before.items()), "what had landed was written again"


def test_cancelling_keeps_what_landed(control: Path, folders, tmp_path: Path, monkeypatch):
    # a task that is cancelled while it completes takes the driver's process with it
    monkeypatch.setattr(ray, "cancel", lambda *_, **__: pytest.fail("a task was cancelled"))
    cancel, store = Event(), Store(tmp_path)
    with ordered_of_workers(control, "slow"), pytest.raises(Cancelled, match="stopped on request"):
        compared(folders, store, backend="ray", cancel=cancel, report=lambda p: p.steps_done and cancel.set())
    assert not (store.read_json(next(store.results())[0], "manifest") or {})["complete"]
    before = written_at(tmp_path)
    assert before
    compared(folders, store, backend="ray")  # the workers are free again
    assert all(path.stat().st_mtime_ns == at for path, at in before.items()), "what had landed was written again"


def written_at(store: Path) -> dict[Path, int]:
    """When each record was written, in nanoseconds."""
    return {path: path.stat().st_mtime_ns for path in store.glob("records/*/*.safetensors")}


# --- errors -----------------------------------------------------------------------------------------------------


def raised(run: Callable[[], object]) -> RlvizError:
    with pytest.raises(RlvizError) as caught:
        run()
    return caught.value


def test_an_error_of_a_worker_is_that_of_a_local_run(control: Path, hub: FakeHub, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("HF_TOKEN", DRIVERS)
    hub.inject(weights, Fault(status=429, headers=LIMITED_FOR_LONG))
    try:
        errors = {
            backend: raised(lambda: api.compare("org/base", "org/tuned", store=tmp_path, backend=backend))  # noqa: B023
            for backend in ("local", "ray")
        }
    finally:
        hub.faults.clear()
    ours, rays = errors["local"], errors["ray"]
    assert type(ours) is type(rays)
    assert ours.exit_code == rays.exit_code == 3
    # which side is met first is chance
    assert str(rays).replace("org/base", "org/tuned") == str(ours).replace("org/base", "org/tuned")


def test_a_model_that_workers_may_not_read_says_whose_token_counts(control: Path, hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("HF_TOKEN", DRIVERS)
    error = raised(lambda: api.compare("org/base", "org/mine", store=tmp_path, backend="ray"))
    assert isinstance(error, (NotFound, Gated))
    assert str(error).startswith("org/mine: ")
    assert "reads with the HF_TOKEN of its own environment" in str(error)


def test_a_file_that_changes_after_planning_stops_the_run(control: Path, tmp_path: Path):
    base = tiny_base()
    folders = [write_checkpoint(tmp_path / "base", base), write_checkpoint(tmp_path / "tuned", tuned_from(base))]
    with resolve(str(folders[0])) as left, resolve(str(folders[1])) as right:
        planned = engine.plan(pair(left, right), Store(tmp_path / "store"), api.request())
        write_checkpoint(folders[1], tuned_from(base, seed=5))
        with RayExecutor("") as executor, pytest.raises(UnsupportedCheckpoint, match="other files there") as caught:
            engine.run(planned, Store(tmp_path / "store"), executor=executor)
    assert caught.value.exit_code == 4


def test_a_worker_that_dies_again_and_again_ends_in_a_sentence(control: Path, folders, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_executor, "RETRIES", 1)
    with ordered_of_workers(control, "kill-all"):
        error = raised(lambda: compared(folders, tmp_path, backend="ray", tensors="*embed*"))
    assert isinstance(error, Unavailable)
    assert "died 2 times" in str(error)


def test_a_folder_that_a_node_does_not_see_is_named(folders, tmp_path: Path):
    planned = api.plan(str(folders["base"]), str(folders["tuned"]), store=tmp_path)
    (batch, *_) = executors.local.one_by_one(planned.pending)
    order = ordered(planned, batch, None, None, ())
    elsewhere = replace(order, tuned=replace(order.tuned, ref=str(tmp_path / "nowhere")))
    error = task.work(elsewhere)
    assert isinstance(error, NotFound)
    assert "put it in a folder that all nodes share, or use a hub id" in str(error)
    assert isinstance(task.work(order), task.Parcel)
    other = task.work(replace(order, release="0.0.1"))
    assert isinstance(other, Unavailable)
    assert "Install the same release on every node" in str(other)
    other = task.work(replace(order, device="cuda"))
    assert isinstance(other, Unavailable)
    assert "computes on cpu, and the run was started on cuda" in str(other)
    task._opened.cache_clear()


def test_errors_speak_of_models_as_they_were_typed(folders, tmp_path: Path):
    planned = api.plan(str(folders["base"]), str(folders["tuned"]), store=tmp_path)
    side = replace(planned.pairing.tuned.identity, ref="org/name", pinned_ref=f"org/name@{'a' * 40}")
    error = as_typed(Offline(f"{side.pinned_ref} model.safetensors", "is away", "Wait."), [side])
    assert type(error) is Offline
    assert str(error) == "org/name model.safetensors: is away. Wait."


# --- asking for it ----------------------------------------------------------------------------------------------


@pytest.fixture
def unconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def command(tmp_path: Path, backend: str) -> list[str]:
    return ["compare", "demo:base", "demo:rl", "--backend", backend, "--store", str(tmp_path), "--quiet"]


def test_ray_missing_is_said_with_its_remedy(monkeypatch, tmp_path: Path, capsys):
    monkeypatch.setattr(executors, "find_spec", lambda _: None)
    assert cli.main(command(tmp_path, "ray")) == 2
    assert capsys.readouterr().err == "rlviz: backend ray: needs Ray. Install it: pip install -r requirements-ray.txt\n"


@pytest.mark.parametrize("backend", ["rays", "ray://", "ray:host:1", "slurm://x:1"])
def test_other_words_are_refused(backend: str, monkeypatch, tmp_path: Path):
    with pytest.raises(InvalidInput, match="Write local, ray or ray://HOST:PORT"):
        executors.executor_for(backend)
    monkeypatch.setenv("RLVIZ_BACKEND", backend)
    with pytest.raises(InvalidInput, match="Write local"):
        api.compare("demo:base", "demo:rl", store=tmp_path)


@pytest.mark.usefixtures("unconnected")
def test_a_dead_address_is_said(tmp_path: Path, capsys):
    assert cli.main(command(tmp_path, "ray://127.0.0.1:9")) == 3
    assert "ray://127.0.0.1:9: no Ray cluster answers there. Check the address" in capsys.readouterr().err


@pytest.mark.usefixtures("unconnected")
def test_an_address_without_a_port_is_refused(tmp_path: Path, capsys):
    assert cli.main(command(tmp_path, "ray://somewhere")) == 2
    assert "Write ray://HOST:PORT" in capsys.readouterr().err


@pytest.mark.usefixtures("unconnected")
def test_something_else_that_listens_is_no_cluster(hub: FakeHub, tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(ray_cluster, "_ANSWER_S", 2.0)
    monkeypatch.setenv("RAY_ADDRESS", hub.endpoint.removeprefix("http://"))
    assert cli.main(command(tmp_path, "ray")) == 3
    assert "no Ray cluster answers there" in capsys.readouterr().err


@pytest.mark.usefixtures("unconnected")
def test_the_cluster_of_this_machine_that_has_gone_is_said(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setattr(ray_cluster, "read_ray_address", lambda: "127.0.0.1:9")
    assert cli.main(command(tmp_path, "ray")) == 3
    assert "does not answer. Start it again; or forget it with `ray stop`" in capsys.readouterr().err


def test_terminate_stays_with_whoever_had_it():
    def ours(*_: object) -> None: ...

    before = signal.signal(signal.SIGTERM, ours)
    try:
        with ray_cluster._own_signals():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        assert signal.getsignal(signal.SIGTERM) is ours
    finally:
        signal.signal(signal.SIGTERM, before)


def test_dear_tasks_go_first_and_reserve_what_they_hold(control: Path, folders, tmp_path: Path):
    planned = api.plan(str(folders["base"]), str(folders["tuned"]), store=tmp_path)
    flight = ray_executor._Flight(planned, Store(tmp_path), executors.Tally(2), Cluster(""), Place(tmp_path, tmp_path))
    seconds = [sum(t.seconds for t in batch) for batch in flight.waiting]
    assert seconds == sorted(seconds, reverse=True)
    assert sum(len(t.steps) for b in flight.waiting for t in b) == len(planned.pending)
    cluster = Cluster("")
    assert cluster.memory(40 * MIB) == PROCESS_BYTES + 64 * MIB
    largest = max(node["Resources"]["memory"] for node in ray.nodes())
    assert cluster.memory(1 << 50) == int(largest)  # alone on the largest node, never nowhere
    assert cluster.at_once == 2 * 2 + 8
