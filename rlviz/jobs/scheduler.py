"""The thread of a process that moves jobs on: queued to running, running to ended, orphaned to queued again."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from threading import Event, Lock, Thread

from rlviz.access import Visitor
from rlviz.errors import Cancelled, RlvizError
from rlviz.jobs.folder import Entry, Folder
from rlviz.jobs.ledger import Ledger
from rlviz.jobs.order import in_turn
from rlviz.jobs.runner import Crash, Outcome, Runner
from rlviz.jobs.work import ALIVE, KINDS, UNDER_WAY, Limits
from rlviz.store import Store

MAX_CRASHES = 3
_POLL_S = 0.25
_ACCOUNT_S = 1.0  # how often what was read is written down: what a kill -9 leaves uncounted
_ENDED_KEPT_S = {"done": 600.0, "cancelled": 600.0, "failed": 86_400.0}  # pages show how it ended
_log = logging.getLogger(__name__)


class Scheduler:
    """Started at once, so that what a killed server left goes on without being asked."""

    def __init__(self, store: Store, folder: Folder, ledger: Ledger, limits: Limits) -> None:
        self._store, self._folder, self._ledger, self._limits = store, folder, ledger, limits
        self._lock = Lock()
        self._visitors: dict[str, Visitor] = {}
        self._running: dict[str, Runner] = {}
        self._woken, self._closed = Event(), Event()
        self._thread = Thread(target=self._work, name="rlviz-jobs", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Something changed: look now."""
        self._woken.set()

    def runner(self, key: str) -> Runner | None:
        """The worker that this process runs for the job, if it does."""
        with self._lock:
            return self._running.get(key)

    def remember(self, key: str, visitor: Visitor) -> None:
        """Keep a visitor's token, in memory, until the job has ended. The first to come stays."""
        with self._lock:
            self._visitors.setdefault(key, visitor)

    def remembers(self, key: str) -> bool:
        """Whether somebody's token is kept for the job."""
        with self._lock:
            return key in self._visitors

    def close(self) -> None:
        """Stop the workers and wait for them."""
        self._closed.set()
        self.wake()
        self._thread.join()
        while True:
            with self._lock:
                runners = list(self._running.values())
            if not runners:
                return
            for runner in runners:
                runner.stop()
            time.sleep(0.02)

    def _work(self) -> None:
        trouble = ""
        while not self._closed.is_set():
            try:
                self._turn()
                trouble = ""
            except Exception as error:  # noqa: BLE001 (a full disk, a folder taken away: without this thread all wait for ever)
                if repr(error) != trouble:  # said once, not at every turn
                    _log.exception("the jobs in %s could not be looked after", self._folder.path)
                trouble = repr(error)
            self._woken.wait(_POLL_S)
            self._woken.clear()

    def _turn(self) -> None:
        """Stop what was cancelled, forget what is old, take over what was left, start what may start."""
        entries = self._folder.entries()
        for entry in entries:
            if entry.stop and (runner := self.runner(entry.key)):
                runner.stop()
        nonsense = self._folder.keys() - {e.key for e in entries}
        if nonsense or self._without_job(entries) or any(e.state in UNDER_WAY or _is_old(e) for e in entries):
            with self._folder.transaction():
                self._folder.sweep()
                kept = [e for e in self._folder.entries() if not self._forgotten(e)]
                for key in self._without_job(kept):
                    self._forget(key)
                current = [self._taken_over(e) for e in kept]
                for kind in KINDS:
                    self._start_some([e for e in current if e.work.kind == kind], self._limits.slots(kind))

    def _without_job(self, entries: Sequence[Entry]) -> set[str]:
        """Keys of jobs that ended elsewhere, or while they were queued, and whose visitor is still remembered here."""
        with self._lock:
            return self._visitors.keys() - {e.key for e in entries if e.state in ALIVE}

    def _forget(self, key: str) -> None:
        with self._lock:
            self._visitors.pop(key, None)

    def _forgotten(self, entry: Entry) -> bool:
        if _is_old(entry):
            self._folder.remove(entry.key)
            self._ledger.forget_old()
        return _is_old(entry)

    def _taken_over(self, entry: Entry) -> Entry:
        """The job, put back where the process is no more that ran it or held its token."""
        if entry.state not in UNDER_WAY or not entry.process:
            return entry
        if entry.process == self._folder.process:
            here = entry.state == "queued" or self.runner(entry.key) is not None
        else:
            here = self._folder.lives(entry.process)
        if here:
            return entry
        _log.info("job %s was left %s by a process that is no more", entry.key, entry.state)
        left = _after_crash(entry, "the server ended with it") if entry.state == "running" else _put_back(entry)
        self._folder.write(left)
        return left

    def _start_some(self, lane: Sequence[Entry], slots: int) -> None:
        free = slots - sum(e.state == "running" for e in lane)
        for entry in in_turn(lane, self._ledger.last_turn_s)[: max(free, 0)]:
            if entry.process in ("", self._folder.process):  # else its token is in another process, which will start it
                self._start(entry)

    def _start(self, entry: Entry) -> None:
        self._ledger.take_turn(entry.visitor)
        self._folder.write(entry.to("running", process=self._folder.process))
        with self._lock:  # from here on nothing fails: what is in `_running` has a thread that takes it out again
            visitor = self._visitors.get(entry.key) or Visitor(entry.visitor)
            runner = self._running[entry.key] = Runner(entry.work, visitor, self._store.url)
        Thread(target=self._run, args=(runner, entry.visitor), name=f"rlviz-job-{entry.key[:8]}", daemon=True).start()

    def _run(self, runner: Runner, payer: str) -> None:
        account = _Account(self._folder, self._ledger, payer)
        try:
            outcome = runner.run(lambda: account.note(runner))
            account.write(runner)
            self._settle(runner.work.key, outcome)
        finally:
            with self._lock:
                self._running.pop(runner.work.key, None)
            self.wake()

    def _settle(self, key: str, outcome: Outcome) -> None:
        with self._folder.transaction():
            entry = self._folder.read(key)
            if entry is None:
                return
            ended = self._ended(entry, outcome)
            if ended.state not in UNDER_WAY:
                self._forget(key)  # in here and first: who asks again brings a token of their own
            self._folder.write(ended)

    def _ended(self, entry: Entry, outcome: Outcome) -> Entry:
        if outcome is None:
            return entry.to("done", process="", stop=False)
        if entry.stop:
            return entry.to("cancelled", process="", stop=False)
        if isinstance(outcome, Cancelled) or self._closed.is_set():  # asked for again since, or the server closes
            return entry.to("queued", process=entry.process if entry.work.needs_token else "")
        if isinstance(outcome, Crash):
            crashed = _after_crash(entry, f"code {outcome.code}, {outcome.last_line}")
            keeps = crashed.state == "waiting"  # its token is still here
            return replace(crashed, state="queued", process=entry.process) if keeps else crashed
        return entry.to("failed", process="", error=outcome)


class _Account:
    """Writes down what a worker read and that it got on, once a second."""

    def __init__(self, folder: Folder, ledger: Ledger, payer: str) -> None:
        self._folder, self._ledger, self._payer = folder, ledger, payer
        self._charged, self._written_s = 0, time.monotonic()
        self._first_step: int | None = None

    def note(self, runner: Runner) -> None:
        """Called at every message."""
        if time.monotonic() - self._written_s >= _ACCOUNT_S:
            self.write(runner)

    def write(self, runner: Runner) -> None:
        """Charge the visitor, and forgive earlier crashes where a step has landed since."""
        self._written_s = time.monotonic()
        heard = runner.heard
        new = heard.nbytes - self._charged
        done = heard.progress.steps_done if heard.progress else heard.rounds
        if self._first_step is None:
            self._first_step = done
        with self._folder.transaction():
            entry = self._folder.read(runner.work.key)
            if entry is None:
                return
            crashes = 0 if done > self._first_step else entry.crashes
            changed = replace(
                entry, nbytes_read=entry.nbytes_read + new, rounds=max(entry.rounds, heard.rounds), crashes=crashes
            )
            if changed != entry:
                self._folder.write(changed)
            if new:
                self._ledger.charge(self._payer, new)
        self._charged = heard.nbytes


def _after_crash(entry: Entry, how: str) -> Entry:
    """Queued again, unless that has not helped before."""
    crashes = entry.crashes + 1
    if crashes < MAX_CRASHES:
        return replace(_put_back(entry), crashes=crashes)
    problem = f"its worker died {crashes} times in a row ({how})"
    next_step = "What had landed is kept. If memory is short, lower RLVIZ_MEMORY_MB; then run it again."
    return entry.to("failed", process="", crashes=crashes, error=RlvizError(entry.work.subject, problem, next_step))


def _put_back(entry: Entry) -> Entry:
    if entry.stop:
        return entry.to("cancelled", process="", stop=False)
    return entry.to("waiting" if entry.work.needs_token else "queued", process="")


def _is_old(entry: Entry) -> bool:
    return time.time() - entry.at_s > _ENDED_KEPT_S.get(entry.state, float("inf"))
