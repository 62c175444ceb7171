"""Jobs on disk: one JSON file each in the store's folder, shared by every process of the host.

::

    jobs/<key>.json           what was asked, by whom, and how it stands; never a token
    jobs/<key>.watchers/      one empty file per page that shows it; its time says when it last looked
    jobs/processes/<id>       held (flock) by a process for as long as it lives: whose jobs are orphans is known at once
    jobs/visitors/<hash>.json bytes read in the last hours and the last turn, see `ledger`
    jobs/lock                 held while any of these changes
"""

from __future__ import annotations

import fcntl
import json
import logging
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import IO, Any, get_args
from uuid import uuid4

from rlviz import errors
from rlviz.engine.bulletin import held
from rlviz.errors import InvalidInput, RlvizError
from rlviz.jobs.work import State, Work
from rlviz.store.atomic import read_object, write_whole

SCHEMA = 1
WATCHER_TTL_S = 10.0
_HEARTBEAT_S = 2.0  # pages look twice a second; the disk need not hear of every look
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Entry:
    """One job file.

    `process` is who runs it or, while it is queued, who holds the token it needs. `crashes` counts the workers that
    died over it without a step landing between, `nbytes_read` what was charged to the visitor so far; `at_s` is when
    the state changed.
    """

    work: Work
    visitor: str
    state: State
    asked_s: float
    at_s: float
    process: str = ""
    crashes: int = 0
    rounds: int = 0
    nbytes_read: int = 0
    stop: bool = False
    error: RlvizError | None = None

    @property
    def key(self) -> str:
        return self.work.key

    def to(self, state: State, **changed: Any) -> Entry:
        """The same job in another state, now."""
        return replace(self, state=state, at_s=time.time(), **changed)


class Folder:
    """Reads and writes the job files of one host. Changes happen inside `transaction`; reading needs none."""

    def __init__(self, root: Path) -> None:
        self.path = root / "jobs"
        self.process = uuid4().hex
        self._mutex = Lock()
        self._alive: IO[str] | None = None
        self._beats: dict[tuple[str, str], float] = {}

    @contextmanager
    def transaction(self) -> Generator[None]:
        """One at a time over all processes of the host."""
        with self._mutex:
            try:
                (self.path / "processes").mkdir(parents=True, exist_ok=True)
                if self._alive is None:
                    self._alive = (self.path / "processes" / self.process).open("w")
                    fcntl.flock(self._alive, fcntl.LOCK_EX)
                handle = (self.path / "lock").open("w")
            except OSError as error:
                raise self._not_written(error) from error
            with handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                yield

    def _not_written(self, error: OSError) -> InvalidInput:
        problem = f"the store cannot be written here ({error.strerror})"
        return InvalidInput(str(self.path.parent), problem, "Free space, or set RLVIZ_STORE to a folder of yours.")

    def close(self) -> None:
        """Let go of this process's mark: what it still ran is an orphan from now on."""
        with self._mutex:
            if self._alive is not None:
                (self.path / "processes" / self.process).unlink(missing_ok=True)
                self._alive.close()
                self._alive = None

    def lives(self, process: str) -> bool:
        """Whether that process is still there."""
        return held(self.path / "processes" / process)

    # Jobs

    def read(self, key: str) -> Entry | None:
        """One job; None where there is none, or its file makes no sense (see `sweep`)."""
        found = self._parsed(key)
        return found if isinstance(found, Entry) else None

    def entries(self) -> list[Entry]:
        """Every job, first asked first."""
        found = (self.read(key) for key in self.keys())
        return sorted((e for e in found if e), key=lambda e: (e.asked_s, e.key))

    def keys(self) -> set[str]:
        """Names of all job files, those that make no sense included."""
        return {path.stem for path in self.path.glob("*.json")}

    def sweep(self) -> None:
        """Remove files that make no sense; called inside `transaction`, or it might be a new one that goes."""
        for key in self.keys():
            error = self._parsed(key)
            if isinstance(error, Exception):
                said = f"{type(error).__name__}: {error}"
                _log.warning("job file %s.json makes no sense (%s) and is removed", key, said)
                (self.path / f"{key}.json").unlink(missing_ok=True)

    def _parsed(self, key: str) -> Entry | Exception | None:
        path = self.path / f"{key}.json"
        if not path.exists():
            return None
        try:
            return _entry(read_object(path) or {}, key)
        except (KeyError, TypeError, ValueError) as error:
            return error

    def write(self, entry: Entry) -> None:
        """Keep one job; called inside `transaction`."""
        content = {"schema": SCHEMA, **asdict(entry), "error": _said(entry.error)}
        try:
            write_whole(self.path / f"{entry.key}.json", json.dumps(content).encode())
        except OSError as error:
            raise self._not_written(error) from error

    def remove(self, key: str) -> None:
        (self.path / f"{key}.json").unlink(missing_ok=True)
        shutil.rmtree(self.path / f"{key}.watchers", ignore_errors=True)

    # Who looks

    def beat(self, key: str, watcher: str) -> None:
        """A page looked at the job."""
        now = time.monotonic()
        if now - self._beats.get((key, watcher), float("-inf")) < _HEARTBEAT_S:
            return
        self._beats = {k: t for k, t in self._beats.items() if now - t < WATCHER_TTL_S} | {(key, watcher): now}
        path = self.path / f"{key}.watchers" / _digest(watcher)
        with suppress(OSError):  # a full disk must not keep anybody from looking
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    def watchers(self, key: str) -> set[str]:
        """Digests of those who looked within the last seconds; see `is_only`."""
        recent = time.time() - WATCHER_TTL_S
        files = (self.path / f"{key}.watchers").glob("*")
        return {path.name for path in files if path.stat().st_mtime > recent}

    def is_last(self, key: str, watcher: str) -> bool:
        """Whether nobody but this watcher looks."""
        return self.watchers(key) <= {_digest(watcher)}


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:32]


def _said(error: RlvizError | None) -> list[str] | None:
    return None if error is None else [type(error).__name__, error.subject, error.problem, error.next_step]


def error_called(name: str, *args: str) -> RlvizError:
    """An error that crossed a process boundary, as itself."""
    kind = getattr(errors, name, RlvizError)
    return kind(*args) if isinstance(kind, type) and issubclass(kind, RlvizError) else RlvizError(*args)


def _entry(said: dict[str, Any], key: str) -> Entry:
    """The job in a file's object; KeyError, TypeError or ValueError where it is none of ours."""
    if said["schema"] != SCHEMA:
        raise ValueError(f"schema {said['schema']}")
    work = said["work"]  # before 0.3 nothing was asked beside other results
    about: dict[str, Any] = {**work, "probes": tuple(work["probes"]), "beside": tuple(work.get("beside", ()))}
    work = Work(**about)
    if work.key != key or said["state"] not in get_args(State):
        raise ValueError("key or state")
    return Entry(
        work,
        str(said["visitor"]),
        said["state"],
        float(said["asked_s"]),
        float(said["at_s"]),
        str(said["process"]),
        int(said["crashes"]),
        int(said["rounds"]),
        int(said["nbytes_read"]),
        bool(said["stop"]),
        error_called(*map(str, said["error"])) if said["error"] else None,
    )
