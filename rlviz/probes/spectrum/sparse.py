"""``ΔWᵀΔW`` where most of ΔW is zero: reinforcement learning leaves most bf16 entries bit for bit as they were."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

# a pair of nonzero entries costs 1.4 ns, a dense row of n entries n²/36 ns: even at a fifth, and packing comes on top
DENSITY_MAX = 0.16


def add_sparse_gram(total: Matrix, block: Matrix) -> bool:
    """Add ``blockᵀ block`` to the lower triangle of `total`, in place, where at most 16 % of the block are nonzero.

    Parameters
    ----------
    total : ndarray of float64, ``[n, n]``, C-contiguous
    block : ndarray of float64, ``[rows, n]``
        C-contiguous, or the transpose of a C-contiguous array.

    Returns
    -------
    bool
        False where the block is too dense (or neither layout); `total` is then unchanged.
    """
    from rlviz.probes.spectrum import kernels  # numba only where something is compared

    rows, n = block.shape
    if block.flags.c_contiguous:
        pack, stored, spare = kernels.pack_rows, block, n  # a row is written whole before its zeros are dropped
    elif block.flags.f_contiguous:
        pack, stored, spare = kernels.pack_columns, block.T, 0
    else:
        return False
    room = int(DENSITY_MAX * block.size) + spare
    starts, columns, values = np.empty(rows + 1, np.int64), np.empty(room, np.uint32), np.empty(room)
    if pack(stored, starts, columns, values) < 0:
        return False
    kernels.add_packed_gram(starts, columns, values, total)
    return True
