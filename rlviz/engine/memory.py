"""A counter of bytes in flight: a task waits until what it needs fits under the cap."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from threading import Condition, Event

from rlviz.errors import Cancelled


class CancelCheck:
    """Raises `Cancelled` once the run has been asked to stop. Called often, so it is cheap."""

    def __init__(self, subject: str, *asked: Event) -> None:
        self.subject = subject
        self._asked = asked

    def __call__(self) -> None:
        if any(event.is_set() for event in self._asked):
            raise Cancelled(self.subject, "stopped on request", "What had landed is kept; run it again to go on.")


class MemoryBudget:
    """Admits tasks while the sum of what they asked for stays within `cap_bytes`.

    A task that asks for more than the cap alone is admitted when nothing else runs: the plan has already
    left out what cannot be done.
    """

    def __init__(self, cap_bytes: int) -> None:
        self.cap_bytes = cap_bytes
        self.in_use = 0
        self.peak = 0
        self._changed = Condition()

    @contextmanager
    def reserve(self, nbytes: int, cancelled: CancelCheck) -> Generator[None]:
        """Hold `nbytes` for the duration of the block; raises `Cancelled` while waiting."""
        amount = min(nbytes, self.cap_bytes)
        with self._changed:
            while self.in_use + amount > self.cap_bytes:
                cancelled()
                self._changed.wait(0.2)
            self.in_use += amount
            self.peak = max(self.peak, self.in_use)
        try:
            yield
        finally:
            with self._changed:
                self.in_use -= amount
                self._changed.notify_all()
