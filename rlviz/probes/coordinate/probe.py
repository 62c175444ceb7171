"""The coordinate probe (metric specification, section 1): exact counts over both sides, window by window."""

from __future__ import annotations

from importlib import import_module

from rlviz.dtypes import ELEMENT_TYPES
from rlviz.probes.base import Cost, Fields, ProbeParams, TensorPair
from rlviz.types import Side, TensorMatch

SMALL = 1 << 14
"""Entries below which a table of bf16 codes costs more than it saves."""


class CoordinateProbe:
    """Counts, histograms, norms and profiles of the entrywise update.

    Fields of a float tensor (``L = len(LENSES)``, in that order; grids in `rlviz.bins`):

    - ``n``, ``n_nonfinite``: int64. Entries compared; entries where either side is NaN or Inf (in nothing else).
    - ``n_changed``, ``n_overflow``: int64[L]. Entries that differ under the lens; entries where at least one side
      rounds beyond the largest finite value of the lens.
    - ``eta_counts``, ``tau_counts``: int64. Changed entries by ``|ΔW| / max(|w0|, |w1|)`` and by ``|ΔW|``;
      ``tau_sumsq``: float64, the sum of ``ΔW²`` per bin of ``tau_counts``.
    - ``ulp_counts``: int64[35]. All entries by signed distance between bf16 codes (tuned − base, in value order).
    - ``exponent_n``, ``exponent_changed``: int64[256]. Entries, and those changed under bf16, by the exponent field
      of w0 rounded to bf16; 0 holds zeros and subnormals.
    - ``base_norm_sq``, ``tuned_norm_sq``, ``update_norm_sq``, ``max_abs_update``: float64.
    - ``row_changed``, ``column_changed``: int32, ``block_changed``: the update map, at most 256 × 256, all under bf16.
      ``*_nonfinite``: the same for non-finite entries; empty where there are none.
    - ``fp8_factor``: float64[2], the factors of the e4m3 and e5m2 lenses, from the finite entries of the base.

    Integer and boolean tensors have ``n``, ``n_nonfinite``, ``n_changed`` (`stored` only), rows, columns and blocks.
    """

    name = "coordinate"
    version = 1
    base_probe = None

    def defaults(self) -> ProbeParams:
        """No parameters: every slider is answered from the record."""
        return {}

    def applies(self, match: TensorMatch) -> bool:
        """Both sides of a float type, or both of the same integer type or boolean."""
        base, tuned = ELEMENT_TYPES.get(match.base.dtype), ELEMENT_TYPES.get(match.tuned.dtype)
        return base is not None and tuned is not None and (base == tuned or (base.is_float and tuned.is_float))

    def cost(self, match: TensorMatch, params: ProbeParams) -> Cost:
        """Memory does not depend on the tensor beyond its profiles; seconds are those of a 2.5 GHz core."""
        coded = match.base.dtype == match.tuned.dtype == "BF16"
        base_twice = ELEMENT_TYPES[match.base.dtype].is_float and not (coded and match.n >= SMALL)
        rereads: frozenset[Side] = frozenset({"base"} if base_twice else ())
        return Cost(40 << 20, match.n * (5e-9 if coded else 30e-9), rereads)

    def run_base(self, pair: TensorPair, params: ProbeParams) -> Fields | None:
        """Nothing is worth keeping of the base alone."""
        return None

    def run(self, pair: TensorPair, params: ProbeParams, base: Fields | None) -> Fields:
        """Count one pair. Gives the same bytes on every thread and every time."""
        from rlviz.probes.coordinate import count  # numba only where something is counted

        if not ELEMENT_TYPES[pair.match.base.dtype].is_float:
            return count.count_integers(pair)
        if pair.match.base.dtype == pair.match.tuned.dtype == "BF16" and pair.match.n >= SMALL:
            return count.count_codes(pair)
        return count.count_values(pair)


PROBE = CoordinateProbe()


def warm() -> None:
    """Compile the kernels, or load them where they were compiled before."""
    import_module("rlviz.probes.coordinate.count")
