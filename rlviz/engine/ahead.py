"""Codes that are fetched a few parts ahead of a probe that reads from front to back."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlviz.engine.memory import CancelCheck
from rlviz.probes.base import CodeSource

POLL_S = 0.2

Fetch = Callable[[int, NDArray[np.generic]], Future[None]]
"""Begins to fill an array with the entries from a flat index on; the future ends when they are there."""


def settle(future: Future[None], check: CancelCheck) -> None:
    """Wait for a fetch, and stop waiting when the run is asked to stop; raises what the fetch raised."""
    while not wait([future], timeout=POLL_S).done:
        check()
    future.result()


@dataclass(slots=True, eq=False)
class _Part:
    start: int
    codes: NDArray[np.generic]
    arriving: Future[None]

    @property
    def stop(self) -> int:
        return self.start + self.codes.size


class Ahead:
    """A `CodeSource` that holds a window of parts: the one being read and those on their way.

    Parameters
    ----------
    fetch : Fetch
    n : int
        Entries of the tensor.
    codes : numpy dtype of the codes
    part_entries, depth : int
        Entries a part, parts in the window; together the memory it takes.
    again : callable
        Opens a source for whoever comes back to what has passed by; it serves every later read.
    check : CancelCheck
    """

    def __init__(
        self,
        fetch: Fetch,
        n: int,
        codes: np.dtype,
        *,
        part_entries: int,
        depth: int,
        again: Callable[[], CodeSource],
        check: CancelCheck,
    ) -> None:
        self._fetch, self._n, self._check = fetch, n, check
        self._reopen = again
        self._again: CodeSource | None = None
        self._parts: deque[_Part] = deque()
        self._at = self._asked = 0
        for _ in range(depth):
            if self._asked < n:
                self._ask(np.empty(min(part_entries, n), dtype=codes))

    def read_into(self, start: int, codes: NDArray[np.generic]) -> None:
        """Fill `codes` from flat index `start`, which is where the last read ended, or the window is given up."""
        self._check()
        if self._again is None and start != self._at:
            self.close()
            self._again = self._reopen()
        if self._again is not None:
            self._again.read_into(start, codes)
            return
        filled = 0
        while filled < codes.size:
            filled += self._take(codes[filled:])

    def close(self) -> None:
        """Drop what is on its way."""
        for part in self._parts:
            part.arriving.cancel()
        self._parts.clear()

    def _take(self, codes: NDArray[np.generic]) -> int:
        """Copy what the front part has of `codes`; a part read to its end makes room for the next."""
        part = self._parts[0]
        settle(part.arriving, self._check)
        size = min(codes.size, part.stop - self._at)
        offset = self._at - part.start
        codes[:size] = part.codes[offset : offset + size]
        self._at += size
        if self._at == part.stop:
            self._parts.popleft()
            if self._asked < self._n:
                self._ask(part.codes)
        return size

    def _ask(self, buffer: NDArray[np.generic]) -> None:
        codes = buffer[: min(buffer.size, self._n - self._asked)]
        self._parts.append(_Part(self._asked, codes, self._fetch(self._asked, codes)))
        self._asked += codes.size
