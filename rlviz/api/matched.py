"""Several runs from one base at the same distance: what is to be measured for that, and the results with it.

Raw, a run that moved further rotates and shifts more. Each update rescaled, per matrix, to the smallest norm among the
runs says where it moved. What it says is a result of its own in the store, under a key made from those of all runs.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import replace

from rlviz.engine import Request
from rlviz.engine.matching import scales, update_energies
from rlviz.engine.plan import result_key
from rlviz.probes import AFTERWARDS
from rlviz.result import PairResult
from rlviz.types import Measured, Record

_PROBE = AFTERWARDS[0]
_OF_MASKS = ("k", "alpha", "size_", "observed_")  # what records of the nulls and of the rescaled update share


def matched_request(results: Sequence[PairResult], wanted: Request) -> Request | None:
    """What to ask of each pair beside the others.

    None for fewer than two finished results of one base, and where no matrix was changed by all of them.

    Parameters
    ----------
    results : finished results, of the same base
    wanted : what they were asked with; memory, workers and `k_max` are taken over
    """
    keys = sorted({r.key for r in results if r.complete})
    if len(keys) < max(2, len({r.key for r in results})) or len({r.base.commit for r in results}) > 1:
        return None
    first, *others = (update_energies(r.measured) for r in results)
    if not scales(first, others):
        return None
    return replace(wanted, probes=AFTERWARDS, tensors="*", budget_s=None, beside=tuple(keys))


def matched_key(result: PairResult, request: Request) -> str:
    """Name under which the store keeps (or would keep) one of the results at matched norm; needs no network."""
    return result_key(result.base, result.tuned, request)


def with_matched(results: Sequence[PairResult], rescaled: Sequence[PairResult]) -> list[PairResult]:
    """The results with a record at matched norm on every matrix that has one, in the same order.

    Where a run is itself the shortest, its own records are that.
    """
    energies = [update_energies(r.measured) for r in results]
    joined: list[PairResult] = []
    for at, (result, found) in enumerate(zip(results, rescaled, strict=True)):
        own = scales(energies[at], [e for i, e in enumerate(energies) if i != at])
        records = {m.name: m.records[_PROBE] for m in found.measured if _PROBE in m.records}
        joined.append(replace(result, measured=tuple(_joined(m, own, records) for m in result.measured)))
    return joined


def _joined(measured: Measured, own: Mapping[str, float], records: Mapping[str, Record]) -> Measured:
    if measured.name not in own:
        return measured
    record = _as_it_is(measured) if own[measured.name] == 1 else records.get(measured.name)
    return measured if record is None else replace(measured, records={**measured.records, _PROBE: record})


def _as_it_is(measured: Measured) -> Record:
    """The record at scale 1, put together from what the other probes have found."""
    nulls = measured.records["nulls"].fields if "nulls" in measured.records else {}
    masks = {name: field for name, field in nulls.items() if name.startswith(_OF_MASKS)}
    spectrum = measured.records["spectrum"]
    return replace(spectrum, fields=ChainMap(dict(masks), dict(spectrum.fields)))
