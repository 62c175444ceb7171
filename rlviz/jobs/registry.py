"""Runs asked of this process: one per result key, however many readers ask; one worker at a time, in order.

One at a time, because a run already uses every core and the whole memory cap.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event, Lock, Thread
from typing import IO, Any, Literal

from rlviz import errors
from rlviz.engine.run import Progress
from rlviz.errors import Cancelled, RlvizError

State = Literal["queued", "running", "done", "failed", "cancelled"]
UNDER_WAY: tuple[State, ...] = ("queued", "running")


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A snapshot. `error` is set when `state` is failed."""

    key: str
    state: State
    progress: Progress | None
    error: RlvizError | None


class Job:
    """One run: the worker process it has or will have, and what that last said."""

    def __init__(self, key: str, asked: Mapping[str, Any]) -> None:
        self.key = key
        self._asked = dict(asked)
        self._lock = Lock()
        self._status = JobStatus(key, "queued", None, None)
        self._cancelled = Event()
        self._process: subprocess.Popen[str] | None = None

    def status(self) -> JobStatus:
        """What is known now."""
        with self._lock:
            return self._status

    def cancel(self) -> None:
        """Take the run off the queue, or ask its worker to stop; what landed in the store stays."""
        with self._lock:
            self._cancelled.set()
            if self._process is not None:
                self._process.terminate()

    def run(self) -> None:
        """Start the worker and listen until it ends. Called once, by the registry's thread."""
        with self._lock:
            if not self._cancelled.is_set():
                self._process = self._start()
        if self._process is None:
            self._set("cancelled")
            return
        self._set("running")
        self._listen(self._process)

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "rlviz.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Set before any BLAS is loaded; `run` limits it again while it works.
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        stdin = _pipe(process.stdin)
        stdin.write(json.dumps(self._asked) + "\n")
        stdin.flush()  # kept open: the worker stops when it closes
        return process

    def _listen(self, process: subprocess.Popen[str]) -> None:
        stderr: list[str] = []
        drain = Thread(target=lambda: stderr.append(_pipe(process.stderr).read()), daemon=True)
        drain.start()
        for line in _pipe(process.stdout):
            self._hear(json.loads(line))
        code = process.wait()
        drain.join()
        if self.status().state not in UNDER_WAY:
            return
        if self._cancelled.is_set():  # stopped before it could say so
            self._set("cancelled")
            return
        # Died without a word: killed, out of memory, or a bug of ours.
        last = "".join(stderr).strip().splitlines()[-1:] or ["no message"]
        problem = f"the worker process ended with code {code} ({last[0]})"
        self._set("failed", error=RlvizError("comparison", problem, "What had landed is kept; run it again."))

    def _hear(self, message: Mapping[str, Any]) -> None:
        if "progress" in message:
            self._set("running", progress=Progress(**message["progress"]))
        elif "done" in message:
            self._set("done")
        elif "error" in message:
            error = _error(message["error"])
            self._set("cancelled" if isinstance(error, Cancelled) else "failed", error=error)

    def _set(self, state: State, *, progress: Progress | None = None, error: RlvizError | None = None) -> None:
        with self._lock:
            self._status = JobStatus(self.key, state, progress or self._status.progress, error)


class Jobs:
    """The registry. Asking for a key that is queued or running joins it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._jobs: dict[str, Job] = {}
        self._queue: SimpleQueue[Job] = SimpleQueue()
        Thread(target=self._work, daemon=True).start()

    def start(self, key: str, asked: Mapping[str, Any]) -> Job:
        """The job of that key if it is under way, or a new one (a finished or failed one is started afresh)."""
        with self._lock:
            job = self._jobs.get(key)
            if job is None or job.status().state not in UNDER_WAY:
                job = self._jobs[key] = Job(key, asked)
                self._queue.put(job)
            return job

    def get(self, key: str) -> Job | None:
        """The latest job of that key in this process."""
        return self._jobs.get(key)

    def _work(self) -> None:
        while True:
            self._queue.get().run()


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None  # all three are opened with PIPE
    return stream


def _error(said: Mapping[str, Any]) -> RlvizError:
    kind: type[RlvizError] = getattr(errors, said["type"], RlvizError)
    return kind(*said["args"])
