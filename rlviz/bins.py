"""The grids that probes count on and metrics read: one definition, so that a slider value is a bin edge.

Histograms over a grid of edges ``e`` put a value ``x`` into bin ``#{i : e[i] < x}``; the number of values with
``x > e[i]`` is then exactly ``counts[i + 1:].sum()``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCKS = 256
"""Largest number of blocks of the update map along either side."""

ULP_BINS = 18
"""Magnitude bins of the code distance: 0, 1, 2, 3-4, 5-8, …, 32769-65536."""


def _three_digit_grid(first_decade: int, last_decade: int, per_decade: int) -> NDArray[np.float64]:
    steps = range(first_decade * per_decade, last_decade * per_decade + 1)
    decades, parts = zip(*(divmod(step, per_decade) for step in steps), strict=True)
    # the decimal literal, so that 1e-3 here is the float a reader types
    grid = np.array([float(f"{10 ** (part / per_decade):.2f}e{d}") for d, part in zip(decades, parts, strict=True)])
    grid.setflags(write=False)
    return grid


ETA_EDGES: NDArray[np.float64] = _three_digit_grid(-8, 0, 20)
"""Relative tolerances on offer, 1e-8 to 1, twenty a decade, three significant digits."""

TAU_EDGES: NDArray[np.float64] = _three_digit_grid(-12, 2, 20)
"""Absolute tolerances on offer, 1e-12 to 100, twenty a decade, three significant digits."""


def block_edges(size: int) -> NDArray[np.int64]:
    """Where the blocks of the update map begin along a side of `size` rows or columns.

    Returns
    -------
    ndarray of int64, shape (min(size, BLOCKS) + 1,)
        Block ``b`` holds the indices ``edges[b] <= i < edges[b + 1]``; sizes differ by at most one.

    Examples
    --------
    >>> block_edges(3).tolist()
    [0, 1, 2, 3]
    >>> block_edges(600)[:4].tolist()
    [0, 3, 5, 8]
    """
    blocks = min(size, BLOCKS)
    return -(-np.arange(blocks + 1, dtype=np.int64) * size // max(blocks, 1))


def ulp_bin_labels() -> list[str]:
    """Labels of the magnitude bins of the code distance.

    Examples
    --------
    >>> ulp_bin_labels()[:5]
    ['0', '1', '2', '3-4', '5-8']
    """
    return ["0", "1", "2", *(f"{2 ** (b - 2) + 1}-{2 ** (b - 1)}" for b in range(3, ULP_BINS))]


def signed_ulp_labels() -> tuple[str, ...]:
    """Labels of the ``2 * ULP_BINS - 1`` signed bins, in value order: "-32769-65536" over "0" to "+32769-65536"."""
    names = ulp_bin_labels()
    return (*(f"-{name}" for name in names[:0:-1]), names[0], *(f"+{name}" for name in names[1:]))
