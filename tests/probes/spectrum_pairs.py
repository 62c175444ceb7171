"""Pairs built from arrays, and a dense float64 oracle, for the tests of the spectrum probe."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlviz.dtypes import ELEMENT_TYPES, to_float64
from rlviz.probes.base import TensorPair
from rlviz.probes.spectrum import PROBE
from rlviz.sources import Checkpoint, pair, resolve
from rlviz.types import Measured, Record, TensorMatch, TensorMeta

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


def measure(base: NDArray, tuned: NDArray, dtype: str = "F64", **params) -> Measured:
    return measure_pair(pair_of(base, tuned, dtype), **params)


def measure_pair(pair: TensorPair, **params) -> Measured:
    chosen = {**PROBE.defaults(), **params}
    fields = PROBE.run(pair, chosen, PROBE.run_base(pair, chosen))
    record = Record(pair.match.name, PROBE.name, PROBE.version, chosen, fields)
    return Measured(pair.match, {PROBE.name: record})


@dataclass(frozen=True)
class FromCheckpoint:
    checkpoint: Checkpoint
    meta: TensorMeta

    def read_into(self, start: int, codes: NDArray) -> None:
        self.checkpoint.read_into(self.meta, start, codes)


def demo_pairs(tuned: str) -> list[TensorPair]:
    """Matrix pairs of the shipped demo, really trained."""
    base, other = resolve("demo:base"), resolve(f"demo:{tuned}")
    return [
        TensorPair(
            match,
            FromCheckpoint(base, match.base),
            FromCheckpoint(other, match.tuned),
            ELEMENT_TYPES[match.base.dtype].codes,
            ELEMENT_TYPES[match.tuned.dtype].codes,
        )
        for match in pair(base, other).matched
        if PROBE.applies(match)
    ]


def dense(pair: TensorPair) -> tuple[NDArray, NDArray]:
    """Both matrices of a pair in float64."""
    sides = (("base", pair.match.base), ("tuned", pair.match.tuned))
    base, tuned = (to_float64(pair.rows(side, 0, pair.d_out), meta.dtype) for side, meta in sides)
    return base, tuned
