"""What was asked of the hub, and the ways in which it can be told to misbehave."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


@dataclass(slots=True, eq=False)
class Request:
    """One request as the hub saw it; `status` and `nbytes` (body bytes sent) fill in while it is answered."""

    method: str
    origin: str  # "hub", or "cdn" for the second origin that signed links lead to
    path: str  # as sent, without the query
    query: str
    headers: Mapping[str, str]
    status: int = 0
    nbytes: int = 0

    @property
    def range(self) -> str | None:
        return self.headers.get("Range")

    @property
    def authorization(self) -> str | None:
        return self.headers.get("Authorization")


def _nothing() -> None:
    """No side effect."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One misbehaviour; fields left at their default change nothing.

    status : answer this instead, with `headers` and `body`
    delay_s : wait before answering
    bytes_per_s : send the body at this rate
    truncate : announce the whole body, send this many bytes, cut the connection
    shorten : announce and send this many bytes fewer than the range asked for
    ignore_range : answer 200 with the whole file
    content_range : replace the Content-Range header
    reset : cut the connection without an answer
    then : what else happens at that moment, before the answer
    times : how many requests it hits; None for all
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    delay_s: float = 0.0
    bytes_per_s: float | None = None
    truncate: int | None = None
    shorten: int = 0
    ignore_range: bool = False
    content_range: str | None = None
    reset: bool = False
    then: Callable[[], object] = _nothing
    times: int | None = None


Match = Callable[[Request], bool]


class FaultList:
    """Injected faults in order; a request meets the first one that matches and is not used up."""

    def __init__(self) -> None:
        self._entries: list[tuple[Match, Fault]] = []
        self._hits: dict[int, int] = {}
        self._lock = threading.Lock()

    def add(self, match: Match, fault: Fault) -> None:
        with self._lock:
            self._entries.append((match, fault))

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()
            self._hits.clear()

    def take(self, request: Request) -> Fault:
        with self._lock:
            for index, (match, fault) in enumerate(self._entries):
                used_up = fault.times is not None and self._hits.get(index, 0) >= fault.times
                if not used_up and match(request):
                    self._hits[index] = self._hits.get(index, 0) + 1
                    return fault
        return Fault()

    @property
    def hits(self) -> int:
        """How many requests have met a fault."""
        return sum(self._hits.values())
