"""Small checkpoints with a seed, written as real files; every suite builds its input here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import save_file

Arrays = Mapping[str, np.ndarray]


def write_checkpoint(folder: Path, arrays: Arrays, config: Mapping[str, object] | None = None) -> Path:
    """A folder in Hugging Face layout with one shard."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(arrays), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config or {"model_type": "qwen2"}))
    return folder


def tiny_base(
    seed: int = 0, layers: int = 2, width: int = 24, dtype: object = ml_dtypes.bfloat16
) -> dict[str, np.ndarray]:
    """Qwen2 names: embedding, per layer q/k/o, gate/down and a norm; std 0.02."""
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray:
        return (0.02 * rng.standard_normal(shape)).astype(dtype)

    arrays = {"model.embed_tokens.weight": draw(40, width)}
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        arrays[prefix + "self_attn.q_proj.weight"] = draw(width, width)
        arrays[prefix + "self_attn.k_proj.weight"] = draw(width // 2, width)
        arrays[prefix + "self_attn.o_proj.weight"] = draw(width, width)
        arrays[prefix + "mlp.gate_proj.weight"] = draw(3 * width, width)
        arrays[prefix + "mlp.down_proj.weight"] = draw(width, 3 * width)
        arrays[prefix + "input_layernorm.weight"] = (1 + draw(width).astype(np.float32)).astype(dtype)
    arrays["model.norm.weight"] = (1 + draw(width).astype(np.float32)).astype(dtype)
    return arrays


def tuned_from(base: Arrays, seed: int = 1, std: float = 1e-4, dtype: object = np.float32) -> dict[str, np.ndarray]:
    """The base plus isotropic noise, stored in `dtype`."""
    rng = np.random.default_rng(seed)
    return {
        name: (array.astype(np.float64) + std * rng.standard_normal(array.shape)).astype(dtype)
        for name, array in base.items()
    }


def tiny_pair(folder: Path, **kwargs: object) -> tuple[str, str]:
    """Paths of a bf16 base and an fp32 tuned model below `folder`."""
    base = tiny_base()
    write_checkpoint(folder / "base", base)
    write_checkpoint(folder / "tuned", tuned_from(base, **kwargs))  # type: ignore[arg-type]
    return str(folder / "base"), str(folder / "tuned")
