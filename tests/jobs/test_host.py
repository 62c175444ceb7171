"""One host, several processes: a job runs once, all see how far it is, a killed server's jobs go on unasked."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from rlviz import api
from rlviz.access import Visitor
from rlviz.engine import Progress
from rlviz.engine.bulletin import elsewhere, posted
from rlviz.jobs import Jobs, Work
from rlviz.jobs.folder import Entry, Folder
from rlviz.jobs.ledger import Ledger
from rlviz.jobs.runner import Heard, Runner
from rlviz.jobs.scheduler import _Account
from rlviz.probes import PROBE_NAMES
from rlviz.store import Store
from tests.checkpoints import tiny_base, tiny_pair, tuned_from, write_checkpoint
from tests.fakehub import FakeHub
from tests.jobs.helpers import PROBES, alive, blocked, ended, named, records, wait_until, work

TOKEN = "hf_secretSECRETsecretSECRET"

# A server: asks for one job (work and visitor come on standard input) and then says every 50 ms how it stands.
SERVER = """
import json, sys, time
from dataclasses import asdict
from rlviz.access import Visitor
from rlviz.jobs import Jobs, Work
from rlviz.store import Store
said = json.loads(sys.stdin.readline())
work = Work(**{**said["work"], "probes": tuple(said["work"]["probes"])})
with Jobs(Store(said["store"])) as jobs:
    jobs.ask(work, Visitor(**said["visitor"]))
    while True:
        status = jobs.status(work.key)
        runner = jobs.scheduler.runner(work.key)
        done = status.progress.steps_done if status.progress else 0
        print(json.dumps([status.state, done, runner.pid if runner else None]), flush=True)
        if not status.under_way:
            break
        time.sleep(0.05)
"""


def serve(store: Store, asked: Work, visitor: Visitor = Visitor("alice")) -> subprocess.Popen[str]:  # noqa: B008
    process = subprocess.Popen([sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    who = {"name": visitor.name, "token": visitor.token}
    process.stdin.write(json.dumps({"work": asdict(asked), "store": str(store.root), "visitor": who}) + "\n")
    process.stdin.flush()
    return process


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


@pytest.fixture
def long_work(tmp_path) -> Work:
    """A comparison of some seconds, whose records land one by one."""
    base = tiny_base(layers=5, width=192)
    write_checkpoint(tmp_path / "base", base)
    write_checkpoint(tmp_path / "tuned", tuned_from(base))
    return work(str(tmp_path / "base"), str(tmp_path / "tuned"), probes=PROBE_NAMES)


@pytest.fixture
def far_pair(tmp_path, monkeypatch):
    """A pair on a hub so slow that its comparison takes seconds; and the hub."""
    base = tiny_base(layers=3, width=96)
    write_checkpoint(tmp_path / "base", base)
    write_checkpoint(tmp_path / "tuned", tuned_from(base))
    with FakeHub(tokens={TOKEN: ["acme/private"]}, bytes_per_s=2e5) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        refs = {
            name: served(hub, f"acme/{name}", tmp_path / folder, private=name == "private")
            for name, folder in (("base", "base"), ("tuned", "tuned"), ("private", "tuned"))
        }
        yield hub, refs


def served(hub: FakeHub, repo_id: str, folder: Path, *, private: bool) -> str:
    """The pinned reference of a folder on the hub."""
    return f"{repo_id}@{hub.add_repo(repo_id, folder, private=private).revisions['main']}"


def test_two_processes_run_a_job_once_and_both_see_it(store, long_work):
    servers = [serve(store, long_work, Visitor("alice")), serve(store, long_work, Visitor("bob"))]
    said = [[json.loads(line) for line in server.communicate(timeout=120)[0].splitlines()] for server in servers]
    workers = {pid for lines in said for _, _, pid in lines if pid}
    assert len(workers) == 1
    for lines in said:
        assert any(state == "running" and steps > 0 for state, steps, _ in lines)
        assert lines[-1][0] == "done"


def test_a_run_of_the_command_line_is_seen_and_joined(store, far_pair, tmp_path):
    _, refs = far_pair
    asked = work(refs["base"], refs["tuned"])
    command = [sys.executable, "-m", "rlviz", "compare", refs["base"], refs["tuned"], "--probes", ",".join(PROBES)]
    with Jobs(store) as jobs:
        cli = subprocess.Popen([*command, "--store", str(store.root), "--quiet"], stdout=subprocess.DEVNULL)
        wait_until(lambda: (s := jobs.status(asked.key)) and s.state == "running" and s.progress)
        cli.send_signal(signal.SIGSTOP)  # so that it is not over before the job begins
        assert not jobs.may_cancel(asked.key, Visitor("alice"), "tab")
        jobs.ask(asked, Visitor("alice"))
        wait_until(lambda: (s := jobs.status(asked.key)) and s.progress and s.progress.elsewhere)
        waiting = jobs.status(asked.key)
        cli.send_signal(signal.SIGCONT)
        assert cli.wait(60) == 0
        assert ended(jobs, asked.key).state == "done"
    assert waiting is not None
    assert waiting.progress is not None
    assert waiting.progress.state.startswith("another run of the same pair")
    assert Ledger(store.root / "jobs").bytes_today("alice") == 0  # the command line read it


def test_a_killed_servers_job_goes_on_unasked_with_the_same_bytes(store, long_work, tmp_path):
    server = serve(store, long_work)
    assert server.stdout is not None
    steps, worker = 0, 0
    while steps < 3:
        state, steps, worker = json.loads(server.stdout.readline())
        assert state in ("queued", "running")
    server.kill()
    os.kill(worker, signal.SIGKILL)
    server.wait()
    landed = records(store)
    with Jobs(store) as jobs:
        assert ended(jobs, long_work.key).state == "done"
    undisturbed = Store(tmp_path / "undisturbed")
    with Jobs(undisturbed) as jobs:
        jobs.ask(long_work)
        assert ended(jobs, long_work.key).state == "done"
    assert 0 < len(landed) < len(records(undisturbed))
    assert records(store) == records(undisturbed)
    assert api.load_result(long_work.key, store).rows() == api.load_result(long_work.key, undisturbed).rows()


def test_a_server_that_closes_leaves_its_job_to_the_next(store, tmp_path):
    asked = work(*tiny_pair(tmp_path))
    with blocked(store, asked.key), Jobs(store) as jobs:
        jobs.ask(asked)
        wait_until(lambda: (r := jobs.scheduler.runner(asked.key)) and r.pid)
    with Jobs(store) as jobs:
        assert ended(jobs, asked.key).state == "done"


def test_another_process_takes_over_at_once(store, tmp_path):
    asked = work(*tiny_pair(tmp_path))
    with blocked(store, asked.key):
        server = serve(store, asked)
        assert server.stdout is not None
        while json.loads(server.stdout.readline())[2] is None:
            pass
        with Jobs(store) as jobs:
            server.kill()
            server.wait()
            wait_until(lambda: jobs.scheduler.runner(asked.key))


def test_the_token_is_nowhere_but_in_memory(store, far_pair, tmp_path, caplog):
    _, refs = far_pair
    asked = work(refs["base"], refs["private"], needs_token=True)
    with Jobs(store) as jobs:
        jobs.ask(asked, Visitor("alice", TOKEN))
        wait_until(lambda: (r := jobs.scheduler.runner(asked.key)) and r.pid)
        runner = jobs.scheduler.runner(asked.key)
        assert runner is not None
        for file in ("environ", "cmdline"):
            with open(f"/proc/{runner.pid}/{file}", "rb") as content:  # noqa: PTH123
                assert TOKEN.encode() not in content.read()
        wait_until(lambda: (s := jobs.status(asked.key)) and s.progress)
        assert_nowhere(tmp_path)
        status = ended(jobs, asked.key)
        assert status.state == "done", status.error
        assert not jobs.scheduler._visitors
    assert_nowhere(tmp_path)
    assert TOKEN not in caplog.text


def assert_nowhere(folder) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path


def test_errors_do_not_repeat_the_token(monkeypatch, store):
    runner = Runner(named("k"), Visitor("alice", TOKEN), str(store.root))
    assert runner._discreet(f"Authorization: Bearer {TOKEN} refused") == "Authorization: Bearer … refused"
    assert TOKEN not in repr(runner.visitor)


def test_a_job_that_needs_a_token_waits_for_its_visitor(store, far_pair):
    _, refs = far_pair
    asked = work(refs["base"], refs["private"], needs_token=True)
    server = serve(store, asked, Visitor("alice", TOKEN))
    assert server.stdout is not None
    while json.loads(server.stdout.readline())[2] is None:
        pass
    server.kill()
    server.wait()
    with Jobs(store) as jobs:
        wait_until(lambda: (s := jobs.status(asked.key)) and s.state == "waiting")
        assert jobs.ask(asked, Visitor("alice")).state == "waiting"  # signed out
        assert jobs.ask(asked, Visitor("bob", TOKEN)).under_way
        assert ended(jobs, asked.key).state == "done"


def test_a_step_that_lands_forgives_earlier_deaths(tmp_path):
    folder = Folder(tmp_path)
    (tmp_path / "jobs").mkdir()
    folder.write(Entry(named("k"), "alice", "running", 1.0, 1.0, crashes=2))
    account = _Account(folder, Ledger(folder.path), "alice")
    runner = Runner(named("k"), Visitor("alice"), "")

    def crashes_after(steps: int, nbytes: int) -> int:
        runner.heard = Heard(Progress("", steps, 9, nbytes, 9, 1.0, None, ""), 0, nbytes)
        account.write(runner)
        entry = folder.read("k")
        assert entry is not None
        return entry.crashes

    assert crashes_after(4, 10) == 2  # landed before
    assert crashes_after(5, 30) == 0
    entry = folder.read("k")
    assert entry is not None
    assert entry.nbytes_read == Ledger(folder.path).bytes_today("alice") == 30
    folder.close()


def test_a_bulletin_is_believed_only_while_its_run_lives(store):
    said = Progress("measuring", 3, 9, 1, 2, 1.0, None, "x")
    with store.lock("k", lambda: None):
        with posted(store, "k", lambda _: None) as told:
            assert elsewhere(store, "k") is None
            told(said)
            told(replace(said, steps_done=4))  # too soon to be written again
            assert elsewhere(store, "k") == said
            kept = store.root / "locks" / "k.progress"
            shutil.copy(kept, store.root / "left behind")
        assert elsewhere(store, "k") is None
        shutil.move(store.root / "left behind", kept)
        assert elsewhere(store, "k") == said
    assert elsewhere(store, "k") is None
    assert not alive(2**22 + 1)
