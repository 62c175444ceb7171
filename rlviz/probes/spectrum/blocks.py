"""A weight as a stream of float64 row blocks of the tall one of W and its transpose.

Everything behind this module sees a matrix of shape ``[m, n]`` with ``m >= n``: the sums over blocks it builds are
``n x n`` at most, so memory does not grow with the vocabulary. Blocks are decoded anew on every pass, into a buffer
that stays: that is faster than to hold a decoded matrix, whose memory is new each time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rlviz.dtypes import ELEMENT_TYPES
from rlviz.probes.base import NotMeasurable, TensorPair
from rlviz.types import Side

Matrix = NDArray[np.float64]

BLOCK_ENTRIES = 1 << 20  # 8 MiB of float64: large enough for full matrix-product speed
BLOCK_ROWS_MIN = 512  # below this the updates of n x n sums cost more than they save
HELD_ENTRIES = 5_000_000  # matrices up to 40 MB in float64 may be held by those to whom their blocks come dear


class Tall(Protocol):
    """A matrix ``[m, n]``, ``m >= n``, that can be streamed any number of times."""

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def name(self) -> str: ...

    def blocks(self) -> Iterator[Matrix]:
        """Row blocks ``[rows, n]`` from top to bottom; do not write into them, copy what outlives the next one."""
        ...


class Oriented(Tall, Protocol):
    """A tall matrix that knows whether it is the weight ``[d_out, d_in]`` itself or its transpose."""

    @property
    def transposed(self) -> bool: ...


@dataclass(frozen=True, slots=True, eq=False)
class TallWeight:
    """One side of a pair, tall: W itself, or its transpose where ``d_out < d_in``.

    `codes` holds the raw matrix where it is wide (its column blocks are not contiguous in the file); else rows are
    read again on every pass.
    """

    pair: TensorPair
    side: Side
    rows: int
    codes: NDArray[np.generic] | None

    @property
    def transposed(self) -> bool:
        return self.pair.d_out < self.pair.d_in

    @property
    def shape(self) -> tuple[int, int]:
        d_out, d_in = self.pair.d_out, self.pair.d_in
        return (d_in, d_out) if self.transposed else (d_out, d_in)

    @property
    def name(self) -> str:
        return self.pair.match.name

    def blocks(self) -> Iterator[Matrix]:
        m, n = self.shape
        values = np.empty(min(self.rows, m) * n)
        for start in range(0, m, self.rows):
            rows = min(self.rows, m - start)
            if self.codes is None:
                yield self._decoded(self.pair.rows(self.side, start, rows), values[: rows * n])
            else:
                yield self._decoded(self.codes[:, start : start + rows], values[: rows * n]).T

    def _decoded(self, codes: NDArray[np.generic], space: Matrix) -> Matrix:
        meta = self.pair.match.base if self.side == "base" else self.pair.match.tuned
        with np.errstate(invalid="ignore"):  # a signalling NaN warns on its way to float64; it is reported below
            np.copyto(space.reshape(codes.shape), codes.view(ELEMENT_TYPES[meta.dtype].values))
        # the sum of squares is cheap; it may overflow where all entries are finite
        if not np.isfinite(np.vdot(space, space)) and not np.isfinite(space).all():
            told = f"{meta.name}: the {self.side} matrix holds NaN or infinity; it has no spectrum."
            raise NotMeasurable("non_finite", told)
        return space.reshape(codes.shape)


@dataclass(frozen=True, slots=True, eq=False)
class TallUpdate:
    """ΔW = tuned - base in float64, in the orientation of the two."""

    base: Tall
    tuned: Tall

    @property
    def shape(self) -> tuple[int, int]:
        return self.base.shape

    @property
    def name(self) -> str:
        return self.base.name

    def blocks(self) -> Iterator[Matrix]:
        for _, _, update in aligned(self.base, self.tuned):
            yield update


def aligned(base: Tall, tuned: Tall) -> Iterator[tuple[Matrix, Matrix, Matrix]]:
    """Blocks of base and tuned, and their update, at the same rows; the update's memory is used again."""
    buffer = np.empty(0)
    for w0, w1 in zip(base.blocks(), tuned.blocks(), strict=True):
        if buffer.size < w0.size:
            buffer = np.empty(w0.size)
        rowwise = w0.strides[1] == w0.itemsize
        space = buffer[: w0.size].reshape(w0.shape if rowwise else w0.shape[::-1])
        yield w0, w1, np.subtract(w1, w0, out=space if rowwise else space.T)


def tall_weight(pair: TensorPair, side: Side, block_entries: int = BLOCK_ENTRIES) -> TallWeight:
    """The tall view of one side; reads it now where it will be kept."""
    d_out, d_in = pair.d_out, pair.d_in
    rows = max(block_entries // min(d_out, d_in), min(BLOCK_ROWS_MIN, block_entries), 1)
    return TallWeight(pair, side, rows, pair.rows(side, 0, d_out) if d_out < d_in else None)
