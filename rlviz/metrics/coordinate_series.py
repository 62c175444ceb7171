"""Curves, histograms and maps of the coordinate record, pooled over tensors by summing counts.

Functions of a group return None where no float tensor of it was measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlviz.bins import ETA_EDGES, TAU_EDGES, ULP_BINS, block_edges, signed_ulp_labels
from rlviz.metrics.coordinate import float_fields, record_fields
from rlviz.metrics.dispersion import profile
from rlviz.types import Measured

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ToleranceCurve:
    """Share of entries beyond each slider value; `share` falls with `edges`, both of the grid's length."""

    edges: Floats
    share: Floats
    n: int


@dataclass(frozen=True, slots=True, eq=False)
class UlpHistogram:
    """Entries by signed distance between bf16 codes; `labels` run from "-32769-65536" over "0" to "+32769-65536"."""

    labels: tuple[str, ...]
    counts: Counts
    n: int

    @property
    def share(self) -> Floats:
        """Of all entries; sums to 1."""
        return self.counts / max(self.n, 1)


@dataclass(frozen=True, slots=True, eq=False)
class FlipRate:
    """Entries and changed entries under bf16, by the binary exponent of w0.

    Only exponents that occur. `exponent` is e with 2^e <= |w0| < 2^(e+1); -127 stands for zeros and subnormals.
    """

    exponent: Counts
    n: Counts
    changed: Counts

    @property
    def rate(self) -> Floats:
        """Changed share within each exponent."""
        return self.changed / self.n


def _pooled(group: Iterable[Measured], *names: str) -> tuple[Counts, ...] | None:
    """Sums of count fields over the float tensors of a group."""
    members = [fields for m in group if (fields := float_fields(m)) is not None]
    if not members:
        return None
    return tuple(np.sum([fields[name].astype(np.int64) for fields in members], axis=0) for name in names)


def _tolerance_curve(group: Iterable[Measured], counts_name: str, edges: Floats) -> ToleranceCurve | None:
    pooled = _pooled(group, counts_name, "n")
    if pooled is None or not int(pooled[1]):
        return None
    counts, n = pooled
    above = np.cumsum(counts[::-1])[::-1][1:]
    return ToleranceCurve(edges, above / int(n), int(n))


def eta_curve(group: Iterable[Measured]) -> ToleranceCurve | None:
    """Share of entries with ``|ΔW| > η max(|w0|, |w1|)`` against η, on the stored values."""
    return _tolerance_curve(group, "eta_counts", ETA_EDGES)


def tau_curve(group: Iterable[Measured]) -> ToleranceCurve | None:
    """Share of entries with ``|ΔW| > τ`` against τ, on the stored values."""
    return _tolerance_curve(group, "tau_counts", TAU_EDGES)


def ulp_histogram(group: Iterable[Measured]) -> UlpHistogram | None:
    """Distances between the bf16 codes of both sides, tuned − base, in value order (−0 and +0 are one code)."""
    pooled = _pooled(group, "ulp_counts", "n")
    if pooled is None:
        return None
    assert pooled[0].size == 2 * ULP_BINS - 1
    return UlpHistogram(signed_ulp_labels(), pooled[0], int(pooled[1]))


def flip_rate_by_exponent(group: Iterable[Measured]) -> FlipRate | None:
    """Flip rate under bf16 against the exponent of w0: one ULP is constant within each exponent."""
    pooled = _pooled(group, "exponent_n", "exponent_changed")
    if pooled is None:
        return None
    n, changed = pooled
    occurring = np.flatnonzero(n)
    return FlipRate(occurring - 127, n[occurring], changed[occurring])


def _density(measured: Measured, part: str) -> Floats | None:
    counted = profile(measured, part)
    if counted is None:
        return None
    changed, sizes = counted
    return np.divide(changed, sizes, out=np.full(changed.size, np.nan), where=sizes > 0)


def row_density(measured: Measured) -> Floats | None:
    """Changed share ρ_i of each row under bf16, shape (d_out,); NaN where a row has no finite entry."""
    return _density(measured, "row")


def column_density(measured: Measured) -> Floats | None:
    """Changed share κ_j of each column under bf16, shape (d_in,); NaN where a column has no finite entry."""
    return _density(measured, "column")


def block_density(measured: Measured) -> Floats | None:
    """The update map: changed share under bf16 on a grid of at most 256 × 256 blocks.

    Shape (min(d_out, 256), min(d_in, 256)); NaN where a block has no finite entry.
    """
    fields = record_fields(measured)
    if fields is None:
        return None
    heights, widths = (np.diff(block_edges(fields[f"{part}_changed"].size)) for part in ("row", "column"))
    sizes = np.outer(heights, widths)
    if fields["block_nonfinite"].size:
        sizes = sizes - fields["block_nonfinite"].astype(np.int64)
    changed = fields["block_changed"].astype(np.float64)
    return np.divide(changed, sizes, out=np.full(changed.shape, np.nan), where=sizes > 0)
