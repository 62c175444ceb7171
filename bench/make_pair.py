#!/usr/bin/env python3
"""Write a base and tuned checkpoints in Hugging Face layout, with the exact truth beside them.

    python make_pair.py OUT [--size tiny|small|0.5b|1.5b] [--seed 7] [--layers N]

Runs written: base, rl (tiny isotropic step, so that bf16 hides most of it), rl_b (shares half of rl's step),
sft (dense, rank-16 plus noise). truth.json counts changed entries per tensor on the stored bf16 values.
By construction rl has NO low-rank, off-principal or low-magnitude structure: any such finding on it is an artefact
of rounding, which is what the precision-only null is for. Synthetic: for correctness and speed, not for claims.
"""

import argparse
import json
import math
from pathlib import Path

import torch
from safetensors.torch import save_file

SIZES = {  # hidden, intermediate, layers, heads, kv heads, head dim, vocabulary
    "tiny": (64, 176, 3, 4, 2, 16, 512),
    "small": (512, 1408, 12, 8, 2, 64, 32000),
    "0.5b": (896, 4864, 24, 14, 2, 64, 151936),
    "1.5b": (1536, 8960, 28, 12, 2, 128, 151936),
}


def tensor_shapes(hidden, intermediate, layers, heads, kv_heads, head_dim, vocab):
    """Qwen2 parameter names and shapes, tied output head."""
    shapes = {"model.embed_tokens.weight": (vocab, hidden)}
    for layer in range(layers):
        p = f"model.layers.{layer}."
        shapes[p + "input_layernorm.weight"] = (hidden,)
        for name, width in (("q", heads), ("k", kv_heads), ("v", kv_heads)):
            shapes[f"{p}self_attn.{name}_proj.weight"] = (width * head_dim, hidden)
            shapes[f"{p}self_attn.{name}_proj.bias"] = (width * head_dim,)
        shapes[p + "self_attn.o_proj.weight"] = (hidden, heads * head_dim)
        shapes[p + "post_attention_layernorm.weight"] = (hidden,)
        shapes[p + "mlp.gate_proj.weight"] = (intermediate, hidden)
        shapes[p + "mlp.up_proj.weight"] = (intermediate, hidden)
        shapes[p + "mlp.down_proj.weight"] = (hidden, intermediate)
    shapes["model.norm.weight"] = (hidden,)
    return shapes


def base_tensor(name, shape, rng):
    """Power-law low-rank head on a Gaussian bulk, std 0.02."""
    if len(shape) == 1:
        noise = torch.randn(*shape, generator=rng)
        return 1 + 0.2 * noise if "norm" in name else 0.3 * noise
    rank = min(64, *shape)
    left = torch.randn(shape[0], rank, generator=rng) / math.sqrt(shape[0])
    right = torch.randn(rank, shape[1], generator=rng) / math.sqrt(shape[1])
    head = (left * torch.arange(1, rank + 1).float() ** -0.8) @ right
    return head * (0.012 / head.std()) + 0.016 * torch.randn(*shape, generator=rng)


def steps(shape, rng):
    """One fp32 update per run."""
    if len(shape) == 1:
        return {
            run: scale * torch.randn(*shape, generator=rng)
            for run, scale in (("rl", 1e-5), ("rl_b", 1e-5), ("sft", 2e-3))
        }
    shared = 0.5e-5 * torch.randn(*shape, generator=rng)
    own = lambda: 0.5e-5 * math.sqrt(3) * torch.randn(*shape, generator=rng)
    low_rank = torch.randn(shape[0], 16, generator=rng) @ torch.randn(16, shape[1], generator=rng)
    dense = low_rank * (4e-4 / low_rank.std()) + 2e-4 * torch.randn(*shape, generator=rng)
    return {"rl": shared + own(), "rl_b": shared + own(), "sft": dense}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--layers", type=int, help="fewer layers than the size has")
    parser.add_argument("--runs", default="rl,rl_b,sft")
    parser.add_argument("--fp32", action="store_true", help="store the tuned models in fp32, unrounded")
    args = parser.parse_args()
    hidden, intermediate, layers, heads, kv_heads, head_dim, vocab = SIZES[args.size]
    layers = args.layers or layers
    rng = torch.Generator().manual_seed(args.seed)
    wanted = ["base", *args.runs.split(",")]
    states = {run: {} for run in wanted}
    truth = {run: {} for run in wanted[1:]}
    for name, shape in tensor_shapes(hidden, intermediate, layers, heads, kv_heads, head_dim, vocab).items():
        base = base_tensor(name, shape, rng).bfloat16()
        states["base"][name] = base
        for run, step in steps(shape, rng).items():
            if run not in truth:
                continue
            exact = base.float() + step
            tuned = exact.bfloat16()
            states[run][name] = exact if args.fp32 else tuned
            truth[run][name] = {"n": base.numel(), "n_changed": int((tuned != base).sum())}
    config = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_size": hidden,
        "intermediate_size": intermediate,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocab,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
    }
    for run, state in states.items():
        folder = args.out / run
        folder.mkdir(parents=True, exist_ok=True)
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        (folder / "config.json").write_text(json.dumps(config, indent=1))
    for run, rows in truth.items():
        n, changed = (sum(row[key] for row in rows.values()) for key in ("n", "n_changed"))
        rows["__total__"] = {"n": n, "n_changed": changed, "update_sparsity": 1 - changed / n}
        print(run, rows["__total__"])
    (args.out / "truth.json").write_text(json.dumps(truth, indent=1))


if __name__ == "__main__":
    main()
