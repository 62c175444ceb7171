"""The jobs of a host: asked, queued, run once however many ask, watched, cancelled, and resumed after a restart.

The truth is the job files (`folder`), shared by all processes of the host. Each process has one `Jobs`, whose
scheduler starts queued work where a place is free, takes over what a dead process left, and hears of cancels asked
elsewhere.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Self

from rlviz.access import OWNER, Visitor
from rlviz.engine.bulletin import elsewhere
from rlviz.jobs.admission import admit
from rlviz.jobs.folder import Entry, Folder
from rlviz.jobs.ledger import Ledger
from rlviz.jobs.order import in_turn
from rlviz.jobs.scheduler import Scheduler
from rlviz.jobs.work import ALIVE, UNDER_WAY, JobStatus, Limits, Work
from rlviz.store import Store


class Jobs:
    """One process's hand on the jobs of its host. Thread-safe.

    Parameters
    ----------
    store : where results land and job files lie; the same for all processes that are to share jobs
    limits : what the host allows, by default as the environment says
    """

    def __init__(self, store: Store, limits: Limits | None = None) -> None:
        self.limits = limits or Limits.from_environment()
        self._store = store
        self._folder = Folder(store.root)
        self._ledger = Ledger(self._folder.path)
        self.scheduler = Scheduler(store, self._folder, self._ledger, self.limits)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop this process's workers; their jobs go on where another process, or the next start, finds them."""
        self.scheduler.close()
        self._folder.close()

    def ask(self, work: Work, visitor: Visitor = OWNER, watcher: str = "") -> JobStatus:
        """Queue the work, or join it where it is under way already.

        What waits for its visitor goes on with this one's token: whether they may read both models is for the caller
        to have checked.

        Raises
        ------
        OverLimit
            Naming the host's limit that stands in the way. Joining is never refused.
        InvalidInput
            Where the store's folder cannot be written.
        """
        with self._folder.transaction():
            entries = self._folder.entries()
            entry = next((e for e in entries if e.key == work.key and e.state in ALIVE), None)
            if entry is None:
                admit(work, visitor.name, entries, self._ledger, self.limits)
                entry = Entry(work, visitor.name, "queued", time.time(), time.time())
            # Asked to stop and wanted again before it had: it goes on as soon as it has stopped.
            self._folder.write(self._with_token(replace(entry, stop=False), visitor))
        if watcher:
            self._folder.beat(work.key, watcher)
        self.scheduler.wake()
        status = self.status(work.key)
        assert status is not None  # just written
        return status

    def status(self, key: str) -> JobStatus | None:
        """How the job stands; also a run of that pair that some other program on this host makes. None: neither."""
        entry = self._folder.read(key)
        if entry is None or entry.state not in UNDER_WAY:
            other = elsewhere(self._store, key)
            if other is not None:
                return JobStatus(key, "compare", "running", progress=other)
        return None if entry is None else self._status(entry)

    def watch(self, key: str, watcher: str) -> JobStatus | None:
        """`status`, and a sign that this watcher looks: call it at every poll."""
        status = self.status(key)
        if status is not None and status.state in ALIVE:
            self._folder.beat(key, watcher)
        return status

    def may_cancel(self, key: str, visitor: Visitor, watcher: str) -> bool:
        """Whether it is theirs to stop: they started it, or nobody else looks at it."""
        entry = self._folder.read(key)
        return entry is not None and self._is_theirs(entry, visitor, watcher)

    def cancel(self, key: str, visitor: Visitor, watcher: str) -> bool:
        """Stop the job where `may_cancel`; what landed in the store stays. Says whether it was theirs to stop."""
        with self._folder.transaction():
            entry = self._folder.read(key)
            if entry is None or not self._is_theirs(entry, visitor, watcher):
                return False
            stopped = entry if entry.state == "running" else entry.to("cancelled")
            self._folder.write(replace(stopped, stop=True))
        self.scheduler.wake()
        return True

    def _is_theirs(self, entry: Entry, visitor: Visitor, watcher: str) -> bool:
        if entry.state not in ALIVE:
            return False
        return entry.visitor == visitor.name or self._folder.is_last(entry.key, watcher)

    def _status(self, entry: Entry) -> JobStatus:
        runner = self.scheduler.runner(entry.key)
        progress = None
        if entry.state == "running":
            progress = runner.heard.progress if runner else elsewhere(self._store, entry.key)
        return JobStatus(
            entry.key,
            entry.work.kind,
            entry.state,
            ahead=self._ahead(entry) if entry.state == "queued" else 0,
            progress=progress,
            rounds=max(runner.heard.rounds if runner else 0, entry.rounds),
            error=entry.error,
            expected_s=entry.work.expected_s,
            watchers=len(self._folder.watchers(entry.key)),
            stopping=entry.stop and entry.state == "running",
        )

    def _ahead(self, entry: Entry) -> int:
        kind = entry.work.kind
        lane = [e for e in self._folder.entries() if e.work.kind == kind]
        running = sum(e.state == "running" for e in lane)
        keys = [e.key for e in in_turn(lane, self._ledger.last_turn_s)]
        place = keys.index(entry.key) if entry.key in keys else 0  # it may have started meanwhile
        return place + (running if running >= self.limits.slots(kind) else 0)

    def _with_token(self, entry: Entry, visitor: Visitor) -> Entry:
        """The job as it goes on, now that this visitor is here with or without a token of their own.

        A token that is needed is kept in this process's memory, and the file says which process that is.
        """
        if visitor.token is not None:
            self.scheduler.remember(entry.key, visitor)
        if not entry.work.needs_token or entry.state == "running":
            return entry
        if visitor.token is not None:
            return replace(entry.to("queued"), process=self._folder.process)
        return entry if entry.process else entry.to("waiting")
