"""Why a question stays open: not measured, not reached yet, or undefined; and what to run."""

from __future__ import annotations

import shlex
from dataclasses import replace

from rlviz.result import PairResult
from rlviz.rounding import noise_is_known
from rlviz.types import Lens, MetricParams

NEEDED = ("coordinate", "spectrum", "masks", "nulls")
"""Probes that the gates rest on."""

UNKNOWN_NOISE = "Undefined: fp16 or fp8 rounded these weights, and what noise would change there is not known."


def missing_probes(result: PairResult) -> tuple[str, ...]:
    """Those of `NEEDED` that were not run on a finished pair. One that was run may have found nothing to do."""
    if not result.complete:
        return ()
    ran = {
        *(result.provenance.probes if result.provenance else ()),
        *(name for m in result.measured for name in m.records),
    }
    needed = NEEDED if _has_matrix(result) else NEEDED[:1]
    return tuple(name for name in needed if name not in ran)


def _has_matrix(result: PairResult) -> bool:
    return any(m.match.is_matrix for m in result.floats)


def command(result: PairResult) -> str:
    """The command line that measures what is missing, and nothing twice."""
    refs = (result.base.pinned_ref, result.tuned.pinned_ref)
    return f"python -m rlviz compare {shlex.join(refs)} --probes {','.join(NEEDED)}"


def no_spectrum(result: PairResult) -> str:
    """Why Gate II has nothing to go by."""
    return _no_record(result, "spectrum") or "Undefined: no matrix that changed has a full spectrum."


def no_masks(result: PairResult, params: MetricParams) -> str:
    """Why there is no overlap or no odds to judge."""
    if absent := _no_record(result, "masks"):
        return absent
    matrices = [m for m in result.floats if "masks" in m.records]
    if not any(noise_is_known(m.match) for m in matrices):
        return UNKNOWN_NOISE
    density = result.pooled("density", replace(params, lens=Lens.BF16))
    state = "nothing" if density == 0 else "everything" if density == 1 else "too little"
    return f"Undefined: in bf16 {state} changed in these matrices, which leaves no pattern to judge."


def no_noise(result: PairResult) -> str:
    """Why no noise can be fitted to the flips."""
    if not any(noise_is_known(m.match) for m in result.floats):
        return UNKNOWN_NOISE
    return "Undefined: in bf16 no weight changed, or all did, and no noise can be fitted to that."


def _no_record(result: PairResult, probe: str) -> str:
    if any(probe in m.records for m in result.floats):
        return ""
    if not _has_matrix(result):
        return "Undefined: nothing compared here is a matrix."
    if not result.complete:
        return f"Not measured yet: the {probe} probe has not come to these matrices."
    return f"Not measured: the {probe} probe was not run on this pair."
