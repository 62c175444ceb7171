"""Compiled loops of the masks probe. Import this module only to run it: importing loads numba.

Scores and magnitudes are float32 seen as their bits, signs ignored: non-negative floats are ordered as those integers
are. The upper half of the bits is the *coarse* bin of a value, the lower half its place within.
"""

# ruff: noqa: PLR0917

# pyright: basic, reportIndexIssue=false, reportGeneralTypeIssues=false, reportOperatorIssue=false
# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false
from __future__ import annotations

from numba import njit

COARSE = 1 << 15
FINE = 1 << 16
WAITING = 255
"""Level of a coarse bin that holds a threshold: only the whole value decides."""
NOWHERE = 255
"""Slot of a coarse bin without a threshold."""


def _compiled(signature):
    return njit(signature, nogil=True, cache=True, error_model="numpy")


@_compiled("void(i4[::1], i8[::1])")
def tally(bits, coarse):
    """Count values by coarse bin."""
    for i in range(bits.size):
        coarse[(bits[i] & 0x7FFFFFFF) >> 16] += 1


@_compiled("void(i4[::1], u1[::1], i8[:,::1])")
def tally_within(bits, slot, fine):
    """Count the values of some coarse bins by their place within; `slot` names the histogram of each coarse bin."""
    for i in range(bits.size):
        row = slot[(bits[i] & 0x7FFFFFFF) >> 16]
        if row != 255:
            fine[row, bits[i] & 0xFFFF] += 1


@_compiled("void(u2[::1], u1[::1], i8[:,::1])")
def tally_codes(codes, changed, counts):
    """Count bf16 codes without their sign, unchanged and changed."""
    for i in range(codes.size):
        counts[codes[i] & 0x7FFF, changed[i]] += 1


@_compiled("void(u2[::1], u2[::1], u1[::1])")
def flag_changed(base, tuned, changed):
    """Whether two bf16 codes differ in value; zeros of either sign are equal."""
    for i in range(base.size):
        changed[i] = (base[i] != tuned[i]) & (((base[i] | tuned[i]) & 0x7FFF) != 0)


@_compiled("void(i4[::1], u2[::1], u1[::1], u1[::1], i4[::1], u2[::1], i8, u2[::1])")
def make_keys(bits, codes, changed, level_of, thresholds, stratum_of, strata, keys):
    """``(low level · S + stratum) · 2 + changed`` of each entry; the low level counts thresholds not exceeded."""
    for i in range(bits.size):
        magnitude = bits[i] & 0x7FFFFFFF
        level = level_of[magnitude >> 16]
        if level == 255:
            level = 0
            for threshold in thresholds:
                level += magnitude <= threshold
        keys[i] = (level * strata + stratum_of[codes[i] & 0x7FFF]) * 2 + changed[i]


@_compiled("void(i4[::1], u2[::1], u1[::1], i4[::1], i8[:,::1])")
def classify(bits, keys, level_of, thresholds, joint):
    """Count entries by principal level (thresholds reached) and key."""
    for i in range(bits.size):
        score = bits[i] & 0x7FFFFFFF
        level = level_of[score >> 16]
        if level == 255:
            level = 0
            for threshold in thresholds:
                level += score >= threshold
        joint[level, keys[i]] += 1


@_compiled("void(i4[::1], i4[::1], u1[::1])")
def low_levels(bits, thresholds, levels):
    """Thresholds not exceeded by each entry, added to `levels`."""
    for threshold in thresholds:
        for i in range(bits.size):
            levels[i] += (bits[i] & 0x7FFFFFFF) <= threshold


@_compiled("void(i4[::1], i4[::1], u1[::1])")
def principal_levels(bits, thresholds, levels):
    """Thresholds reached by each entry, added to `levels`."""
    for threshold in thresholds:
        for i in range(bits.size):
            levels[i] += (bits[i] & 0x7FFFFFFF) >= threshold


@_compiled("void(u2[:,::1], u2[::1], f8[::1], i8, f8[:,::1], f8[:,::1])")
def add_expected(codes, stratum_of, chance, first_row, rows, columns):
    """Add each entry's flip probability, and its variance, to its row and its column."""
    for i in range(codes.shape[0]):
        mean = variance = 0.0
        for j in range(codes.shape[1]):
            p = chance[stratum_of[codes[i, j] & 0x7FFF]]
            spread = p * (1.0 - p)
            mean += p
            variance += spread
            columns[0, j] += p
            columns[1, j] += spread
        rows[0, first_row + i] = mean
        rows[1, first_row + i] = variance
