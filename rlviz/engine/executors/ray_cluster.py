"""Which Ray cluster a run uses, how it connects, and how much the cluster has room for.

===================  ==============================================================================================
address              cluster
===================  ==============================================================================================
""                   the one of `RAY_ADDRESS`; else the one that ``ray start`` left on this machine; else as ``local``
``local``            one of this machine alone, of `workers` cores and the memory cap, for the length of the run
``HOST:PORT``        that of a Ray head, from a machine of the cluster, or that of its Ray Client, from anywhere
===================  ==============================================================================================

In a process that is connected already (a notebook) that connection is used, and kept.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager, redirect_stdout
from importlib.util import find_spec
from typing import Any, Literal

import ray
from ray._private.utils import read_ray_address  # the only way to ask what `ray start` wrote down
from ray.exceptions import RaySystemError, RayTaskError, RpcError

from rlviz.engine.request import MIB
from rlviz.errors import InvalidInput, Offline, Unavailable

PROCESS_BYTES = 256 * MIB  # of a worker that measures nothing yet: interpreter, NumPy, kernels, Ray
_STORE_BYTES = 512 * MIB  # where records wait for the driver; Ray spills what is beyond to disk
_MEMORY_STEP = 64 * MIB  # Ray keeps a queue per distinct size, so there should be few
_CONNECT_S, _ANSWER_S = 5.0, 20.0
_LOOK_AGAIN_S = 5.0
_AHEAD = 8  # orders beyond two a core: a worker that is done finds its next one waiting
_JOIN = "Run it on a machine of the cluster (or through `ray job submit`), or give HOST:PORT of its Ray Client."


class Cluster:
    """A connection that is made when first needed; `shown` is what sentences call it."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.shown = f"ray://{address}" if address else "ray"
        self._ours = ExitStack()
        self._looked_at = float("-inf")
        self._cores = 0
        self._largest = 0

    def open(self, workers: int, memory_bytes: int) -> None:
        """Connect, unless this process is connected; `workers` and `memory_bytes` are those of a cluster of our own.

        Raises
        ------
        Offline
            Within seconds, where no Ray answers.
        Unavailable
            Where it answers and refuses.
        InvalidInput
            For an address that is none.
        """
        if ray.is_initialized():
            return
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        given = "" if self.address == "local" else self.address or os.environ.get("RAY_ADDRESS", "")
        found = "" if self.address or given else read_ray_address() or ""
        if given or found:
            self.shown = f"ray://{(given or found).removeprefix('ray://')}"
            spoken = _spoken_by(given) if given else _known_here(found)
            self._start(_JOIN, address=spoken)
        else:
            memory = memory_bytes + workers * PROCESS_BYTES
            own: dict[str, Any] = {"num_cpus": workers, "_memory": memory, "object_store_memory": _STORE_BYTES}
            self._start("", address="local", include_dashboard=False, **own)

    def _start(self, next_step: str, **how: Any) -> None:
        with ExitStack() as stack, _own_signals():
            # Ray prints what befalls its workers on standard output, where a result may be expected
            stack.enter_context(redirect_stdout(sys.stderr))
            stack.callback(ray.shutdown)
            try:
                ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **how)
            # SystemExit: what a driver ends in that loses its cluster while it connects
            except (ConnectionError, RuntimeError, ValueError, OSError, SystemExit) as error:
                said = " ".join(str(error).split())[:200]
                raise Unavailable(self.shown, f"Ray cannot be used here ({said})", next_step) from error
            self._ours = stack.pop_all()

    def close(self) -> None:
        """Let go of a connection that was made here; a cluster of our own ends with it."""
        self._ours.close()

    @contextmanager
    def asked(self) -> Generator[None]:
        """Raise `Offline` in place of whatever Ray raises when the cluster has gone."""
        try:
            yield
        except RayTaskError:  # what a task has raised, a ConnectionError perhaps, is not the cluster's
            raise
        except (ConnectionError, RaySystemError, RpcError) as error:
            step = "What had landed is kept; run it again to go on."
            raise Offline(self.shown, f"the Ray cluster has gone ({type(error).__name__})", step) from error

    @property
    def at_once(self) -> int:
        """Orders that are worth having out: a cluster that grows by demand sees more than it has cores for."""
        self._look()
        return 2 * self._cores + _AHEAD

    def memory(self, nbytes: int) -> int:
        """What to reserve for a task that holds so many bytes: at most all of the largest node, where it runs alone."""
        self._look()
        steps = -(-(nbytes + PROCESS_BYTES) // _MEMORY_STEP)
        return min(steps * _MEMORY_STEP, self._largest or sys.maxsize)

    @property
    def state(self) -> str:
        """What the run is doing, for its report."""
        return "measuring on Ray" if self._cores else "waiting for a Ray node"

    def _look(self) -> None:
        if time.monotonic() - self._looked_at < _LOOK_AGAIN_S:
            return
        resources = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self._cores = int(sum(r.get("CPU", 0) for r in resources))
        self._largest = int(max((r.get("memory", 0) for r in resources if r.get("CPU", 0) >= 1), default=0))
        self._looked_at = time.monotonic()


def _spoken_by(address: str) -> str:
    """An address as `ray.init` takes it: as it is for a Ray head, with ``ray://`` for the Ray Client."""
    plain = address.removeprefix("ray://")
    answer = _answer(plain)
    if answer == "head":
        return plain
    if answer == "locked":
        step = "Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH."
        raise Unavailable(f"ray://{plain}", "the cluster asks for its token", step)
    if find_spec("grpc") is None:
        step = f'For the port of a Ray Client, pip install "ray[client]=={ray.__version__}".'
        raise Offline(f"ray://{plain}", "what answers there is no Ray head", step)
    return f"ray://{plain}"


def _known_here(address: str) -> str | None:
    """None, by which `ray.init` finds that cluster again and takes the token that this machine has for it."""
    try:
        _answer(address)
    except Offline as error:
        step = "Start it again; or forget it with `ray stop`; or give --backend ray://local."
        raise Offline(
            error.subject, "the cluster that `ray start` left on this machine does not answer", step
        ) from error
    return None


def _answer(address: str) -> Literal["head", "locked", "other"]:
    """What answers at an address, within seconds.

    `ray.init` would try a dead one for minutes and then end the process, so a process of its own asks first.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise InvalidInput(f"ray://{address}", "is no address", "Write ray://HOST:PORT, as `ray start` printed it.")
    step = "Check the address, and that `ray start` runs there."
    away = Offline(f"ray://{address}", "no Ray cluster answers there", step)
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_S).close()
        command = [sys.executable, "-m", "ray.scripts.scripts", "status", "--address", address]
        said = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise away from error
    if said.returncode == 0:
        return "head"
    return "locked" if "AuthenticationError" in said.stderr else "other"


@contextmanager
def _own_signals() -> Generator[None]:
    """`ray.init` takes SIGTERM for itself; a job's worker stops by it, and a server has its own idea too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
