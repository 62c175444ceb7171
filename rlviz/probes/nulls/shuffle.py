"""The shuffle null: the update's own entries in other places of the same matrix, rounded to bf16 again.

It keeps the sizes of the steps and takes their places away. What a mask's overlap is then, is rounding; what it is
beyond that, is where the update went.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import nan

import numpy as np
from numpy.typing import NDArray

from rlviz.dtypes import to_float64
from rlviz.probes.base import Fields, TensorPair
from rlviz.probes.masks.count import levels, masked
from rlviz.probes.masks.kernels import flag_changed
from rlviz.probes.masks.scores import as_float32, blocks, tuned_codes
from rlviz.probes.nulls import kernels

Floats = NDArray[np.float32]
Flags = NDArray[np.uint8]

BUCKETS = 256  # of a permutation, one byte each: a bucket of the largest matrix held is 512 kB, and stays in cache
MASKS = ("principal", "low", "principal_not_low")
PER_SHUFFLE = ("changed", "dispersion_row", "dispersion_column")


def shuffled(
    pair: TensorPair,
    basis: NDArray[np.generic],
    ranks: list[int],
    alphas: Sequence[float],
    streams: Sequence[Callable[[], np.random.Generator]],
) -> Fields:
    """The shuffle fields of `NullsProbe`, one shuffle a stream; none where bf16 holds every tuned value.

    The update is held in float32: exact where both sides are bf16 or float32 and near each other, else off by 6e-8 of
    itself, which is nothing beside the permutation. It is added to the base in float64 and rounded once.
    """
    base, update, observed = _held(pair)
    if update is None:
        return {}
    of_entry = levels(pair, basis, ranks, alphas)
    shape, n_levels = (pair.d_out, pair.d_in), (len(alphas) + 1) ** 2
    everywhere = _tally(of_entry, np.ones_like(observed), n_levels)
    seen = _counts(observed, of_entry, everywhere, len(alphas))
    found: list[Fields] = []
    moved, changed = np.empty_like(update), np.empty_like(observed)
    for make in streams:
        permute(update, make(), moved)
        kernels.flag_flips(base, moved, changed)
        found.append(_counts(changed, of_entry, everywhere, len(alphas)) | _dispersions(changed.reshape(shape)))
    return {
        **_of_masks(seen, ranks, alphas),
        **{f"shuffle_{mask}": np.stack([f[f"counts_{mask}"][..., 0, 1] for f in found]) for mask in MASKS},
        **{f"shuffle_{name}": np.stack([f[name] for f in found]) for name in PER_SHUFFLE},
    }


def rescaled(
    pair: TensorPair, basis: NDArray[np.generic], ranks: list[int], alphas: Sequence[float], scale: float
) -> Fields:
    """What ``W0 + c ΔW`` rounded to bf16 would have changed, c = `scale`: the mask fields of `MatchedProbe`.

    None where bf16 holds every tuned value.
    """
    base, update, changed = _held(pair)
    if update is None:
        return {}
    of_entry = levels(pair, basis, ranks, alphas)
    everywhere = _tally(of_entry, np.ones_like(changed), (len(alphas) + 1) ** 2)
    kernels.flag_flips(base, update * np.float32(scale), changed)
    return _of_masks(_counts(changed, of_entry, everywhere, len(alphas)), ranks, alphas)


def _of_masks(seen: Fields, ranks: list[int], alphas: Sequence[float]) -> Fields:
    """Sizes of all masks, and the changes in them."""
    return {
        "k": np.array(ranks, np.int64),
        "alpha": np.array(alphas),
        **{f"size_{mask}": seen[f"counts_{mask}"].sum(axis=-1)[..., 0] for mask in MASKS},
        **{f"observed_{mask}": seen[f"counts_{mask}"][..., 0, 1] for mask in MASKS},
        "observed_changed": seen["changed"],
    }


def permute(values: Floats, rng: np.random.Generator, out: Floats) -> None:
    """A uniform permutation of `values` into `out`.

    Every value goes into a random bucket, and each bucket is shuffled by itself in cache (Rao 1961, Sandelius 1962):
    several times faster than one shuffle of the whole. Draws within a bucket of b values are 32 bits wide, so that
    places differ in probability by a share of b/2³² at most.
    """
    buckets = _bits(rng, values.size, np.dtype("<u1"))
    sizes = np.zeros(BUCKETS, np.int64)
    kernels.tally_buckets(buckets, sizes)
    starts = np.cumsum(sizes) - sizes
    kernels.scatter(values, buckets, starts.copy(), out)
    for start, size in zip(starts.tolist(), sizes.tolist(), strict=True):
        kernels.shuffle(out[start : start + size], _bits(rng, size, np.dtype("<u4")))


def _bits(rng: np.random.Generator, n: int, dtype: np.dtype[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    """Uniform unsigned integers of the full width: all bits of the generator's 64-bit words are used."""
    words = rng.bit_generator.random_raw(-(-n * dtype.itemsize // 8))
    return np.asarray(words, dtype="<u8").view(dtype)[:n]


def _held(pair: TensorPair) -> tuple[Floats, Floats | None, Flags]:
    """The base, the update (None where bf16 holds every tuned value) and what changed under the bf16 lens; flat."""
    n = pair.match.n
    base, update, changed, finer = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.uint8), False
    for block in blocks(pair):
        at = slice(block.row * pair.d_in, (block.row + block.height) * pair.d_in)
        before, after = (pair.rows(side, block.row, block.height).reshape(-1) for side in ("base", "tuned"))
        rounded = tuned_codes(pair, block)
        flag_changed(block.codes, rounded, changed[at])
        values = to_float64(after, pair.match.tuned.dtype)
        finer = finer or bool((values != to_float64(rounded, "BF16")).any())
        base[at] = as_float32(before, pair.match.base.dtype, to_odd=True)
        update[at] = values - to_float64(before, pair.match.base.dtype)
    return base, update if finer else None, changed


def _counts(changed: Flags, of_entry: Flags, everywhere: NDArray[np.int64], n_alphas: int) -> Fields:
    """Entries per mask, unchanged and changed, and all that changed."""
    hits = _tally(of_entry, changed, everywhere.shape[1])
    joint = np.stack([everywhere - hits, hits], axis=-1)
    return masked(joint, n_alphas, 1) | {"changed": hits[0].sum()}


def _tally(of_entry: Flags, flags: Flags, n_levels: int) -> NDArray[np.int64]:
    """Flagged entries per rank and level ``[P, n_levels]``."""
    counts = np.zeros((len(of_entry), n_levels), np.int64)
    for row, own in zip(of_entry, counts, strict=True):
        kernels.tally_levels(row, flags, own)
    return counts


def _dispersions(changed: Flags) -> Fields:
    rows, columns = np.zeros(changed.shape[0], np.int64), np.zeros(changed.shape[1], np.int64)
    kernels.tally_lines(changed, rows, columns)
    return {
        "dispersion_row": np.array(_dispersion(rows, changed.shape[1])),
        "dispersion_column": np.array(_dispersion(columns, changed.shape[0])),
    }


def _dispersion(changed: NDArray[np.int64], across: int) -> float:
    """``Var(ρ) / (p (1 − p) / n)`` of the changed shares of lines of n = `across` entries, ddof 1."""
    p = float(changed.sum()) / (changed.size * across)
    return float(np.var(changed / across, ddof=1) / (p * (1 - p) / across)) if 0 < p < 1 else nan
