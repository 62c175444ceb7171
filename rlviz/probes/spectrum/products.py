"""Small products of a pair's leading subspaces: enough for angles and energies at every k up to K."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlviz.probes.spectrum.blocks import Tall, TallWeight
from rlviz.probes.spectrum.decompose import Decomposition, decompose

Matrix = NDArray[np.float64]

INTRUDER_DIRECTIONS = 10  # the number INTR (2410.21228) inspects


@dataclass(frozen=True, slots=True, eq=False)
class Products:
    """Of a tall pair ``[m, n]``: "large" is the side of dimension m, "small" of n; K0, K1 columns of base, tuned.

    Attributes
    ----------
    cross_large, cross_small : ndarray, ``[K0, K1]``
        Base basis transposed times tuned basis.
    core : ndarray, ``[K0, K0]``
        ``A0ᵀ ΔW B0`` with A0 the large-side and B0 the small-side base basis.
    energy_large, energy_small : ndarray, ``[K0]``
        ``‖ΔWᵀ a_i‖²`` and ``‖ΔW b_i‖²``.
    update_energy : float
        ``‖ΔW‖²_F``.
    """

    cross_large: Matrix
    cross_small: Matrix
    core: Matrix
    energy_large: Matrix
    energy_small: Matrix
    update_energy: float


def products(base: Tall, tuned: Tall, of_base: Decomposition, of_tuned: Decomposition) -> Products:
    """One pass over both matrices.

    Large-side vectors are ``W v_i / σ_i`` block by block, orthonormal only to about ``ε σ1 / σ_i``; a Cholesky factor
    of their own products makes them so. It is triangular, so the first k columns still span the leading k.
    """
    b0, b1 = of_base.basis, of_tuned.basis
    s0, s1 = of_base.values[: b0.shape[1]], of_tuned.values[: b1.shape[1]]
    n, k0, k1 = len(b0), b0.shape[1], b1.shape[1]
    own0, own1, cross, core = np.zeros((k0, k0)), np.zeros((k1, k1)), np.zeros((k0, k1)), np.zeros((k0, k0))
    pulled, energy_small, update_energy = np.zeros((n, k0)), np.zeros(k0), 0.0
    for w0, w1 in zip(base.blocks(), tuned.blocks(), strict=True):
        update = w1 - w0
        a0, a1, moved = (w0 @ b0) / s0, (w1 @ b1) / s1, update @ b0
        own0 += a0.T @ a0
        own1 += a1.T @ a1
        cross += a0.T @ a1
        core += a0.T @ moved
        pulled += update.T @ a0
        energy_small += np.einsum("ij,ij->j", moved, moved)
        update_energy += float(np.vdot(update, update))
    cross = _reduced(own1, _reduced(own0, cross).T).T
    pulled = _reduced(own0, pulled.T)
    energy_large = np.einsum("ij,ij->i", pulled, pulled)
    return Products(cross, b0.T @ b1, _reduced(own0, core), energy_large, energy_small, update_energy)


def _reduced(own: Matrix, right: Matrix) -> Matrix:
    """``L⁻¹ right`` with ``own = L Lᵀ``: the products of orthonormalised vectors from those of the vectors."""
    return np.asarray(np.linalg.solve(np.linalg.cholesky(own), right), dtype=np.float64)


def leading_cosines(cross_left: Matrix) -> Matrix:
    """Largest |cosine| of each of the ten leading tuned left vectors with any of the K base vectors kept."""
    cosines = np.abs(cross_left[:, :INTRUDER_DIRECTIONS])
    return cosines.max(axis=0) if cosines.size else np.zeros(0)


def intruder_cosines(
    base: TallWeight, tuned: TallWeight, of_base: Decomposition, of_tuned: Decomposition, cross_left: Matrix
) -> Matrix:
    """Largest |cosine| of each of the ten leading tuned left vectors with any base left vector, all r of them.

    Where the part of a tuned vector outside the K base vectors kept is shorter than the largest cosine found, no
    other base vector can beat it; otherwise the base is decomposed again, in full.
    """
    best = leading_cosines(cross_left)
    rest = 1.0 - (cross_left[:, : len(best)] ** 2).sum(axis=0)
    if len(best) == 0 or cross_left.shape[0] == base.shape[1] or np.all(best**2 >= rest):
        return best
    full = decompose(base, base.shape[1])
    vectors = of_tuned.basis[:, : len(best)]
    if base.transposed:  # left is the small side
        return np.maximum(best, np.abs(full.basis.T @ vectors).max(axis=0))
    seen = np.zeros(vectors.shape)
    for w0, w1 in zip(base.blocks(), tuned.blocks(), strict=True):
        seen += w0.T @ ((w1 @ vectors) / of_tuned.values[: len(best)])
    cosines = (full.basis.T @ seen) / full.values[: full.basis.shape[1], None]
    return np.maximum(best, np.abs(cosines).max(axis=0))
