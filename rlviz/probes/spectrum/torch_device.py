"""The operations of `rlviz.probes.spectrum.device` in PyTorch, all in float64. Import this module only to use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
LinAlgError = torch.linalg.LinAlgError  # pyright: ignore[reportPrivateImportUsage]


def has_cuda() -> bool:
    """Whether PyTorch can reach a CUDA device."""
    return torch.cuda.is_available()


@dataclass(frozen=True, slots=True, eq=False)
class TorchEigen:
    """All eigenpairs of a symmetric matrix; vectors stay on the device until asked for."""

    values: Matrix
    ascending: Any

    def vectors(self, first: int, count: int) -> Matrix:
        """Orthonormal eigenvectors ``[n, count]`` of ``values[first : first + count]``."""
        end = self.ascending.shape[1] - first
        return _numpy(self.ascending[:, end - count : end].flip(1))


@dataclass(frozen=True, slots=True)
class Torch:
    """One PyTorch device."""

    device: str

    @property
    def name(self) -> str:
        """As the provenance says it."""
        return f"cuda ({torch.cuda.get_device_name()})" if self.device == "cuda" else f"torch {self.device}"

    def put(self, block: Matrix) -> Any:
        """A tensor of the same values; on the CPU one that shares their memory."""
        return torch.from_numpy(block if block.flags.writeable else block.copy()).to(self.device)

    def get(self, array: Any) -> Matrix:
        """Back to NumPy."""
        return _numpy(array)

    def zeros(self, rows: int, columns: int) -> Any:
        """A tensor to sum in."""
        return torch.zeros((rows, columns), dtype=torch.float64, device=self.device)

    def add_gram(self, total: Any, block: Any) -> None:
        """Add the lower triangle of ``blockᵀ block`` to `total`, in place."""
        total += torch.tril(block.T @ block)

    def add_update_gram(self, total: Any, block: Any) -> None:
        """The same: a GPU multiplies zeros faster than it could look for them."""
        self.add_gram(total, block)

    def squares(self, array: Any) -> Matrix:
        """Sums of squares of the columns."""
        return _numpy((array * array).sum(0))

    def eigen(self, matrix: Matrix) -> TorchEigen:
        """Eigenpairs of a NumPy matrix given by its lower triangle."""
        try:
            values, vectors = torch.linalg.eigh(self.put(matrix), UPLO="L")
        except LinAlgError as error:
            raise np.linalg.LinAlgError(str(error)) from error
        return TorchEigen(_numpy(values.flip(0)), vectors)

    def triangle(self, matrix: Matrix) -> Matrix:
        """R of the QR factorisation."""
        return _numpy(torch.linalg.qr(self.put(matrix), mode="r").R)

    def singular_values(self, matrix: Matrix) -> Matrix:
        """Descending."""
        return self.singular_rows(matrix)[0]

    def singular_rows(self, matrix: Matrix) -> tuple[Matrix, Matrix]:
        """Those and the right vectors as rows."""
        driver = "gesvd" if self.device == "cuda" else None  # cuSOLVER's default may stop at a looser tolerance
        try:
            _, values, rows = torch.linalg.svd(self.put(matrix), full_matrices=False, driver=driver)
        except LinAlgError as error:
            raise np.linalg.LinAlgError(str(error)) from error
        return _numpy(values), _numpy(rows)


def _numpy(tensor: Any) -> Matrix:
    return tensor.cpu().numpy()
