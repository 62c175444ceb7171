"""Compiled loops over sparse updates. Import this module only to run it: importing loads numba."""

# pyright: basic, reportIndexIssue=false, reportGeneralTypeIssues=false, reportOperatorIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
from __future__ import annotations

from numba import njit

BAND = 64  # rows of the triangle at a time: 0.5 MB at n = 896, so that they stay in cache


def _compiled(signature):
    return njit(signature, nogil=True, cache=True, error_model="numpy")


@_compiled("i8(f8[:,::1], i8[::1], u4[::1], f8[::1])")
def pack_rows(block, starts, columns, values):
    """Columns and values of the nonzero entries, row by row. Returns their number, or -1 where there is no room."""
    count, room = 0, values.size - block.shape[1]
    for i in range(block.shape[0]):
        if count > room:
            return -1
        starts[i] = count
        for j in range(block.shape[1]):
            columns[count] = j
            values[count] = block[i, j]
            count += block[i, j] != 0.0
    starts[block.shape[0]] = count
    return count


@_compiled("i8(f8[:,::1], i8[::1], u4[::1], f8[::1])")
def pack_columns(across, starts, columns, values):
    """`pack_rows` of the transpose."""
    n, rows = across.shape
    starts[:] = 0
    for j in range(n):
        for i in range(rows):
            starts[i + 1] += across[j, i] != 0.0
    for i in range(rows):
        starts[i + 1] += starts[i]
    if starts[rows] > values.size:
        return -1
    place = starts.copy()
    for j in range(n):
        for i in range(rows):
            if across[j, i] != 0.0:
                columns[place[i]] = j
                values[place[i]] = across[j, i]
                place[i] += 1
    return starts[rows]


@_compiled("void(i8[::1], u4[::1], f8[::1], f8[:,::1])")
def add_packed_gram(starts, columns, values, total):
    """Lower triangle of ``total += blockᵀ block``."""
    n, rows = total.shape[0], starts.size - 1
    place = starts.copy()
    for band in range(BAND, n + BAND, BAND):
        for i in range(rows):
            first, end, p = starts[i], starts[i + 1], place[i]
            own, weights = columns[first:end], values[first:end]
            while p < end and columns[p] < band:
                line, weight = total[columns[p]], values[p]
                for q in range(p + 1 - first):
                    line[own[q]] += weight * weights[q]
                p += 1
            place[i] = p
