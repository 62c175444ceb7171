"""Pairs for the masks probe, its record of one pair, and a dense float64 oracle of what the record should hold."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import ceil

import numpy as np
from numpy.typing import NDArray

from rlviz.dtypes import ELEMENT_TYPES, to_float64
from rlviz.probes.base import Fields, TensorPair
from rlviz.probes.coordinate import PROBE as COORDINATE
from rlviz.probes.masks import PROBE
from rlviz.probes.spectrum import PROBE as SPECTRUM
from rlviz.types import Measured, Record, TensorMatch, TensorMeta
from tests.probes.spectrum_pairs import Memory

ALPHAS = [Fraction(percent, 100) for percent in (1, 5, 10, 20, 30, 50)]
UNIT = 2.0**-24  # half a float32 step at 1


def stored(values: NDArray, dtype: str) -> NDArray:
    """Codes of float64 values in a type."""
    element = ELEMENT_TYPES[dtype]
    return np.ascontiguousarray(np.asarray(values, dtype=np.float64).astype(element.values)).view(element.codes)


def pair_of_codes(base: NDArray, tuned: NDArray, dtypes: tuple[str, str]) -> TensorPair:
    metas = [TensorMeta("w", d, base.shape, "shard", 0, 0, 0, "q_proj") for d in dtypes]
    codes = [np.ascontiguousarray(c).view(ELEMENT_TYPES[d].codes) for c, d in zip((base, tuned), dtypes, strict=True)]
    match = TensorMatch(metas[0], metas[1], base.shape[0])
    return TensorPair(match, Memory(codes[0].ravel()), Memory(codes[1].ravel()), codes[0].dtype, codes[1].dtype)


def pair_of(base: NDArray, tuned: NDArray, dtypes: tuple[str, str] = ("BF16", "BF16")) -> TensorPair:
    """A pair from float64 values, each rounded to its type."""
    return pair_of_codes(stored(base, dtypes[0]), stored(tuned, dtypes[1]), dtypes)


def structured(shape: tuple[int, int], dtype: str = "BF16", seed: int = 0) -> NDArray:
    """A base of `bench/make_pair.py`, a low-rank head on a Gaussian bulk: values of a type as float64."""
    import torch

    from bench.make_pair import base_tensor

    drawn = base_tensor("w", shape, torch.Generator().manual_seed(seed)).numpy()
    return to_float64(stored(drawn, dtype), dtype)


def noisy(base: NDArray, std: float, rng: np.random.Generator) -> NDArray:
    """Isotropic noise as training sees it: fp32 weights, before they are rounded to bf16."""
    return (base + std * rng.standard_normal(base.shape)).astype(np.float32).astype(np.float64)


def base_record(pair: TensorPair, k_max: int = 128) -> Fields:
    """What the spectrum probe keeps of the base."""
    return SPECTRUM.run_base(pair, {"k_max": k_max, "method": "exact"})


def measured_with(pair: TensorPair, base: Fields) -> Measured:
    """The masks record of a pair whose base is decomposed already."""
    params = PROBE.defaults()
    return Measured(pair.match, {"masks": Record("w", "masks", PROBE.version, params, PROBE.run(pair, params, base))})


def measure(pair: TensorPair, k_max: int = 128) -> Measured:
    return measured_with(pair, base_record(pair, k_max))


def with_coordinates(pair: TensorPair, k_max: int = 128) -> Measured:
    """The record of the coordinate probe beside it."""
    counted = Record("w", "coordinate", COORDINATE.version, {}, COORDINATE.run(pair, {}, None))
    return Measured(pair.match, {**measure(pair, k_max).records, "coordinate": counted})


def to_bf16(values: NDArray) -> NDArray:
    """Float64 values rounded once to bf16, to nearest even: eight bits, and no step below 2^-133."""
    quantum = np.maximum(np.frexp(values)[1] - 8, -133)
    return np.ldexp(np.rint(np.ldexp(values, -quantum)), quantum)


@dataclass(frozen=True)
class Oracle:
    """The same pair by the definitions, whole matrices in float64."""

    pair: TensorPair

    @cached_property
    def w0(self) -> NDArray:
        return self._values("base")

    @cached_property
    def changed(self) -> NDArray:
        return to_bf16(self.w0) != to_bf16(self._values("tuned"))

    def _values(self, side) -> NDArray:
        meta = self.pair.match.base if side == "base" else self.pair.match.tuned
        return to_float64(self.pair.rows(side, 0, self.pair.d_out), meta.dtype)

    @cached_property
    def svd(self) -> tuple[NDArray, NDArray, NDArray]:
        return np.linalg.svd(self.w0, full_matrices=False)

    @cached_property
    def strata(self) -> tuple[NDArray, NDArray]:
        """Exponent field and zero mantissa of w0 rounded to bf16; field 0 below the normal numbers."""
        fraction, exponent = np.frexp(np.abs(to_bf16(self.w0)))
        normal = (exponent >= -125) & (fraction > 0)
        return np.where(normal, exponent + 126, 0), np.where(normal, fraction == 0.5, fraction == 0)

    def scores(self, k: int) -> NDArray:
        u, s, vt = self.svd
        return np.abs((u[:, :k] * s[:k]) @ vt[:k])

    def rounding(self, k: int) -> NDArray:
        """Bound on the error of a float32 reconstruction, entry by entry.

        A float32 inner product of n terms is off by at most n u of the sum of its terms' sizes (Higham 2002, section
        3.1); two of them follow each other, the vectors are rounded once more, and the dense oracle has its own error.
        """
        u, s, vt = self.svd
        tall = self.w0.shape[0] >= self.w0.shape[1]
        size = (
            np.abs(self.w0) @ np.abs(vt[:k].T) @ np.abs(vt[:k])
            if tall
            else np.abs(u[:, :k]) @ (np.abs(u[:, :k].T) @ np.abs(self.w0))
        )
        return (max(self.w0.shape) + k + 8) * UNIT * size + 1e-12 * s[0] + 2.0**-140

    def size(self, alpha: Fraction) -> int:
        return ceil(alpha * self.w0.size)

    def low(self, alpha: Fraction) -> NDArray:
        magnitude = np.abs(self.w0)
        return magnitude <= np.sort(magnitude.ravel())[self.size(alpha) - 1]

    def threshold(self, k: int, alpha: Fraction) -> float:
        """The smallest of the top scores."""
        return float(np.sort(self.scores(k).ravel())[-self.size(alpha)])

    def counts(self, mask: NDArray, fields: Fields) -> NDArray:
        """Entries ``[S, 2]`` of a mask in the record's strata."""
        exponent, edge = self.strata
        of = [
            mask & (exponent == e) & (edge == bool(p))
            for e, p in zip(fields["exponent"], fields["power_of_two"], strict=True)
        ]
        return np.array([[(here & ~self.changed).sum(), (here & self.changed).sum()] for here in of])
