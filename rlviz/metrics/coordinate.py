"""How many entries changed, by how much, and where: readers of the coordinate record, and the counting metrics.

Sparsity is the share unchanged, density the share changed. Counts are exact integers; every group is pooled by
summing counts (metric specification, section 1).
"""

from __future__ import annotations

from collections.abc import Callable
from math import nan

import numpy as np
from numpy.typing import NDArray

from rlviz.bins import ETA_EDGES, TAU_EDGES, block_edges
from rlviz.dtypes import ELEMENT_TYPES
from rlviz.metrics.base import Metric, Parts
from rlviz.types import LENSES, Lens, Measured, MetricParams

Floats = NDArray[np.float64]

PROBE = "coordinate"
PNT, MUK = "arXiv:2511.08567", "arXiv:2505.11711"


def field(measured: Measured, name: str) -> NDArray[np.generic]:
    """One field of the coordinate record."""
    return measured.records[PROBE].fields[name]


def number(measured: Measured, name: str) -> float:
    """One scalar field as a float."""
    return float(np.asarray(field(measured, name), dtype=np.float64))


def n_compared(measured: Measured) -> int:
    """Entries compared: all but those that are NaN or infinite on either side."""
    return int(np.asarray(field(measured, "n"), dtype=np.int64))


def n_nonfinite(measured: Measured) -> int:
    """Entries where either side is NaN or infinite as stored; in no other count."""
    return int(np.asarray(field(measured, "n_nonfinite"), dtype=np.int64))


def n_changed(measured: Measured, lens: Lens) -> int:
    """Entries that differ once both sides are rounded to the lens.

    Integers and booleans have no lens but `stored`, which then answers for all.
    """
    counts = np.asarray(field(measured, "n_changed"), dtype=np.int64)
    return int(counts[LENSES.index(lens)] if counts.size == len(LENSES) else counts[0])


def n_overflow(measured: Measured, lens: Lens) -> int:
    """Finite entries of which at least one side rounds beyond the lens's largest finite value."""
    return int(np.asarray(field(measured, "n_overflow"), dtype=np.int64)[LENSES.index(lens)])


def is_float(measured: Measured) -> bool:
    """Whether the record has histograms and norms: integers and booleans have counts only."""
    return ELEMENT_TYPES[measured.match.base.dtype].is_float


def row_density(measured: Measured) -> Floats:
    """Changed share of each row under bf16, ``[d_out]``; NaN where a row has no finite entry."""
    return _density(measured, "row", measured.shape[-1] if measured.shape else 1)


def column_density(measured: Measured) -> Floats:
    """Changed share of each column under bf16, ``[d_in]``; NaN where a column has no finite entry."""
    return _density(measured, "column", d_out(measured))


def d_out(measured: Measured) -> int:
    """Number of rows, leading dimensions folded."""
    return int(np.prod(measured.shape[:-1], dtype=np.int64))


def block_density(measured: Measured) -> tuple[Floats, NDArray[np.int64], NDArray[np.int64]]:
    """The update map: changed share under bf16 on at most 256 × 256 blocks, with row and column edges.

    Returns
    -------
    density : ndarray, ``[row blocks, column blocks]``, in [0, 1], NaN where a block has no finite entry
    row_edges, column_edges : ndarrays of int64, one longer than the blocks along that side
    """
    rows = block_edges(d_out(measured))
    columns = block_edges(measured.shape[-1] if measured.shape else 1)
    sizes = np.multiply.outer(np.diff(rows), np.diff(columns)).astype(np.float64)
    return _share(field(measured, "block_changed"), sizes, field(measured, "block_nonfinite")), rows, columns


def above_eta(measured: Measured, eta: float) -> int:
    """Entries with ``|ΔW| > η·max(|w0|, |w1|)``, exact where η is one of `ETA_EDGES` (else: the next edge up)."""
    return _above(measured, "eta_counts", ETA_EDGES, eta)


def above_tau(measured: Measured, tau: float) -> int:
    """Entries with ``|ΔW| > τ``, exact where τ is one of `TAU_EDGES` (else: the next edge up)."""
    return _above(measured, "tau_counts", TAU_EDGES, tau)


def _above(measured: Measured, name: str, edges: Floats, threshold: float) -> int:
    at = min(int(np.searchsorted(edges, threshold * (1 - 1e-12))), edges.size - 1)
    return int(np.asarray(field(measured, name), dtype=np.int64)[at + 1 :].sum())


def _density(measured: Measured, what: str, width: int) -> Floats:
    changed = field(measured, f"{what}_changed")
    return _share(changed, np.full(changed.shape, float(width)), field(measured, f"{what}_nonfinite"))


def _share(changed: NDArray[np.generic], sizes: Floats, nonfinite: NDArray[np.generic]) -> Floats:
    known = sizes - np.asarray(nonfinite, dtype=np.float64) if nonfinite.size else sizes
    counts = np.asarray(changed, dtype=np.float64)
    return np.divide(counts, known, out=np.full(known.shape, nan), where=known > 0)


def share_of_compared(count: Callable[[Measured, MetricParams], float]) -> Parts:
    """Parts of a metric that is a count over the entries compared."""

    def parts(measured: Measured, params: MetricParams) -> tuple[float, float] | None:
        return (count(measured, params), n_compared(measured)) if is_float(measured) else None

    return parts


def _unchanged(measured: Measured, params: MetricParams) -> tuple[float, float] | None:
    n = n_compared(measured)
    return n - n_changed(measured, params.lens), n


def _changed(measured: Measured, params: MetricParams) -> tuple[float, float] | None:
    return n_changed(measured, params.lens), n_compared(measured)


def _hidden(measured: Measured, params: MetricParams) -> tuple[float, float] | None:
    """Entries changed as stored and not under the lens, over those changed as stored.

    A lens never tells apart what is equal as stored, so the difference of counts is the count of the difference.
    """
    stored = n_changed(measured, Lens.STORED)
    return stored - n_changed(measured, params.lens), stored


def _one_ulp(measured: Measured, _params: MetricParams) -> tuple[float, float] | None:
    if not is_float(measured):
        return None
    counts = np.asarray(field(measured, "ulp_counts"), dtype=np.float64)
    middle = counts.size // 2
    return float(counts[middle - 1] + counts[middle + 1]), float(counts.sum() - counts[middle])


def _patch_bytes(measured: Measured, _params: MetricParams) -> tuple[float, float] | None:
    """Bytes of the cheaper of a sparse patch (4-byte index and value per change) and the dense tensor."""
    itemsize = ELEMENT_TYPES[measured.match.tuned.dtype].itemsize
    n = n_compared(measured) + n_nonfinite(measured)
    dense = n * itemsize
    sparse = (n_changed(measured, Lens.STORED) + n_nonfinite(measured)) * (4 + itemsize)
    return min(sparse, dense), dense


def _dispersion(side: str) -> Callable[[Measured, MetricParams], float]:
    def value(measured: Measured, _params: MetricParams) -> float:
        if not measured.match.is_matrix or not is_float(measured):
            return nan
        density = row_density(measured) if side == "row" else column_density(measured)
        across = measured.shape[1] if side == "row" else measured.shape[0]
        n = n_compared(measured)
        p = n_changed(measured, Lens.BF16) / n if n else nan
        known = density[np.isfinite(density)]
        if known.size < 2 or not 0 < p < 1:
            return nan
        return float(np.var(known, ddof=1) / (p * (1 - p) / across))

    return value


def _dispersion_metric(side: str, symbol: str, across: str) -> Metric:
    return Metric(
        key=f"{side}_dispersion",
        title=f"{side.capitalize()} dispersion",
        formula=rf"\frac{{\operatorname{{Var}}({symbol})}}{{p(1-p)/{across}}}",
        unit="",
        source=f"{PNT} §2.2 (stripes)",
        meaning=f"How unevenly changes fall over {side}s: the variance of {side} densities over that of coin flips.",
        probe=PROBE,
        scale="log",
        value=_dispersion(side),
        chance=lambda measured, params: 1.0,
        chance_text="1 for independent flips; isotropic noise plus rounding already gives 1 to 7.6",
        caveat="Read it against its precision or shuffle null, not against 1. Undefined at density 0 or 1.",
    )


METRICS: tuple[Metric, ...] = (
    Metric(
        key="update_sparsity",
        title="Update sparsity",
        formula=r"1-\frac{\#\{i:\operatorname{lens}(w_{1,i})\neq\operatorname{lens}(w_{0,i})\}}{n}",
        unit="fraction",
        source=f"{PNT} Definitions 2.1 and 2.2; {MUK}",
        meaning="Share of weights that are unchanged once both sides are rounded to the lens.",
        probe=PROBE,
        scale="fraction",
        parts=_unchanged,
        caveat="A readout of step size and rounding as much as of learning: in-distribution SFT can reach 91 %.",
        uses=("lens",),
    ),
    Metric(
        key="density",
        title="Update density",
        formula=r"\frac{\#\{i:\operatorname{lens}(w_{1,i})\neq\operatorname{lens}(w_{0,i})\}}{n}",
        unit="fraction",
        source=f"{PNT} Definition 2.2",
        meaning="Share of weights that changed once both sides are rounded to the lens: 1 minus the sparsity.",
        probe=PROBE,
        scale="fraction",
        parts=_changed,
        uses=("lens",),
    ),
    Metric(
        key="hidden_fraction",
        title="Hidden updates",
        formula=r"1-\frac{n_{\text{changed}}^{\text{lens}}}{n_{\text{changed}}^{\text{stored}}}",
        unit="fraction",
        source=f"{PNT} (Gate III, precision)",
        meaning="Of the weights that changed as stored, the share that the lens hides.",
        probe=PROBE,
        scale="fraction",
        parts=_hidden,
        caveat="Zero by construction where the files are stored in the lens's own format.",
        uses=("lens",),
    ),
    Metric(
        key="n_changed_rel",
        title="Changed beyond η",
        formula=r"\frac{\#\{i:|\Delta w_i|>\eta\,\max(|w_{0,i}|,|w_{1,i}|)\}}{n}",
        unit="fraction",
        source=f"{PNT} Definition 2.1 (η = 1e-3)",
        meaning="Share of weights that moved by more than η of the larger of the two values, as stored.",
        probe=PROBE,
        scale="fraction",
        parts=share_of_compared(lambda m, p: above_eta(m, p.eta)),
        caveat="On bf16 values every change exceeds 2⁻⁸, so any smaller η counts bit changes.",
        uses=("eta",),
    ),
    Metric(
        key="n_changed_abs",
        title="Changed beyond τ",
        formula=r"\frac{\#\{i:|\Delta w_i|>\tau\}}{n}",
        unit="fraction",
        source=f"{MUK} (τ = 1e-5)",
        meaning="Share of weights that moved by more than τ, as stored.",
        probe=PROBE,
        scale="fraction",
        parts=share_of_compared(lambda m, p: above_tau(m, p.tau)),
        caveat="A one-ULP bf16 step is below 1e-5 for every |w| < 2⁻⁹: an absolute tolerance inflates sparsity.",
        uses=("tau",),
    ),
    Metric(
        key="one_ulp_share",
        title="One-ULP moves",
        formula=r"\frac{\#\{|c_1-c_0|=1\}}{\#\{c_1\neq c_0\}}",
        unit="fraction",
        source=f"{PNT} (Gate III, precision)",
        meaning="Of the weights whose bf16 code changed, the share that moved by a single code.",
        probe=PROBE,
        scale="fraction",
        parts=_one_ulp,
        caveat="Near 1 says that steps are about half a ULP, whatever drove them.",
    ),
    _dispersion_metric("row", r"\rho", "d_{in}"),
    _dispersion_metric("column", r"\kappa", "d_{out}"),
    Metric(
        key="patch_share",
        title="Sparse patch size",
        formula=r"\frac{\min\big(n_{\text{changed}}(4+b),\,n\,b\big)}{n\,b}",
        unit="fraction",
        source="arXiv:2605.07330; arXiv:2602.03839",
        meaning="Size of a lossless patch (4-byte index and value per change) over the size of the tuned tensor.",
        probe=PROBE,
        scale="fraction",
        parts=_patch_bytes,
        caveat="Without compression; a tensor is sent dense where that is smaller.",
    ),
)
