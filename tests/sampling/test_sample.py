"""What a sample says of its tensor and of groups."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from rlviz.sampling.assemble import estimates
from rlviz.sampling.result import Estimate
from rlviz.sampling.sample import SHARES, Sample, known
from rlviz.sampling.units import Grid
from rlviz.types import Lens, TensorMatch, TensorMeta

WIDTH = 7361


def sampled(
    rows: int, count: int, units: int, changed: Callable[[int], int], *, strata: int = 1, layer: int = 0
) -> Sample:
    """`units` units of a tensor whose row r has `changed(r)` changed entries."""
    meta = TensorMeta(f"model.layers.{layer}.w", "BF16", (rows, WIDTH), "s", 0, 2 * rows * WIDTH, layer, "w")
    grid = Grid(TensorMatch(meta, meta, rows), count, 1, strata)
    sample = Sample(grid)
    for unit, stratum in grid.order(0, 0, units):
        start, stop = (b // WIDTH for b in grid.bounds(unit))
        hits = sum(map(changed, range(start, stop)))
        sample.strata.append(stratum)
        sample.entries.append((stop - start) * WIDTH)
        sample.counts.append(np.full(SHARES, hits))
        sample.squares.append((hits * 1e-8, (stop - start) * WIDTH * 4e-4))
        sample.read += (stop - start) * WIDTH
    return sample


def pooled(*samples: Sample) -> Estimate:
    return estimates(samples, {}).pooled.density[Lens.BF16]


@pytest.mark.parametrize(
    "samples",
    [
        [sampled(250, 72, 42, lambda _: 4938)],  # units of three rows and of four
        [sampled(256, 64, 32, lambda r: 4938 if r < 128 else 17, strata=2)],  # alike within each stratum
        [sampled(250, 72, 1, lambda _: 4938, layer=i) for i in range(30)],  # one unit each
        [sampled(250, 72, 2 if i < 20 else 0, lambda _: 4938, layer=i) for i in range(30)],  # some tensors not read
    ],
)
def test_where_all_units_agree_rounding_is_no_variance(samples):
    """Column stripes: every row has as many changed entries as any other."""
    share = pooled(*samples)
    assert share.low < share.estimate - 1e-3
    assert share.high > share.estimate + 1e-3


def test_units_that_differ_by_little_keep_their_narrow_interval():
    share = pooled(sampled(256, 64, 32, lambda r: 4938 + r % 3))
    assert 0 < share.half_width < 1e-3


def test_a_unit_of_a_stratum_that_was_drawn_less_often_weighs_more():
    found = known(sampled(256, 64, 5, lambda _: 1, strata=2))
    assert found is not None
    assert found.heaviest == pytest.approx(1 / 4)
    assert found.p[0] == pytest.approx(1 / WIDTH)
