"""Entrywise change as numbers: sparsity under a lens, tolerances, overflow, patch size.

Every share here is a ratio of pooled counts of the `coordinate` record. Integer and boolean tensors are never
pooled with floats: they have their own metric.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import nan

import numpy as np
from numpy.typing import NDArray

from rlviz.bins import ETA_EDGES, TAU_EDGES
from rlviz.dtypes import ELEMENT_TYPES
from rlviz.errors import InvalidInput
from rlviz.metrics.base import Metric, Parts
from rlviz.types import LENSES, Lens, Measured, MetricParams

Fields = Mapping[str, NDArray[np.generic]]

PROBE = "coordinate"
PNT = "arXiv:2511.08567v1"
_LENS = ("lens",)


def record_fields(measured: Measured) -> Fields | None:
    """The coordinate fields of any tensor; None where the probe was not run."""
    record = measured.records.get(PROBE)
    return None if record is None else record.fields


def float_fields(measured: Measured) -> Fields | None:
    """The coordinate fields of a float tensor; None for integers and booleans, which are not pooled with floats."""
    return record_fields(measured) if ELEMENT_TYPES[measured.match.base.dtype].is_float else None


def n_compared(measured: Measured) -> int:
    """Entries compared: all but those that are NaN or infinite on either side. Needs the coordinate record."""
    return int(measured.records[PROBE].fields["n"])


def n_nonfinite(measured: Measured) -> int:
    """Entries where either side is NaN or infinite as stored; in no other count."""
    return int(measured.records[PROBE].fields["n_nonfinite"])


def n_changed(measured: Measured, lens: Lens) -> int:
    """Entries that differ under the lens; integers and booleans know `stored` only, which answers for all."""
    counts = measured.records[PROBE].fields["n_changed"]
    return int(counts[LENSES.index(lens)] if counts.size == len(LENSES) else counts[0])


def n_overflow(measured: Measured, lens: Lens) -> int:
    """Finite entries of which at least one side rounds beyond the lens's largest finite value; float tensors only."""
    return int(measured.records[PROBE].fields["n_overflow"][LENSES.index(lens)])


def count_above(counts: NDArray[np.generic], edges: NDArray[np.float64], tolerance: float, name: str) -> int:
    """Entries beyond a slider value, exactly.

    Examples
    --------
    >>> count_above(np.array([1, 2, 4]), np.array([1e-3, 1e-2]), 1e-3, "eta")
    6
    >>> count_above(np.array([1, 2, 4]), np.array([1e-3, 1e-2]), 4e-3, "eta")
    Traceback (most recent call last):
    rlviz.errors.InvalidInput: eta 0.004: is not one of the slider values. The nearest is 0.001.
    """
    index = int(np.searchsorted(edges, tolerance))
    if index == edges.size or edges[index] != tolerance:
        nearest = float(edges[np.argmin(np.abs(edges - tolerance))])
        raise InvalidInput(f"{name} {tolerance}", "is not one of the slider values", f"The nearest is {nearest}.")
    return int(counts[index + 1 :].sum())


def _parts(numerator: Callable[[Fields, MetricParams], int], denominator: Callable[[Fields], int]) -> Parts:
    def parts(measured: Measured, params: MetricParams) -> tuple[float, float] | None:
        fields = float_fields(measured)
        return None if fields is None else (float(numerator(fields, params)), float(denominator(fields)))

    return parts


def _n(fields: Fields) -> int:
    return int(fields["n"])


def _changed(fields: Fields, lens: Lens) -> int:
    return int(fields["n_changed"][LENSES.index(lens)])


def _overflow(measured: Measured, params: MetricParams) -> tuple[float, float] | None:
    fields = float_fields(measured)
    if fields is None or params.lens is Lens.STORED:
        return None
    return float(fields["n_overflow"][LENSES.index(params.lens)]), float(_n(fields))


def _one_ulp(fields: Fields, _params: MetricParams) -> int:
    ulps = fields["ulp_counts"]
    middle = ulps.size // 2
    return int(ulps[middle - 1] + ulps[middle + 1])


def _integer_sparsity(measured: Measured, _params: MetricParams) -> tuple[float, float] | None:
    fields = record_fields(measured)
    if fields is None or ELEMENT_TYPES[measured.match.base.dtype].is_float:
        return None
    return float(_n(fields) - int(fields["n_changed"][0])), float(_n(fields))


def patch_parts(measured: Measured, _params: MetricParams | None = None) -> tuple[float, float] | None:
    """Bytes of a lossless sparse patch of one tensor, and of the dense tensor, in the tuned dtype.

    ``min(n_changed · (4 + itemsize), n · itemsize)``. Non-finite entries count as changed, since a patch must
    carry them to be safe. Changes of the sign of a zero are not carried.
    """
    fields = record_fields(measured)
    if fields is None:
        return None
    itemsize = ELEMENT_TYPES[measured.match.tuned.dtype].itemsize
    dense = measured.match.n * itemsize
    sparse = (int(fields["n_changed"][0]) + int(fields["n_nonfinite"])) * (4 + itemsize)
    return float(min(sparse, dense)), float(dense)


def _patch_bytes(measured: Measured, _params: MetricParams) -> float:
    parts = patch_parts(measured)
    return nan if parts is None else parts[0]


_ZERO_RULE = "-0 equals +0; entries that are NaN or Inf on either side are excluded and counted apart."

METRICS: tuple[Metric, ...] = (
    Metric(
        key="update_sparsity",
        title="Update sparsity",
        formula=r"1 - \frac{\#\{i : \mathrm{lens}(w^0_i) \ne \mathrm{lens}(w^1_i)\}}{n}",
        unit="fraction",
        source=f"{PNT}, Def. 2.1-2.2 (bf16 lens)",
        meaning="Share of entries that are unchanged when both sides are rounded to the lens format.",
        probe=PROBE,
        scale="fraction",
        parts=_parts(lambda f, p: _n(f) - _changed(f, p.lens), _n),
        caveat=f"Sparsity alone does not show that RL was used: in-distribution SFT reaches 0.91. {_ZERO_RULE}",
        uses=_LENS,
    ),
    Metric(
        key="density",
        title="Update density",
        formula=r"\frac{\#\{i : \mathrm{lens}(w^0_i) \ne \mathrm{lens}(w^1_i)\}}{n}",
        unit="fraction",
        source=f"{PNT}, Def. 2.1-2.2, complement",
        meaning="Share of entries that differ when both sides are rounded to the lens format; 1 - update sparsity.",
        probe=PROBE,
        scale="fraction",
        parts=_parts(lambda f, p: _changed(f, p.lens), _n),
        caveat=_ZERO_RULE,
        uses=_LENS,
    ),
    Metric(
        key="hidden_fraction",
        title="Hidden by the lens",
        formula=r"1 - \frac{n_\mathrm{changed}(\mathrm{lens})}{n_\mathrm{changed}(\mathrm{stored})}",
        unit="fraction",
        source=f"{PNT}, Gate III (precision)",
        meaning="Of the entries that changed as stored, the share that is equal again under the lens.",
        probe=PROBE,
        scale="fraction",
        parts=_parts(lambda f, p: _changed(f, Lens.STORED) - _changed(f, p.lens), lambda f: _changed(f, Lens.STORED)),
        caveat="Non-zero only where a side is stored finer than the lens. If the tuned side is fp32 and the base "
        "bf16, part of what changed as stored may be the base's own rounding.",
        uses=_LENS,
    ),
    Metric(
        key="changed_rel_share",
        title="Changed beyond η (relative)",
        formula=r"\frac{\#\{i : |\Delta w_i| > \eta \max(|w^0_i|, |w^1_i|)\}}{n}",
        unit="fraction",
        source=f"{PNT}, Def. 2.1 (η = 1e-3)",
        meaning="Share of entries that moved by more than η of their own magnitude, on the stored values.",
        probe=PROBE,
        scale="fraction",
        parts=_parts(lambda f, p: count_above(f["eta_counts"], ETA_EDGES, p.eta, "eta"), _n),
        caveat="Two different bf16 values differ by at least 2^-8 relative, so below that η counts any change.",
        uses=("eta",),
    ),
    Metric(
        key="changed_abs_share",
        title="Changed beyond τ (absolute)",
        formula=r"\frac{\#\{i : |\Delta w_i| > \tau\}}{n}",
        unit="fraction",
        source="arXiv:2505.11711, check_sparsity.py (τ = 1e-5)",
        meaning="Share of entries that moved by more than a fixed τ, on the stored values.",
        probe=PROBE,
        scale="fraction",
        parts=_parts(lambda f, p: count_above(f["tau_counts"], TAU_EDGES, p.tau, "tau"), _n),
        caveat="A one-ULP step of bf16 is below 1e-5 for every |w| < 2^-9: a fixed τ calls such changes none.",
        uses=("tau",),
    ),
    Metric(
        key="one_ulp_share",
        title="One-ULP moves",
        formula=r"\frac{\#\{i : |c^1_i - c^0_i| = 1\}}{\#\{i : c^1_i \ne c^0_i\}}",
        unit="fraction",
        source=f"{PNT}, Gate III (precision)",
        meaning="Of the entries that changed under bf16, the share that moved to a neighbouring bf16 value.",
        probe=PROBE,
        scale="fraction",
        parts=_parts(_one_ulp, lambda f: _changed(f, Lens.BF16)),
        caveat="Distances are between bf16 codes c in value order, after both sides are rounded to bf16.",
    ),
    Metric(
        key="overflow_share",
        title="Overflow of the lens",
        formula=r"\frac{\#\{i : \max(|w^0_i|, |w^1_i|) \text{ rounds beyond the largest value of the lens}\}}{n}",
        unit="fraction",
        source="definition of this tool",
        meaning="Share of finite entries where at least one side overflows the lens format and is compared as ±Inf "
        "(±448 in e4m3).",
        probe=PROBE,
        scale="fraction",
        parts=_overflow,
        caveat="fp8 lenses scale both sides so that the largest |w0| just fits; only the tuned side can overflow.",
        uses=_LENS,
    ),
    Metric(
        key="update_sparsity_integer",
        title="Unchanged integers",
        formula=r"1 - \frac{\#\{i : w^0_i \ne w^1_i\}}{n}",
        unit="fraction",
        source="definition of this tool",
        meaning="Share of unchanged entries of integer and boolean tensors, as stored; not part of any other share.",
        probe=PROBE,
        scale="fraction",
        parts=_integer_sparsity,
    ),
    Metric(
        key="patch_bytes",
        title="Patch size",
        formula=r"\min(n_\mathrm{changed}(4 + s),\ n s), \quad s = \text{item size of the tuned dtype}",
        unit="bytes",
        source="arXiv:2602.03839, arXiv:2605.07330 (sparse weight synchronisation)",
        meaning="Bytes of a lossless sparse patch of one tensor: a 4-byte index and the new value per changed entry, "
        "or the dense tensor where that is smaller.",
        probe=PROBE,
        scale="log",
        value=_patch_bytes,
        combine=sum,
        combine_text="sum",
        caveat="Per tensor; the patch of a model is the sum (patch_ratio is its share of the dense size).",
    ),
    Metric(
        key="patch_ratio",
        title="Patch size, share of dense",
        formula=r"\frac{\sum_t \min(n_\mathrm{changed}(4 + s),\ n s)}{\sum_t n s}",
        unit="fraction",
        source="arXiv:2602.03839, arXiv:2605.07330 (sparse weight synchronisation)",
        meaning="Size of a lossless sparse patch as a share of sending the tuned tensors whole.",
        probe=PROBE,
        scale="fraction",
        parts=patch_parts,
        caveat="Without entropy coding, which shrinks it further.",
    ),
)
