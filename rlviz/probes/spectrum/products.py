"""Small products of a pair's leading subspaces: enough for angles and energies at every k up to K."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rlviz.probes.spectrum.blocks import Oriented, Tall, aligned
from rlviz.probes.spectrum.decompose import Decomposition, decompose
from rlviz.probes.spectrum.device import selected

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
    energy_large : ndarray, ``[K0]``
        ``‖ΔWᵀ a_i‖²``.
    """

    cross_large: Matrix
    cross_small: Matrix
    core: Matrix
    energy_large: Matrix


class UpdateSums(Protocol):
    """What else is summed over the blocks of the update while both matrices stream by."""

    def add(self, update: Matrix) -> None:
        """Take in one block ``[rows, n]``, an array of the selected device."""
        ...

    def energies(self, basis: Matrix) -> Matrix:
        """``‖ΔW b_i‖²`` for the columns of `basis`, ``[K]``."""
        ...

    def energy(self) -> float:
        """``‖ΔW‖²_F``."""
        ...


class UpdateGram:
    """``ΔWᵀΔW`` in its lower triangle: all energies, to about 1e-15 of ``‖ΔW‖²_2``, and the update's spectrum."""

    def __init__(self, n: int) -> None:
        self._total = selected().zeros(n, n)

    def add(self, update: Matrix) -> None:
        selected().add_update_gram(self._total, update)

    @property
    def total(self) -> Matrix:
        return selected().get(self._total)

    def energies(self, basis: Matrix) -> Matrix:
        """``bᵀ D b = 2 bᵀ L b - Σ_j d_jj b_j²`` with L the lower triangle of D."""
        total = self.total
        half = np.einsum("ij,ij->j", basis, total @ basis)
        return np.maximum(2 * half - np.diag(total) @ basis**2, 0)

    def energy(self) -> float:
        return float(np.trace(self.total))


class UpdateProjection:
    """The update's energies along one basis, where ``n x n`` is too large."""

    def __init__(self, basis: Matrix) -> None:
        self._basis, self._there = basis, selected().put(basis)
        self._energies, self._energy = np.zeros(basis.shape[1]), 0.0

    def add(self, update: Matrix) -> None:
        device = selected()
        self._energies += device.squares(update @ self._there)
        self._energy += float(device.squares(update).sum())

    def energies(self, basis: Matrix) -> Matrix:
        if basis is not self._basis:
            raise ValueError("energies were summed along another basis")
        return self._energies

    def energy(self) -> float:
        return self._energy


def products(
    base: Tall, tuned: Tall, of_base: Decomposition, of_tuned: Decomposition, of_update: UpdateSums
) -> Products:
    """One pass over both matrices; `of_update` sees every block of the update.

    Large-side vectors are ``W v_i / σ_i`` block by block, orthonormal only to about ``ε σ1² / σ_i²``; a Cholesky factor
    of their own products makes them so (cosines near 1 need it: an error δ of theirs is an angle of √2δ). It is
    triangular, so the first k columns still span the leading k.
    """
    device, b0, b1 = selected(), of_base.basis, of_tuned.basis
    to_base = device.put(b0 / of_base.values[: b0.shape[1]])
    to_tuned = device.put(b1 / of_tuned.values[: b1.shape[1]])
    n, k0, k1 = len(b0), b0.shape[1], b1.shape[1]
    own0, own1, cross, pulled = (device.zeros(*shape) for shape in ((k0, k0), (k1, k1), (k0, k1), (n, k0)))
    for w0, w1, update in aligned(base, tuned):
        a0, a1, moved = device.put(w0) @ to_base, device.put(w1) @ to_tuned, device.put(update)
        device.add_gram(own0, a0)
        device.add_gram(own1, a1)
        cross += a0.T @ a1
        pulled += moved.T @ a0
        of_update.add(moved)
    own0, own1, cross, pulled = (device.get(total) for total in (own0, own1, cross, pulled))
    cross = _reduced(own1, _reduced(own0, cross).T).T
    along = _reduced(own0, pulled.T)  # u_iᵀ ΔW, one row each
    return Products(cross, b0.T @ b1, along @ b0, np.einsum("ij,ij->i", along, along))


def _reduced(own: Matrix, right: Matrix) -> Matrix:
    """``L⁻¹ right`` with ``own = L Lᵀ``: the products of orthonormalised vectors from those of the vectors."""
    return np.asarray(np.linalg.solve(np.linalg.cholesky(own), right), dtype=np.float64)


def leading_cosines(cross_left: Matrix) -> Matrix:
    """Largest |cosine| of each of the ten leading tuned left vectors with any of the K base vectors kept."""
    cosines = np.abs(cross_left[:, :INTRUDER_DIRECTIONS])
    return cosines.max(axis=0) if cosines.size else np.zeros(0)


def intruder_cosines(
    base: Oriented, tuned: Tall, of_base: Decomposition, of_tuned: Decomposition, cross_left: Matrix
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
