"""What an executor is, and the count that it keeps."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event, Lock
from typing import Protocol

from rlviz.engine.feeds import ByteCount
from rlviz.engine.plan import Plan, Step
from rlviz.store import Store

TICK_S = 0.25

Tick = Callable[[str], None]
"""Told what the run is doing, in a short phrase, every `TICK_S` seconds or so; from the calling thread."""


class Tally:
    """How far a run is, over all threads: bytes read, and steps whose records have landed.

    `workers` is how many tensors were measured at the same time, for the provenance.
    """

    def __init__(self, workers: int) -> None:
        self._lock = Lock()
        self.read = ByteCount()
        self.workers = workers
        self.steps = 0
        self.cost_s = 0.0
        self.last = ""

    def landed(self, step: Step) -> None:
        """Count a step; all that it leaves behind is in the store."""
        with self._lock:
            self.steps += 1
            self.cost_s += step.cost.seconds
            self.last = step.match.name


class Executor(Protocol):
    """Measures what is pending in a plan."""

    def run(self, plan: Plan, store: Store, tally: Tally, cancel: Event, tick: Tick) -> None:
        """Land a record for every pending step, or raise; what landed before stays.

        Raises
        ------
        RlvizError
            `Cancelled` soon after `cancel` was set; else what stopped the first tensor that could not be read.
        """
        ...
