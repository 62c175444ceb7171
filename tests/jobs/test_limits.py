"""What a host allows: each limit refuses in a sentence that names it, its value and what to do."""

from __future__ import annotations

import json
import time

import pytest

from rlviz import api
from rlviz.access import Visitor
from rlviz.engine import Progress
from rlviz.errors import InvalidInput, OverLimit
from rlviz.jobs import Jobs, JobStatus, Limits
from rlviz.jobs.ledger import Ledger
from rlviz.jobs.work import GB
from rlviz.store import Store
from tests.checkpoints import tiny_pair
from tests.jobs.helpers import ended, named, work

ALICE, BOB = Visitor("alice"), Visitor("bob")


def registry(tmp_path, **limits: int) -> Jobs:
    """A registry in which nothing starts."""
    return Jobs(Store(tmp_path / "store"), Limits(at_once=0, **limits))


def test_jobs_per_visitor(tmp_path):
    with registry(tmp_path, per_visitor=2) as jobs:
        jobs.ask(named("a1"), ALICE)
        jobs.ask(named("a2"), ALICE)
        with pytest.raises(OverLimit, match=r"2 exact runs.*takes 2 per visitor \(RLVIZ_MAX_JOBS\).*cancel one"):
            jobs.ask(named("a3"), ALICE)
        assert jobs.status("a3") is None
        jobs.ask(named("b1"), BOB)  # another visitor's share is their own
        jobs.ask(named("b1"), ALICE)  # joining costs nothing
        jobs.ask(named("p1", kind="preview"), ALICE)  # previews are counted apart
        jobs.cancel("a1", ALICE, "")
        jobs.ask(named("a3"), ALICE)


def test_previews_per_visitor(tmp_path):
    with registry(tmp_path, per_visitor=1) as jobs:
        for i in range(4):
            jobs.ask(named(f"p{i}", kind="preview"), ALICE)
        with pytest.raises(OverLimit, match="4 previews of yours"):
            jobs.ask(named("p4", kind="preview"), ALICE)


def test_queue_of_the_host(tmp_path):
    with registry(tmp_path, queued=2) as jobs:
        jobs.ask(named("a"), ALICE)
        jobs.ask(named("b"), BOB)
        with pytest.raises(OverLimit, match=r"2 jobs.*queues 2 \(RLVIZ_MAX_QUEUE\).*some minutes"):
            jobs.ask(named("c"), Visitor("carol"))


def test_model_size(tmp_path):
    with registry(tmp_path, model_bytes=10 * GB) as jobs:
        with pytest.raises(OverLimit, match=r"11 GB.*up to 10 GB exactly \(RLVIZ_MAX_MODEL_GB\).*preview"):
            jobs.ask(named("k", model_bytes=11 * GB))
        jobs.ask(named("k", model_bytes=10 * GB))
        jobs.ask(named("p", model_bytes=11 * GB, kind="preview"))


def test_bytes_per_day_count_what_is_on_its_way(tmp_path):
    with registry(tmp_path, bytes_per_day=10 * GB) as jobs:
        jobs.ask(named("a1", nbytes=6 * GB), ALICE)
        with pytest.raises(
            OverLimit, match=r"6\.0 GB are on their way.*would read 5\.0 GB.*10 GB.*RLVIZ_MAX_GB_PER_DAY"
        ):
            jobs.ask(named("a2", nbytes=5 * GB), ALICE)
        jobs.ask(named("a2", nbytes=4 * GB), ALICE)
        jobs.ask(named("b1", nbytes=10 * GB), BOB)


def test_bytes_read_are_charged_and_survive_a_restart(tmp_path):
    store = Store(tmp_path / "store")
    asked = work(*tiny_pair(tmp_path))
    with Jobs(store) as jobs:
        jobs.ask(asked, ALICE)
        assert ended(jobs, asked.key).state == "done"
    provenance = api.load_result(asked.key, store).provenance
    assert provenance is not None
    read = provenance.bytes_read
    assert read > 0
    with Jobs(store, Limits(at_once=0, bytes_per_day=read)) as jobs:
        with pytest.raises(OverLimit, match="in the last 24 hours"):
            jobs.ask(named("k"), ALICE)
        jobs.ask(named("k"), BOB)
    with Jobs(store, Limits(at_once=0, bytes_per_day=read + 1)) as jobs:
        jobs.ask(named("another"), ALICE)


def test_bytes_are_forgotten_after_a_day(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path)
    ledger.charge("alice", 5)
    ledger.charge("alice", 2)
    assert (ledger.bytes_today("alice"), ledger.bytes_today("bob")) == (7, 0)
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 23 * 3600)
    ledger.charge("alice", 1)
    assert ledger.bytes_today("alice") == 8
    monkeypatch.setattr(time, "time", lambda: now + 25 * 3600)
    assert ledger.bytes_today("alice") == 1
    monkeypatch.setattr(time, "time", lambda: now + 72 * 3600)
    ledger.forget_old()
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize("garbage", ["", "[]", '{"bytes_by_hour": {"x": "y"}}', '{"bytes_by_hour": 3}'])
def test_a_garbled_account_begins_afresh(tmp_path, garbage):
    ledger = Ledger(tmp_path)
    ledger.charge("alice", 5)
    (path,) = tmp_path.rglob("*.json")
    assert "alice" not in path.name
    path.write_text(garbage)
    assert ledger.bytes_today("alice") == 0
    ledger.charge("alice", 5)
    assert ledger.bytes_today("alice") == 5
    assert json.loads(path.read_text())["schema"] == 1


def test_a_host_has_limits_and_ones_own_machine_none(monkeypatch):
    for name in ("RLVIZ_JOBS", "RLVIZ_MAX_JOBS", "RLVIZ_MAX_QUEUE", "RLVIZ_MAX_GB_PER_DAY", "RLVIZ_MAX_MODEL_GB"):
        monkeypatch.delenv(name, raising=False)
    assert Limits.from_environment() == Limits()
    monkeypatch.setenv("RLVIZ_MODE", "hosted")
    assert Limits.from_environment() == Limits(1, 2, 20, 400 * GB, 200 * GB)
    monkeypatch.setenv("RLVIZ_MAX_JOBS", "5")
    monkeypatch.setenv("RLVIZ_MAX_GB_PER_DAY", "50")
    assert Limits.from_environment() == Limits(1, 5, 20, 50 * GB, 200 * GB)
    monkeypatch.setenv("RLVIZ_MAX_QUEUE", "many")
    with pytest.raises(InvalidInput, match="RLVIZ_MAX_QUEUE=many"):
        Limits.from_environment()


def status(expected_s: float | None, elapsed_s: float, measured: float | None) -> JobStatus:
    return JobStatus(
        "k", "compare", "running", expected_s=expected_s, progress=Progress("", 0, 9, 0, 9, elapsed_s, measured, "")
    )


def test_time_left_is_what_was_expected_until_it_is_measured():
    assert JobStatus("k", "compare", "queued").eta_s is None
    assert JobStatus("k", "compare", "queued", expected_s=60).eta_s == 60
    assert status(60, 10, None).eta_s == 50
    assert status(60, 90, None).eta_s == 0
    assert status(None, 10, 7).eta_s == 7
    assert status(60, 10, 90).eta_s == pytest.approx(0.5 * 90 + 0.5 * 50)  # a tenth done: half of each
    assert status(60, 50, 100).eta_s == 100
