"""What one request asks for: a stretch of a file, and the buffers it lands in."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Ranges = Sequence[tuple[int, memoryview]]
"""Where to read, and the buffer to fill from there."""


@dataclass(slots=True, eq=False)
class Part:
    """A stretch of a file being read: `done` of `nbytes` are in place, and a retry asks for the rest.

    `pieces` are the buffers by their place in the file; what lies between them is received and dropped.
    """

    path: str
    offset: int
    nbytes: int
    pieces: list[tuple[int, memoryview]]
    done: int = 0

    @property
    def first(self) -> int:
        return self.offset + self.done

    @property
    def last(self) -> int:
        """The last byte asked for, inclusive as in a Range header."""
        return self.offset + self.nbytes - 1

    @property
    def missing(self) -> int:
        return self.nbytes - self.done

    def put(self, chunk: bytes) -> None:
        """The next bytes of the stretch."""
        start, stop = self.first, self.first + len(chunk)
        for offset, view in self.pieces:
            low, high = max(start, offset), min(stop, offset + len(view))
            if low < high:
                view[low - offset : high - offset] = memoryview(chunk)[low - start : high - start]
        self.done += len(chunk)


class Landing:
    """The door to the caller's buffers: once `shut`, a late answer cannot write into them any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.is_shut = False

    def write(self, part: Part, chunk: bytes) -> None:
        with self._lock:
            if not self.is_shut:
                part.put(chunk)

    def shut(self) -> None:
        with self._lock:
            self.is_shut = True


def parts_of(path: str, ranges: Ranges, part_bytes: int, gap_bytes: int) -> list[Part]:
    """The requests for `ranges`, in file order: long ones cut at `part_bytes`, neighbours within it merged.

    Two ranges are neighbours where at most `gap_bytes` lie between them: then reading over the gap costs less than
    another request.
    """
    parts: list[Part] = []
    for offset, view in sorted(_cut(ranges, part_bytes), key=lambda piece: piece[0]):
        stop = offset + len(view)
        last = parts[-1] if parts else None
        if last and offset - last.last - 1 <= gap_bytes and stop - last.offset <= part_bytes:
            last.nbytes = max(last.nbytes, stop - last.offset)
            last.pieces.append((offset, view))
        else:
            parts.append(Part(path, offset, len(view), [(offset, view)]))
    return parts


def _cut(ranges: Ranges, part_bytes: int) -> Iterable[tuple[int, memoryview]]:
    for offset, buffer in ranges:
        view = buffer.cast("B")
        for start in range(0, len(view), part_bytes):
            yield offset + start, view[start : start + part_bytes]
