"""Counting one pair: windows in, the fields of `CoordinateProbe` out. Importing this module loads numba."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from threading import local

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from rlviz.bins import ETA_EDGES, TAU_EDGES, ULP_BINS, block_edges
from rlviz.dtypes import ELEMENT_TYPES, to_float64
from rlviz.probes.base import Fields, TensorPair, Window
from rlviz.probes.coordinate import kernels
from rlviz.probes.coordinate.lenses import rounding_table
from rlviz.types import LENSES

CODE_WINDOW = 1 << 18
"""Entries per window of bf16 codes: both sides and the flags stay in a shared cache."""

VALUE_WINDOW = 1 << 16
"""Entries per window where both sides are decoded to float64."""

LISTED = 1 << 19
"""Pairs of distant bf16 codes kept until the scale of the fp8 lenses is known."""

CHANGED, NONFINITE = 1, 2
"""Flags of an entry, set by the kernels."""

TABLE_CAPACITY = 1 << 31
"""Entries after which the 32-bit cells of the table are emptied."""


class Tallies:
    """The running totals of one pair, as the kernels keep them."""

    def __init__(self) -> None:
        self.hist = np.zeros((6, kernels.WIDTH), np.int64)
        self.sums = np.zeros((2, kernels.WIDTH))

    @property
    def tail(self) -> tuple[NDArray[np.generic], ...]:
        """The last arguments of every weighing kernel."""
        return self.hist, self.sums, *_grids()

    def fields(self) -> Fields:
        """The fields that do not depend on position."""
        counts, ulps = self.hist[kernels.COUNTS], slice(kernels.ULP_ZERO + 1 - ULP_BINS, kernels.ULP_ZERO + ULP_BINS)
        totals, tau_bins = self.sums[kernels.TOTALS], TAU_EDGES.size + 1
        return {
            "n": np.array(counts[kernels.N]),
            "n_nonfinite": np.array(counts[kernels.NONFINITE]),
            "n_changed": counts[kernels.CHANGED : kernels.CHANGED + len(LENSES)].copy(),
            "n_overflow": counts[kernels.OVERFLOW : kernels.OVERFLOW + len(LENSES)].copy(),
            "eta_counts": self.hist[kernels.ETA, : ETA_EDGES.size + 1].copy(),
            "tau_counts": self.hist[kernels.TAU, :tau_bins].copy(),
            "tau_sumsq": self.sums[kernels.TAU_SUMSQ, :tau_bins].copy(),
            "ulp_counts": self.hist[kernels.ULP, ulps].copy(),
            "exponent_n": self.hist[kernels.EXPONENT_N, :256].copy(),
            "exponent_changed": self.hist[kernels.EXPONENT_CHANGED, :256].copy(),
            "base_norm_sq": np.array(totals[kernels.BASE_SUMSQ]),
            "tuned_norm_sq": np.array(totals[kernels.TUNED_SUMSQ]),
            "update_norm_sq": np.array(self.sums[kernels.TAU_SUMSQ].sum()),
            "max_abs_update": np.array(totals[kernels.LARGEST]),
        }


class Places:
    """Entries with one flag, by row, column and block."""

    def __init__(self, pair: TensorPair, flag: int) -> None:
        self.flag = flag
        self.rows, self.columns = np.zeros(pair.d_out, np.int32), np.zeros(pair.d_in, np.int32)
        self.edges = block_edges(pair.d_out), block_edges(pair.d_in)
        self.blocks = np.zeros((self.edges[0].size - 1, self.edges[1].size - 1), np.int32)

    def add(self, window: Window, flags: NDArray[np.uint8]) -> None:
        """Add the flags of a window, one an entry."""
        placed = flags[: window.base.size].reshape(window.base.shape)
        kernels.scatter(placed, window.row, window.column, self.flag, self.rows, self.columns, self.blocks, *self.edges)


def _placed(what: str, places: Places | None) -> Fields:
    """Three fields, the map in the smallest type that holds it; empty where no place was ever needed."""
    rows, columns, blocks = np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros((0, 0), np.int32)
    if places is not None:
        rows, columns, blocks = places.rows, places.columns, places.blocks
    smallest = np.min_scalar_type(int(blocks.max(initial=0)))
    return {f"row_{what}": rows, f"column_{what}": columns, f"block_{what}": blocks.astype(smallest)}


def count_values(pair: TensorPair) -> Fields:
    """Any two float types, both decoded to float64. Reads the base twice: first for its largest magnitude."""
    tallies, changed = Tallies(), Places(pair, CHANGED)
    nonfinite: Places | None = None
    table = rounding_table(largest_magnitude(pair))
    wide = "F64" in (pair.match.base.dtype, pair.match.tuned.dtype)
    entries = min(VALUE_WINDOW, pair.match.n)
    base, tuned, flags = np.empty(entries), np.empty(entries), np.empty(entries, np.uint8)
    known = 0
    for window in pair.windows(VALUE_WINDOW):
        n = window.base.size
        _decode(window.base.reshape(-1), pair.match.base.dtype, base[:n])
        _decode(window.tuned.reshape(-1), pair.match.tuned.dtype, tuned[:n])
        kernels.weigh_values(base[:n], tuned[:n], flags, wide, table, *tallies.tail)
        changed.add(window, flags)
        if tallies.hist[kernels.COUNTS, kernels.NONFINITE] > known:
            known = tallies.hist[kernels.COUNTS, kernels.NONFINITE]
            nonfinite = nonfinite or Places(pair, NONFINITE)
            nonfinite.add(window, flags)
    return {**tallies.fields(), **_factors(table), **_placed("changed", changed), **_placed("nonfinite", nonfinite)}


def count_codes(pair: TensorPair) -> Fields:
    """Two bf16 tensors, by a table of base code × code distance; the same fields as `count_values`.

    The fp8 lenses need the largest base magnitude before a pair is weighed. The table and a list of distant pairs
    wait for it to the end; only where they fill up is the base read ahead.
    """
    with _workspace() as work:
        return _count_codes(pair, work)


def _count_codes(pair: TensorPair, work: _Workspace) -> Fields:
    tallies, changed = Tallies(), Places(pair, CHANGED)
    nonfinite: Places | None = None
    reach = np.array([kernels.ABS, 0])
    scale: tuple[NDArray[np.generic], ...] = ()
    waiting = tabled = 0
    for window in pair.windows(CODE_WINDOW):
        base, tuned = window.base.reshape(-1), window.tuned.reshape(-1)
        if kernels.flag_bf16(base, tuned, work.flags, reach):
            nonfinite = nonfinite or Places(pair, NONFINITE)
            nonfinite.add(window, work.flags)
        changed.add(window, work.flags)
        waiting = kernels.tabulate(base, tuned, work.cells, work.listed, waiting)
        tabled += base.size
        if waiting > LISTED or tabled > TABLE_CAPACITY:
            scale = scale or _scale(largest_magnitude(pair))
            kernels.weigh_listed(work.listed, waiting, *scale, *tallies.tail)
            waiting = 0
        if tabled > TABLE_CAPACITY:
            _empty_table(work.cells, reach, nonfinite is not None, (*scale, *tallies.tail))
            tabled = 0
    scale = scale or _scale(float(_values("BF16")[reach[1]]))
    kernels.weigh_listed(work.listed, waiting, *scale, *tallies.tail)
    _empty_table(work.cells, reach, nonfinite is not None, (*scale, *tallies.tail))
    return {**tallies.fields(), **_factors(scale[0]), **_placed("changed", changed), **_placed("nonfinite", nonfinite)}


def count_integers(pair: TensorPair) -> Fields:
    """Integers and booleans: how many entries differ, and where."""
    changed, n_changed = Places(pair, CHANGED), 0
    for window in pair.windows(VALUE_WINDOW):
        flags = (window.base != window.tuned).view(np.uint8).reshape(-1)
        n_changed += int(np.count_nonzero(flags))
        changed.add(window, flags)
    return {
        "n": np.array(pair.match.n),
        "n_nonfinite": np.array(0),
        "n_changed": np.array([n_changed]),
        **_placed("changed", changed),
        **_placed("nonfinite", None),
    }


def largest_magnitude(pair: TensorPair) -> float:
    """Largest finite ``|w0|`` of the compared entries, by reading the base alone; 0 where there is none.

    Codes without their sign bit are ordered as magnitudes are, so only the largest is decoded.
    """
    element, n = ELEMENT_TYPES[pair.match.base.dtype], pair.match.n
    largest = np.array(ml_dtypes.finfo(element.values).max).view(element.codes)[()]
    absolute = element.codes.type((1 << (8 * element.itemsize - 1)) - 1)
    top = element.codes.type(0)
    codes = np.empty(min(CODE_WINDOW, n), dtype=element.codes)
    for start in range(0, n, CODE_WINDOW):
        window = codes[: min(CODE_WINDOW, n - start)]
        pair.base.read_into(start, window)
        np.bitwise_and(window, absolute, out=window)
        window[window > largest] = 0
        top = max(top, window.max())
    return float(to_float64(np.array([top], dtype=element.codes), pair.match.base.dtype)[0])


def _scale(amax: float) -> tuple[NDArray[np.generic], ...]:
    table = rounding_table(amax)
    return table, kernels.signatures(table)


def _factors(table: NDArray[np.generic]) -> Fields:
    return {"fp8_factor": table[[kernels.E4M3, kernels.E5M2], 5]}


def _empty_table(
    cells: NDArray[np.uint32], reach: NDArray[np.int64], has_nonfinite: bool, arguments: tuple[NDArray[np.generic], ...]
) -> None:
    """Weigh the table and zero it, over the base codes that occurred."""
    ranges = [(0, 0), (int(reach[0]), int(reach[1]))]
    if has_nonfinite:
        ranges.append((kernels.INFINITE, kernels.ABS))
    for sign in (0, kernels.ABS + 1):
        for first, last in ranges:
            kernels.weigh_table(cells, sign + first, sign + last, *arguments)


class _Workspace(local):
    """Arrays of `count_codes`, one set a thread: fresh pages for every tensor would cost as much as the counting."""

    def __init__(self) -> None:
        self.cells = np.zeros(kernels.PLANES * kernels.PLANE, np.uint32)  # all zero between runs
        self.listed = np.empty(LISTED + CODE_WINDOW, np.uint32)
        self.flags = np.empty(CODE_WINDOW, np.uint8)


_WORKSPACE = _Workspace()


@contextmanager
def _workspace() -> Generator[_Workspace]:
    """This thread's workspace; a run that is cut short (a failed read) leaves it as new."""
    try:
        yield _WORKSPACE
    except BaseException:
        _WORKSPACE.cells = np.zeros_like(_WORKSPACE.cells)
        raise


@cache
def _grids() -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """`edges` and `lookup` of the kernels.

    `lookup` holds, for η and τ, the number of edges below each sixteenth of an octave (indexed by the upper
    magnitude bits of a float64; at most one edge lies inside, so that one comparison more gives the bin), then the
    magnitude bin of each code distance.
    """
    edges, lookup = np.full((2, kernels.WIDTH), np.inf), np.zeros((3, 1 << 16), np.int16)
    lower = (np.arange(1 << 15, dtype=np.uint64) << np.uint64(48)).view(np.float64)
    for row, grid in enumerate((ETA_EDGES, TAU_EDGES)):
        edges[row, : grid.size] = grid
        lookup[row, : lower.size] = np.searchsorted(grid, lower, side="left")
    lookup[2] = np.frexp(np.arange(1 << 16) - 0.5)[1] + 1  # 1 → 1 (0.5 = ½·2⁰), 2 → 2, 3 and 4 → 3
    lookup[2, 0] = 0
    return edges, lookup


@cache
def _values(dtype: str) -> NDArray[np.float64]:
    """The value of every code of a one- or two-byte float type."""
    codes = ELEMENT_TYPES[dtype].codes
    return to_float64(np.arange(1 << 8 * codes.itemsize).astype(codes), dtype)


def _decode(codes: NDArray[np.generic], dtype: str, out: NDArray[np.float64]) -> None:
    if codes.dtype.itemsize <= 2:
        kernels.decode(codes, _values(dtype), out)
    else:
        with np.errstate(invalid="ignore"):  # a signalling NaN is counted, not warned about
            np.copyto(out, codes.view(ELEMENT_TYPES[dtype].values))


def count_piece(
    base: NDArray[np.generic], tuned: NDArray[np.generic], dtypes: tuple[str, str], table: NDArray[np.float64]
) -> Fields:
    """The fields that do not depend on position, of a contiguous piece of two float tensors.

    `base` and `tuned` are flat codes of the `dtypes`; `table` is the `rounding_table` of the tensor they are from,
    whose largest magnitude no piece can know.
    """
    tallies, wide = Tallies(), "F64" in dtypes
    entries = min(VALUE_WINDOW, base.size)
    left, right, flags = np.empty(entries), np.empty(entries), np.empty(entries, np.uint8)
    for start in range(0, base.size, VALUE_WINDOW):
        n = min(VALUE_WINDOW, base.size - start)
        _decode(base[start : start + n], dtypes[0], left[:n])
        _decode(tuned[start : start + n], dtypes[1], right[:n])
        kernels.weigh_values(left[:n], right[:n], flags, wide, table, *tallies.tail)
    return tallies.fields()
