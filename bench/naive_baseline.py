#!/usr/bin/env python3
"""What a researcher writes on a first afternoon: the opponent for the benchmarks, kept honest and plain.

    python naive_baseline.py BASE TUNED [--k 64] [--embeddings]

Both checkpoints in memory; per matrix three full fp32 SVDs (base, tuned, update), top-k principal angles, a
top-10 % principal mask from the rank-k reconstruction, and exact update sparsity. Prints one JSON line.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file


def load(folder):
    return {
        name: tensor for file in sorted(Path(folder).glob("*.safetensors")) for name, tensor in load_file(file).items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base")
    parser.add_argument("tuned")
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--embeddings", action="store_true", help="include vocabulary-sized matrices")
    args = parser.parse_args()
    started = time.perf_counter()
    base, tuned = load(args.base), load(args.tuned)
    changed = total = matrices = 0
    nss, angles, overlaps = [], [], []
    for name, w0 in base.items():
        w1 = tuned[name]
        update = w1.float() - w0.float()
        changed += int((update != 0).sum())
        total += update.numel()
        if w0.ndim != 2 or ("embed" in name and not args.embeddings):
            continue
        matrices += 1
        u0, s0, v0 = torch.linalg.svd(w0.float(), full_matrices=False)
        u1, s1, v1 = torch.linalg.svd(w1.float(), full_matrices=False)
        torch.linalg.svd(update, full_matrices=False)
        k = min(args.k, len(s0) - 1)
        nss.append(float((s1 - s0).norm() / s0.norm()))
        cosines = torch.linalg.svdvals(u0[:, :k].T @ u1[:, :k]).clamp(max=1)
        angles.append(float(torch.rad2deg(torch.acos(cosines)).max()))
        torch.linalg.svdvals(v0[:k] @ v1[:k].T)
        score = ((u0[:, :k] * s0[:k]) @ v0[:k]).abs().flatten()
        threshold = float(np.partition(score.numpy(), int(0.9 * score.numel()))[int(0.9 * score.numel())])
        principal = score >= threshold
        mask = update.flatten() != 0
        overlaps.append(float((principal & mask).sum() / mask.sum().clamp(min=1)))
    mean = lambda values: sum(values) / max(len(values), 1)
    print(
        json.dumps(
            {
                "update_sparsity": 1 - changed / total,
                "matrices": matrices,
                "nss_mean": mean(nss),
                "max_angle_left_deg_mean": mean(angles),
                "principal_overlap_mean": mean(overlaps),
                "wall_s": round(time.perf_counter() - started, 2),
            }
        )
    )


if __name__ == "__main__":
    main()
