"""Counting one pair: whole rows in, the fields of `MasksProbe` out. Importing this module loads numba.

Three passes. The first counts scores and magnitudes by coarse bin, which finds the bins that hold the thresholds; the
second looks into those bins, which gives the thresholds exactly; the third counts entries by mask, stratum and change.
Reconstructions of large matrices are computed again in every pass, so that memory does not grow with the matrix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, nan

import numpy as np
from numpy.typing import NDArray

from rlviz.probes.base import Fields, TensorPair
from rlviz.probes.masks import kernels
from rlviz.probes.masks.scores import Block, Reconstruction, blocks, reconstruction, tuned_codes
from rlviz.rounding import EXACT_IN_BF16, flip_probability, noise_is_known, noise_that_flips

Counts = NDArray[np.int64]
Levels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Strata:
    """Weights that rounding treats alike: an exponent of w0, and whether its mantissa is zero."""

    exponent: NDArray[np.int16]
    power_of_two: NDArray[np.uint8]
    of_code: NDArray[np.uint16]  # stratum of each bf16 code without sign
    counts: Counts  # [S, 2], unchanged and changed

    @property
    def changed(self) -> int:
        """Entries that changed."""
        return int(self.counts[:, 1].sum())


@dataclass(frozen=True, slots=True)
class Selection:
    """Thresholds of nested sets by their values' bits, and the level of every coarse bin without one."""

    thresholds: NDArray[np.int32]  # [A]
    level_of: NDArray[np.uint8]


def count(pair: TensorPair, basis: NDArray[np.generic], ranks: list[int], alphas: Sequence[float]) -> Fields:
    """All fields of `MasksProbe.run`."""
    scored = reconstruction(pair, basis, ranks)
    changes, coarse = _first_pass(pair, scored)
    strata = _strata(changes)
    *principal, low = _selections(pair, scored, coarse, _places(pair.match.n, len(ranks), alphas))
    finer = pair.match.base.dtype not in EXACT_IN_BF16
    edges = strata.power_of_two != 0
    known = noise_is_known(pair.match)
    n = strata.counts.sum(axis=1)
    std = noise_that_flips(n, strata.exponent, edges, strata.changed, finer=finer) if known else nan
    chance = flip_probability(strata.exponent, edges, std, finer=finer) if std > 0 else None
    joint, null = _third_pass(scored, strata, (principal, low), chance)
    return {
        "k": np.array(ranks, np.int64),
        "alpha": np.array(alphas),
        "exponent": strata.exponent,
        "power_of_two": strata.power_of_two,
        "counts": strata.counts,
        **masked(joint, len(alphas), len(strata.exponent)),
        "threshold_principal": np.stack([s.thresholds for s in principal]).view(np.float32),
        "threshold_low": low.thresholds.view(np.float32),
        "finer": np.array(finer, np.uint8),
        "noise_std": np.array(std),
        **null,
    }


def levels(pair: TensorPair, basis: NDArray[np.generic], ranks: list[int], alphas: Sequence[float]) -> Levels:
    """Which masks hold each entry, ``[P, n]``: ``principal level · (A + 1) + low level``; see `masked`."""
    scored = reconstruction(pair, basis, ranks)
    coarse = _no_scores(scored)
    for block in blocks(pair):
        _tally_scores(scored, block, coarse)
    *principal, low = _selections(pair, scored, coarse, _places(pair.match.n, len(ranks), alphas))
    found, small = np.zeros((len(ranks), pair.match.n), np.uint8), np.zeros(pair.match.n, np.uint8)
    for block in blocks(pair):
        at = slice(block.row * pair.d_in, (block.row + block.height) * pair.d_in)
        kernels.low_levels(block.magnitudes, low.thresholds, small[at])
        for bits, selection, row in zip(scored.scores(block), principal, found, strict=True):
            kernels.principal_levels(bits, selection.thresholds, row[at])
    found *= np.uint8(len(alphas) + 1)
    found += small
    return found


def _places(n: int, ranks: int, alphas: Sequence[float]) -> list[list[int]]:
    """Places in ascending order of the scores (for each rank) and the magnitudes at which the masks end.

    The α n largest scores begin where all but α n are smaller; the α n smallest magnitudes end at the α n-th.
    """
    sizes = [ceil(round(alpha * n, 6)) for alpha in alphas]  # 0.01 × 700 is 7.000000000000001
    return [*([n - size for size in sizes] for _ in range(ranks)), [size - 1 for size in sizes]]


def _changed(pair: TensorPair, block: Block) -> NDArray[np.uint8]:
    changed = np.empty(block.codes.size, np.uint8)
    kernels.flag_changed(block.codes, tuned_codes(pair, block), changed)
    return changed


def _first_pass(pair: TensorPair, scored: Reconstruction) -> tuple[Counts, Counts]:
    """Changes by bf16 code ``[2^15, 2]``, and coarse histograms ``[P + 1, 2^15]`` of scores and of magnitudes."""
    changes = np.zeros((kernels.COARSE, 2), np.int64)
    coarse = _no_scores(scored)
    for block in blocks(pair):
        kernels.tally_codes(block.codes, _changed(pair, block), changes)
        _tally_scores(scored, block, coarse)
    return changes, coarse


def _no_scores(scored: Reconstruction) -> Counts:
    return np.zeros((len(scored.ranks) + 1, kernels.COARSE), np.int64)


def _tally_scores(scored: Reconstruction, block: Block, coarse: Counts) -> None:
    for bits, histogram in zip((*scored.scores(block), block.magnitudes), coarse, strict=True):
        kernels.tally(bits, histogram)


def _strata(changes: Counts) -> Strata:
    """Codes without sign grouped by exponent field and zero mantissa; those that occur, in that order."""
    codes = np.arange(kernels.COARSE)
    group = 2 * (codes >> 7) + ((codes & 0x7F) == 0)
    present = np.unique(group[changes.any(axis=1)])
    of_group = np.zeros(512, np.uint16)
    of_group[present] = np.arange(present.size)
    counts = np.zeros((512, 2), np.int64)
    np.add.at(counts, group, changes)
    return Strata((present // 2).astype(np.int16), (present % 2).astype(np.uint8), of_group[group], counts[present])


def _selections(pair: TensorPair, scored: Reconstruction, coarse: Counts, wanted: list[list[int]]) -> list[Selection]:
    """The values of given ranks (0 is the smallest) in each histogram's data, exactly, by a look into their bins."""
    cumulative = coarse.cumsum(axis=1)
    bins = [np.searchsorted(c, ranks, side="right") for c, ranks in zip(cumulative, wanted, strict=True)]
    slots = np.full((len(coarse), kernels.COARSE), kernels.NOWHERE, np.uint8)
    fine: list[Counts] = []
    for slot, found in zip(slots, bins, strict=True):
        present = np.unique(found)
        slot[present] = np.arange(present.size)
        fine.append(np.zeros((present.size, kernels.FINE), np.int64))
    for block in blocks(pair):
        for bits, slot, histogram in zip((*scored.scores(block), block.magnitudes), slots, fine, strict=True):
            kernels.tally_within(bits, slot, histogram)
    return [
        _selection(ranks, found, slot, histogram, before, is_low=index == len(coarse) - 1)
        for index, (ranks, found, slot, histogram, before) in enumerate(
            zip(wanted, bins, slots, fine, cumulative - coarse, strict=True)
        )
    ]


def _selection(
    ranks: list[int], bins: NDArray[np.intp], slot: NDArray[np.uint8], fine: Counts, before: Counts, *, is_low: bool
) -> Selection:
    places = [
        int(np.searchsorted(fine[slot[b]].cumsum(), rank - before[b], side="right"))
        for rank, b in zip(ranks, bins, strict=True)
    ]
    thresholds = np.array([(int(b) << 16) | place for b, place in zip(bins, places, strict=True)], np.int32)
    edges = np.arange(kernels.COARSE)[:, None]
    level_of = (edges < bins if is_low else edges > bins).sum(axis=1).astype(np.uint8)
    level_of[bins] = kernels.WAITING
    return Selection(thresholds, level_of)


def _third_pass(
    scored: Reconstruction,
    strata: Strata,
    selections: tuple[list[Selection], Selection],
    chance: NDArray[np.float64] | None,
) -> tuple[Counts, Fields]:
    """Joint counts ``[P, A + 1, (A + 1) · S · 2]`` by both levels, stratum and change; the null's dispersion."""
    pair, (principal, low), n_strata = scored.pair, selections, len(strata.exponent)
    levels = len(low.thresholds) + 1
    joint = np.zeros((len(principal), levels, levels * n_strata * 2), np.int64)
    rows, columns = np.zeros((2, pair.d_out)), np.zeros((2, pair.d_in))
    for block in blocks(pair):
        keys, placed = np.empty(block.codes.size, np.uint16), (block.magnitudes, block.codes, _changed(pair, block))
        kernels.make_keys(*placed, low.level_of, low.thresholds, strata.of_code, n_strata, keys)
        for bits, selection, counts in zip(scored.scores(block), principal, joint, strict=True):
            kernels.classify(bits, keys, selection.level_of, selection.thresholds, counts)
        if chance is not None:
            codes = block.codes.reshape(block.height, -1)
            kernels.add_expected(codes, strata.of_code, chance, block.row, rows, columns)
    return joint, {
        "dispersion_null_row": np.array(_expected_dispersion(rows, pair.d_in)),
        "dispersion_null_column": np.array(_expected_dispersion(columns, pair.d_out)),
    }


def _expected_dispersion(sums: NDArray[np.float64], across: int) -> float:
    """Expected dispersion index of independent flips: ``(Var μ + mean v) / (p (1 − p) / n)``, ddof 1.

    μ and v are the mean and variance of the changed share of a row (or column) of `across` entries, `sums` their
    totals ``[2, rows]``.
    """
    mean, variance = sums
    p = float(mean.sum()) / (mean.size * across)
    if mean.size < 2 or not 0 < p < 1:
        return float("nan")
    spread = np.var(mean / across, ddof=1) + variance.mean() / across**2
    return float(spread / (p * (1 - p) / across))


def masked(joint: Counts, n_alphas: int, n_strata: int) -> Fields:
    """Counts per mask from joint counts by level: a level of l is inside the masks of the l largest fractions."""
    by_level = joint.reshape(len(joint), n_alphas + 1, n_alphas + 1, n_strata, 2)
    inside = [slice(n_alphas - index, None) for index in range(n_alphas)]
    outside = [slice(0, n_alphas - index) for index in range(n_alphas)]
    principal = np.stack([by_level[:, at].sum(axis=(1, 2)) for at in inside], axis=1)
    apart = np.stack(
        [by_level[:, at, beyond].sum(axis=(1, 2)) for at, beyond in zip(inside, outside, strict=True)], axis=1
    )
    low = np.stack([by_level[0, :, at].sum(axis=(0, 1)) for at in inside])
    return {"counts_principal": principal, "counts_principal_not_low": apart, "counts_low": low}
