"""One job in a worker process: started, listened to, stopped. Knows nothing of queues or of other jobs."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from threading import Lock, Thread
from typing import IO, Any

from rlviz.access import Visitor
from rlviz.engine import Progress
from rlviz.errors import RlvizError
from rlviz.jobs.folder import error_called
from rlviz.jobs.work import Work

GRACE_S = 15.0  # from being asked to stop to being stopped; a worker notices within one window of a tensor
_LAST_LINES = 30
# Set before any BLAS is loaded: several multithreaded pools on shared cores were measured 50 times slower.
_POOLS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Crash:
    """The worker died without a word: killed, out of memory, or a bug of ours."""

    code: int
    last_line: str


Outcome = RlvizError | Crash | None
"""How a job ended: with an error, without a word, or well."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a worker said last, and the weight bytes it has read."""

    progress: Progress | None = None
    rounds: int = 0
    nbytes: int = 0


class Runner:
    """A worker for one job, on behalf of a visitor. The visitor's token goes through a pipe and nowhere else."""

    def __init__(self, work: Work, visitor: Visitor, store: str) -> None:
        self.work = work
        self.visitor = visitor
        self._store = store
        self._lock = Lock()
        self._process: subprocess.Popen[str] | None = None
        self._stopped_at: float | None = None
        self.heard = Heard()

    @property
    def pid(self) -> int | None:
        """Process id of the worker, once there is one."""
        return self._process.pid if self._process else None

    def run(self, hear: Callable[[], None]) -> Outcome:
        """Start the worker and listen until it ends; `hear` is called at each message, `heard` holds what it said."""
        with self._lock:
            process = self._process = self._start()
        lines: deque[str] = deque(maxlen=_LAST_LINES)
        drain = Thread(target=lambda: lines.extend(_pipe(process.stderr)), daemon=True)
        drain.start()
        said: Mapping[str, Any] = {}
        for line in _pipe(process.stdout):
            said = self._understood(line)
            hear()
        code = process.wait()
        drain.join()
        _pipe(process.stdin).close()
        if "error" in said:
            return error_called(*map(self._discreet, said["error"]))
        if "done" in said:
            return None
        stderr = self._discreet("".join(lines)).strip()
        if self._stopped_at is None:
            _log.error("the worker of %s ended with code %s:\n%s", self.work.subject, code, stderr)
        return Crash(code, (stderr.splitlines() or ["no message"])[-1])

    def stop(self) -> None:
        """Ask the worker to stop, and make it stop where it does not; called again and again until it has."""
        with self._lock:
            process = self._process
            if process is None or process.poll() is not None:
                return
            if self._stopped_at is None:
                self._stopped_at = time.monotonic()
                process.terminate()
            elif time.monotonic() - self._stopped_at > GRACE_S:
                process.kill()

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "rlviz.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **dict.fromkeys(_POOLS, "1")},
        )
        asked = {
            "work": asdict(self.work),
            "store": self._store,
            "visitor": {"name": self.visitor.name, "token": self.visitor.token},
        }
        stdin = _pipe(process.stdin)
        try:
            stdin.write(json.dumps(asked) + "\n")
            stdin.flush()  # kept open: the worker stops when it closes
        except BrokenPipeError:
            _log.warning("the worker of %s died while it started", self.work.subject)
        return process

    def _understood(self, line: str) -> Mapping[str, Any]:
        """One message; what it says of progress is passed on."""
        message: Mapping[str, Any] = json.loads(line)
        if "progress" in message:
            progress = Progress(**message["progress"])
            # Bytes of a run elsewhere are that run's.
            nbytes = self.heard.nbytes if progress.elsewhere else progress.bytes_read
            self.heard = Heard(progress, self.heard.rounds, nbytes)
        elif "round" in message:
            self.heard = Heard(None, message["round"], message["nbytes"])
        return message

    def _discreet(self, text: str) -> str:
        """No error of any library may carry the token to a page, a log or the disk."""
        return text.replace(self.visitor.token, "…") if self.visitor.token else text


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None  # all three are opened with PIPE
    return stream
