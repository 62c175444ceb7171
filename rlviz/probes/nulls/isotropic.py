"""Norm-matched isotropic noise: a base plus Gaussian noise of the update's own Frobenius norm, as a tuned matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from rlviz.probes.base import Fields, ProbeParams, TensorPair
from rlviz.probes.spectrum.blocks import HELD_ENTRIES, Oriented, Tall, TallUpdate, tall_weight
from rlviz.probes.spectrum.probe import compare, decomposed

Matrix = NDArray[np.float64]
BlockStream = Callable[[int], np.random.Generator]

RANKS = (1, 2, 4, 8, 16, 32, 64, 96, 128)  # beside the spectrum probe's presets: what the page's slider offers


@dataclass(frozen=True, slots=True, eq=False)
class TallNoisy:
    """``W1' = W0 + ΔW'`` in float64, with ``ΔW' ~ N(0, ·)`` rescaled to a given Frobenius norm.

    `stream` gives each block its own generator, so that every pass sees the same noise; `values` holds the blocks
    where the matrix is small.
    """

    base: Oriented
    scale: float
    stream: BlockStream
    values: tuple[Matrix, ...] | None

    @property
    def shape(self) -> tuple[int, int]:
        return self.base.shape

    @property
    def name(self) -> str:
        return self.base.name

    @property
    def transposed(self) -> bool:
        return self.base.transposed

    def blocks(self) -> Iterator[Matrix]:
        """Row blocks ``[rows, n]`` from top to bottom, those of the base with noise."""
        return iter(self.values) if self.values is not None else _noisy(self.base, self.scale, self.stream)


def tall_noisy(base: Oriented, norm: float, stream: BlockStream) -> TallNoisy:
    """Noise of Frobenius norm `norm` on a base; one pass finds the scale that makes it so."""
    energy = sum(float(np.einsum("ij,ij->", noise, noise)) for _, noise in _noise(base, stream))
    scale = norm / sqrt(energy)
    held = base.shape[0] * base.shape[1] <= HELD_ENTRIES
    return TallNoisy(base, scale, stream, tuple(_noisy(base, scale, stream)) if held else None)


def _noisy(base: Tall, scale: float, stream: BlockStream) -> Iterator[Matrix]:
    for block, noise in _noise(base, stream):
        yield block + scale * noise


def _noise(base: Tall, stream: BlockStream) -> Iterator[tuple[Matrix, Matrix]]:
    """Blocks of the base, each with standard normal noise: drawn in float32, which no statistic here can tell."""
    for index, block in enumerate(base.blocks()):
        noise = stream(index).standard_normal(block.shape, dtype=np.float32)
        yield block, noise.astype(np.float64)


def simulated(pair: TensorPair, of_base: Fields, params: ProbeParams, streams: Sequence[BlockStream]) -> Fields:
    """The isotropic fields of `NullsProbe`, one draw a stream; none where the update is zero."""
    base = tall_weight(pair, "base")
    norm = sqrt(_energy(TallUpdate(base, tall_weight(pair, "tuned"))))
    if norm == 0:
        return {}
    start = decomposed(of_base)
    drawn = [compare(base, tall_noisy(base, norm, stream), start, params) for stream in streams]
    ranks = _ranks(drawn, min(base.shape))
    found = [_summary(fields, ranks) for fields in drawn]
    return {
        "update_energy": np.array(norm**2),
        "base_energy": np.array(np.sum(start.values**2)),
        "isotropic_k": ranks,
        **{f"isotropic_{name}": np.stack([fields[name] for fields in found]) for name in found[0]},
    }


def _energy(matrix: Tall) -> float:
    return sum(float(np.einsum("ij,ij->", block, block)) for block in matrix.blocks())


def _ranks(drawn: Sequence[Fields], r: int) -> NDArray[np.int64]:
    """`RANKS` and the spectrum probe's presets, ascending, and last the largest rank that k is clamped to."""
    limit = min(r - 1, *(len(fields["cross_left"]) for fields in drawn))
    wanted = {*RANKS, *drawn[0]["preset_k"].tolist()}
    return np.array([*sorted(k for k in wanted if k < limit), limit], np.int64)


def _summary(fields: Fields, ranks: NDArray[np.int64]) -> Fields:
    """One simulation cut down to its numbers at some ranks."""
    tuned, base = (fields[f"singular_values_{side}"].astype(np.float64) for side in ("tuned", "base"))
    left, right = (fields[f"direction_energy_{side}"].astype(np.float64).cumsum() for side in ("left", "right"))
    return {
        "shift": np.array(np.sum((tuned - base) ** 2)),
        "singular_values_tuned": tuned,
        "singular_values_update": fields["singular_values_update"],
        **_angles(fields["cross_left"].astype(np.float64), ranks, "left"),
        **_angles(fields["cross_right"].astype(np.float64), ranks, "right"),
        "energy_principal": fields["block_energy"].astype(np.float64)[ranks - 1],
        "energy_left": left[ranks - 1],
        "energy_right": right[ranks - 1],
    }


def _angles(cross: Matrix, ranks: NDArray[np.int64], side: str) -> Fields:
    """Principal angles (rad), at each rank all, the largest, the mean, and the mean sine.

    Cosines are the singular values of the leading blocks of `cross`.
    """
    cosines = [np.linalg.svd(cross[:k, :k], compute_uv=False) for k in ranks.tolist()]
    angles = [np.arccos(np.clip(found, 0.0, 1.0)) for found in cosines]
    every = np.full((len(angles), int(ranks[-1])), np.nan, np.float32)
    for row, found in zip(every, angles, strict=True):
        row[: found.size] = found
    return {
        f"angles_{side}": every,
        f"max_angle_{side}": np.array([found[-1] for found in angles]),
        f"mean_angle_{side}": np.array([found.mean() for found in angles]),
        f"rotation_{side}": np.array([np.sin(found).mean() for found in angles]),
    }
