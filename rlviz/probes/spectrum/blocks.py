"""A weight as a stream of float64 row blocks of the tall one of W and its transpose.

Everything behind this module sees a matrix of shape ``[m, n]`` with ``m >= n``: the sums over blocks it builds are
``n x n`` at most, so memory does not grow with the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rlviz.dtypes import to_float64
from rlviz.probes.base import NotMeasurable, TensorPair
from rlviz.types import Side

Matrix = NDArray[np.float64]

BLOCK_ENTRIES = 1 << 20  # 8 MiB of float64: large enough for full matrix-product speed
BLOCK_ROWS_MIN = 512  # below this the n x n additions between blocks cost more than they save
HELD_ENTRIES = 5_000_000  # matrices up to 40 MB in float64 are decoded once and kept for the later passes


class Tall(Protocol):
    """A matrix ``[m, n]``, ``m >= n``, that can be streamed any number of times."""

    @property
    def shape(self) -> tuple[int, int]: ...

    @property
    def name(self) -> str: ...

    def blocks(self) -> Iterator[Matrix]:
        """Row blocks ``[rows, n]`` from top to bottom; do not write into them."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class TallWeight:
    """One side of a pair, tall: W itself, or its transpose where ``d_out < d_in``.

    `values` holds the decoded matrix where it is small; `codes` the raw one where it is wide and large (its
    column blocks are not contiguous in the file); else rows are read again on every pass.
    """

    pair: TensorPair
    side: Side
    rows: int
    values: Matrix | None
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
        for start in range(0, self.shape[0], self.rows):
            yield self._block(start, min(start + self.rows, self.shape[0]))

    def _block(self, start: int, stop: int) -> Matrix:
        if self.values is not None:
            return self.values[:, start:stop].T if self.transposed else self.values[start:stop]
        if self.codes is not None:
            return _decode(self.codes[:, start:stop], self.pair, self.side).T
        return _decode(self.pair.rows(self.side, start, stop - start), self.pair, self.side)


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
        for base, tuned in zip(self.base.blocks(), self.tuned.blocks(), strict=True):
            yield tuned - base


def tall_weight(
    pair: TensorPair, side: Side, block_entries: int = BLOCK_ENTRIES, held_entries: int = HELD_ENTRIES
) -> TallWeight:
    """The tall view of one side; reads it now where it will be kept."""
    d_out, d_in = pair.d_out, pair.d_in
    rows = max(block_entries // min(d_out, d_in), min(BLOCK_ROWS_MIN, block_entries), 1)
    small = d_out * d_in <= held_entries
    if small:
        return TallWeight(pair, side, rows, _decode(pair.rows(side, 0, d_out), pair, side), None)
    return TallWeight(pair, side, rows, None, pair.rows(side, 0, d_out) if d_out < d_in else None)


def _decode(codes: NDArray[np.generic], pair: TensorPair, side: Side) -> Matrix:
    meta = pair.match.base if side == "base" else pair.match.tuned
    with np.errstate(invalid="ignore"):  # a signalling NaN warns on its way to float64; it is reported below
        values = to_float64(codes, meta.dtype)
    if not np.isfinite(values).all():
        raise NotMeasurable("non_finite", f"{meta.name}: the {side} matrix holds NaN or infinity; it has no spectrum.")
    return values
