"""Small results with records from the real probes: a seeded model of two layers, and its fine-tuned versions."""

from __future__ import annotations

from collections.abc import Mapping

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from rlviz.dtypes import ELEMENT_TYPES
from rlviz.probes import PROBE_NAMES, probe_called
from rlviz.probes.base import TensorPair
from rlviz.result import PairResult
from rlviz.sources.naming import describe
from rlviz.types import Measured, ModelIdentity, Provenance, Record, Skipped, TensorMatch, TensorMeta

LAYERS = 2
SHAPES = {
    "self_attn.q_proj.weight": (48, 32),
    "mlp.down_proj.weight": (32, 64),
    "input_layernorm.weight": (32,),
}
OUTSIDE = {"model.embed_tokens.weight": (40, 32), "model.norm.weight": (32,)}
Q0 = "model.layers.0.self_attn.q_proj.weight"


class Codes:
    """A `CodeSource` in memory."""

    def __init__(self, values: NDArray[np.generic]) -> None:
        self.codes = values.reshape(-1)

    def read_into(self, start: int, codes: NDArray[np.generic]) -> None:
        codes[...] = self.codes[start : start + codes.size]


def shapes() -> dict[str, tuple[int, ...]]:
    inside = {f"model.layers.{i}.{part}": shape for i in range(LAYERS) for part, shape in SHAPES.items()}
    return OUTSIDE | inside


def base_weights(seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Values that bf16 holds exactly."""
    rng = np.random.default_rng(seed)
    drawn = {name: rng.normal(scale=0.02, size=shape) for name, shape in shapes().items()}
    return {name: w.astype(ml_dtypes.bfloat16).astype(np.float32) for name, w in drawn.items()}


def tuned_weights(step: float, seed: int = 1) -> dict[str, NDArray[np.float32]]:
    """The base plus noise whose size is `step` of a typical weight."""
    rng = np.random.default_rng(seed)
    return {
        name: w + (rng.normal(scale=0.02 * step, size=w.shape)).astype(np.float32) for name, w in base_weights().items()
    }


def codes_of(values: NDArray[np.float32], dtype: str) -> NDArray[np.generic]:
    element = ELEMENT_TYPES[dtype]
    return values.astype(element.values).view(element.codes)


def _meta(name: str, values: NDArray[np.float32], dtype: str) -> TensorMeta:
    layer, module, expert = describe(name)
    nbytes = values.size * ELEMENT_TYPES[dtype].itemsize
    return TensorMeta(name, dtype, values.shape, "model.safetensors", 0, nbytes, layer, module, expert)


def measure(
    name: str,
    base: NDArray[np.float32],
    tuned: NDArray[np.float32],
    dtype: str = "F32",
    probes: tuple[str, ...] = PROBE_NAMES,
) -> Measured:
    """Run the real probes on one bf16 base tensor and one tuned tensor."""
    match = TensorMatch(_meta(name, base, "BF16"), _meta(name, tuned, dtype), base.shape[0])
    left, right = codes_of(base, "BF16"), codes_of(tuned, dtype)
    pair = TensorPair(match, Codes(left), Codes(right), left.dtype, right.dtype)
    records: dict[str, Record] = {}
    for probe in map(probe_called, probes):
        if probe.applies(match):
            params = probe.defaults()
            of_base = probe_called(probe.base_probe).run_base(pair, params) if probe.base_probe else None
            records[probe.name] = Record(name, probe.name, probe.version, params, probe.run(pair, params, of_base))
    return Measured(match, records)


def identity(ref: str) -> ModelIdentity:
    return ModelIdentity(
        ref, f"{ref}@{'0123456789abcdef' * 2}01234567", "0123456789abcdef" * 2 + "01234567", 10**6, True
    )


def result_of(
    ref: str, tuned: Mapping[str, NDArray[np.float32]], dtype: str = "F32", skip: frozenset[str] = frozenset()
) -> PairResult:
    base = base_weights()
    measured = tuple(measure(name, base[name], tuned[name], dtype) for name in base if name not in skip)
    skipped = tuple(Skipped(name, "shape_mismatch", f"{name}: shapes differ.") for name in sorted(skip))
    provenance = Provenance("0.1.0", np.__version__, "2026-01-02T03:04:05Z", 1.5, 12_000_000, 2, "test")
    return PairResult(f"key-{ref}", identity("org/base"), identity(ref), measured, skipped, (), provenance, len(base))
