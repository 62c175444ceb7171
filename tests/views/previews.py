"""Previews built by hand: estimates with known intervals, one tensor read whole, one not sampled yet."""

from __future__ import annotations

import numpy as np

from rlviz.bins import ULP_BINS
from rlviz.sampling import Estimate, LinkSpeed, Preview, Sampled, TensorPreview
from rlviz.sources.naming import describe
from rlviz.types import LENSES, Skipped, TensorMatch, TensorMeta
from tests.views.pairs import identity

SHAPES = {
    "self_attn.q_proj.weight": (4096, 4096),
    "self_attn.o_proj.weight": (4096, 4096),
    "mlp.down_proj.weight": (4096, 11008),
    "input_layernorm.weight": (4096,),
}
OUTSIDE = {"model.embed_tokens.weight": (32000, 4096), "model.norm.weight": (4096,)}
Q0 = "model.layers.0.self_attn.q_proj.weight"
UNSAMPLED = "model.layers.1.mlp.down_proj.weight"
NOTHING = Estimate(np.nan, np.nan, np.nan)


def estimate(density: float, half: float) -> Estimate:
    return Estimate(density, max(0.0, density - half), min(1.0, density + half))


def sampled(density: float, half: float, shape: tuple[int, ...], rows: int) -> Sampled:
    """Everything under one density; `rows` read, and where those are all rows, no interval."""
    n_rows, width = (shape[0], shape[1]) if len(shape) == 2 else (1, shape[0])
    if not rows:
        none = dict.fromkeys(LENSES, NOTHING)
        return Sampled(none, NOTHING, (NOTHING,) * (2 * ULP_BINS - 1), n_rows * width, 0, n_rows, 0)
    half = 0.0 if rows == n_rows else half
    ulp = [estimate(0.0, half / 10)] * (2 * ULP_BINS - 1)
    middle = ULP_BINS - 1
    ulp[middle] = estimate(1 - density, half)
    ulp[middle - 1] = ulp[middle + 1] = estimate(density / 2, half / 2)
    by_lens = {lens: estimate(min(1.0, density * (1 + i / 20)), half) for i, lens in enumerate(LENSES)}
    by_lens |= {lens: estimate(density, half) for lens in LENSES if lens == "bf16"}
    norm = estimate(density / 200, half / 200)
    return Sampled(by_lens, norm, tuple(ulp), n_rows * width, rows * width, n_rows, rows)


def pooled(parts: list[Sampled], half: float) -> Sampled:
    members = [p for p in parts if p.n_sampled]
    everything = members or parts
    n, read = sum(p.n for p in everything), sum(p.n_sampled for p in everything)
    rows, rows_read = (sum(getattr(p, f) for p in everything) for f in ("n_rows", "n_rows_sampled"))
    if not members:
        return sampled(0.5, half, (rows, n // rows), 0)
    density = sum(p.density[LENSES[2]].estimate * p.n for p in members) / n
    one = sampled(density, half, (rows, max(1, n // rows)), rows_read)
    return Sampled(one.density, one.relative_update_norm, one.ulp, n, read, rows, rows_read)


def preview_of(ref: str, density: float = 0.462, half: float = 0.009, layers: int = 2, **changed: object) -> Preview:
    """Layers differ a little; norms are read whole; `UNSAMPLED` is not sampled."""
    shapes = OUTSIDE | {f"model.layers.{i}.{part}": s for i in range(layers) for part, s in SHAPES.items()}
    tensors: list[TensorPreview] = []
    for name, shape in shapes.items():
        layer, module, expert = describe(name)
        meta = TensorMeta(name, "BF16", shape, "model.safetensors", 0, 2 * int(np.prod(shape)), layer, module, expert)
        rows = 1 if len(shape) == 1 else 0 if name == UNSAMPLED else 412
        here = sampled(min(1.0, density + 0.002 * (layer or 0)), 3 * half * (1 + (layer or 0) % 5), shape, rows)
        tensors.append(TensorPreview(TensorMatch(meta, meta, shape[0]), here))
    by_layer: dict[int | None, list[Sampled]] = {}
    by_module: dict[str, list[Sampled]] = {}
    for t in tensors:
        by_layer.setdefault(t.match.base.layer, []).append(t.sampled)
        by_module.setdefault(t.match.base.module, []).append(t.sampled)
    whole = {
        "key": f"key-{ref}",
        "base": identity("org/base"),
        "tuned": identity(ref),
        "tensors": tuple(tensors),
        "pooled": pooled([t.sampled for t in tensors], half / 2),
        "layers": {k: pooled(v, 2 * half) for k, v in by_layer.items()},
        "modules": {k: pooled(v, 2 * half) for k, v in by_module.items()},
        "cells": {(t.match.base.module, t.match.base.layer): t.sampled for t in tensors},
        "skipped": (Skipped("model.rotary.inv_freq", "only_in_base", "The tuned model has no such tensor."),),
        "notices": (),
        "total": len(tensors) + 1,
        "bytes_read": 64_000_000,
        "requests": 412,
        "rounds": 3,
        "seed": 7,
        "budget_bytes": 64 * 2**20,
        "wall_s": 8.2,
        "stopped": "budget",
        "speed": LinkSpeed(0.06, 4e7, 16),
        "rlviz": "0.3.0",
    }
    return Preview(**{**whole, **changed})  # type: ignore[arg-type]
