"""The `matched` probe: what the other probes say of ``W0 + c ΔW`` (metric specification, end of section 3).

Raw, a run that moved further rotates and shifts more because it moved further. With every run's update rescaled, matrix
by matrix, to the norm of the one that moved least, what is left is where it moved.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlviz.probes.base import Cost, Fields, ProbeParams, TensorPair
from rlviz.probes.masks.probe import ALPHAS, preset_ranks
from rlviz.probes.nulls.probe import NullsProbe, shuffles
from rlviz.probes.spectrum.blocks import Oriented, aligned, tall_weight
from rlviz.probes.spectrum.probe import SpectrumProbe, compare, decomposed
from rlviz.types import TensorMatch


@dataclass(frozen=True, slots=True)
class TallScaled:
    """``W0 + c (W1 − W0)`` in float64, in the orientation of the two."""

    base: Oriented
    tuned: Oriented
    scale: float

    @property
    def shape(self) -> tuple[int, int]:
        return self.base.shape

    @property
    def name(self) -> str:
        return self.tuned.name

    @property
    def transposed(self) -> bool:
        return self.base.transposed

    def blocks(self) -> Iterator[NDArray[np.float64]]:
        """Row blocks ``[rows, n]`` from top to bottom."""
        for base, _, update in aligned(self.base, self.tuned):
            yield base + self.scale * update


class MatchedProbe:
    """What a pair would show had its update been `scale` times as long, `scale` above 0 and at most 1.

    `run` fields are those of `SpectrumProbe.run`; and where the tuned side is stored finer than bf16 (a bf16 update
    rescaled and rounded again would be an artefact) and the matrix has at most 32 Mi entries, of the rescaled update
    rounded to bf16:

    - `k` int64 ``[P]``, `alpha` float64 ``[A]``: as of the masks probe
    - `size_principal`, `size_principal_not_low` int64 ``[P, A]``, `size_low` int64 ``[A]``: entries of each mask
    - `observed_changed` int64, `observed_principal`, … : changed under the bf16 lens, altogether and in each mask
    """

    name = "matched"
    version = 1
    base_probe = "spectrum"

    def defaults(self) -> ProbeParams:
        """Those of the spectrum probe, and ``scale`` 1."""
        return {**SpectrumProbe().defaults(), "scale": 1.0}

    def applies(self, match: TensorMatch) -> bool:
        """As the spectrum probe."""
        return SpectrumProbe().applies(match)

    def cost(self, match: TensorMatch, params: ProbeParams) -> Cost:
        """A spectrum, though the base's is usually there already, and where masks are counted one shuffle."""
        spectrum = SpectrumProbe().cost(match, params)
        masks = NullsProbe().cost(match, {**params, "shuffles": 1, "draws": 0})
        return Cost(max(spectrum.memory_bytes, masks.memory_bytes), spectrum.seconds + masks.seconds)

    def run_base(self, pair: TensorPair, params: ProbeParams) -> Fields | None:
        """The spectrum probe's, see `base_probe`."""
        return None

    def run(self, pair: TensorPair, params: ProbeParams, base: Fields | None) -> Fields:
        """Everything at the rescaled update. Raises `NotMeasurable` on NaN or infinity."""
        if base is None:
            raise ValueError("the matched probe starts from the spectrum probe's base record")
        w0, scale = tall_weight(pair, "base"), float(params["scale"])
        fields = compare(w0, TallScaled(w0, tall_weight(pair, "tuned"), scale), decomposed(base), params)
        ranks = preset_ranks(base["basis"].shape[1], min(pair.d_out, pair.d_in))
        if ranks and shuffles(pair.match):
            from rlviz.probes.nulls.shuffle import rescaled  # numba only where something is counted

            fields |= rescaled(pair, base["basis"], ranks, ALPHAS, scale)
        return fields


PROBE = MatchedProbe()
