"""Runs under way in this process: one per result key, however many readers ask for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock, Thread
from typing import IO, Any, Literal

from rlviz import errors
from rlviz.engine.run import Progress
from rlviz.errors import Cancelled, RlvizError

State = Literal["running", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class JobStatus:
    """A snapshot. `error` is set when `state` is failed."""

    key: str
    state: State
    progress: Progress | None
    error: RlvizError | None


class Job:
    """One worker process and what it last said."""

    def __init__(self, key: str, asked: Mapping[str, Any]) -> None:
        self.key = key
        self._lock = Lock()
        self._status = JobStatus(key, "running", None, None)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rlviz.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # Threads are set here, before any BLAS is loaded: see `run` for the limit at work.
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        stdin = _pipe(self._process.stdin)
        stdin.write(json.dumps(dict(asked)) + "\n")
        stdin.flush()  # kept open: the worker stops when it closes
        Thread(target=self._listen, daemon=True).start()

    def status(self) -> JobStatus:
        """What is known now."""
        with self._lock:
            return self._status

    def cancel(self) -> None:
        """Ask the worker to stop; what landed in the store stays."""
        self._process.terminate()

    def _listen(self) -> None:
        stderr: list[str] = []
        drain = Thread(target=lambda: stderr.append(_pipe(self._process.stderr).read()), daemon=True)
        drain.start()
        for line in _pipe(self._process.stdout):
            self._hear(json.loads(line))
        code = self._process.wait()
        drain.join()
        if self.status().state == "running":  # died without a word: killed, out of memory, or a bug of ours
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
    """The registry. Asking for a key that is running joins it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._jobs: dict[str, Job] = {}

    def start(self, key: str, asked: Mapping[str, Any]) -> Job:
        """The running job of that key, or a new one (a finished or failed one is started afresh)."""
        with self._lock:
            job = self._jobs.get(key)
            if job is None or job.status().state != "running":
                job = self._jobs[key] = Job(key, asked)
            return job

    def get(self, key: str) -> Job | None:
        """The latest job of that key in this process."""
        return self._jobs.get(key)


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None  # all three are opened with PIPE
    return stream


def _error(said: Mapping[str, Any]) -> RlvizError:
    kind: type[RlvizError] = getattr(errors, said["type"], RlvizError)
    return kind(*said["args"])
