"""The `masks` probe (metric specification, section 3): counts from which every mask overlap and its null follow."""

from __future__ import annotations

from rlviz.probes.base import Cost, Fields, NotMeasurable, ProbeParams, TensorPair
from rlviz.probes.masks.scores import BLOCK_ENTRIES, HELD_ENTRIES
from rlviz.probes.spectrum.probe import SpectrumProbe
from rlviz.types import TensorMatch

ALPHAS = (0.01, 0.05, 0.1, 0.2, 0.3, 0.5)
PRESET_RANKS = (16, 32, 64, 128, 256)

# measured on one AVX2 core: float32 products, and per entry and k two passes of counting
FLOPS_PER_S = 5.0e10
COUNT_S_PER_ENTRY = 7e-9
DECODE_S_PER_ENTRY = 6e-9
BYTES_PER_BLOCK_ENTRY = 60  # measured: codes, values, keys of both sides while F64 is rounded; half of it for bf16


def preset_ranks(kept: int, r: int) -> list[int]:
    """Ranks k at which masks are counted: the presets below r that the kept directions allow, else all kept.

    Examples
    --------
    >>> preset_ranks(128, 896), preset_ranks(12, 13), preset_ranks(1, 2)
    ([16, 32, 64, 128], [12], [1])
    """
    limit = min(kept, r - 1)
    return [k for k in PRESET_RANKS if k <= limit] or ([limit] if limit >= 1 else [])


class MasksProbe:
    """Joint counts of masks, rounding strata and changes under the bf16 lens.

    For each k: the principal mask holds the α largest ``|rank-k reconstruction of W0|`` (float32 products of the base's
    leading singular vectors), every tie with the smallest of them included; the low mask the α smallest ``|w0|``, ties
    included. Parameters are those of the spectrum probe, whose base record is shared; ranks up to `k_max` are counted.

    `run` fields (P ranks, A = 6 fractions, S strata; the last axis is unchanged, changed):

    - `k` int64 ``[P]``, `alpha` float64 ``[A]``, ascending
    - `exponent` int16 ``[S]``, `power_of_two` uint8 ``[S]``: exponent field of w0 rounded to bf16, and whether its
      mantissa is zero; field 0 with and without it are zeros and subnormals
    - `counts` int64 ``[S, 2]``: all entries
    - `counts_low` int64 ``[A, S, 2]``; `counts_principal`, `counts_principal_not_low` int64 ``[P, A, S, 2]``
    - `threshold_principal` float32 ``[P, A]``, `threshold_low` float32 ``[A]``: the smallest score inside, the largest
      magnitude inside
    - `finer` uint8: the base is stored finer than bf16, so its place within a rounding cell matters
    - `noise_std` float64: of the isotropic noise expected to flip as many entries; NaN where none or all changed, or
      where fp16 (either side) or fp8 (tuned side) rounded the weights, not bf16 alone
    - `dispersion_null_row`, `_column` float64: the dispersion index expected of that noise; NaN likewise
    """

    name = "masks"
    version = 1
    base_probe = "spectrum"

    def defaults(self) -> ProbeParams:
        """Those of the spectrum probe, so that the base is decomposed once."""
        return {"k_max": 128, "method": "exact"}

    def applies(self, match: TensorMatch) -> bool:
        """As the spectrum probe, whose directions it needs."""
        return SpectrumProbe().applies(match)

    def cost(self, match: TensorMatch, params: ProbeParams) -> Cost:
        """Three passes over the base and two over the tuned side; small matrices keep their reconstructions."""
        d_out, d_in = match.shape
        ranks = preset_ranks(int(params["k_max"]), min(d_out, d_in))
        k, entries = max(ranks), d_out * d_in
        flops = 8.0 * entries * k
        seconds = flops / FLOPS_PER_S + entries * (DECODE_S_PER_ENTRY + COUNT_S_PER_ENTRY * len(ranks))
        held = 4 * entries * len(ranks) if entries <= HELD_ENTRIES else 0
        histograms = (len(ranks) + 1) * (4 << 20)  # coarse ones, and six fine ones each
        block = BYTES_PER_BLOCK_ENTRY * min(entries, max(BLOCK_ENTRIES, d_in))
        return Cost((2 << 20) + held + histograms + block + 8 * k * (d_out + d_in), seconds)

    def run_base(self, pair: TensorPair, params: ProbeParams) -> Fields | None:
        """The spectrum probe's, see `base_probe`."""
        return None

    def run(self, pair: TensorPair, params: ProbeParams, base: Fields | None) -> Fields:
        """Count one pair. Raises `NotMeasurable` where a side holds NaN or infinity, or the base no direction."""
        from rlviz.probes.masks import count  # numba only where something is counted

        if base is None:
            raise ValueError("the masks probe starts from the spectrum probe's base record")
        basis = base["basis"]
        ranks = preset_ranks(basis.shape[1], min(pair.d_out, pair.d_in))
        if not ranks:
            raise NotMeasurable("no_directions", f"{pair.match.name}: the base is zero; it has no principal part.")
        return count.count(pair, basis, ranks, ALPHAS)


PROBE = MasksProbe()
