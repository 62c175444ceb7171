"""Compiled loops of the coordinate probe. Import this module only to run it: importing loads numba.

Two ways in, one way of counting. `weigh` counts pairs of float64 values, each with a multiplicity. Values of any
dtype go through it directly. Pairs of bf16 codes first go through `tabulate`: those few codes apart are counted
in a table (base code × distance), whose occupied cells then go through `weigh` with their counts; the rest are
listed and weighed one by one.
"""

# pyright: basic, reportIndexIssue=false, reportGeneralTypeIssues=false
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from rlviz.bins import ETA_EDGES, TAU_EDGES, ULP_BINS

CHUNK = 1024
REACH = 47
"""Largest code distance in the table: the bulk of a fine-tuning step lies within, and the table stays < 26 MB."""
PLANE = 65536 + 1024  # one distance; the padding keeps neighbouring planes off the same cache sets
PLANES = 2 * REACH + 1
ABS = 0x7FFF
INFINITE = 0x7F80


class Tallies(NamedTuple):
    """Everything counted without regard to position."""

    counts: NDArray[np.int64]  # n, non-finite, then changed per lens, then overflowing per lens
    sums: NDArray[np.float64]  # squares of the base, squares of the tuned side, largest |ΔW|
    eta: NDArray[np.int64]
    tau: NDArray[np.int64]
    tau_sumsq: NDArray[np.float64]
    ulp: NDArray[np.int64]
    exponent_n: NDArray[np.int64]
    exponent_changed: NDArray[np.int64]


class Grid(NamedTuple):
    """Flags summed by position: rows, columns, blocks."""

    rows: NDArray[np.int32]
    columns: NDArray[np.int32]
    blocks: NDArray[np.int32]
    row_edges: NDArray[np.int64]
    column_edges: NDArray[np.int64]


def new_tallies() -> Tallies:
    """All zero."""
    return Tallies(
        np.zeros(14, np.int64),
        np.zeros(3),
        np.zeros(ETA_EDGES.size + 1, np.int64),
        np.zeros(TAU_EDGES.size + 1, np.int64),
        np.zeros(TAU_EDGES.size + 1),
        np.zeros(2 * ULP_BINS - 1, np.int64),
        np.zeros(256, np.int64),
        np.zeros(256, np.int64),
    )


def _cells(edges: NDArray[np.float64]) -> NDArray[np.int16]:
    """Number of edges below each sixteenth of an octave, by the upper 15 magnitude bits of a float64.

    At most one edge lies inside such a cell, so that one comparison more gives the bin.
    """
    lower = (np.arange(0x8000, dtype=np.uint64) << np.uint64(48)).view(np.float64)
    return np.searchsorted(edges, lower, side="left").astype(np.int16)


_ETA_CELL, _TAU_CELL = _cells(ETA_EDGES), _cells(TAU_EDGES)
_ETA = np.append(ETA_EDGES, np.inf)
_TAU = np.append(TAU_EDGES, np.inf)
_ULP_BIN = np.concatenate([[0], np.frexp(np.arange(65536) + 0.5)[1] + 1]).astype(np.int8)
_ULP_BIN[1] = 1

_i8, _f8, _u1, _u2, _u4 = types.int64, types.float64, types.uint8, types.uint16, types.uint32
_tallies = types.NamedTuple(
    (_i8[::1], _f8[::1], _i8[::1], _i8[::1], _f8[::1], _i8[::1], _i8[::1], _i8[::1]), Tallies
)
_grid = types.NamedTuple((types.int32[::1], types.int32[::1], types.int32[:, ::1], _i8[::1], _i8[::1]), Grid)


def _bitcast(source, target, llvm):
    @intrinsic
    def cast(_context, value):
        def codegen(_ctx, builder, _signature, args):
            return builder.bitcast(args[0], llvm)

        return target(source), codegen

    return cast


_bits = _bitcast(types.float64, types.int64, ir.IntType(64))
_from_bits = _bitcast(types.int64, types.float64, ir.DoubleType())
_bits32 = _bitcast(types.float32, types.int32, ir.IntType(32))


@njit(inline="always")
def _round(x, drop, smallest, magic, largest, above):
    """`x` to nearest even in a format; see `rounding_table` for the parameters."""
    bits = _bits(x)
    half = (np.int64(1) << (drop - 1)) - 1
    normal = _from_bits((bits + half + ((bits >> drop) & 1)) & ~((np.int64(1) << drop) - 1))
    tiny = (x + magic) - magic
    y = tiny if abs(x) < smallest else normal
    return y if abs(y) <= largest else np.copysign(above, x)


@njit("void(f8[::1], i8, f8[:,::1], i8, f8[::1])", nogil=True, cache=True)
def _round_all(x, m, table, lens, out):
    drop, smallest, magic = np.int64(table[lens, 0]), table[lens, 1], table[lens, 2]
    largest, above, factor = table[lens, 3], table[lens, 4], table[lens, 5]
    for i in range(m):
        out[i] = _round(x[i] * factor, drop, smallest, magic, largest, above)


@njit("i8(f8[::1], f8[::1], i8[::1], i8)", nogil=True, cache=True)
def _differing(x, y, w, m):
    total = 0
    for i in range(m):
        total += w[i] if x[i] != y[i] else 0
    return total


@njit("i8(f8[::1], f8[::1], i8[::1], i8, f8, f8)", nogil=True, cache=True)
def _reaching(x, y, w, m, factor, limit):
    """Entries where the larger magnitude, scaled, is at least `limit`."""
    total = 0
    for i in range(m):
        total += w[i] if max(abs(x[i]), abs(y[i])) * factor >= limit else 0
    return total


@njit("f8(f8[::1], f8[::1], i8[::1], i8, f8[::1], f8[::1], i8[::1], i8[::1], u1[::1])", nogil=True, cache=True)
def _admit(x, y, w, m, x_out, y_out, w_out, counts, flags):
    """Copy a chunk; a pair with NaN or Inf becomes 0, 0 of weight 0 and flag 2. Returns the largest magnitude."""
    top, seen, admitted = 0.0, 0, 0
    for i in range(m):
        finite = (abs(x[i]) < np.inf) & (abs(y[i]) < np.inf)
        x_out[i] = x[i] if finite else 0.0
        y_out[i] = y[i] if finite else 0.0
        w_out[i] = w[i] if finite else 0
        flags[i] = 0 if finite else 2
        seen += w[i]
        admitted += w_out[i]
    for i in range(m):
        top = max(top, max(abs(x_out[i]), abs(y_out[i])))
    counts[0] += admitted
    counts[1] += seen - admitted
    return top


@njit(inline="always")
def _ordinal(bits):
    """Signed position of a bf16 value among all of them; -0 and +0 are both 0."""
    code = bits >> 16
    return code if code >= 0 else -(code & ABS)


@njit(inline="always")
def _spread(x, y, w, a, b, tallies, eta_edges, tau_edges, eta_cell, tau_cell, ulp_bin):
    """One changed pair (values `x`, `y`, bf16 ordinals `a`, `b`) into the η, τ and ULP histograms."""
    size, largest = abs(y - x), max(abs(x), abs(y))
    k = np.int64(eta_cell[(_bits(size / largest) >> 48) & ABS])
    tallies.eta[k + (size > eta_edges[k] * largest)] += w
    k = np.int64(tau_cell[(_bits(size) >> 48) & ABS])
    k += size > tau_edges[k]
    tallies.tau[k] += w
    tallies.tau_sumsq[k] += w * (size * size)
    tallies.sums[2] = max(tallies.sums[2], size)
    step = b - a
    rank = np.int64(ulp_bin[abs(step)])
    tallies.ulp[ULP_BINS - 1 + (rank if step > 0 else -rank)] += w


@njit(inline="always")
def _spread_chunk(x, y, w, m, p, q, tallies, grids, flags):
    """The scalar half of a chunk: norms, exponents and histograms, in the order of the entries."""
    eta_edges, tau_edges, eta_cell, tau_cell, ulp_bin = grids
    base_sumsq, tuned_sumsq, still = tallies.sums[0], tallies.sums[1], 0
    for i in range(m):
        base_sumsq += w[i] * (x[i] * x[i])
        tuned_sumsq += w[i] * (y[i] * y[i])
        exponent = (p[i] >> 23) & 255
        tallies.exponent_n[exponent] += w[i]
        if x[i] != y[i]:
            a, b = _ordinal(p[i]), _ordinal(q[i])
            if a != b:
                tallies.exponent_changed[exponent] += w[i]
                flags[i] |= 1
            _spread(x[i], y[i], w[i], a, b, tallies, eta_edges, tau_edges, eta_cell, tau_cell, ulp_bin)
            tallies.counts[2] += w[i]
        else:
            still += w[i]
    tallies.ulp[ULP_BINS - 1] += still
    tallies.sums[0], tallies.sums[1] = base_sumsq, tuned_sumsq


_GRIDS = types.Tuple((_f8[::1], _f8[::1], types.int16[::1], types.int16[::1], types.int8[::1]))
GRIDS = (_ETA, _TAU, _ETA_CELL, _TAU_CELL, _ULP_BIN)


_common = (_f8[:, ::1], types.boolean, _GRIDS, _tallies)


@njit(types.void(_f8[::1], _f8[::1], _i8[::1], _i8, *_common, _u1[::1]), nogil=True, cache=True)
def _weigh(x, y, w, m, table, wide, grids, tallies, flags):
    """Count up to CHUNK pairs of float64 values `x` (base) and `y` (tuned), each standing for `w` entries.

    `table` is `rounding_table`; `wide` says that a side is float64 (else fp32 equals stored). Sets `flags` to 1
    where the pair differs under bf16, to 2 where it is not finite, else to 0.
    """
    a, b, r, s = np.empty(CHUNK), np.empty(CHUNK), np.empty(CHUNK), np.empty(CHUNK)
    v, p, q = np.empty(CHUNK, np.int64), np.empty(CHUNK, np.int32), np.empty(CHUNK, np.int32)
    counts = tallies.counts
    top = _admit(x, y, w, m, a, b, v, counts, flags)
    for lens in range(1, 6):
        if lens > 1 or wide:
            _round_all(a, m, table, lens, r)
            _round_all(b, m, table, lens, s)
            counts[2 + lens] += _differing(r, s, v, m)
        if top * table[lens, 5] >= table[lens, 6]:
            counts[8 + lens] += _reaching(a, b, v, m, table[lens, 5], table[lens, 6])
        if lens == 2:
            for i in range(m):
                p[i] = _bits32(np.float32(r[i]))
                q[i] = _bits32(np.float32(s[i]))
    before = counts[2]
    _spread_chunk(a, b, v, m, p, q, tallies, grids, flags)
    if not wide:
        counts[3] += counts[2] - before


@njit(types.void(_f8[::1], _f8[::1], *_common, _u1[::1]), nogil=True, cache=True)
def weigh_values(x, y, table, wide, grids, tallies, flags):
    """Count pairs of float64 values one by one; see `_weigh`."""
    one = np.ones(CHUNK, np.int64)
    for i in range(0, x.size, CHUNK):
        _weigh(x[i:], y[i:], one, min(CHUNK, x.size - i), table, wide, grids, tallies, flags[i:])


@njit(types.void(_u4[::1], _i8, _f8[::1], *_common), nogil=True, cache=True)
def weigh_listed(listed, n, values, table, wide, grids, tallies):
    """Count listed pairs of bf16 codes (base in the upper half) one by one; `values` decodes a code."""
    one, flags = np.ones(CHUNK, np.int64), np.empty(CHUNK, np.uint8)
    x, y = np.empty(CHUNK), np.empty(CHUNK)
    for start in range(0, n, CHUNK):
        m = min(CHUNK, n - start)
        for i in range(m):
            x[i] = values[listed[start + i] >> 16]
            y[i] = values[listed[start + i] & 0xFFFF]
        _weigh(x, y, one, m, table, wide, grids, tallies, flags)


@njit(types.void(_u4[::1], _i8, _i8, _f8[::1], *_common), nogil=True, cache=True)
def weigh_table(cells, first, last, values, table, wide, grids, tallies):
    """Count the occupied cells whose base code is in ``first … last``, and empty them."""
    flags = np.empty(CHUNK, np.uint8)
    x, y, w = np.empty(CHUNK), np.empty(CHUNK), np.empty(CHUNK, np.int64)
    m = 0
    for plane in range(PLANES):
        for code in range(first, last + 1):
            count = cells[plane * PLANE + code]
            if count:
                cells[plane * PLANE + code] = 0
                x[m], y[m], w[m] = values[code], values[code + plane - REACH], count
                m += 1
                if m == CHUNK:
                    _weigh(x, y, w, m, table, wide, grids, tallies, flags)
                    m = 0
    _weigh(x, y, w, m, table, wide, grids, tallies, flags)


@njit("i8(u2[::1], u2[::1], u4[::1], u4[::1], i8)", nogil=True, cache=True)
def tabulate(base, tuned, cells, listed, n):
    """Count pairs of bf16 codes in `cells`; append those too far apart to `listed` from `n` on. Returns the new n.

    Codes at most REACH apart have one sign (or one is NaN), so that the code difference is the distance.
    """
    for i in range(base.size):
        a, b = np.int64(base[i]), np.int64(tuned[i])
        plane = b - a + REACH
        if np.uint64(plane) < np.uint64(PLANES):
            cells[plane * PLANE + a] += np.uint32(1)
        else:
            listed[n] = np.uint32((a << 16) | b)
            n += 1
    return n


@njit("void(u2[::1], u2[::1], u1[::1], i8[::1])", nogil=True, cache=True)
def flag_bf16(base, tuned, flags, reach):
    """Flags as `_weigh` sets them. `reach`: least and greatest magnitude code of the base (not 0, finite), non-finite.

    The three are updated in place.
    """
    least, greatest, special = np.uint16(ABS), np.uint16(0), 0
    for i in range(base.size):
        a, b = base[i] & np.uint16(ABS), tuned[i] & np.uint16(ABS)
        finite = (a < np.uint16(INFINITE)) & (b < np.uint16(INFINITE))
        differs = (base[i] != tuned[i]) & ((a | b) != np.uint16(0))
        flags[i] = np.uint8(differs) if finite else np.uint8(2)
        special += not finite
        least = min(least, a if a != np.uint16(0) else np.uint16(ABS))
        greatest = max(greatest, a if a < np.uint16(INFINITE) else np.uint16(0))
    reach[0] = min(reach[0], np.int64(least))
    reach[1] = max(reach[1], np.int64(greatest))
    reach[2] += special


@njit(inline="always")
def _settle(band, row, column, grid):
    """Move the sums of a band of rows, all of one block row, to columns and blocks; empty the band."""
    edges = grid.column_edges
    block = np.searchsorted(edges, column, side="right") - 1
    start = 0
    while start < band.size:
        stop = min(band.size, edges[block + 1] - column)
        total = 0
        for j in range(start, stop):
            total += band[j]
            grid.columns[column + j] += np.int32(band[j])
            band[j] = 0
        grid.blocks[row, block] += np.int32(total)
        start, block = stop, block + 1


@njit(types.void(_u1[:, ::1], _i8, _i8, _u1, _grid), nogil=True, cache=True)
def scatter(flags, row, column, flag, grid):
    """Add the entries equal to `flag` of a window that begins at `row`, `column` to the grid."""
    height, width = flags.shape
    band = np.zeros(width, np.uint16)
    block = np.searchsorted(grid.row_edges, row, side="right") - 1
    pending = 0
    for r in range(height):
        if row + r == grid.row_edges[block + 1] or pending == 65535:
            _settle(band, block, column, grid)
            pending = 0
            block += row + r == grid.row_edges[block + 1]
        total = 0
        for j in range(width):
            hit = np.uint8(flags[r, j] == flag)
            total += hit
            band[j] += hit
        grid.rows[row + r] += np.int32(total)
        pending += 1
    _settle(band, block, column, grid)


@njit(["void(u1[::1], f8[::1], f8[::1])", "void(u2[::1], f8[::1], f8[::1])"], nogil=True, cache=True)
def decode(codes, values, out):
    """``out[i] = values[codes[i]]``."""
    for i in range(codes.size):
        out[i] = values[codes[i]]
