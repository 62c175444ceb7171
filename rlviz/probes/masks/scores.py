"""A pair in whole rows as the masks probe sees it: magnitudes, bf16 codes, and rank-k reconstructions of the base."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rlviz.dtypes import to_float64
from rlviz.probes.base import NotMeasurable, TensorPair
from rlviz.types import Side

Bits = NDArray[np.int32]
Codes = NDArray[np.uint16]

BLOCK_ENTRIES = 1 << 18
HELD_ENTRIES = 5_000_000  # reconstructions of matrices up to this size are kept between passes: 20 MB a rank

INFINITE, NAN = 0x7F80, 0x7FC0


@dataclass(frozen=True, slots=True)
class Block:
    """Rows ``[row, row + height)`` of the base: float32 bits of its values, and its bf16 codes, both flat."""

    row: int
    height: int
    magnitudes: Bits
    codes: Codes


def bf16_codes(codes: NDArray[np.generic], dtype: str) -> Codes:
    """Codes after one rounding to bf16, to nearest even; of bf16 the codes themselves."""
    if dtype == "BF16":
        return np.asarray(codes, dtype=np.uint16)
    values = as_float32(codes, dtype, to_odd=True)
    bits = values.view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    rounded[np.isnan(values)] = NAN  # a mantissa of ones, as GPUs write it, would carry over into a zero
    return rounded.astype(np.uint16)


def as_float32(codes: NDArray[np.generic], dtype: str, *, to_odd: bool = False) -> NDArray[np.float32]:
    """Values as float32: exact for all types but F64, which is rounded to nearest.

    With `to_odd` F64 is rounded towards zero with a sticky last bit, so that rounding again to bf16 rounds once.
    """
    if dtype == "BF16":
        return (np.asarray(codes, dtype=np.uint32) << np.uint32(16)).view(np.float32)
    if dtype == "F32":
        return np.asarray(codes, dtype=np.uint32).view(np.float32)
    values = to_float64(codes, dtype)
    with np.errstate(over="ignore"):
        near = values.astype(np.float32)
        if dtype != "F64" or not to_odd:
            return near
        lower = np.where(np.abs(near.astype(np.float64)) > np.abs(values), np.nextafter(near, np.float32(0)), near)
        sticky = (lower.astype(np.float64) != values).astype(np.uint32)
    return (lower.view(np.uint32) | sticky).view(np.float32)


@dataclass(slots=True, eq=False)
class Reconstruction:
    """Rank-k reconstructions of the base for several k, block of rows by block of rows.

    ``W0 V_k V_kᵀ`` where the basis is on the right (d_out ≥ d_in), ``U_k U_kᵀ W0`` where it is on the left; float32
    products, each k adding to the one before it. Kept between passes where the matrix is small.
    """

    pair: TensorPair
    basis: NDArray[np.float32]  # [r, K]
    ranks: list[int]
    projected: NDArray[np.float32] | None  # Uᵀ W0 [K, d_in], left side only
    kept: dict[int, list[Bits]] = field(default_factory=dict[int, list[Bits]])

    def scores(self, block: Block) -> list[Bits]:
        """Bits of the flat reconstructions of a block's rows, one array a rank."""
        if block.row in self.kept:
            return self.kept[block.row]
        found = self._scores(block)
        if self.pair.match.n <= HELD_ENTRIES:
            self.kept[block.row] = found
        return found

    def _scores(self, block: Block) -> list[Bits]:
        left, right = self._factors(block)
        total = np.zeros((block.height, self.pair.d_in), np.float32)
        found: list[Bits] = []
        for first, last in zip([0, *self.ranks], self.ranks, strict=False):
            total = total + left[:, first:last] @ right[first:last]
            found.append(total.view(np.int32).reshape(-1))
        return found

    def _factors(self, block: Block) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        if self.projected is not None:
            return self.basis[block.row : block.row + block.height], self.projected
        values = block.magnitudes.view(np.float32).reshape(block.height, self.pair.d_in)
        return values @ self.basis, self.basis.T


def reconstruction(pair: TensorPair, basis: NDArray[np.generic], ranks: list[int]) -> Reconstruction:
    """Set one up; where the basis is on the left, with one pass over the base."""
    leading = np.ascontiguousarray(basis[:, : max(ranks)], dtype=np.float32)
    if pair.d_out >= pair.d_in:
        return Reconstruction(pair, leading, ranks, None)
    projected = np.zeros((leading.shape[1], pair.d_in), np.float32)
    for block in blocks(pair):
        values = block.magnitudes.view(np.float32).reshape(block.height, pair.d_in)
        projected += leading[block.row : block.row + block.height].T @ values
    return Reconstruction(pair, leading, ranks, projected)


def blocks(pair: TensorPair) -> Iterator[Block]:
    """The base in blocks of whole rows, from top to bottom."""
    dtype, height = pair.match.base.dtype, max(1, BLOCK_ENTRIES // pair.d_in)
    for row in range(0, pair.d_out, height):
        rows = min(height, pair.d_out - row)
        codes = pair.rows("base", row, rows).reshape(-1)
        rounded = _finite(bf16_codes(codes, dtype), pair, "base")
        yield Block(row, rows, as_float32(codes, dtype).view(np.int32), rounded)


def tuned_codes(pair: TensorPair, block: Block) -> Codes:
    """The tuned side of a block, flat, rounded to bf16."""
    codes = pair.rows("tuned", block.row, block.height).reshape(-1)
    return _finite(bf16_codes(codes, pair.match.tuned.dtype), pair, "tuned")


def _finite(codes: Codes, pair: TensorPair, side: Side) -> Codes:
    if ((codes & np.uint16(0x7FFF)) >= INFINITE).any():
        problem = f"the {side} matrix holds NaN, infinity or values beyond bf16; it has no masks."
        raise NotMeasurable("non_finite", f"{pair.match.name}: {problem}")
    return codes
