"""The `spectrum` probe: full spectra of W0, W1 and ΔW, and how the leading subspaces moved.

No torch: on CPUs NumPy's OpenBLAS is about twice as fast in float64, and importing torch costs memory and a second.
"""

from __future__ import annotations

from math import pi

import numpy as np
from numpy.typing import NDArray

from rlviz.dtypes import ELEMENT_TYPES
from rlviz.probes.base import Cost, Fields, ProbeParams, TensorPair
from rlviz.probes.spectrum.blocks import (
    BLOCK_ENTRIES,
    BLOCK_ROWS_MIN,
    Oriented,
    Tall,
    TallUpdate,
    tall_weight,
)
from rlviz.probes.spectrum.decompose import (
    Decomposition,
    Method,
    decompose,
    singular_values,
    with_direct_values,
)
from rlviz.probes.spectrum.leading import OVERSAMPLE, PASSES, decompose_leading
from rlviz.probes.spectrum.products import (
    INTRUDER_DIRECTIONS,
    UpdateGram,
    UpdateProjection,
    intruder_cosines,
    leading_cosines,
    products,
)
from rlviz.types import TensorMatch

Matrix = NDArray[np.float64]

PRESET_RANKS = (16, 32, 64, 128)
PRESET_PERCENT_OF_RANK = (1, 5, 10, 20)

# measured on one AVX2 core beside a busy one: float64 products, one tridiagonal reduction with its values and vectors,
# decoding, and what is spent on the smallest pair (cosines at the preset ranks). Sparse updates take 10 % less, dense
# ones 10 % more; a rank-deficient matrix up to twice as long.
FLOPS_PER_S = 3.6e10
EIGEN_S_PER_CUBE = 1.1e-10
REDUCTIONS = 3.0  # base and tuned with vectors, the update without
DECODE_S_PER_ENTRY = 2.5e-9
PAIR_S = 0.015


class SpectrumProbe:
    """Spectra and subspace products of one matrix pair (metric specification, section 2).

    Parameters of the probe: `k_max`, the number K of leading directions kept (clamped to the rank), and
    `method`: "exact", or "leading" for matrices beyond the memory or the time budget, where only the leading K
    directions are found, by randomised iteration, and full-spectrum fields are absent.

    `run_base` fields, float64 unless said:

    - `singular_values` ``[r]`` (leading: absent), `leading_singular_values` (leading only)
    - `basis` ``[r, K]``: base singular vectors on the smaller side
    - `angle_error` ``[K]`` rad, `method` uint8 (0 gram, 1 direct, 2 leading)

    `run` fields, "left" on the d_out side, "right" on the d_in side:

    - `singular_values_base`, `_tuned`, `_update` ``[r]`` descending; leading: `leading_singular_values_base`, `_tuned`
    - `cross_left`, `cross_right` ``[K, K]``: U0ᵀU1 and V0ᵀV1; cosines of the angles at k are the singular values of
      the leading k × k block
    - `preset_k` int64 ``[P]``, `preset_cosines_left`, `_right` ``[P, max k]`` descending, NaN beyond k
    - `block_energy` ``[K]``: ‖U0_kᵀ ΔW V0_k‖²_F for k = 1 … K; `direction_energy_left`, `_right` ``[K]``: ‖ΔWᵀu_i‖²,
      ‖ΔW v_i‖²; `direction_projection` ``[K]``: u_iᵀ ΔW v_i; `update_energy`: ‖ΔW‖²_F
    - `intruder_cosines` ``[≤10]``: best |cosine| of the leading tuned left vectors with any base left vector
      (leading method: with any of the K kept)
    - `angle_error` ``[K]`` rad: numerical error of base and tuned subspaces together; `method_base`, `method_tuned`,
      `method_update` uint8
    """

    name = "spectrum"
    version = 2
    base_probe = "spectrum"

    def defaults(self) -> ProbeParams:
        """``k_max`` 128 and the exact method."""
        return {"k_max": 128, "method": "exact"}

    def applies(self, match: TensorMatch) -> bool:
        """Floating-point matrices only."""
        return match.is_matrix and all(ELEMENT_TYPES[m.dtype].is_float for m in (match.base, match.tuned))

    def cost(self, match: TensorMatch, params: ProbeParams) -> Cost:
        """Price of `run_base` and `run` together; the exact method where the spectrum needs no direct SVD."""
        m, n = max(match.shape), min(match.shape)
        k, entries = min(int(params["k_max"]), n), m * n
        if params["method"] == "leading":
            width, passes = min(k + OVERSAMPLE, n), 2 * PASSES + 1
            flops = 8.0 * m * n * width * PASSES + 8.0 * m * n * k
            small, reduction_s = n * width * (2 * PASSES + 4), 0.0
        else:
            width, passes = k, 2
            flops = 3.0 * m * n * n + 6.0 * m * n * k
            small, reduction_s = 5 * n * n + 6 * n * k, REDUCTIONS * EIGEN_S_PER_CUBE * n**3
        seconds = PAIR_S + flops / FLOPS_PER_S + reduction_s + 2 * passes * DECODE_S_PER_ENTRY * entries
        return Cost(8 * small + _streaming_bytes(match, width), seconds)

    def run_base(self, pair: TensorPair, params: ProbeParams) -> Fields:
        """Spectrum and leading small-side vectors of the base. Raises `NotMeasurable` on NaN or infinity."""
        return _base_fields(_decompose(tall_weight(pair, "base"), params))

    def run(self, pair: TensorPair, params: ProbeParams, base: Fields | None) -> Fields:
        """Everything that needs the tuned matrix. Raises `NotMeasurable` on NaN or infinity."""
        w0 = tall_weight(pair, "base")
        of_base = _decompose(w0, params) if base is None else decomposed(base)
        return compare(w0, tall_weight(pair, "tuned"), of_base, params)


def _streaming_bytes(match: TensorMatch, width: int) -> int:
    """What is alive while both matrices stream by: codes, blocks as float32 and float64, the update, and products."""
    m, n = max(match.shape), min(match.shape)
    itemsize = sum(ELEMENT_TYPES[meta.dtype].itemsize for meta in (match.base, match.tuned))
    rows = min(m, max(BLOCK_ENTRIES // n, BLOCK_ROWS_MIN))
    codes = m * n if match.shape[0] < match.shape[1] else rows * n
    return itemsize * codes + (3 * 8 + 6) * rows * n + 8 * 4 * rows * width


def compare(w0: Oriented, w1: Oriented, of_base: Decomposition, params: ProbeParams) -> Fields:
    """All fields of `SpectrumProbe.run`, for any two tall matrices of one shape, orientation and partition."""
    if all(np.array_equal(base, tuned) for base, tuned in zip(w0.blocks(), w1.blocks(), strict=True)):
        return _unchanged(of_base, w0.shape[1])
    of_tuned = _decompose(w1, params)
    if of_base.method is not of_tuned.method:  # near-identical spectra are only comparable by the same routine
        if of_base.method is Method.GRAM:
            of_base = with_direct_values(w0, of_base)
        else:
            of_tuned = with_direct_values(w1, of_tuned)
    leading = of_base.method is Method.LEADING
    of_update = UpdateProjection(of_base.basis) if leading else UpdateGram(w0.shape[1])
    found = products(w0, w1, of_base, of_tuned, of_update)
    left, right = found.cross_large, found.cross_small
    energy_left, energy_right = found.energy_large, of_update.energies(of_base.basis)
    if w0.transposed:
        left, right, energy_left, energy_right = right, left, energy_right, energy_left
    fields = {
        **_spectra(of_base, of_tuned),
        **_crosses(left, right, w0.shape[1]),
        **_energies(found.core, energy_left, energy_right, of_update.energy()),
    }
    if isinstance(of_update, UpdateProjection):
        return fields | {"intruder_cosines": leading_cosines(left)}
    best = intruder_cosines(w0, w1, of_base, of_tuned, left)
    values = singular_values(TallUpdate(w0, w1), of_update.total)
    return fields | _update_spectrum(values) | {"intruder_cosines": best}


def _unchanged(of_base: Decomposition, n: int) -> Fields:
    """Fields of a matrix equal to its base: angles exactly zero, energies zero."""
    k = of_base.basis.shape[1]
    zeros, same = np.zeros(k), np.eye(k)
    fields = {
        **_spectra(of_base, of_base),
        **_crosses(same, same, n),
        **_energies(np.zeros((k, k)), zeros, zeros, 0.0),
        "intruder_cosines": np.ones(min(k, INTRUDER_DIRECTIONS)),
        "angle_error": zeros,
    }
    return fields if of_base.method is Method.LEADING else fields | _update_spectrum(np.zeros(n))


def _spectra(of_base: Decomposition, of_tuned: Decomposition) -> Fields:
    k = min(of_base.basis.shape[1], of_tuned.basis.shape[1])
    prefix = "leading_" if of_base.method is Method.LEADING else ""
    return {
        f"{prefix}singular_values_base": of_base.values,
        f"{prefix}singular_values_tuned": of_tuned.values,
        "method_base": np.array(of_base.method, dtype=np.uint8),
        "method_tuned": np.array(of_tuned.method, dtype=np.uint8),
        "angle_error": np.minimum(of_base.angle_error[:k] + of_tuned.angle_error[:k], pi / 2),
    }


def _update_spectrum(values: Matrix) -> Fields:
    return {"singular_values_update": values, "method_update": np.array(Method.GRAM, dtype=np.uint8)}


def _decompose(matrix: Tall, params: ProbeParams) -> Decomposition:
    k = min(int(params["k_max"]), matrix.shape[1])
    if params["method"] == "leading":
        return decompose_leading(matrix, k)
    return decompose(matrix, k)


def _base_fields(found: Decomposition) -> Fields:
    key = "leading_singular_values" if found.method is Method.LEADING else "singular_values"
    return {
        key: found.values,
        "basis": found.basis,
        "angle_error": found.angle_error,
        "method": np.array(found.method, dtype=np.uint8),
    }


def decomposed(fields: Fields) -> Decomposition:
    """The base's decomposition as `SpectrumProbe.run_base` recorded it."""
    method = Method(int(fields["method"]))
    values = fields["leading_singular_values" if method is Method.LEADING else "singular_values"]
    basis, error = fields["basis"], fields["angle_error"]
    return Decomposition(values.astype(np.float64), basis.astype(np.float64), method, error.astype(np.float64))


def _energies(core: Matrix, left: Matrix, right: Matrix, update_energy: float) -> Fields:
    blocks = np.diag((core**2).cumsum(axis=0).cumsum(axis=1))
    return {
        "block_energy": blocks.copy(),
        "direction_energy_left": left,
        "direction_energy_right": right,
        "direction_projection": np.diag(core).copy(),
        "update_energy": np.array(update_energy),
    }


def _crosses(left: Matrix, right: Matrix, r: int) -> Fields:
    k = min(left.shape)
    left, right = np.ascontiguousarray(left[:k, :k]), np.ascontiguousarray(right[:k, :k])
    wanted = {*PRESET_RANKS, *(round(r * p / 100) for p in PRESET_PERCENT_OF_RANK)}
    presets = sorted(p for p in wanted if 1 <= p <= min(k, r - 1))
    return {
        "cross_left": left,
        "cross_right": right,
        "preset_k": np.array(presets, dtype=np.int64),
        "preset_cosines_left": _preset_cosines(left, presets),
        "preset_cosines_right": _preset_cosines(right, presets),
    }


def _preset_cosines(cross: Matrix, presets: list[int]) -> Matrix:
    table = np.full((len(presets), max(presets, default=0)), np.nan)
    for row, k in zip(table, presets, strict=True):
        row[:k] = np.linalg.svd(cross[:k, :k], compute_uv=False)
    return table
