"""Gate II: where the update points, against isotropic noise of the same length."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

import numpy as np

from rlviz.metrics import METRICS
from rlviz.metrics.coordinate import n_changed, n_compared
from rlviz.metrics.subspace import rank_used
from rlviz.result import PairResult
from rlviz.types import Lens, Measured, MetricParams
from rlviz.verdict.finding import Finding, Question
from rlviz.verdict.matrices import each, matrices
from rlviz.verdict.missing import no_spectrum
from rlviz.verdict.significance import Tally, tally_of_block_energies, tally_of_edges
from rlviz.views.words import number

ISOTROPIC = 0.05
"""Energy within this share of what isotropic noise gives counts as isotropic, whatever its significance."""

NOTABLE, DENSE = 0.25, 0.1
"""A direction counts where it is this share stronger than noise's; rounding alone gives less from this density on."""


OFF = Question(
    "II",
    "Does the update keep off the principal block?",
    "Energy in the block of the base's top-k directions, against isotropic noise of the same length (exact beta test). "
    f"Counts in half the matrices and by {number(100 * ISOTROPIC, 1)} % pooled.",
    "isotropic",
)
OWN = Question(
    "II",
    "Does the update have directions that noise has not?",
    "‖ΔW‖₂ against isotropic noise of the same length (Tracy-Widom law of the largest singular value). Counts in half "
    f"the matrices and from {number(1 + NOTABLE, 3)}× in the median. Rows or columns of unequal length raise it too.",
    "isotropic",
)


@dataclass(frozen=True, slots=True)
class Alignment:
    """Energy in the principal block over the isotropic one, pooled, and in how many matrices it differs.

    `rounded` says that the update is known only as rounding left it. Rounding spares large weights, and where rows
    differ in size that alone moves energy off the principal block (to 0.2-0.8 of the isotropic share, for noise that
    changes a tenth to a third of the entries): then only an excess means anything.
    """

    enrichment: float
    tally: Tally
    rounded: bool

    @property
    def on(self) -> bool:
        """More than isotropic: significant in at least half the matrices, and by more than `ISOTROPIC` pooled."""
        return 2 * self.tally.above >= max(self.tally.n, 1) and self.enrichment > 1 + ISOTROPIC

    @property
    def off(self) -> bool:
        """Less than isotropic, likewise."""
        return 2 * self.tally.below >= max(self.tally.n, 1) and self.enrichment < 1 - ISOTROPIC

    @property
    def beyond_noise(self) -> bool:
        """Whether noise and rounding cannot have done it."""
        return self.on or (self.off and not self.rounded)

    @property
    def words(self) -> str:
        """Where the energy lies, for the middle of a sentence."""
        if not (self.on or self.off):
            return "is spread like isotropic noise"
        place = f"lies {'on' if self.on else 'off'} the principal block ({number(self.enrichment)}× isotropic)"
        return f"{place}, as rounding alone may do" if self.off and self.rounded else place


def rounded(measured: Measured) -> bool:
    """Whether bf16 hides none of the stored changes though some entries are unchanged: what is stored was rounded."""
    counted = "coordinate" in measured.records
    return counted and n_changed(measured, Lens.BF16) == n_changed(measured, Lens.STORED) < n_compared(measured)


def alignment(result: PairResult, params: MetricParams) -> Alignment | None:
    """Test of the energy in the top-k principal block against an isotropic update; None where there is none."""
    group = matrices(result)
    enrichment = METRICS["energy_principal_enrichment"].pooled(group, params)
    if not isfinite(enrichment):
        return None
    ranks = np.array([rank_used(m, params.k) for m in group])
    entries = np.array([m.shape[0] * m.shape[-1] for m in group])
    tally = tally_of_block_energies(each("energy_principal", group, params), ranks, entries)
    return Alignment(enrichment, tally, any(rounded(m) for m in group))


def energy(found: Alignment | None, result: PairResult, params: MetricParams) -> Finding:
    """Whether the update avoids the principal block, against an isotropic update."""
    if found is None:
        return OFF.open(no_spectrum(result))
    tally = found.tally
    sentence = (
        f"The top-{params.k} block holds {number(found.enrichment)}× the energy that noise puts there, significantly "
        f"more in {tally.above} of {tally.n} matrices and less in {tally.below}: the energy {found.words}."
    )
    holds = None if found.off and found.rounded else found.off
    value = f"{number(found.enrichment)}× isotropic"
    place = f"energy {'on' if found.on else 'off'} the principal block ({value})"
    return Finding(OFF, sentence, holds, value, place if found.beyond_noise else "")


@dataclass(frozen=True, slots=True)
class Concentration:
    """Strength of the strongest direction over noise's, median over matrices, and in how many it is significant."""

    ratio: float
    tally: Tally

    @property
    def beyond_noise(self) -> bool:
        """Significant in at least half the matrices, and by more than `NOTABLE` in the median."""
        return 2 * self.tally.above >= max(self.tally.n, 1) and self.ratio > 1 + NOTABLE


def concentration(result: PairResult, params: MetricParams) -> Concentration | None:
    """Test of the update's largest singular value against isotropic noise of its length; None where there is none.

    Rounded updates of which fewer than `DENSE` entries changed are left out: a few large steps at random places have
    strong directions too (2.7× at one entry in a thousand, 1.1× at one in ten).
    """
    group = tuple(
        m for m in matrices(result) if not rounded(m) or METRICS["density"].of(m, MetricParams(lens=Lens.BF16)) >= DENSE
    )
    ratios = each("update_edge_ratio", group, params)
    if not np.isfinite(ratios).any():
        return None
    d_out, d_in = (np.array([m.shape[i] for m in group]) for i in (0, -1))
    return Concentration(float(np.nanmedian(ratios)), tally_of_edges(ratios, d_out, d_in))


def directions(found: Concentration | None, result: PairResult) -> Finding:
    """Whether the update has directions stronger than any of noise."""
    if found is None and matrices(result):
        return OWN.open(f"Rounding left fewer than {number(100 * DENSE)} % of the entries changed in every matrix.")
    if found is None:
        return OWN.open(no_spectrum(result))
    tally = found.tally
    sentence = (
        f"Its strongest direction is {number(found.ratio)}× as strong as noise's in the median, significantly stronger "
        f"in {tally.above} of {tally.n} matrices."
    )
    value = f"{number(found.ratio)}× noise"
    return Finding(
        OWN, sentence, found.beyond_noise, value, f"strong directions ({value})" if found.beyond_noise else ""
    )
