"""Compiled loops of the coordinate probe. Import this module only to run it: importing loads numba.

Two ways in, one way of counting. `weigh_values` counts pairs of float64 values, whatever they were stored as.
Pairs of bf16 codes go through `tabulate`: those a few codes apart are counted in a table (base code × distance),
whose occupied cells are then weighed by their counts; the others are listed and weighed one by one.

Arguments that recur (see `rlviz.probes.coordinate.count.Tallies` and `GRIDS`, which build and read them):
`hist` int64 and `sums` float64, one histogram a row; `edges` float64 and `lookup` int16, its grids; `table`, how to
round to each lens. They are plain arrays because a tuple of arrays would be reference-counted in the inner loop,
and arguments because a kernel in the cache does not notice that a constant of another module changed; for the same
reason the kernels share one file, by whose date the cache tells what is stale.
"""

# ruff: noqa: PLR0917, PLW3301

# pyright: basic, reportIndexIssue=false, reportGeneralTypeIssues=false, reportOperatorIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

CHUNK = 1024
REACH = 47
"""Largest code distance in the table: the bulk of a fine-tuning step lies within, and the table stays < 26 MB."""
PLANE = 65536 + 1024  # one distance; the padding keeps neighbouring planes off the same cache sets
PLANES = 2 * REACH + 1
ABS = 0x7FFF
INFINITE = 0x7F80

WIDTH = 512  # of `hist`, `sums` and `edges`
COUNTS, ETA, TAU, ULP, EXPONENT_N, EXPONENT_CHANGED = range(6)  # rows of `hist`
N, NONFINITE, CHANGED, OVERFLOW = 0, 1, 2, 8  # columns of row COUNTS; the last two hold one number per lens
ULP_ZERO = 32  # column of distance 0 in row ULP
TOTALS, TAU_SUMSQ = range(2)  # rows of `sums`
BASE_SUMSQ, TUNED_SUMSQ, LARGEST = range(3)  # columns of row TOTALS
BF16, FP16, E4M3, E5M2, LENSES = range(2, 7)  # rows of `table`, and their number

_hist, _table = "i8[:,::1]", "f8[:,::1]"
_TAIL = f"{_hist}, f8[:,::1], f8[:,::1], i2[:,::1]"  # hist, sums, edges, lookup


def _compiled(signature):
    return njit(signature, nogil=True, cache=True, error_model="numpy")


_inlined = njit(nogil=True, error_model="numpy")


def _bitcast(source, target, llvm):
    @intrinsic
    def cast(_context, _value):
        def codegen(_ctx, builder, _signature, args):
            return builder.bitcast(args[0], llvm)

        return target(source), codegen

    return cast


_bits = _bitcast(types.float64, types.int64, ir.IntType(64))
_from_bits = _bitcast(types.int64, types.float64, ir.DoubleType())
_bits32 = _bitcast(types.float32, types.int32, ir.IntType(32))
_from_bits32 = _bitcast(types.int32, types.float32, ir.FloatType())


@_inlined
def _bf16(code):
    return np.float64(_from_bits32(np.int32(code << 16)))


@_inlined
def _round(x, drop, smallest, magic, largest, above):
    """`x` to nearest even in a format; see `rounding_table` for the parameters."""
    bits = _bits(x)
    half = (np.int64(1) << (drop - 1)) - 1
    normal = _from_bits((bits + half + ((bits >> drop) & 1)) & ~((np.int64(1) << drop) - 1))
    tiny = (x + magic) - magic
    y = tiny if abs(x) < smallest else normal
    return y if abs(y) <= largest else np.copysign(above, x)


@_compiled(f"void(f8[::1], f8[::1], i8[::1], i8[::1], i8[::1], i8, {_TAIL})")
def _spread(x, y, p, q, w, m, hist, sums, edges, lookup):
    """Changed pairs (values `x`, `y`, bf16 ordinals `p`, `q`), `w` times each, into the η, τ and ULP histograms."""
    top = sums[TOTALS, LARGEST]
    eta, tau, ulp, square = np.empty(m, np.uint64), np.empty(m, np.uint64), np.empty(m, np.uint64), np.empty(m)
    for i in range(m):  # indices are unsigned: a signed one may count from the end, and is checked for that
        size, largest = abs(y[i] - x[i]), max(abs(x[i]), abs(y[i]))
        cell = np.uint64(lookup[0, np.uint64((_bits(size / largest) >> 48) & ABS)])
        if largest < 1e-280:  # where η·largest is rounded coarsely, the ratio does not tell the bin
            cell = np.uint64(0)
            while size > edges[0, cell] * largest:
                cell += np.uint64(1)
            eta[i] = cell
        else:
            eta[i] = cell + np.uint64(size > edges[0, cell] * largest)
        cell = np.uint64(lookup[1, np.uint64((_bits(size) >> 48) & ABS)])
        tau[i] = cell + np.uint64(size > edges[1, cell])
        square[i] = size * size
        top = max(top, size)
        distance = q[i] - p[i]
        rank = np.int64(lookup[2, np.uint64(abs(distance))])
        ulp[i] = np.uint64(ULP_ZERO + (rank if distance > 0 else -rank))
    sums[TOTALS, LARGEST] = top
    for i in range(m):  # one loop a histogram: measured a third faster than all four in the loop above
        hist[ETA, eta[i]] += w[i]
    for i in range(m):
        hist[TAU, tau[i]] += w[i]
    for i in range(m):
        sums[TAU_SUMSQ, tau[i]] += w[i] * square[i]
    for i in range(m):
        hist[ULP, ulp[i]] += w[i]


# ---------------------------------------------------------------------------------------------- float64 values


@_compiled(f"i8(f8[::1], f8[::1], i8, {_table}, i8)")
def _differing(x, y, m, table, lens):
    """Pairs that differ once both sides are rounded."""
    drop, smallest, magic = np.int64(table[lens, 0]), table[lens, 1], table[lens, 2]
    largest, above, factor = table[lens, 3], table[lens, 4], table[lens, 5]
    total = 0
    for i in range(m):
        a = _round(x[i] * factor, drop, smallest, magic, largest, above)
        total += a != _round(y[i] * factor, drop, smallest, magic, largest, above)
    return total


@_compiled("i8(f8[::1], f8[::1], i8, f8, f8)")
def _reaching(x, y, m, factor, limit):
    """Pairs whose larger magnitude, scaled, is at least `limit`."""
    total = 0
    for i in range(m):
        total += max(abs(x[i]), abs(y[i])) * factor >= limit
    return total


@_compiled("f8(f8[::1], f8[::1], i8, f8[::1], f8[::1], u1[::1])")
def _admit(x, y, m, x_out, y_out, flags):
    """Copy a chunk; a pair with NaN or Inf becomes 0, 0 and gets flag 2. Returns the largest magnitude."""
    for i in range(m):
        finite = (abs(x[i]) < np.inf) & (abs(y[i]) < np.inf)
        x_out[i] = x[i] if finite else 0.0
        y_out[i] = y[i] if finite else 0.0
        flags[i] = 0 if finite else 2
    top = 0.0
    for i in range(m):
        top = max(top, max(abs(x_out[i]), abs(y_out[i])))
    return top


@_compiled(f"void(f8[::1], i8, {_table}, i8[::1])")
def _ordinals(x, m, table, out):
    """Signed positions of values, rounded to bf16, among all bf16 values; those of -0 and +0 are 0."""
    drop, smallest, magic = np.int64(table[BF16, 0]), table[BF16, 1], table[BF16, 2]
    largest, above = table[BF16, 3], table[BF16, 4]
    for i in range(m):
        code = np.int64(_bits32(np.float32(_round(x[i], drop, smallest, magic, largest, above))) >> 16)
        out[i] = code if code >= 0 else -(code & ABS)


@_compiled(f"i8(f8[::1], f8[::1], i8[::1], i8[::1], i8, {_hist}, f8[:,::1], u1[::1])")
def _total(x, y, p, q, m, hist, sums, flags):
    """Counts and norms of a chunk; moves its changed pairs to the front and returns how many they are."""
    base_sumsq, tuned_sumsq, n, still, k = sums[TOTALS, BASE_SUMSQ], sums[TOTALS, TUNED_SUMSQ], 0, 0, np.uint64(0)
    for i in range(m):
        if flags[i] == 2:
            continue
        n += 1
        base_sumsq += x[i] * x[i]
        tuned_sumsq += y[i] * y[i]
        exponent = np.uint64(abs(p[i]) >> 7)
        differs = p[i] != q[i]
        hist[EXPONENT_N, exponent] += 1
        hist[EXPONENT_CHANGED, exponent] += differs
        flags[i] = differs
        still += not differs
        x[k], y[k], p[k], q[k] = x[i], y[i], p[i], q[i]
        k += np.uint64(x[i] != y[i])
    changed = np.int64(k)
    hist[ULP, ULP_ZERO] += n - changed  # `_spread` adds those that changed and are equal under bf16
    hist[COUNTS, N] += n
    hist[COUNTS, NONFINITE] += m - n
    hist[COUNTS, CHANGED] += changed
    hist[COUNTS, CHANGED + BF16] += n - still
    sums[TOTALS, BASE_SUMSQ], sums[TOTALS, TUNED_SUMSQ] = base_sumsq, tuned_sumsq
    return changed


@_compiled(f"void(f8[::1], f8[::1], u1[::1], b1, {_table}, {_TAIL})")
def weigh_values(x, y, flags, wide, table, hist, sums, edges, lookup):
    """Count pairs of float64 values `x` (base) and `y` (tuned). Unless `wide`, float32 holds all of them.

    Sets `flags` to 1 where a pair differs under bf16, to 2 where it is not finite, else to 0.
    """
    a, b, one = np.empty(CHUNK), np.empty(CHUNK), np.ones(CHUNK, np.int64)
    p, q = np.empty(CHUNK, np.int64), np.empty(CHUNK, np.int64)
    for start in range(0, x.size, CHUNK):
        m = min(CHUNK, x.size - start)
        top = _admit(x[start:], y[start:], m, a, b, flags[start:])
        for lens in range(1, LENSES):
            if lens > BF16 or (lens < BF16 and wide):
                hist[COUNTS, CHANGED + lens] += _differing(a, b, m, table, lens)
            if top * table[lens, 5] >= table[lens, 6]:
                hist[COUNTS, OVERFLOW + lens] += _reaching(a, b, m, table[lens, 5], table[lens, 6])
        _ordinals(a, m, table, p)
        _ordinals(b, m, table, q)
        k = _total(a, b, p, q, m, hist, sums, flags[start:])
        hist[COUNTS, CHANGED + 1] += 0 if wide else k
        _spread(a, b, p, q, one, k, hist, sums, edges, lookup)


@_compiled(["void(u1[::1], f8[::1], f8[::1])", "void(u2[::1], f8[::1], f8[::1])"])
def decode(codes, values, out):
    """``out[i] = values[codes[i]]``."""
    for i in range(codes.size):
        out[i] = values[codes[i]]


# ------------------------------------------------------------------------------------------------ bf16 codes


@_compiled("i8(u2[::1], u2[::1], u4[::1], u4[::1], i8)")
def tabulate(base, tuned, cells, listed, n):
    """Count pairs of bf16 codes in `cells`; append those too far apart to `listed` from `n` on. Returns the new n.

    Codes at most REACH apart have one sign (or one is NaN), so that the code difference is the distance.
    """
    end = np.uint64(n)
    for i in range(base.size):
        a, b = np.uint64(base[i]), np.uint64(tuned[i])
        plane = b - a + np.uint64(REACH)  # wraps around below 0
        if plane < np.uint64(PLANES):
            cells[plane * np.uint64(PLANE) + a] += np.uint32(1)
        else:
            listed[end] = np.uint32((a << np.uint64(16)) | b)
            end += np.uint64(1)
    return np.int64(end)


@_compiled(f"u4[::1]({_table})")
def signatures(table):
    """Per bf16 code, where it lies under fp16 (16 bits), e4m3 and e5m2 (8 bits each): ranks of magnitude, and sign.

    Rounding keeps order, so counting the distinct results numbers them; two codes are equal under a lens where
    their parts agree. Zero has no sign.
    """
    out, rounded = np.zeros(65536, np.uint32), np.empty(INFINITE)
    for lens in range(FP16, LENSES):
        drop, smallest, magic = np.int64(table[lens, 0]), table[lens, 1], table[lens, 2]
        largest, above, factor = table[lens, 3], table[lens, 4], table[lens, 5]
        shift, sign = (0, 0x8000) if lens == FP16 else (16 if lens == E4M3 else 24, 0x80)
        for code in range(INFINITE):
            rounded[code] = _round(_bf16(code) * factor, drop, smallest, magic, largest, above)
        rank, last = 0, 0.0
        for code in range(INFINITE):
            rank += rounded[code] != last
            last = rounded[code]
            out[code] |= np.uint32(rank << shift)
            out[code + ABS + 1] |= np.uint32((rank | (sign if rank else 0)) << shift)
    return out


@_compiled("i8(i8[::1], i8[::1], i8)")
def _greatest_finite(a, b, m):
    greatest = np.int64(0)
    for i in range(m):
        top = max(a[i] & ABS, b[i] & ABS)
        greatest = max(greatest, top if top < INFINITE else 0)
    return greatest


@_compiled("i8(i8[::1], i8[::1], i8[::1], i8, f8, f8)")
def _overflowing_codes(a, b, w, m, factor, limit):
    """Entries whose larger magnitude, scaled, is at least `limit`."""
    total = 0
    for i in range(m):
        top = max(a[i] & ABS, b[i] & ABS)
        total += w[i] * ((top < INFINITE) & (_bf16(top) * factor >= limit))
    return total


@_compiled(f"void(i8[::1], i8[::1], i8[::1], i8, {_table}, u4[::1], {_TAIL})")
def _weigh_codes(a, b, w, m, table, signature, hist, sums, edges, lookup):
    """Count `m` pairs of bf16 codes `a` (base) and `b` (tuned), `w` times each. Uses up `a`, `b` and `w`."""
    greatest = _bf16(_greatest_finite(a, b, m))
    for lens in range(FP16, LENSES):
        if greatest * table[lens, 5] >= table[lens, 6]:
            hist[COUNTS, OVERFLOW + lens] += _overflowing_codes(a, b, w, m, table[lens, 5], table[lens, 6])
    x, y = np.empty(m), np.empty(m)
    base_sumsq, tuned_sumsq, n, k = sums[TOTALS, BASE_SUMSQ], sums[TOTALS, TUNED_SUMSQ], 0, 0
    fp16 = e4m3 = e5m2 = changed = 0
    for i in range(m):
        s, t, c = a[i], b[i], w[i]
        if max(s & ABS, t & ABS) >= INFINITE:
            hist[COUNTS, NONFINITE] += c
            continue
        u, v, exponent = _bf16(s), _bf16(t), np.uint64((s >> 7) & 255)
        n += c
        base_sumsq += c * (u * u)
        tuned_sumsq += c * (v * v)
        hist[EXPONENT_N, exponent] += c
        if u == v:
            continue
        apart = signature[np.uint64(s)] ^ signature[np.uint64(t)]
        changed += c
        fp16 += c * ((apart & 0xFFFF) != 0)
        e4m3 += c * ((apart & 0xFF0000) != 0)
        e5m2 += c * ((apart >> 24) != 0)
        hist[EXPONENT_CHANGED, exponent] += c
        x[k], y[k], a[k], b[k], w[k] = u, v, s if s <= ABS else -(s & ABS), t if t <= ABS else -(t & ABS), c
        k += 1
    hist[COUNTS, N] += n
    hist[ULP, ULP_ZERO] += n - changed
    for lens in range(FP16):  # stored, fp32 and bf16 hold every bf16 value
        hist[COUNTS, CHANGED + lens] += changed
    hist[COUNTS, CHANGED + FP16] += fp16
    hist[COUNTS, CHANGED + E4M3] += e4m3
    hist[COUNTS, CHANGED + E5M2] += e5m2
    sums[TOTALS, BASE_SUMSQ], sums[TOTALS, TUNED_SUMSQ] = base_sumsq, tuned_sumsq
    _spread(x, y, a, b, w, k, hist, sums, edges, lookup)


@_compiled(f"void(u4[::1], i8, {_table}, u4[::1], {_TAIL})")
def weigh_listed(listed, n, table, signature, hist, sums, edges, lookup):
    """Count `n` listed pairs of bf16 codes (base in the upper half) one by one."""
    a, b, w = np.empty(CHUNK, np.int64), np.empty(CHUNK, np.int64), np.empty(CHUNK, np.int64)
    for start in range(0, n, CHUNK):
        m = min(CHUNK, n - start)
        for i in range(m):
            a[i], b[i], w[i] = listed[start + i] >> 16, listed[start + i] & 0xFFFF, 1
        _weigh_codes(a, b, w, m, table, signature, hist, sums, edges, lookup)


@_compiled(f"void(u4[::1], i8, i8, {_table}, u4[::1], {_TAIL})")
def weigh_table(cells, first, last, table, signature, hist, sums, edges, lookup):
    """Count the occupied cells whose base code is in ``first … last``, and empty them."""
    a, b, w = np.empty(CHUNK, np.int64), np.empty(CHUNK, np.int64), np.empty(CHUNK, np.int64)
    m = 0
    for plane in range(PLANES):
        for start in range(plane * PLANE + first // 64 * 64, plane * PLANE + last + 1, 64):
            occupied = np.uint32(0)
            for cell in range(start, start + 64):
                occupied = np.uint32(occupied | cells[cell])
            if occupied == 0:
                continue
            if m + 64 > CHUNK:
                _weigh_codes(a, b, w, m, table, signature, hist, sums, edges, lookup)
                m = 0
            for cell in range(start, start + 64):
                code = cell - plane * PLANE
                a[m], b[m], w[m] = code, code + plane - REACH, cells[cell]
                m += w[m] != 0
                cells[cell] = 0
    _weigh_codes(a, b, w, m, table, signature, hist, sums, edges, lookup)


@_compiled("b1(u2[::1], u2[::1], u1[::1], i8[::1])")
def flag_bf16(base, tuned, flags, reach):
    """Flags as `weigh_values` sets them; True where some entry is not finite.

    `reach` holds the least and the greatest magnitude code of the base so far (neither zero nor non-finite).
    """
    # the casts keep every lane 16 bits wide; a zero wraps around to the largest
    least, greatest, other = np.uint16(0xFFFF), np.uint16(0), np.uint16(0)
    for i in range(base.size):
        a, b = np.uint16(base[i] & np.uint16(ABS)), np.uint16(tuned[i] & np.uint16(ABS))
        flags[i] = np.uint8((base[i] != tuned[i]) & ((a | b) != np.uint16(0)))
        least = np.uint16(min(least, np.uint16(a - np.uint16(1))))
        greatest, other = np.uint16(max(greatest, a)), np.uint16(max(other, b))
    reach[0] = min(reach[0], np.int64(least) + 1)
    if max(greatest, other) < INFINITE:
        reach[1] = max(reach[1], np.int64(greatest))
        return False
    for i in range(base.size):
        a, b = np.int64(base[i] & ABS), np.int64(tuned[i] & ABS)
        if a < INFINITE:
            reach[1] = max(reach[1], a)
        if max(a, b) >= INFINITE:
            flags[i] = 2
    return True


# -------------------------------------------------------------------------------------------------- positions


@_compiled("void(u2[::1], i8, i8, i4[::1], i4[:,::1], i8[::1])")
def _settle(band, block_row, column, columns, blocks, column_edges):
    """Move the sums of a band of rows, all of one block row, to columns and blocks; empty the band."""
    block = np.searchsorted(column_edges, column, side="right") - 1
    start = 0
    while start < band.size:
        stop = min(band.size, column_edges[block + 1] - column)
        piece, total = band[start:stop], np.int32(0)
        for j in range(piece.size):
            total = np.int32(total + np.int32(piece[j]))
        blocks[block_row, block] += total
        start, block = stop, block + 1
    below = columns[column : column + band.size]
    for j in range(band.size):
        below[j] += np.int32(band[j])
        band[j] = 0


@_compiled("void(u1[:,::1], i8, i8, u1, i4[::1], i4[::1], i4[:,::1], i8[::1], i8[::1])")
def scatter(flags, row, column, flag, rows, columns, blocks, row_edges, column_edges):
    """Add the entries equal to `flag`, of a window that begins at `row`, `column`, to rows, columns and blocks."""
    height, width = flags.shape
    band = np.zeros(width, np.uint16)
    block = np.searchsorted(row_edges, row, side="right") - 1
    pending = 0
    for r in range(height):
        if row + r == row_edges[block + 1] or pending == 65535:
            _settle(band, block, column, columns, blocks, column_edges)
            pending = 0
            block += row + r == row_edges[block + 1]
        line, total = flags[r], 0
        for j in range(width):
            hit = np.uint8(line[j] == flag)
            total += hit
            band[j] = np.uint16(band[j] + hit)
        rows[row + r] += np.int32(total)
        pending += 1
    _settle(band, block, column, columns, blocks, column_edges)
