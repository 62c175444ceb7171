"""Gram sums and eigenpairs of a symmetric matrix, without the global interpreter lock.

NumPy adds a Gram matrix up through a mirrored copy per block, and its `eigh` computes all n eigenvectors; SciPy's
wrappers and subset solvers hold the lock, so that two worker threads would take turns. BLAS and LAPACK are therefore
called through SciPy's exported function pointers: a symmetric update in place; reduction to tridiagonal form once,
all eigenvalues by the root-free QR iteration, inverse iteration for the vectors wanted. At n = 896 with 128 vectors
that is half the time of `eigh`. (Two-stage reduction and dqds, which SciPy's library has too, are slower at such n on
one thread.) Symmetric matrices are held in their lower triangle; the upper one is never read.
"""

from __future__ import annotations

import ctypes
from functools import cache, cached_property
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

_WORK_PER_COLUMN = 64  # LAPACK block size: workspace for the blocked variants
RESIDUAL_LIMIT = 1e-13  # of |T z - z w| / w_max and |ZᵀZ - I| per unit of sqrt(n); dstein reaches about 1e-15
_ITERATED_SHARE = 0.5  # of all vectors: beyond it `eigh` is as fast


@cache
def _routine(library: str, name: str, arguments: int) -> Any:
    capsule = import_module(f"scipy.linalg.cython_{library}").__pyx_capi__[name]
    get_name = ctypes.pythonapi.PyCapsule_GetName
    get_name.restype, get_name.argtypes = ctypes.c_char_p, [ctypes.py_object]
    get_pointer = ctypes.pythonapi.PyCapsule_GetPointer
    get_pointer.restype, get_pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    # a CFUNCTYPE call releases the lock for its duration
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * arguments)(get_pointer(capsule, get_name(capsule)))


def _integer(value: int) -> Any:
    return ctypes.byref(ctypes.c_int(value))


def add_gram(total: Matrix, block: Matrix) -> None:
    """Add ``blockᵀ block`` to the lower triangle of `total`, in place.

    Parameters
    ----------
    total : ndarray of float64, ``[n, n]``, C-contiguous
    block : ndarray of float64, ``[rows, n]``
        Or the transpose of such a layout; other layouts are copied.

    Examples
    --------
    >>> total = np.zeros((2, 2))
    >>> add_gram(total, np.array([[1.0, 2.0]]))
    >>> total.tolist()
    [[1.0, 0.0], [2.0, 4.0]]
    """
    rows, n = block.shape
    if rows == 0 or n == 0:
        return
    steps = tuple(step // block.itemsize for step in block.strides)
    if not (steps[1] == 1 and steps[0] >= n) and not (steps[0] == 1 and steps[1] >= rows):
        block = np.ascontiguousarray(block)
        steps = (n, 1)
    # LAPACK counts by columns: a row-wise block is the transpose to it, and the lower triangle the upper
    order, pitch = (b"N", steps[0]) if steps[1] == 1 and steps[0] >= n else (b"T", steps[1])
    one, sides = ctypes.byref(ctypes.c_double(1.0)), (_integer(n), _integer(rows))
    update = _routine("blas", "dsyrk", 10)
    update(b"U", order, *sides, one, block.ctypes.data, _integer(pitch), one, total.ctypes.data, _integer(n))


class SymmetricEigen:
    """All eigenvalues of a symmetric matrix, and the vectors that are asked for.

    Parameters
    ----------
    matrix : ndarray of float64, ``[n, n]``, n ≥ 1
        Only the lower triangle is read. Kept, not changed.

    Attributes
    ----------
    values : ndarray, ``[n]``, descending

    Examples
    --------
    >>> found = SymmetricEigen(np.diag([1.0, 9.0, 4.0]))
    >>> found.values.round(12).tolist(), np.abs(found.vectors(1, 1)[:, 0]).round(12).tolist()
    ([9.0, 4.0, 1.0], [0.0, 0.0, 1.0])
    """

    def __init__(self, matrix: Matrix) -> None:
        n = len(matrix)
        self._matrix, self._n = matrix, _integer(n)
        self._reflectors, self._scales = np.array(matrix, order="C"), np.empty(n)
        self._diagonal, self._off_diagonal, self._work = np.empty(n), np.zeros(n), np.empty(_WORK_PER_COLUMN * n)
        status = ctypes.c_int()
        reduced = (self._reflectors, self._diagonal, self._off_diagonal, self._scales, self._work)
        a, d, e, tau, work = (x.ctypes.data for x in reduced)
        size, told = _integer(self._work.size), ctypes.byref(status)
        _routine("lapack", "dsytrd", 10)(b"U", self._n, a, self._n, d, e, tau, work, size, told)
        values, destroyed = self._diagonal.copy(), self._off_diagonal.copy()
        _routine("lapack", "dsterf", 4)(self._n, values.ctypes.data, destroyed.ctypes.data, told)
        self.values: Matrix = self._full[0] if status.value else values[::-1].copy()

    def vectors(self, first: int, count: int) -> Matrix:
        """Orthonormal eigenvectors ``[n, count]`` of ``values[first : first + count]``."""
        if count <= _ITERATED_SHARE * len(self._matrix):
            found = self._by_inverse_iteration(first, count)
            if found is not None:
                return found
        return np.ascontiguousarray(self._full[1][:, first : first + count])

    @cached_property
    def _full(self) -> tuple[Matrix, Matrix]:
        values, vectors = np.linalg.eigh(self._matrix)
        return values[::-1].copy(), vectors[:, ::-1]

    def _by_inverse_iteration(self, first: int, count: int) -> Matrix | None:
        n, status = len(self._matrix), ctypes.c_int()
        wanted = np.zeros(n)
        wanted[:count] = self.values[first : first + count][::-1]
        vectors = np.empty((n, count), order="F")
        one_block, block_end = np.ones(n, np.int32), np.zeros(n, np.int32)
        block_end[0] = n
        scratch, failed = np.empty(n, np.int32), np.empty(count, np.int32)
        d, e, work, told = (
            self._diagonal.ctypes.data,
            self._off_diagonal.ctypes.data,
            self._work.ctypes.data,
            ctypes.byref(status),
        )
        where = (wanted.ctypes.data, one_block.ctypes.data, block_end.ctypes.data, vectors.ctypes.data, self._n)
        more = (work, scratch.ctypes.data, failed.ctypes.data, told)
        _routine("lapack", "dstein", 13)(self._n, d, e, _integer(count), *where, *more)
        if status.value or not self._accurate(wanted[:count], vectors):
            return None
        a, tau, size = self._reflectors.ctypes.data, self._scales.ctypes.data, _integer(self._work.size)
        shape = (self._n, _integer(count))
        rotate = _routine("lapack", "dormtr", 13)
        rotate(b"L", b"U", b"N", *shape, a, self._n, tau, vectors.ctypes.data, self._n, work, size, told)
        return np.ascontiguousarray(vectors[:, ::-1])

    def _accurate(self, values: Matrix, vectors: Matrix) -> bool:
        """Whether these are orthonormal eigenvectors of the tridiagonal matrix; rotating them back loses nothing."""
        limit = RESIDUAL_LIMIT * np.sqrt(len(vectors))
        residual = vectors * (self._diagonal[:, None] - values)
        off = self._off_diagonal[: len(vectors) - 1, None]
        residual[1:] += off * vectors[:-1]
        residual[:-1] += off * vectors[1:]
        skew = np.abs(vectors.T @ vectors - np.eye(len(values))).max()
        return bool(skew <= limit and np.abs(residual).max() <= limit * np.abs(self.values[[0, -1]]).max())
