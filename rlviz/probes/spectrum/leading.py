"""Leading singular directions of matrices too large to decompose: randomised block Krylov with an error estimate.

A seeded Gaussian block is multiplied by WᵀW a few times; Rayleigh-Ritz on everything seen gives values and vectors,
and the products already made give each vector's residual. A subspace is trusted as far as its residual is small
against the gap below it: in a flat bulk it is not, and the estimate says so (up to 90°).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rlviz.probes.spectrum.blocks import Tall
from rlviz.probes.spectrum.decompose import Decomposition, Method
from rlviz.probes.spectrum.device import selected

Matrix = NDArray[np.float64]

PASSES = 4  # block products with WᵀW; each reads the matrix once
OVERSAMPLE = 16
SEED = 20251108
RANK_FLOOR = 1e-6  # of σ1: values come from squares, so smaller ones are rounding


def decompose_leading(matrix: Tall, k: int) -> Decomposition:
    """The leading `k` singular values and small-side vectors, with an estimate of what they are off by.

    `values` has one more entry than `basis` has columns where there is one, so that the gap γ_K is known.
    """
    n = matrix.shape[1]
    width = min(k + OVERSAMPLE, n)
    block = np.linalg.qr(np.random.default_rng(SEED).standard_normal((n, width)))[0]
    space, images = block, _gram_times(matrix, block)
    for _ in range(PASSES - 1):
        if space.shape[1] >= n:
            break
        block = _orthogonal_to(space, images[:, -block.shape[1] :])
        space, images = np.hstack([space, block]), np.hstack([images, _gram_times(matrix, block)])
    squares, mix = np.linalg.eigh(_symmetric(space.T @ images))
    squares, mix = np.maximum(squares[::-1], 0), mix[:, ::-1]
    values = np.sqrt(squares)
    rank = min(k, int(np.count_nonzero(values > RANK_FLOOR * values[0])))
    if rank == 0:
        return Decomposition(np.zeros(min(k, n)), np.zeros((n, 0)), Method.LEADING, np.zeros(0))
    keep = min(rank + 1, mix.shape[1])
    residuals = images @ mix[:, :keep] - (space @ mix[:, :keep]) * squares[:keep]
    error = _angle_error(squares[:keep], residuals, rank)
    return Decomposition(values[:keep], space @ mix[:, :rank], Method.LEADING, error)


def _gram_times(matrix: Tall, vectors: Matrix) -> Matrix:
    device = selected()
    right, total = device.put(vectors), device.zeros(*vectors.shape)
    for block in matrix.blocks():
        there = device.put(block)
        total += there.T @ (there @ right)
    return device.get(total)


def _orthogonal_to(space: Matrix, vectors: Matrix) -> Matrix:
    for _ in range(2):  # twice is enough to be orthogonal to rounding
        vectors = vectors - space @ (space.T @ vectors)
        vectors = np.linalg.qr(vectors)[0]
    return vectors[:, : len(space) - space.shape[1]]


def _symmetric(matrix: Matrix) -> Matrix:
    return (matrix + matrix.T) / 2


def _angle_error(squares: Matrix, residuals: Matrix, rank: int) -> Matrix:
    """Residual of the first k vectors over the gap below them (Davis-Kahan), for ``k = 1 … rank``, in rad.

    The value below the gap is only known to within its own residual, which is taken off the gap.
    """
    norms = np.linalg.norm(residuals, axis=0)
    below = np.append(squares + norms, 0.0)[1 : rank + 1]
    gaps = squares[:rank] - below
    sizes = np.sqrt(np.cumsum(norms[:rank] ** 2))  # Frobenius norm of the block, at least its 2-norm
    sines = np.divide(sizes, gaps, out=np.ones(rank), where=gaps > sizes)
    return np.arcsin(np.minimum(sines, 1.0))
