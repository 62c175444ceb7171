"""Work to ask for, and ways to wait for it without guessing how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from rlviz import api
from rlviz.jobs import Jobs, JobStatus, Work
from rlviz.store import Store

PROBES = ("coordinate",)


def work(base: str, tuned: str, tensors: str = "*", probes: tuple[str, ...] = PROBES, **more: object) -> Work:
    """The exact comparison of a pair under its real key; another glob is another job."""
    key = api.locate(base, tuned, api.request(probes=probes, tensors=tensors))
    return Work(key, base, tuned, probes=probes, tensors=tensors, **more)  # type: ignore[arg-type]


def named(key: str, **more: object) -> Work:
    """A job that is only queued, never run."""
    return Work(key, "org/base", "org/tuned", **more)  # type: ignore[arg-type]


def wait_until(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)


def ended(jobs: Jobs, key: str) -> JobStatus:
    """The status once nothing will change any more by itself."""
    wait_until(lambda: (status := jobs.status(key)) is None or not status.under_way)
    status = jobs.status(key)
    assert status is not None
    return status


def worker_pid(jobs: Jobs, key: str) -> int:
    """Process id of the worker this process runs for the job, once it has one."""
    wait_until(lambda: (runner := jobs.scheduler.runner(key)) is not None and runner.pid is not None)
    runner = jobs.scheduler.runner(key)
    assert runner is not None
    assert runner.pid is not None
    return runner.pid


@contextmanager
def blocked(store: Store, key: str) -> Iterator[None]:
    """Hold the pair's lock: a worker started meanwhile waits, for exactly as long as the block lasts."""
    taken, release = Event(), Event()

    def hold() -> None:
        with store.lock(key, lambda: None):
            taken.set()
            release.wait()

    thread = Thread(target=hold, daemon=True)
    thread.start()
    assert taken.wait(30)
    try:
        yield
    finally:
        release.set()
        thread.join()


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False


def records(store: Store) -> dict[str, bytes]:
    root = store.root / "records"
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}
