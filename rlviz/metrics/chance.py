"""What chance alone gives: angles between random subspaces."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Curve = NDArray[np.float64]

DRAWS = 32
SEED = 20251108


@lru_cache(maxsize=512)
def _mean_angles(d: int, k: int) -> Curve:
    curve = random_subspace_angles(d, k).mean(axis=0)
    curve.flags.writeable = False
    return curve


def random_subspace_angles(d: int, k: int) -> Curve:
    """Seeded draws ``[32, k]`` (rad, ascending) of the principal angles of two random k-subspaces of R^d."""
    small = min(k, d - k)  # beyond d/2 the orthogonal complements have the same non-zero angles
    angles = np.zeros((DRAWS, k))
    if small > 0:
        rng = np.random.default_rng([SEED, d, k])
        for row in angles:
            # U1 in the frame of U0 is a Haar frame; with Gaussian blocks A (k rows), B (d-k rows) its tangents are
            # the singular values of B A⁻¹, and the triangular factors of A and B have known laws (Bartlett)
            upper, lower = _bartlett(rng, small, small), _bartlett(rng, small, d - small)
            tangents = np.linalg.svd(np.linalg.solve(upper, lower), compute_uv=False)
            row[k - small :] = np.arctan(tangents)[::-1]
    return angles


def _bartlett(rng: np.random.Generator, size: int, freedom: int) -> Curve:
    """Cholesky factor ``[size, size]`` of a Wishart matrix with `freedom` degrees of freedom (>= size)."""
    factor = np.tril(rng.standard_normal((size, size)), -1)
    np.fill_diagonal(factor, np.sqrt(rng.chisquare(freedom - np.arange(size))))
    return factor


def chance_angle_curve(d: int, k: int) -> Curve:
    """Principal angles between two independent uniformly random k-dimensional subspaces of R^d.

    The line to read a measured curve against: unrelated subspaces of a large space are nearly orthogonal, of a small
    space they are not. Mean of 32 seeded draws, each exact in law whatever d (nothing of size d is formed); the mean
    of cos² is k/d. Where ``2 k > d``, the first ``2 k - d`` angles are 0 by dimension.

    Parameters
    ----------
    d : int
        Dimension of the side: d_out left, d_in right.
    k : int
        Subspace rank, ``1 <= k <= d``.

    Returns
    -------
    ndarray, ``[k]``, rad in [0, π/2], ascending; read-only

    Examples
    --------
    >>> chance_angle_curve(4, 3).round(3)[:2].tolist()
    [0.0, 0.0]
    """
    return _mean_angles(d, k)
