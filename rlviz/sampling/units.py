"""What is drawn: each tensor cut into a fixed grid of units, and the random order in which they are read.

A unit is a block of whole contiguous rows, so that column stripes lie inside every unit and row stripes are what
differs between units. Only a row too long for one request is cut further. The order is a function of seed,
tensor name and grid alone: a later round goes on where the last one stopped, and no unit is read twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from math import prod

import numpy as np
from numpy.typing import NDArray

from rlviz.dtypes import ELEMENT_TYPES
from rlviz.types import TensorMatch

LONGEST_UNIT_BYTES = 256 << 10
"""Rows longer than this are cut: one would cost what a whole tensor's sample should."""

PERMUTED = 1 << 16
"""Up to so many units the order is a permutation; beyond, distinct draws, which is the same but for the memory."""

MOST_STRATA = 8


@dataclass(frozen=True, slots=True)
class Grid:
    """The units of one tensor.

    Attributes
    ----------
    count : units there are
    pieces : units a row is cut into; 1 where units are whole rows
    strata : contiguous position strata of nearly equal size; units are drawn from each in turn
    """

    match: TensorMatch
    count: int
    pieces: int
    strata: int

    @property
    def rows(self) -> int:
        return prod(self.match.shape[:-1])

    @property
    def width(self) -> int:
        """Entries of a row."""
        return self.match.shape[-1] if self.match.shape else 1

    @property
    def unit_bytes(self) -> int:
        """Bytes of an average unit on the side that stores wider entries."""
        return -(-self.match.n * row_itemsize(self.match) // self.count)

    def bounds(self, unit: int) -> tuple[int, int]:
        """First and last-plus-one flat entry of a unit; sizes differ by at most one row (or one entry)."""
        if self.pieces == 1:
            return (unit * self.rows // self.count) * self.width, ((unit + 1) * self.rows // self.count) * self.width
        row, piece = divmod(unit, self.pieces)
        start = row * self.width
        return start + piece * self.width // self.pieces, start + (piece + 1) * self.width // self.pieces

    def stratum_sizes(self) -> NDArray[np.int64]:
        """Units of each position stratum."""
        edges = np.arange(self.strata + 1) * self.count // self.strata
        return np.diff(edges)

    def order(self, seed: int, first: int, last: int) -> list[tuple[int, int]]:
        """``(unit, stratum)`` of the draws ``first … last - 1``.

        Each turn takes one unit from every stratum, the strata in random order.
        """
        turns = -(-last // self.strata)
        streams = [_random(seed, self.match.name, stratum) for stratum in range(self.strata + 1)]
        sizes = self.stratum_sizes()
        edges = np.concatenate(([0], np.cumsum(sizes)))
        drawn = [_distinct(streams[s], int(sizes[s]), min(turns, int(sizes[s]))) for s in range(self.strata)]
        draws: list[tuple[int, int]] = []
        for turn in range(turns):
            strata = streams[-1].permutation(self.strata).tolist()
            draws += [(int(edges[s] + drawn[s][turn]), s) for s in strata if turn < len(drawn[s])]
        return draws[first:last]


def row_itemsize(match: TensorMatch) -> int:
    """Bytes of an entry on the side that stores wider ones: the budget holds for either model."""
    return max(ELEMENT_TYPES[match.base.dtype].itemsize, ELEMENT_TYPES[match.tuned.dtype].itemsize)


def grid(match: TensorMatch, unit_bytes: float, draws: int) -> Grid:
    """Cut a tensor into units of about `unit_bytes`, at least a row each; `draws` is how many are likely to be read.

    Four draws a stratum at least: with fewer the variance within strata would be known too badly to be of use.
    """
    rows, width = prod(match.shape[:-1]), match.shape[-1] if match.shape else 1
    row_bytes = max(width * row_itemsize(match), 1)
    pieces = max(1, -(-row_bytes // LONGEST_UNIT_BYTES))
    count = rows * pieces if pieces > 1 else max(1, -(-rows // max(1, int(unit_bytes // row_bytes))))
    strata = max(1, min(MOST_STRATA, draws // 4, count // 4))
    return Grid(match, count, pieces, strata)


def whole(match: TensorMatch) -> Grid:
    """A tensor so small that it is read as one unit: nothing is left to chance."""
    return Grid(match, 1, 1, 1)


def _random(seed: int, name: str, stream: int) -> np.random.Generator:
    digest = blake2b(f"{seed}/{stream}/{name}".encode(), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "little")))


def _distinct(random: np.random.Generator, size: int, wanted: int) -> list[int]:
    """The first `wanted` of a random order of ``range(size)``; more of the same order when more are wanted."""
    if size <= PERMUTED:
        return random.permutation(size)[:wanted].tolist()
    seen: dict[int, None] = {}
    draws = _draws(random, size)
    while len(seen) < wanted:
        seen.setdefault(next(draws))
    return list(seen)


def _draws(random: np.random.Generator, size: int) -> Iterator[int]:
    while True:
        yield from random.integers(size, size=64).tolist()
