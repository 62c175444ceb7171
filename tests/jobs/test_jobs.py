"""Jobs of one process: run once however many ask, watched, cancelled by whose they are, gone when the parent is."""

from __future__ import annotations

import errno
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rlviz import api
from rlviz.access import Visitor
from rlviz.engine.plan import manifest
from rlviz.errors import InvalidInput, NotFound
from rlviz.jobs import Jobs, Limits, Work, folder, runner
from rlviz.result import load
from rlviz.store import Store
from tests.checkpoints import tiny_pair
from tests.jobs.helpers import PROBES, alive, blocked, ended, named, wait_until, work, worker_pid

ALICE, BOB, CAROL = Visitor("alice"), Visitor("bob"), Visitor("carol")


@pytest.fixture
def pair(tmp_path):
    return tiny_pair(tmp_path)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def idle(store):
    """A registry in which nothing ever starts: for the rules of the queue."""
    with Jobs(store, Limits(at_once=0)) as jobs:
        yield jobs


def test_job_leaves_the_result_in_the_store(pair, store):
    asked = work(*pair)
    with Jobs(store) as jobs:
        assert jobs.status(asked.key) is None
        jobs.ask(asked)
        status = ended(jobs, asked.key)
        assert status.state == "done", status.error
        assert status.error is None
    assert api.load_result(asked.key, store).complete


def test_the_same_job_asked_twice_runs_once(pair, store):
    asked = work(*pair)
    with Jobs(store) as jobs, blocked(store, asked.key):
        jobs.ask(asked, ALICE)
        pid = worker_pid(jobs, asked.key)
        jobs.ask(asked, BOB)
        assert worker_pid(jobs, asked.key) == pid
        assert len(list((store.root / "jobs").glob("*.json"))) == 1


def test_runs_as_many_at_once_as_allowed_and_no_more(pair, store):
    first, second, third = (work(*pair, tensors=glob) for glob in ("*", "*q_proj*", "*k_proj*"))
    with Jobs(store, Limits(at_once=2)) as jobs, blocked(store, first.key), blocked(store, second.key):
        for asked in (first, second, third):
            jobs.ask(asked)
        worker_pid(jobs, first.key)
        worker_pid(jobs, second.key)
        status = jobs.status(third.key)
        assert status is not None
        assert (status.state, status.ahead) == ("queued", 2)


def test_previews_do_not_wait_for_exact_runs(pair, store):
    exact = work(*pair)
    with Jobs(store) as jobs, blocked(store, exact.key):
        jobs.ask(exact)
        worker_pid(jobs, exact.key)
        jobs.ask(Work("preview-of-nothing", "./absent", "./absent", kind="preview"))
        assert ended(jobs, "preview-of-nothing").state == "failed"
        status = jobs.status(exact.key)
        assert status is not None
        assert status.state == "running"


def test_error_arrives_as_itself(tmp_path, store):
    absent = str(tmp_path / "absent")
    with Jobs(store) as jobs:
        jobs.ask(Work("k", absent, absent))
        status = ended(jobs, "k")
        assert status.state == "failed"
        assert isinstance(status.error, NotFound)
        assert "absent" in str(status.error)
        jobs.ask(Work("k", absent, absent))  # a failed job may be asked for again
        assert ended(jobs, "k").state == "failed"


def test_a_worker_that_dies_is_started_again(pair, store):
    asked = work(*pair)
    with Jobs(store) as jobs:
        with blocked(store, asked.key):
            jobs.ask(asked)
            os.kill(first := worker_pid(jobs, asked.key), signal.SIGKILL)
            wait_until(lambda: (r := jobs.scheduler.runner(asked.key)) and r.pid not in (None, first))
        assert ended(jobs, asked.key).state == "done"


def test_a_job_that_kills_its_workers_is_given_up(pair, store, caplog):
    asked = work(*pair)
    killed = set()
    with caplog.at_level(logging.CRITICAL, "rlviz"), Jobs(store) as jobs, blocked(store, asked.key):
        jobs.ask(asked)
        while (status := jobs.status(asked.key)) and status.under_way:
            runner_now = jobs.scheduler.runner(asked.key)
            if runner_now and runner_now.pid and runner_now.pid not in killed:
                killed.add(runner_now.pid)
                os.kill(runner_now.pid, signal.SIGKILL)
            time.sleep(0.01)
        assert len(killed) == 3
        assert status is not None
        assert status.state == "failed"
        assert "died 3 times in a row" in str(status.error)
        assert "RLVIZ_MEMORY_MB" in str(status.error)


def test_cancel_stops_the_worker_and_keeps_what_landed(pair, store):
    asked = work(*pair)
    with Jobs(store) as jobs, blocked(store, asked.key):
        jobs.ask(asked, ALICE, "tab")
        pid = worker_pid(jobs, asked.key)
        assert jobs.cancel(asked.key, ALICE, "tab")
        assert ended(jobs, asked.key).state == "cancelled"
        wait_until(lambda: not alive(pid))


def test_a_worker_deaf_to_the_request_to_stop_is_killed(pair, store, monkeypatch):
    monkeypatch.setattr(runner, "GRACE_S", 0.2)
    asked = work(*pair)
    with Jobs(store) as jobs, blocked(store, asked.key):
        jobs.ask(asked)
        pid = worker_pid(jobs, asked.key)
        os.kill(pid, signal.SIGSTOP)
        jobs.cancel(asked.key, Visitor(), "")
        assert ended(jobs, asked.key).state == "cancelled"
        wait_until(lambda: not alive(pid))


def test_what_is_wanted_again_while_it_stops_goes_on(pair, store):
    asked = work(*pair)
    with Jobs(store) as jobs:
        with blocked(store, asked.key):
            jobs.ask(asked)
            pid = worker_pid(jobs, asked.key)
            wait_until(lambda: (s := jobs.status(asked.key)) and s.progress)
            os.kill(pid, signal.SIGSTOP)  # it cannot hear yet
            jobs.cancel(asked.key, Visitor(), "")
            stopping = jobs.status(asked.key)
            assert stopping is not None
            assert stopping.stopping
            wait_until(lambda: jobs.scheduler.runner(asked.key)._stopped_at)  # type: ignore[union-attr]
            jobs.ask(asked)
            os.kill(pid, signal.SIGCONT)
            wait_until(lambda: not alive(pid))
        assert ended(jobs, asked.key).state == "done"


def test_cancel_is_for_who_started_it(idle):
    idle.ask(named("k"), ALICE, "alice's tab")
    idle.watch("k", "bob's tab")
    assert idle.may_cancel("k", ALICE, "alice's tab")
    assert not idle.may_cancel("k", BOB, "bob's tab")
    assert not idle.cancel("k", BOB, "bob's tab")
    status = idle.status("k")
    assert status is not None
    assert (status.state, status.watchers) == ("queued", 2)
    assert idle.cancel("k", ALICE, "another tab of alice's")
    status = idle.status("k")
    assert status is not None
    assert status.state == "cancelled"


def test_cancel_is_for_the_last_who_watches(idle, monkeypatch):
    monkeypatch.setattr(folder, "_HEARTBEAT_S", 0.0)
    monkeypatch.setattr(folder, "WATCHER_TTL_S", 0.6)
    idle.ask(named("k"), ALICE, "alice's tab")
    idle.watch("k", "bob's tab")
    idle.watch("k", "carol's tab")
    assert not idle.may_cancel("k", BOB, "bob's tab")

    def bob_looks() -> bool:  # as his page does; the others have closed theirs
        idle.watch("k", "bob's tab")
        return idle.may_cancel("k", BOB, "bob's tab")

    wait_until(bob_looks, 30)
    assert idle.cancel("k", BOB, "bob's tab")


def test_a_token_is_forgotten_with_its_job(idle):
    """Also where the job never ran: who asks next must not read with the token of who cancelled."""
    private = named("k", needs_token=True)
    idle.ask(private, Visitor("alice", "hf_alice"))
    assert idle.cancel("k", ALICE, "")
    wait_until(lambda: not idle.scheduler.remembers("k"), 5)
    idle.ask(private, Visitor("bob", "hf_bob"))
    assert idle.scheduler.remembers("k")


def test_joining_does_not_make_a_job_ones_own(idle):
    idle.ask(named("k"), ALICE, "alice's tab")
    idle.ask(named("k"), BOB, "bob's tab")
    assert not idle.may_cancel("k", BOB, "bob's tab")


def test_places_in_the_queue(idle):
    for key, visitor in (("a1", ALICE), ("a2", ALICE), ("a3", ALICE), ("b1", BOB)):
        idle.ask(named(key), visitor)
    places = {key: idle.status(key).ahead for key in ("a1", "a2", "a3", "b1")}
    assert places == {"a1": 0, "b1": 1, "a2": 2, "a3": 3}


def test_a_store_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "jobs").write_text("in the way")
    with Jobs(Store(tmp_path / "store")) as jobs, pytest.raises(InvalidInput, match="cannot be written"):
        jobs.ask(named("k"))


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_a_sentence(idle, monkeypatch):
    monkeypatch.setattr(folder, "write_whole", full)
    with pytest.raises(InvalidInput, match="No space left"):
        idle.ask(named("k"))


def test_a_disk_that_is_full_for_a_while_delays_a_job(pair, store, monkeypatch, caplog):
    asked = work(*pair)
    with Jobs(store, Limits(at_once=0)) as before:
        before.ask(asked)
    with monkeypatch.context() as patch:
        patch.setattr(folder, "write_whole", full)
        with Jobs(store) as jobs:
            time.sleep(1)  # four turns
            assert jobs.status(asked.key).state == "queued"
            assert jobs.scheduler.runner(asked.key) is None
            assert sum("could not be looked after" in message for message in caplog.messages) == 1
            patch.undo()
            assert ended(jobs, asked.key).state == "done"


def test_a_worker_on_a_full_disk_says_so_and_is_not_started_again(pair, store):
    asked = work(*pair)
    store.root.mkdir()
    (store.root / "records").write_text("in the way")  # as good as a full disk, and root cannot write there either
    with Jobs(store) as jobs:
        jobs.ask(asked)
        status = ended(jobs, asked.key)
        assert status.state == "failed"
        assert "cannot be read or written" in str(status.error)
        assert "died" not in str(status.error)


def test_a_key_names_nothing_but_a_job():
    for key in ("", "../up", "a/b", "a.json", "x" * 129):
        with pytest.raises(ValueError, match="cannot name a job"):
            named(key)


def test_worker_ends_with_its_parent(pair, store):
    asked = work(*pair)
    script = (
        "import sys, time\n"
        "from rlviz.jobs import Jobs, Work\n"
        "from rlviz.store import Store\n"
        "key, base, tuned, root = sys.argv[1:]\n"
        "jobs = Jobs(Store(root))\n"
        f"jobs.ask(Work(key, base, tuned, probes={PROBES!r}))\n"
        "while not (jobs.scheduler.runner(key) and jobs.scheduler.runner(key).pid):\n    time.sleep(0.01)\n"
        "print(jobs.scheduler.runner(key).pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, asked.key, *pair, str(store.root)]
    with blocked(store, asked.key):
        parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        wait_until(lambda: not alive(worker))


def test_worker_is_nice_and_has_one_blas_thread(pair, store):
    asked = work(*pair)
    with Jobs(store) as jobs, blocked(store, asked.key):
        jobs.ask(asked)
        pid = worker_pid(jobs, asked.key)
        wait_until(lambda: os.getpriority(os.PRIO_PROCESS, pid) >= 10)
        content = Path(f"/proc/{pid}/environ").read_bytes()
        said = dict(line.split(b"=", 1) for line in content.split(b"\0") if b"=" in line)
        assert said[b"OPENBLAS_NUM_THREADS"] == said[b"OMP_NUM_THREADS"] == b"1"


def test_partial_result_can_be_loaded(pair, store):
    planned = api.plan(*pair, store=store)
    store.write_json(planned.key, "manifest", manifest(planned, (), complete=False))
    partial = load(store, planned.key)
    assert partial is not None
    assert not partial.complete
    assert partial.summary()["n"] == 0
    assert all(value is None for value in partial.summary()["update_sparsity"].values())
    assert partial.grid("update_sparsity").values.shape[0] > 0


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"schema": 1}',
        b'{"schema": 99, "work": {}}',
        b'{"schema": 1, "work": {"key": "other"}}',
        b'{"schema": 1, "work": 7, "state": []}',
        b"\xff\xfe\x00",
    ],
)
def test_a_job_file_that_makes_no_sense_is_removed(store, garbage, caplog):
    path = store.root / "jobs" / "k.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(garbage)
    with caplog.at_level(logging.WARNING), Jobs(store, Limits(at_once=0)) as jobs:
        assert jobs.status("k") is None
        wait_until(lambda: not path.exists())
        assert jobs.ask(named("k")).state == "queued"
    assert "k.json" in caplog.text


def test_looking_never_removes_a_job_file(store):
    # Between reading nonsense and removing it, somebody may have written a job there.
    kept = folder.Folder(store.root)
    kept.path.mkdir(parents=True)
    path = kept.path / "k.json"
    path.write_bytes(b"{}")
    assert kept.read("k") is None
    assert kept.entries() == []
    assert path.exists()
    with kept.transaction():
        kept.sweep()
    assert not path.exists()


def test_a_job_file_of_a_field_too_many_is_removed(idle, store):
    idle.ask(named("k"))
    path = store.root / "jobs" / "k.json"
    said = json.loads(path.read_text())
    said["work"]["invented"] = 1
    path.write_text(json.dumps(said))
    assert idle.status("k") is None
