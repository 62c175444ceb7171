"""How strong the strongest direction of the update is, against isotropic noise of the same length.

The largest singular value of an m × n matrix of independent entries of variance s² concentrates at ``s (√m + √n)``, the
edge of the Marchenko-Pastur law, with fluctuations of the order of m^(-2/3) that follow the Tracy-Widom law (Johnstone,
2001; entries need not be Gaussian: Péché, 2009). No simulation is needed for the null.
"""

from __future__ import annotations

from math import nan, sqrt

import numpy as np
from numpy.typing import NDArray

from rlviz.metrics.base import Metric
from rlviz.metrics.spectrum import PROBE, spectra
from rlviz.types import Measured, MetricParams

Floats = NDArray[np.float64]

# Chiani's (2014) approximation of the Tracy-Widom law for real matrices by a shifted gamma law: shape, scale, shift
_GAMMA = (46.446, 0.186054, 9.84801)


def edge_ratio(update: Floats, shape: tuple[int, int]) -> float:
    """``σ_1(ΔW) / (s (√d_out + √d_in))`` with ``s² = ‖ΔW‖²_F / (d_out d_in)``.

    Parameters
    ----------
    update : ndarray, ``[r]``
        Singular values of the update, descending.
    shape : tuple of int

    Returns
    -------
    float
        About 1 for isotropic noise, ``√r`` and more for a single direction; NaN for no update.

    Examples
    --------
    >>> edge_ratio(np.array([1.0, 0.0, 0.0, 0.0]), (4, 4))  # one direction: √16 / (√4 + √4)
    1.0
    """
    length = float(np.sqrt(np.sum(update**2)))
    d_out, d_in = shape
    return float(update[0]) / length * sqrt(d_out * d_in) / (sqrt(d_out) + sqrt(d_in)) if length > 0 else nan


def edge_chance(ratio: Floats, d_out: NDArray[np.int64], d_in: NDArray[np.int64]) -> Floats:
    """Probability that isotropic noise has an `edge_ratio` at least as large: the tail of the Tracy-Widom law.

    ``(ℓ − μ)/σ`` with ``ℓ = σ_1²/s²``, ``μ = (√(m−1) + √n)²``, ``σ = (√(m−1) + √n)(1/√(m−1) + 1/√n)^(1/3)`` (Johnstone
    2001, Theorem 1.1).
    """
    from scipy.special import gammaincc

    m, n = np.maximum(d_out, d_in).astype(np.float64), np.minimum(d_out, d_in).astype(np.float64)
    largest = (ratio * (np.sqrt(m) + np.sqrt(n))) ** 2
    root = np.sqrt(m - 1) + np.sqrt(n)
    x = (largest - root**2) / (root * (1 / np.sqrt(m - 1) + 1 / np.sqrt(n)) ** (1 / 3))
    shape, scale, shift = _GAMMA
    return np.asarray(gammaincc(shape, np.maximum(x + shift, 0.0) / scale), dtype=np.float64)


def _edge_ratio(measured: Measured, _params: MetricParams) -> float:
    found = spectra(measured)
    return nan if found is None else edge_ratio(found[2], (measured.shape[0], measured.shape[-1]))


METRICS: tuple[Metric, ...] = (
    Metric(
        key="update_edge_ratio",
        title="Strongest direction of the update against noise",
        formula=r"\frac{\lVert\Delta W\rVert_2}{s(\sqrt{d_{out}}+\sqrt{d_{in}})},"
        r"\quad s^2=\frac{\lVert\Delta W\rVert_F^2}{d_{out}d_{in}}",
        unit="",
        source="Johnstone 2001 (Tracy-Widom law of the largest eigenvalue)",
        meaning="The update's largest singular value over that of isotropic noise of the same length.",
        probe=PROBE,
        scale="log",
        value=_edge_ratio,
        chance=lambda m, p: 1.0,
        chance_text="1 for isotropic noise, with fluctuations of 1 % at a thousand rows and less beyond",
        caveat="Rounding to bf16 adds noise and lowers it. Rows or columns of unequal length raise it without a "
        "direction of their own.",
    ),
)
