"""How far the weights moved, and in how few entries the energy of the move lies."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import hypot, nan, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from rlviz.metrics.base import Metric, Parts
from rlviz.metrics.coordinate import PROBE, float_fields
from rlviz.types import Measured, MetricParams

_OPDS = "arXiv:2606.13657, analyze_opd_delta.py"


def _root(field: str) -> Callable[[Measured, MetricParams], float]:
    def value(measured: Measured, _params: MetricParams) -> float:
        fields = float_fields(measured)
        return nan if fields is None else sqrt(float(fields[field]))

    return value


def _relative(measured: Measured, _params: MetricParams) -> tuple[float, float] | None:
    fields = float_fields(measured)
    return None if fields is None else (float(fields["update_norm_sq"]), float(fields["base_norm_sq"]))


def _largest(measured: Measured, _params: MetricParams) -> float:
    fields = float_fields(measured)
    return nan if fields is None else float(fields["max_abs_update"])


def top_energy(
    counts: NDArray[np.generic], sumsq: NDArray[np.generic], n: int, share: float
) -> tuple[float, float] | None:
    """Energy of the largest entries of the update, and all its energy.

    The ``share · n`` entries of largest ``|ΔW|``, read from the histogram: the bin that is cut contributes in
    proportion. Bins are 12 % wide, so that the cut bin's part is off by at most 1.12² of itself; the rest is exact.

    Parameters
    ----------
    counts, sumsq : ndarray, shape (bins,)
        Changed entries and Σ ΔW² per bin of ascending ``|ΔW|``.
    n : int
        All entries, unchanged ones included.
    share : float
        In (0, 1].

    Returns
    -------
    tuple of float, or None where nothing changed

    Examples
    --------
    >>> top_energy(np.array([2, 2]), np.array([2.0, 8.0]), 100, 0.01)  # one of the two entries of energy 4
    (4.0, 10.0)
    """
    total = float(np.sum(sumsq))
    if total == 0.0:
        return None
    per_bin, energy = np.asarray(counts, dtype=np.float64)[::-1], np.asarray(sumsq, dtype=np.float64)[::-1]
    before = np.concatenate([[0.0], np.cumsum(per_bin)[:-1]])
    taken = np.clip(share * n - before, 0.0, per_bin)
    used = per_bin > 0
    return float(np.sum(energy[used] * taken[used] / per_bin[used])), total


def _top_energy(share: float) -> Parts:
    def parts(measured: Measured, _params: MetricParams) -> tuple[float, float] | None:
        fields = float_fields(measured)
        if fields is None:
            return None
        return top_energy(fields["tau_counts"], fields["tau_sumsq"], int(fields["n"]), share)

    return parts


@cache
def gaussian_top_energy(share: float) -> float:
    """Share of the energy of independent Gaussian entries that lies in the largest `share` of them.

    With ``2(1 − Φ(t)) = share`` it is ``2(t φ(t) + 1 − Φ(t))``.

    Examples
    --------
    >>> round(gaussian_top_energy(0.01), 4), gaussian_top_energy(1.0)
    (0.0845, 1.0)
    """
    normal = NormalDist()
    threshold = normal.inv_cdf(1 - share / 2)
    return 2 * threshold * normal.pdf(threshold) + share


def _top_energy_metric(percent: str) -> Metric:
    share = float(percent) / 100
    return Metric(
        key=f"top_energy_{percent.replace('.', 'p')}",
        title=f"Energy in the top {percent} %",
        formula=rf"\frac{{\sum_{{i \in T}} \Delta w_i^2}}{{\lVert \Delta W \rVert_F^2}}, \quad "
        rf"T = \text{{the }} {percent}\,\% \text{{ of entries with the largest }} |\Delta w_i|",
        unit="fraction",
        source=f"{_OPDS} (coordinate energy concentration)",
        meaning=f"Share of the squared update that lies in the {percent} % of entries that moved most.",
        probe=PROBE,
        scale="fraction",
        parts=_top_energy(share),
        chance=lambda m, p: gaussian_top_energy(share),
        chance_text="independent Gaussian entries, not rounded",
        caveat="From a histogram with bins 12 % wide: the cut bin counts in proportion. Pooled: the top entries of "
        "each tensor, not of all tensors together.",
    )


METRICS: tuple[Metric, ...] = (
    Metric(
        key="relative_update_norm",
        title="Relative update norm",
        formula=r"\frac{\lVert \Delta W \rVert_F}{\lVert W_0 \rVert_F}",
        unit="",
        source="definition; used throughout arXiv:2606.07082v3 and arXiv:2606.13657",
        meaning="Length of the update as a share of the length of the base weights.",
        probe=PROBE,
        scale="log",
        parts=_relative,
        finish=sqrt,
        caveat="Float64 accumulation over the stored values. Near 1, the base is probably not the ancestor.",
    ),
    Metric(
        key="update_norm",
        title="Update norm",
        formula=r"\lVert \Delta W \rVert_F",
        unit="",
        source="definition",
        meaning="Frobenius norm of the update.",
        probe=PROBE,
        scale="log",
        value=_root("update_norm_sq"),
        combine=lambda norms: hypot(*norms),
        combine_text="root of the summed squares",
        caveat="Grows with the size of the tensor; compare relative norms between tensors.",
    ),
    Metric(
        key="base_norm",
        title="Base norm",
        formula=r"\lVert W_0 \rVert_F",
        unit="",
        source="definition",
        meaning="Frobenius norm of the base weights.",
        probe=PROBE,
        scale="log",
        value=_root("base_norm_sq"),
        combine=lambda norms: hypot(*norms),
        combine_text="root of the summed squares",
        caveat="Grows with the size of the tensor.",
    ),
    Metric(
        key="max_abs_update",
        title="Largest move",
        formula=r"\max_i |\Delta w_i|",
        unit="",
        source=_OPDS,
        meaning="The largest change of a single entry.",
        probe=PROBE,
        scale="log",
        value=_largest,
        combine=max,
        combine_text="largest",
        caveat="One entry decides it.",
    ),
    *(_top_energy_metric(percent) for percent in ("0.1", "1", "5")),
)
