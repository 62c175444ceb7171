"""Jobs: a worker process per key, joined by everyone who asks, gone when its parent is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from rlviz import api
from rlviz.errors import NotFound
from rlviz.jobs import UNDER_WAY, Job, Jobs
from tests.checkpoints import tiny_pair


def asked(base: str, tuned: str, store: Path, probes: tuple[str, ...] = ("coordinate",)) -> dict[str, object]:
    return {
        "base": base,
        "tuned": tuned,
        "probes": probes,
        "tensors": "*",
        "budget_minutes": None,
        "store": str(store),
    }


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def ended(job: Job) -> Callable[[], bool]:
    return lambda: job.status().state not in UNDER_WAY


def worker_of(job: Job) -> int:
    """Process id of the job's worker, once it has one."""
    wait_until(lambda: job._process is not None)
    assert job._process is not None
    return job._process.pid


def test_job_leaves_the_result_in_the_store(tmp_path):
    base, tuned = tiny_pair(tmp_path)
    store = tmp_path / "store"
    key = api.plan(base, tuned, store=store, wanted=api.request(probes=("coordinate",))).key
    job = Jobs().start(key, asked(base, tuned, store))
    wait_until(ended(job))
    assert job.status().state == "done", job.status().error
    assert api.load_result(key, store).complete


def test_asking_twice_joins_the_running_job(tmp_path):
    base, tuned = tiny_pair(tmp_path)
    jobs = Jobs()
    first = jobs.start("k", asked(base, tuned, tmp_path / "store"))
    assert jobs.start("k", asked(base, tuned, tmp_path / "store")) is first
    wait_until(ended(first))
    assert jobs.start("k", asked(base, tuned, tmp_path / "store")) is not first


def test_runs_one_at_a_time_in_order(tmp_path):
    base, tuned = tiny_pair(tmp_path)
    jobs = Jobs()
    first = jobs.start("first", asked(base, tuned, tmp_path / "store"))
    second = jobs.start("second", asked(base, base, tmp_path / "store"))
    while first.status().state in UNDER_WAY:
        assert second.status().state == "queued" or first.status().state not in UNDER_WAY
        time.sleep(0.01)
    wait_until(ended(second))
    assert [first.status().state, second.status().state] == ["done", "done"]


def test_queued_job_can_be_cancelled(tmp_path):
    base, tuned = tiny_pair(tmp_path)
    jobs = Jobs()
    first = jobs.start("first", asked(base, tuned, tmp_path / "store"))
    second = jobs.start("second", asked(base, base, tmp_path / "store"))
    second.cancel()
    wait_until(ended(second))
    assert first.status().state == "done"
    assert second.status().state == "cancelled"
    assert second._process is None


def test_error_arrives_as_itself(tmp_path):
    job = Jobs().start("k", asked(str(tmp_path / "absent"), str(tmp_path / "absent"), tmp_path / "store"))
    wait_until(ended(job))
    status = job.status()
    assert status.state == "failed"
    assert isinstance(status.error, NotFound)
    assert "absent" in str(status.error)


def test_killed_worker_is_a_failure_with_a_next_step(tmp_path):
    base, tuned = tiny_pair(tmp_path)
    job = Jobs().start("k", asked(base, tuned, tmp_path / "store"))
    os.kill(worker_of(job), signal.SIGKILL)
    wait_until(ended(job))
    assert job.status().state == "failed"
    assert "run it again" in str(job.status().error)


def test_worker_ends_with_its_parent(tmp_path):
    base, tuned = tiny_pair(tmp_path)
    script = (
        "import json, subprocess, sys, time\n"
        "from rlviz.jobs import Jobs\n"
        "job = Jobs().start('k', json.loads(sys.argv[1]))\n"
        "while job._process is None:\n    time.sleep(0.01)\n"
        "print(job._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    slow = asked(base, tuned, tmp_path / "store", ("coordinate", "spectrum"))
    parent = subprocess.Popen([sys.executable, "-c", script, json.dumps(slow)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    wait_until(lambda: not alive(worker))


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


def test_partial_result_can_be_loaded(tmp_path):
    base, tuned = tiny_pair(tmp_path)
    store = api.Store(tmp_path / "store")
    planned = api.plan(base, tuned, store=store)
    from rlviz.engine.plan import manifest
    from rlviz.result import load

    store.write_json(planned.key, "manifest", manifest(planned, (), complete=False))
    partial = load(store, planned.key)
    assert partial is not None
    assert not partial.complete
    assert partial.summary()["n"] == 0
    assert all(value is None for value in partial.summary()["update_sparsity"].values())
    assert partial.grid("update_sparsity").values.shape[0] > 0
