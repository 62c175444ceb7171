"""Where the heavy array operations of the spectrum probe run: through LAPACK, or on the device `RLVIZ_DEVICE` names.

What a device holds is only ever multiplied, transposed, added and sliced; everything else comes back as NumPy first.
Decoding stays on the CPU. Records of two devices differ in their last digits and keep the same bounds.
"""

from __future__ import annotations

import os
from functools import cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rlviz.errors import InvalidInput
from rlviz.probes.spectrum.lapack import SymmetricEigen, add_gram
from rlviz.probes.spectrum.sparse import add_sparse_gram

Matrix = NDArray[np.float64]

VARIABLE = "RLVIZ_DEVICE"


class Eigen(Protocol):
    """Eigenpairs of a symmetric matrix, see `rlviz.probes.spectrum.lapack.SymmetricEigen`."""

    @property
    def values(self) -> Matrix:
        """Eigenvalues ``[n]``, descending."""
        ...

    def vectors(self, first: int, count: int) -> Matrix:
        """Orthonormal eigenvectors ``[n, count]`` of ``values[first : first + count]``."""
        ...


class Device(Protocol):
    """Float64 array operations. Arrays of `put` and `zeros` are the device's own; `Matrix` is what they behave like."""

    @property
    def name(self) -> str:
        """As the provenance says it."""
        ...

    def put(self, block: Matrix) -> Matrix:
        """The device's view or copy of an array, valid until the array is written to."""
        ...

    def get(self, array: Matrix) -> Matrix:
        """Back to NumPy."""
        ...

    def zeros(self, rows: int, columns: int) -> Matrix:
        """An array to sum in."""
        ...

    def add_gram(self, total: Matrix, block: Matrix) -> None:
        """Add the lower triangle of ``blockᵀ block`` to `total`, in place."""
        ...

    def add_update_gram(self, total: Matrix, block: Matrix) -> None:
        """The same where most of `block` may be zero."""
        ...

    def squares(self, array: Matrix) -> Matrix:
        """Sums of squares of the columns, as NumPy."""
        ...

    def eigen(self, matrix: Matrix) -> Eigen:
        """Eigenpairs of a NumPy matrix given by its lower triangle."""
        ...

    def triangle(self, matrix: Matrix) -> Matrix:
        """R of the QR factorisation, NumPy to NumPy."""
        ...

    def singular_values(self, matrix: Matrix) -> Matrix:
        """Of a NumPy matrix, descending. Raises `numpy.linalg.LinAlgError` where they do not converge."""
        ...

    def singular_rows(self, matrix: Matrix) -> tuple[Matrix, Matrix]:
        """Those and the right vectors as rows, NumPy to NumPy."""
        ...


class Lapack:
    """The CPU, by NumPy and LAPACK: arrays are NumPy's own."""

    name = "cpu"

    def put(self, block: Matrix) -> Matrix:
        return block

    def get(self, array: Matrix) -> Matrix:
        return array

    def zeros(self, rows: int, columns: int) -> Matrix:
        return np.zeros((rows, columns))

    def add_gram(self, total: Matrix, block: Matrix) -> None:
        add_gram(total, block)

    def add_update_gram(self, total: Matrix, block: Matrix) -> None:
        if not add_sparse_gram(total, block):
            add_gram(total, block)

    def squares(self, array: Matrix) -> Matrix:
        return np.einsum("ij,ij->j", array, array)

    def eigen(self, matrix: Matrix) -> Eigen:
        return SymmetricEigen(matrix)

    def triangle(self, matrix: Matrix) -> Matrix:
        return np.asarray(np.linalg.qr(matrix, mode="r"), dtype=np.float64)

    def singular_values(self, matrix: Matrix) -> Matrix:
        return np.asarray(np.linalg.svd(matrix, compute_uv=False), dtype=np.float64)

    def singular_rows(self, matrix: Matrix) -> tuple[Matrix, Matrix]:
        return np.linalg.svd(matrix, full_matrices=False)[1:]


def selected() -> Device:
    """The device that `RLVIZ_DEVICE` names: ``cpu`` (default), ``cuda``, or ``auto`` for cuda where there is one.

    Raises
    ------
    InvalidInput
        For any other word, for ``mps``, which has no float64, and where there is no such device.
    """
    return _device(os.environ.get(VARIABLE) or "cpu")


@cache
def _device(asked: str) -> Device:
    if asked == "cpu":
        return Lapack()
    if asked == "mps":
        problem = "cannot be used: Apple's GPU has no float64, and spectra in float32 would be wrong"
        raise InvalidInput(f"{VARIABLE}=mps", problem, f"Write {VARIABLE}=cpu.")
    if asked not in ("cuda", "auto", "torch-cpu"):  # the last is for tests: PyTorch's code without a GPU
        raise InvalidInput(f"{VARIABLE}={asked}", "is no device", "Write cpu, cuda or auto.")
    from rlviz.probes.spectrum import torch_device  # torch costs a second and 180 MiB

    if asked == "torch-cpu":
        return torch_device.Torch("cpu")
    if torch_device.has_cuda():
        return torch_device.Torch("cuda")
    if asked == "auto":
        return Lapack()
    problem = "is not there: PyTorch finds no CUDA device"
    raise InvalidInput(f"{VARIABLE}=cuda", problem, f"Write {VARIABLE}=cpu, or install a PyTorch built for CUDA.")
