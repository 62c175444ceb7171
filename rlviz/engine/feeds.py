"""How a tensor's codes reach the probes: straight from the files, from memory, as a window, or from a disk spool.

Local files are read in place: the page cache already is the spool. What crosses the network is fetched once, with
many parts of both sides on their way at the same time. Small tensors are held in memory; of a large one that is read
from front to back only a window is; one that is read again is held where it fits and spooled to disk where it does
not.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from concurrent.futures import Executor, Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from rlviz.dtypes import ELEMENT_TYPES
from rlviz.engine.ahead import Ahead, settle
from rlviz.engine.batches import BOTH, Batch, Task
from rlviz.engine.memory import CancelCheck
from rlviz.errors import UnsupportedCheckpoint
from rlviz.probes.base import CodeSource, TensorPair
from rlviz.sources import Checkpoint, Pairing
from rlviz.types import Side, TensorMatch, TensorMeta

PART_BYTES = 8 << 20  # a part is one request; of this size, waiting for its answer costs a fifth of a far link
DEPTH = 4  # parts of one side in a window
SIDES: tuple[Side, Side] = ("base", "tuned")


class ByteCount:
    """Bytes read so far, over all threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self.total = 0

    def add(self, nbytes: int) -> None:
        with self._lock:
            self.total += nbytes


@dataclass(frozen=True, slots=True, eq=False)
class Direct:
    """Reads the checkpoint itself, counting bytes and watching for a cancel."""

    checkpoint: Checkpoint
    meta: TensorMeta
    count: ByteCount
    check: CancelCheck

    def read_into(self, start: int, codes: NDArray[np.generic]) -> None:
        self.check()
        self.checkpoint.read_into(self.meta, start, codes)
        self.count.add(codes.nbytes)


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """Codes already in memory."""

    codes: NDArray[np.generic]
    check: CancelCheck

    def read_into(self, start: int, codes: NDArray[np.generic]) -> None:
        self.check()
        codes[...] = self.codes[start : start + codes.size]


@dataclass(frozen=True, slots=True, eq=False)
class Spooled:
    """Codes in a temporary file, deleted with the tensor's last probe."""

    file: BinaryIO
    name: str
    itemsize: int
    check: CancelCheck

    def read_into(self, start: int, codes: NDArray[np.generic]) -> None:
        self.check()
        if codes.size == 0:
            return
        view, offset = codes.data.cast("B"), start * self.itemsize
        while view:
            got = os.preadv(self.file.fileno(), [view], offset)
            if got == 0:
                raise UnsupportedCheckpoint(self.name, "its spool file ended early", "Free disk space and run again.")
            view, offset = view[got:], offset + got


@dataclass(frozen=True, slots=True)
class Sizes:
    """How a memory cap is divided: bytes of a part, and of the largest tensor pair that is held for rereading."""

    part_bytes: int
    hold_bytes: int

    @classmethod
    def within(cls, cap_bytes: int, tensors_at_once: int) -> Sizes:
        """Windows take at most an eighth of the cap, held tensors at most half of it."""
        part_bytes = max(1 << 16, min(PART_BYTES, cap_bytes // (8 * 2 * DEPTH)))
        return cls(part_bytes, cap_bytes // (2 * tensors_at_once))

    @property
    def small_bytes(self) -> int:
        """A pair that is one part a side, and held."""
        return 2 * self.part_bytes

    @property
    def window_bytes(self) -> int:
        """Both sides of one tensor."""
        return 2 * DEPTH * self.part_bytes


@dataclass(frozen=True, slots=True)
class LocalFeed:
    """Opens `TensorPair`s on files: every probe reads them for itself."""

    pairing: Pairing
    count: ByteCount
    check: CancelCheck

    def memory_bytes(self, batch: Batch) -> int:
        """Nothing is held beside what the probes ask for."""
        return 0

    @contextmanager
    def open(self, batch: Batch) -> Generator[list[TensorPair]]:
        """One pair a task."""
        yield [_pair(task.match, *(self._direct(task.match, side) for side in SIDES)) for task in batch]

    def _direct(self, match: TensorMatch, side: Side) -> CodeSource:
        return Direct(_checkpoint(self.pairing, side), _meta(match, side), self.count, self.check)


@dataclass(frozen=True, slots=True)
class RemoteFeed:
    """Opens `TensorPair`s whose bytes cross a network, each once; `fetchers` has a thread per connection."""

    pairing: Pairing
    sizes: Sizes
    spool_dir: Path
    fetchers: Executor
    count: ByteCount
    check: CancelCheck

    def memory_bytes(self, batch: Batch) -> int:
        """What the open batch holds at once."""
        return sum(task.nbytes for task in batch) if self._is_held(batch) else self.sizes.window_bytes

    @contextmanager
    def open(self, batch: Batch) -> Generator[list[TensorPair]]:
        """One pair a task, readable by any number of probes until the block ends."""
        if self._is_held(batch):
            yield self._held(batch)
            return
        (task,) = batch
        with ExitStack() as stack:
            # spooling waits, so it comes before a window is opened whose first parts would lie about meanwhile
            spooled = {side: self._spooled(stack, task.match, side) for side in SIDES if side in task.rereads}
            sources = [spooled.get(side) or self._ahead(stack, task.match, side) for side in SIDES]
            yield [_pair(task.match, *sources)]

    def _is_held(self, batch: Sequence[Task]) -> bool:
        nbytes = sum(task.nbytes for task in batch)
        is_reread = any(task.rereads == BOTH for task in batch)
        return nbytes <= self.sizes.small_bytes or (is_reread and nbytes <= self.sizes.hold_bytes)

    def _held(self, batch: Batch) -> list[TensorPair]:
        """Both sides of all tensors on their way together."""
        arrays: dict[tuple[int, Side], NDArray[np.generic]] = {}
        wanted: dict[tuple[Side, str], list[tuple[int, memoryview]]] = {}
        for index, task in enumerate(batch):
            for side in SIDES:
                meta = _meta(task.match, side)
                codes = arrays[index, side] = np.empty(task.match.n, dtype=ELEMENT_TYPES[meta.dtype].codes)
                if codes.size:
                    wanted.setdefault((side, meta.shard), []).append((meta.offset, codes.data.cast("B")))
        arriving = [self.fetchers.submit(self._fetch_ranges, *where, ranges) for where, ranges in wanted.items()]
        for future in arriving:
            settle(future, self.check)
        return [
            _pair(task.match, *(Held(arrays[index, side], self.check) for side in SIDES))
            for index, task in enumerate(batch)
        ]

    def _fetch_ranges(self, side: Side, shard: str, ranges: Sequence[tuple[int, memoryview]]) -> None:
        self.check()
        _checkpoint(self.pairing, side).reader.read_ranges(shard, ranges)
        self.count.add(sum(view.nbytes for _, view in ranges))

    def _ahead(self, stack: ExitStack, match: TensorMatch, side: Side) -> Ahead:
        direct = Direct(_checkpoint(self.pairing, side), _meta(match, side), self.count, self.check)

        def fetch(start: int, codes: NDArray[np.generic]) -> Future[None]:
            return self.fetchers.submit(direct.read_into, start, codes)

        codes = ELEMENT_TYPES[direct.meta.dtype].codes
        source = Ahead(
            fetch,
            match.n,
            codes,
            part_entries=self.sizes.part_bytes // codes.itemsize,
            depth=DEPTH,
            again=partial(self._spooled, stack, match, side),
            check=self.check,
        )
        stack.callback(source.close)
        return source

    def _spooled(self, stack: ExitStack, match: TensorMatch, side: Side) -> CodeSource:
        """The whole side in a temporary file, through a window."""
        meta = _meta(match, side)
        element = ELEMENT_TYPES[meta.dtype]
        self.spool_dir.mkdir(parents=True, exist_ok=True)
        file = stack.enter_context(TemporaryFile(dir=self.spool_dir))  # noqa: SIM115 (closed by the stack)
        window = self._ahead(stack, match, side)
        piece = np.empty(min(match.n, self.sizes.part_bytes // element.itemsize), dtype=element.codes)
        for start in range(0, match.n, piece.size):
            part = piece[: min(piece.size, match.n - start)]
            window.read_into(start, part)
            file.write(part.data.cast("B"))
        file.flush()
        return Spooled(file, meta.name, element.itemsize, self.check)


def _checkpoint(pairing: Pairing, side: Side) -> Checkpoint:
    return pairing.base if side == "base" else pairing.tuned


def _meta(match: TensorMatch, side: Side) -> TensorMeta:
    return match.base if side == "base" else match.tuned


def _pair(match: TensorMatch, base: CodeSource, tuned: CodeSource) -> TensorPair:
    codes = [ELEMENT_TYPES[meta.dtype].codes for meta in (match.base, match.tuned)]
    return TensorPair(match, base, tuned, codes[0], codes[1])
