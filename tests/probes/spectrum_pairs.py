"""Pairs built from arrays, and a dense float64 oracle, for the tests of the spectrum probe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlviz.probes.base import TensorPair
from rlviz.types import TensorMatch, TensorMeta

CODES = {"F64": (np.float64, "<u8"), "F32": (np.float32, "<u4"), "F16": (np.float16, "<u2")}


@dataclass(frozen=True)
class Memory:
    """A `CodeSource` over an array."""

    codes: NDArray

    def read_into(self, start: int, codes: NDArray) -> None:
        codes[:] = self.codes[start : start + codes.size]


def meta(shape, dtype="F64", name="w") -> TensorMeta:
    return TensorMeta(name, dtype, tuple(shape), "shard", 0, 0, 0, "q_proj")


def pair_of(base: NDArray, tuned: NDArray, dtype: str = "F64") -> TensorPair:
    values, codes = CODES[dtype]
    raw = [np.ascontiguousarray(x.astype(values)).view(codes) for x in (base, tuned)]
    match = TensorMatch(meta(base.shape, dtype), meta(tuned.shape, dtype), min(len(base), len(tuned)))
    return TensorPair(match, Memory(raw[0].ravel()), Memory(raw[1].ravel()), raw[0].dtype, raw[1].dtype)


def haar(rng: np.random.Generator, d: int, k: int) -> NDArray:
    return np.linalg.qr(rng.standard_normal((d, k)))[0]


def with_spectrum(rng: np.random.Generator, shape: tuple[int, int], values) -> NDArray:
    r = len(values)
    return (haar(rng, shape[0], r) * np.asarray(values)) @ haar(rng, shape[1], r).T
