"""Counting one pair: windows in, the fields of `CoordinateProbe` out. Importing this module loads numba."""

from __future__ import annotations

from functools import cache

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from rlviz.bins import block_edges
from rlviz.dtypes import ELEMENT_TYPES, to_float64
from rlviz.probes.base import Fields, TensorPair, Window
from rlviz.probes.coordinate import kernels
from rlviz.probes.coordinate.lenses import rounding_table
from rlviz.types import LENSES, Lens

CODE_WINDOW = 1 << 18
"""Entries per window of bf16 codes: both sides and the flags stay in a shared cache."""

VALUE_WINDOW = 1 << 16
"""Entries per window where both sides are decoded to float64."""

LISTED = 1 << 20
"""Pairs of distant bf16 codes kept until the scale of the fp8 lenses is known."""

TABLE_CAPACITY = 1 << 31
"""Entries after which the 32-bit cells of the table are emptied."""


class _Count:
    """The running totals of one pair."""

    def __init__(self, pair: TensorPair) -> None:
        self.pair = pair
        self.tallies = kernels.new_tallies()
        self.changed = _new_grid(pair)
        self.nonfinite: kernels.Grid | None = None
        self.table = np.empty(0)

    @property
    def shared(self) -> tuple[object, ...]:
        """The arguments that every weighing kernel takes."""
        wide = "F64" in (self.pair.match.base.dtype, self.pair.match.tuned.dtype)
        return self.table, wide, kernels.GRIDS, self.tallies

    def place(self, window: Window, flags: NDArray[np.uint8], has_nonfinite: bool) -> None:
        """Add the flags of a window to rows, columns and blocks."""
        placed = flags[: window.base.size].reshape(window.base.shape)
        kernels.scatter(placed, window.row, window.column, 1, self.changed)
        if has_nonfinite:
            self.nonfinite = self.nonfinite or _new_grid(self.pair)
            kernels.scatter(placed, window.row, window.column, 2, self.nonfinite)

    def fields(self) -> Fields:
        """What `CoordinateProbe` documents."""
        t = self.tallies
        lenses = len(LENSES)
        return {
            "n": np.asarray(t.counts[0]),
            "n_nonfinite": np.asarray(t.counts[1]),
            "n_changed": t.counts[2 : 2 + lenses].copy(),
            "n_overflow": t.counts[2 + lenses :].copy(),
            "eta_counts": t.eta,
            "tau_counts": t.tau,
            "tau_sumsq": t.tau_sumsq,
            "ulp_counts": t.ulp,
            "exponent_n": t.exponent_n,
            "exponent_changed": t.exponent_changed,
            "base_norm_sq": np.asarray(t.sums[0]),
            "tuned_norm_sq": np.asarray(t.sums[1]),
            "update_norm_sq": np.asarray(t.tau_sumsq.sum()),
            "max_abs_update": np.asarray(t.sums[2]),
            "fp8_factor": self.table[[LENSES.index(Lens.FP8_E4M3), LENSES.index(Lens.FP8_E5M2)], 5],
            **_placed("changed", self.changed),
            **_placed("nonfinite", self.nonfinite),
        }


def count_values(pair: TensorPair) -> Fields:
    """Any two float types, both decoded to float64. Reads the base twice: first for its largest magnitude."""
    count = _Count(pair)
    count.table = rounding_table(largest_magnitude(pair))
    entries = min(VALUE_WINDOW, pair.match.n)
    base, tuned = np.empty(entries), np.empty(entries)
    flags = np.empty(entries, np.uint8)
    for window in pair.windows(VALUE_WINDOW):
        n, before = window.base.size, int(count.tallies.counts[1])
        _decode(window.base.reshape(-1), pair.match.base.dtype, base[:n])
        _decode(window.tuned.reshape(-1), pair.match.tuned.dtype, tuned[:n])
        kernels.weigh_values(base[:n], tuned[:n], *count.shared, flags)
        count.place(window, flags, bool(count.tallies.counts[1] > before))
    return count.fields()


def count_codes(pair: TensorPair) -> Fields:
    """Two bf16 tensors, by a table of base code × code distance; the same fields as `count_values`.

    The fp8 lenses need the largest base magnitude before a pair is weighed. The table and a list of distant pairs
    wait for it to the end; only where the list overflows is the base read ahead.
    """
    count = _Count(pair)
    values = _values("BF16")
    cells = np.zeros(kernels.PLANES * kernels.PLANE, np.uint32)
    listed = np.empty(LISTED + CODE_WINDOW, np.uint32)
    flags = np.empty(min(CODE_WINDOW, pair.match.n), np.uint8)
    reach = np.array([kernels.ABS, 0, 0])
    waiting = tabled = 0
    for window in pair.windows(CODE_WINDOW):
        base, tuned = window.base.reshape(-1), window.tuned.reshape(-1)
        before = int(reach[2])
        kernels.flag_bf16(base, tuned, flags, reach)
        count.place(window, flags, bool(reach[2] > before))
        waiting = kernels.tabulate(base, tuned, cells, listed, waiting)
        tabled += base.size
        if waiting > LISTED or tabled > TABLE_CAPACITY:
            if count.table.size == 0:
                count.table = rounding_table(largest_magnitude(pair))
            kernels.weigh_listed(listed, waiting, values, *count.shared)
            waiting = 0
        if tabled > TABLE_CAPACITY:
            _empty_table(cells, reach, values, count)
            tabled = 0
    if count.table.size == 0:
        count.table = rounding_table(float(values[reach[1]]))
    kernels.weigh_listed(listed, waiting, values, *count.shared)
    _empty_table(cells, reach, values, count)
    return count.fields()


def count_integers(pair: TensorPair) -> Fields:
    """Integers and booleans: how many entries differ, and where."""
    changed, n_changed = _new_grid(pair), 0
    for window in pair.windows(VALUE_WINDOW):
        flags = (window.base != window.tuned).view(np.uint8)
        n_changed += int(np.count_nonzero(flags))
        kernels.scatter(flags, window.row, window.column, 1, changed)
    return {
        "n": np.asarray(pair.match.n),
        "n_nonfinite": np.asarray(0),
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


def _empty_table(cells: NDArray[np.uint32], reach: NDArray[np.int64], values: NDArray[np.float64], count: _Count) -> None:
    """Weigh the table and zero it, over the base codes that occurred."""
    ranges = [(0, 0), (int(reach[0]), int(reach[1]))]
    if reach[2]:
        ranges.append((kernels.INFINITE, kernels.ABS))
    for sign in (0, kernels.ABS + 1):
        for first, last in ranges:
            kernels.weigh_table(cells, sign + first, sign + last, values, *count.shared)


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


def _new_grid(pair: TensorPair) -> kernels.Grid:
    row_edges, column_edges = block_edges(pair.d_out), block_edges(pair.d_in)
    return kernels.Grid(
        np.zeros(pair.d_out, np.int32),
        np.zeros(pair.d_in, np.int32),
        np.zeros((row_edges.size - 1, column_edges.size - 1), np.int32),
        row_edges,
        column_edges,
    )


def _placed(what: str, grid: kernels.Grid | None) -> Fields:
    """The three profiles of a grid, the map in the smallest type that holds it; empty without a grid."""
    if grid is None:
        none = np.zeros(0, np.int32)
        return {f"row_{what}": none, f"column_{what}": none, f"block_{what}": np.zeros((0, 0), np.uint8)}
    smallest = np.min_scalar_type(int(grid.blocks.max(initial=0)))
    return {f"row_{what}": grid.rows, f"column_{what}": grid.columns, f"block_{what}": grid.blocks.astype(smallest)}
