"""The grid covers a tensor once, and the order of draws is random, stratified and extendable."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from rlviz.sampling import units
from rlviz.sampling.design import LOCAL, REMOTE, grids
from rlviz.sampling.units import Grid, grid
from rlviz.types import TensorMatch, TensorMeta


def match(*shape: int, name: str = "w", dtype: str = "BF16") -> TensorMatch:
    meta = TensorMeta(name, dtype, shape, "s", 0, 2 * int(np.prod(shape)), 0, "w")
    return TensorMatch(meta, meta, shape[0] if shape else 1)


@pytest.mark.parametrize(
    "cut",
    [
        grid(match(1000, 64), 4096, 12),
        grid(match(7, 64), 200, 12),
        grid(match(3, 300_000), 4096, 12),  # a row longer than a request
        grid(match(5_000_000), 4096, 12),  # a vector: a single row
        grid(match(4, 5, 64), 256, 12),
        grid(match(), 4096, 12),
    ],
)
def test_units_cover_every_entry_once(cut: Grid):
    bounds = [cut.bounds(u) for u in range(cut.count)]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == cut.match.n
    assert all(left[1] == right[0] for left, right in pairwise(bounds))
    assert max(b - a for a, b in bounds) * 2 <= max(units.LONGEST_UNIT_BYTES, 2 * cut.width)
    if cut.pieces == 1:
        assert all((b - a) % cut.width == 0 for a, b in bounds)


@pytest.mark.parametrize("count", [1, 5, 64, 200_000])
def test_the_order_is_without_replacement_and_goes_on_where_it_stopped(count):
    cut = Grid(match(count, 8), count, 1, min(8, max(1, count // 4)))
    wanted = min(count, 100)
    once = cut.order(3, 0, wanted)
    assert len({u for u, _ in once}) == wanted
    assert cut.order(3, 0, 10) + cut.order(3, 10, wanted) == once if wanted > 10 else True
    edges = np.concatenate(([0], np.cumsum(cut.stratum_sizes())))
    assert all(edges[s] <= u < edges[s + 1] for u, s in once)
    if count > 5:
        assert cut.order(4, 0, wanted) != once
        drawn = np.bincount([s for _, s in once])
        assert drawn.max() - drawn.min() <= 1


def test_every_unit_is_as_likely_as_any_other():
    cut = Grid(match(40, 8), 40, 1, 4)
    first = np.concatenate([[u for u, _ in cut.order(seed, 0, 4)] for seed in range(2000)])
    counts = np.bincount(first, minlength=40)  # 200 expected, standard deviation 13.4
    assert np.abs(counts - 200).max() < 4.5 * 13.5


def test_the_budget_buys_twelve_units_where_rows_are_short():
    matches = [match(4096, 512, name=f"w{i}") for i in range(100)] + [match(512, name="norm")]
    cuts = grids(matches, 64 << 20, REMOTE)
    assert cuts[-1].count == 1
    assert 12 <= (64 << 20) / 100 / cuts[0].unit_bytes < 16
    assert grids(matches, 64 << 20, LOCAL)[0].unit_bytes < cuts[0].unit_bytes


def test_long_rows_leave_most_of_the_budget_to_two_units():
    cuts = grids([match(8192, 8192, name=f"w{i}") for i in range(560)], 64 << 20, REMOTE)
    assert cuts[0].unit_bytes == 2 * 8192 * 2
