"""Compiled loops of the shuffle null. Import this module only to run it: importing loads numba."""

# pyright: basic, reportIndexIssue=false, reportGeneralTypeIssues=false, reportOperatorIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
from __future__ import annotations

import numpy as np
from numba import njit


def _compiled(signature):
    return njit(signature, nogil=True, cache=True, error_model="numpy")


@_compiled("void(f4[::1], u1[::1], i8[::1], f4[::1])")
def scatter(values, buckets, ends, out):
    """Put each value into its bucket; `ends` holds the buckets' starts and is moved to their ends."""
    for i in range(values.size):
        place = ends[buckets[i]]
        out[place] = values[i]
        ends[buckets[i]] = place + 1


@_compiled("void(u1[::1], i8[::1])")
def tally_buckets(buckets, sizes):
    """Count entries per bucket."""
    for i in range(buckets.size):
        sizes[buckets[i]] += 1


@_compiled("void(f4[::1], u4[::1])")
def shuffle(values, draws):
    """Fisher and Yates in place, one 32-bit draw a value."""
    for i in range(values.size - 1, 0, -1):
        j = (np.uint64(draws[i]) * np.uint64(i + 1)) >> np.uint64(32)
        kept = values[i]
        values[i] = values[j]
        values[j] = kept


@_compiled("u4(f8)")
def bf16_code(value):
    """One rounding of a float64 to bf16, to nearest even, by way of float32 rounded to odd."""
    near = np.float32(value)
    bits = near.view(np.uint32)
    if np.float64(near) != value:
        if abs(np.float64(near)) > abs(value):
            bits -= np.uint32(1)  # towards zero: magnitudes are ordered as their bits
        bits |= np.uint32(1)
    return (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)


@_compiled("void(f4[::1], f4[::1], u1[::1])")
def flag_flips(base, update, changed):
    """Whether base + update, summed in float64 and rounded once to bf16, differs from the base rounded to bf16."""
    for i in range(base.size):
        before = bf16_code(np.float64(base[i]))
        after = bf16_code(np.float64(base[i]) + np.float64(update[i]))
        changed[i] = (before != after) & (((before | after) & np.uint32(0x7FFF)) != 0)


@_compiled("void(u1[::1], u1[::1], i8[::1])")
def tally_levels(levels, changed, counts):
    """Count the changed entries by level."""
    for i in range(levels.size):
        counts[levels[i]] += changed[i]


@_compiled("void(u1[:,::1], i8[::1], i8[::1])")
def tally_lines(changed, rows, columns):
    """Count the changed entries of every row and column."""
    for i in range(changed.shape[0]):
        total = 0
        for j in range(changed.shape[1]):
            total += changed[i, j]
            columns[j] += changed[i, j]
        rows[i] += total
