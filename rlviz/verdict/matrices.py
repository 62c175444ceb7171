"""The matrices that Gate II is about, and their values."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlviz.metrics import METRICS
from rlviz.metrics.spectrum import PROBE
from rlviz.result import PairResult
from rlviz.types import Measured, MetricParams


def matrices(result: PairResult) -> tuple[Measured, ...]:
    """Those whose spectrum is known and changed."""
    return tuple(m for m in result.floats if PROBE in m.records and float(m.records[PROBE].fields["update_energy"]) > 0)


def each(key: str, group: tuple[Measured, ...], params: MetricParams) -> NDArray[np.float64]:
    """A metric of each; NaN where undefined."""
    return np.array([METRICS[key].of(m, params) for m in group], dtype=np.float64)
