"""How a tensor's codes reach the probes: straight from the files, from memory, or from a disk spool.

Local files are read in place: the page cache already is the spool. What crosses the network is read once for
all probes of a tensor, into memory where it fits and into a temporary file where it does not.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from rlviz.dtypes import ELEMENT_TYPES
from rlviz.engine.memory import CancelCheck
from rlviz.errors import UnsupportedCheckpoint
from rlviz.probes.base import CodeSource, TensorPair
from rlviz.sources import Checkpoint, Pairing
from rlviz.types import TensorMatch, TensorMeta

PART_BYTES = 8 << 20


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
class Feed:
    """Opens `TensorPair`s of one pairing.

    `hold_bytes` is the largest tensor pair kept in memory; larger ones are spooled below `spool_dir`.
    """

    pairing: Pairing
    remote: bool
    hold_bytes: int
    spool_dir: Path
    count: ByteCount
    check: CancelCheck

    @contextmanager
    def open(self, match: TensorMatch) -> Generator[TensorPair]:
        """The pair, readable by any number of probes until the block ends."""
        base, tuned = ELEMENT_TYPES[match.base.dtype], ELEMENT_TYPES[match.tuned.dtype]
        held = match.n * (base.itemsize + tuned.itemsize) <= self.hold_bytes
        with ExitStack() as stack:
            left = self._source(stack, self.pairing.base, match.base, match.n, held)
            right = self._source(stack, self.pairing.tuned, match.tuned, match.n, held)
            yield TensorPair(match, left, right, base.codes, tuned.codes)

    def _source(self, stack: ExitStack, checkpoint: Checkpoint, meta: TensorMeta, n: int, held: bool) -> CodeSource:
        direct = Direct(checkpoint, meta, self.count, self.check)
        if not self.remote:
            return direct
        element = ELEMENT_TYPES[meta.dtype]
        if held:
            codes = np.empty(n, dtype=element.codes)
            direct.read_into(0, codes)
            return Held(codes, self.check)
        self.spool_dir.mkdir(parents=True, exist_ok=True)
        file = stack.enter_context(TemporaryFile(dir=self.spool_dir))  # noqa: SIM115 (closed by the stack)
        part = np.empty(min(n, PART_BYTES // element.itemsize), dtype=element.codes)
        for start in range(0, n, part.size):
            piece = part[: min(part.size, n - start)]
            direct.read_into(start, piece)
            file.write(piece.data.cast("B"))
        file.flush()
        return Spooled(file, meta.name, element.itemsize, self.check)
