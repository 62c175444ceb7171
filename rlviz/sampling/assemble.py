"""Samples into the `Preview` that is shown: estimates for every tensor and every group."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from rlviz.sampling.domains import Cache, Indices, shares_and_norms, tensors
from rlviz.sampling.intervals import norm_intervals, share_intervals
from rlviz.sampling.result import Estimate, Sampled, TensorPreview
from rlviz.sampling.sample import Sample
from rlviz.types import LENSES

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True, eq=False)
class Estimates:
    """What a `Preview` says about tensors and groups."""

    tensors: tuple[TensorPreview, ...]
    pooled: Sampled
    layers: Mapping[int | None, Sampled]
    modules: Mapping[str, Sampled]
    cells: Mapping[tuple[str, int | None], Sampled]

    def as_fields(self) -> dict[str, Any]:
        """Keyword arguments of `Preview`."""
        return {name: getattr(self, name) for name in ("tensors", "pooled", "layers", "modules", "cells")}


def estimates(samples: Sequence[Sample], cache: Cache) -> Estimates:
    """Estimate every domain from what was read so far; `cache` is kept between rounds."""
    metas = [s.grid.match.base for s in samples]
    layers = _grouped([m.layer for m in metas])
    modules = _grouped([m.module for m in metas])
    cells = _grouped([(m.module, m.layer) for m in metas])
    alone = [np.array([i]) for i in range(len(samples))]
    shared = [members for members in cells.values() if len(members) > 1]
    groups = [np.arange(len(samples)), *alone, *layers.values(), *modules.values(), *shared]
    found = iter(_sampled(samples, groups, cache))
    pooled = next(found)
    each = [next(found) for _ in samples]
    return Estimates(
        pooled=pooled,
        tensors=tuple(TensorPreview(s.grid.match, own) for s, own in zip(samples, each, strict=True)),
        layers={key: next(found) for key in layers},
        modules={key: next(found) for key in modules},
        cells={key: each[members[0]] if len(members) == 1 else next(found) for key, members in cells.items()},
    )


def _grouped(keys: Sequence[K]) -> dict[K, Indices]:
    members: dict[K, list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        members[key].append(index)
    return {key: np.array(indices) for key, indices in members.items()}


def _sampled(samples: Sequence[Sample], groups: Sequence[Indices], cache: Cache) -> list[Sampled]:
    shares, norms = shares_and_norms(tensors(samples, cache), groups)
    low, high = share_intervals(shares)
    whole = [all(samples[i].is_whole for i in members) for members in groups]
    low[whole] = high[whole] = shares.estimate[whole]  # of two sums in different order, one may be an ulp off
    norm_low, norm_high = norm_intervals(norms)
    norm = np.sqrt(norms.ratio)
    n, read, rows, rows_read = (
        np.array([own(s) for s in samples])
        for own in (lambda s: s.grid.match.n, lambda s: s.read, lambda s: s.grid.rows, _rows_read)
    )
    sampled: list[Sampled] = []
    for d, members in enumerate(groups):
        each = [
            Estimate(*limits)
            for limits in zip(shares.estimate[d].tolist(), low[d].tolist(), high[d].tolist(), strict=True)
        ]
        sampled.append(
            Sampled(
                density=dict(zip(LENSES, each, strict=False)),
                relative_update_norm=Estimate(float(norm[d]), float(norm_low[d]), float(norm_high[d])),
                ulp=tuple(each[len(LENSES) :]),
                n=int(n[members].sum()),
                n_sampled=int(read[members].sum()),
                n_rows=int(rows[members].sum()),
                n_rows_sampled=int(rows_read[members].sum()),
            )
        )
    return sampled


def _rows_read(sample: Sample) -> int:
    """Rows read in whole or in part."""
    return min(sample.rows, sample.grid.rows)
