"""What the tests do to the workers of their Ray; run by Ray in each worker before its first task."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any


def disturbed() -> None:
    """Let files in the control folder say what is to happen in a worker.

    ``slow`` delays each step. ``kill`` kills the first process that is about to measure a second step, ``kill-writing``
    the first that has written half of a record, ``kill-all`` every one; without a chance to clean up. With ``blind``,
    no worker sees the driver's store, as on a node of its own.
    """
    from rlviz.engine.executors import task

    control = Path(os.environ["RLVIZ_TEST_CONTROL"])
    measure, write, seen = task.measure, Path.write_bytes, task.Place.seen

    def die(word: str) -> None:
        try:
            (control / word).rename(control / f"killed-{os.getpid()}")
        except FileNotFoundError:
            return  # nobody asked for it, or the other worker was first
        os.kill(os.getpid(), signal.SIGKILL)

    def measured(step: Any, pair: Any, records: Any) -> None:
        if (control / "slow").exists():
            time.sleep(0.1)
        if (control / "kill-all").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        if records.written or records.records:
            die("kill")
        measure(step, pair, records)

    def written(path: Path, content: bytes) -> int:
        if ".safetensors" in path.name and (control / "kill-writing").exists():
            write(path, content[: len(content) // 2])
            die("kill-writing")
        return write(path, content)

    task.measure, Path.write_bytes = measured, written  # type: ignore[method-assign]
    task.Place.seen = lambda place: not (control / "blind").exists() and seen(place)  # type: ignore[method-assign]
