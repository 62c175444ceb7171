"""Singular values and leading small-side vectors of a tall matrix, to the accuracy the specification asks for.

*gram*: eigenvalues of WᵀW summed in float64 over row blocks. The error of σ_i is about ``ε σ1² / σ_i``, fine while
``σ_i > 3e-5 σ1``. What lies below is squared again by itself: with X the eigenvectors of the small eigenvalues,
``σ(W X)`` from ``(W X)ᵀ(W X)``, whose error is about ``(ε σ1² / 3e-5 σ1)² / 2σ_i`` from what X mixes in and
``ε (3e-5 σ1)² / σ_i`` from the second sum: a millionth at 1e-8 σ1. *direct*: QR over row blocks, then an SVD of the
triangle, error ``ε σ1``, at several times the price; for leading vectors that the first Gram matrix leaves unresolved.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from rlviz.probes.base import NotMeasurable
from rlviz.probes.spectrum.blocks import BLOCK_ENTRIES, Tall
from rlviz.probes.spectrum.device import Eigen, selected

Matrix = NDArray[np.float64]

EPSILON = float(np.finfo(np.float64).eps)
ERROR_FACTOR = 8.0  # errors of a Gram sum and of its eigenvalues in units of ε λ1; measured 1 to 4
SIGMA_FLOOR = 3e-5  # sqrt(ERROR_FACTOR ε / 2 / 1e-6): below it the Gram route misses 1e-6 relative
GAP_WANTED = 1e-8  # the specification promises angles where γ_k exceeds this share of σ1
GAP_TIMES_SIGMA = 2e-9  # ERROR_FACTOR ε / (2 · 8.7e-7 rad), doubled: below it the Gram route misses 1e-4°
RANK_FLOOR = 1e-10  # directions with σ_i below this share of σ1 are rounding, not geometry
SMALLEST_TRACE = 1e-280  # below it squares have lost digits to underflow


class Method(IntEnum):
    """How a spectrum was computed; stored with it."""

    GRAM = 0
    DIRECT = 1
    LEADING = 2


@dataclass(frozen=True, slots=True, eq=False)
class Decomposition:
    """Singular values and leading small-side singular vectors of one tall matrix.

    Attributes
    ----------
    values : ndarray, ``[n]`` (leading method: ``[K]`` or one more), descending
    basis : ndarray, ``[n, K]``
        Fewer columns than asked for where the matrix has lower rank.
    method : Method
    angle_error : ndarray, ``[K]``
        Estimated angle (rad) between the true leading k-dimensional subspace and the span of the first k columns.
    """

    values: Matrix
    basis: Matrix
    method: Method
    angle_error: Matrix


def gram_of(matrix: Tall) -> Matrix:
    """``WᵀW``, ``[n, n]``, summed over row blocks in float64; lower triangle, the upper is zero."""
    device, n = selected(), matrix.shape[1]
    total = device.zeros(n, n)
    for block in matrix.blocks():
        device.add_gram(total, device.put(block))
    gram = device.get(total)
    _check_range(gram, matrix)
    return gram


def _check_range(gram: Matrix, matrix: Tall) -> None:
    """Raise `NotMeasurable` where squares over- or underflowed."""
    trace = float(np.trace(gram))
    if not np.isfinite(trace) or (trace < SMALLEST_TRACE and any(block.any() for block in matrix.blocks())):
        raise NotMeasurable("range", f"{matrix.name}: squares of its entries leave the range of float64.")


def decompose(matrix: Tall, k: int) -> Decomposition:
    """Full spectrum and the leading `k` small-side vectors.

    Parameters
    ----------
    matrix : Tall, ``[m, n]``
    k : int
        Number of vectors wanted, at most n.
    """
    gram = gram_of(matrix)
    live = _live(gram)
    if live.size == 0:
        return Decomposition(np.zeros(len(gram)), np.zeros((len(gram), 0)), Method.GRAM, np.zeros(0))
    k = min(k, live.size)
    eigen = selected().eigen(_part(gram, live))
    values = _roots(eigen)
    if not _vectors_suffice(values, k):
        values, rows = _svd(matrix)
        return _decomposition(values, rows[:k].T, Method.DIRECT, 1)
    basis = _placed(eigen.vectors(0, k), live, len(gram))
    return _decomposition(_resolved(matrix, eigen, live), basis, Method.GRAM, 2)


def with_direct_values(matrix: Tall, found: Decomposition) -> Decomposition:
    """The same vectors with values from the direct route, where the matrix compared with it needed that."""
    return replace(found, values=_values_of(matrix), method=Method.DIRECT)


def singular_values(matrix: Tall, gram: Matrix) -> Matrix:
    """Full spectrum ``[n]``, descending, of a matrix whose Gram matrix was summed elsewhere; no vectors."""
    _check_range(gram, matrix)
    live = _live(gram)
    return _resolved(matrix, selected().eigen(_part(gram, live)), live) if live.size else np.zeros(len(gram))


def _live(gram: Matrix) -> NDArray[np.intp]:
    return np.flatnonzero(np.diag(gram))  # columns of zeros are exact zero singular values


def _part(gram: Matrix, live: NDArray[np.intp]) -> Matrix:
    return gram if live.size == len(gram) else gram[np.ix_(live, live)]


def _placed(vectors: Matrix, live: NDArray[np.intp], n: int) -> Matrix:
    if len(vectors) == n:
        return vectors
    placed = np.zeros((n, vectors.shape[1]))
    placed[live] = vectors
    return placed


def _roots(eigen: Eigen) -> Matrix:
    return np.sqrt(np.maximum(eigen.values, 0))


def _resolved(matrix: Tall, eigen: Eigen, live: NDArray[np.intp]) -> Matrix:
    """All n singular values; those that the Gram matrix leaves too coarse from the matrix times their vectors."""
    values, n = _roots(eigen), matrix.shape[1]
    first = int(np.count_nonzero(values >= SIGMA_FLOOR * values[0]))
    if first < live.size:
        device, count = selected(), live.size - first
        small, total = device.put(_placed(eigen.vectors(first, count), live, n)), device.zeros(count, count)
        for block in matrix.blocks():
            device.add_gram(total, device.put(block) @ small)
        values[first:] = _roots(device.eigen(device.get(total)))
        values = np.sort(values)[::-1]
    return np.pad(values, (0, n - live.size))


def _vectors_suffice(values: Matrix, k: int) -> bool:
    shares = values / values[0]
    gaps = (shares - np.append(shares[1:], 0))[:k]
    resolved = (gaps <= GAP_WANTED) | (gaps * shares[:k] >= GAP_TIMES_SIGMA)
    return bool(shares[k - 1] >= SIGMA_FLOOR and np.all(resolved))


def _triangle(matrix: Tall) -> Matrix:
    """A matrix of at most about n rows with the same singular values and right vectors: QR over row blocks."""
    m, n = matrix.shape
    if m <= 1.2 * n and m * n <= BLOCK_ENTRIES:
        return np.vstack([block.copy() for block in matrix.blocks()])
    triangle = np.zeros((0, n))
    for block in matrix.blocks():
        triangle = selected().triangle(np.vstack([triangle, block]))
    return triangle


def _values_of(matrix: Tall) -> Matrix:
    try:
        return selected().singular_values(_triangle(matrix))
    except np.linalg.LinAlgError as error:
        raise _unconverged(matrix) from error


def _svd(matrix: Tall) -> tuple[Matrix, Matrix]:
    try:
        return selected().singular_rows(_triangle(matrix))
    except np.linalg.LinAlgError as error:
        raise _unconverged(matrix) from error


def _unconverged(matrix: Tall) -> NotMeasurable:
    return NotMeasurable("no_convergence", f"{matrix.name}: the singular value decomposition did not converge.")


def _decomposition(values: Matrix, basis: Matrix, method: Method, power: int) -> Decomposition:
    """Drop directions that are rounding, and estimate what the others are off by.

    Two directions mix by about the error of the decomposed operator over the gap of its eigenvalues: WᵀW (`power` 2)
    or W itself (1).
    """
    k = min(basis.shape[1], int(np.count_nonzero(values > RANK_FLOOR * values[0])))
    levels = values**power
    gaps = np.maximum(levels[:k] - np.append(levels, 0)[1 : k + 1], np.finfo(np.float64).tiny)
    with np.errstate(over="ignore"):  # no gap, no accuracy: clipped to a right angle below
        error = ERROR_FACTOR * EPSILON * levels[0] / gaps
    return Decomposition(values, np.ascontiguousarray(basis[:, :k]), method, np.minimum(error, np.pi / 2))
