"""One step on one open tensor pair: the same arithmetic, hence the same bytes, wherever it runs."""

from __future__ import annotations

from typing import Protocol

from rlviz.engine.plan import Step
from rlviz.probes import Probe, probe_called
from rlviz.probes.base import Fields, NotMeasurable, ProbeParams, TensorPair
from rlviz.store.fields import refusal
from rlviz.types import Record


class Records(Protocol):
    """Where records are kept: the store, or what a remote task was given and found."""

    def get(self, key: str) -> Record | None:
        """The record of that name, where there is one."""
        ...

    def put(self, key: str, record: Record) -> None:
        """Keep one."""
        ...


def measure(step: Step, pair: TensorPair, records: Records) -> None:
    """Keep the record of a step, or one that says why there is none."""
    try:
        base = _base_fields(step, pair, records)
        fields = step.probe.run(pair, step.params, base)
    except NotMeasurable as error:
        detail = f"{step.probe.name}: {error.detail}"
        records.put(step.key, refusal(step.match.name, step.probe.version, error.reason, detail))
    else:
        records.put(step.key, _record(step, step.probe, step.params, fields))


def _base_fields(step: Step, pair: TensorPair, records: Records) -> Fields | None:
    """The base-only part, kept already where another tuned model, or another probe, has left it."""
    if step.probe.base_probe is None:
        return None
    kept = records.get(step.base_key)
    if kept is not None:
        return dict(kept.fields)
    owner = probe_called(step.probe.base_probe)
    fields = owner.run_base(pair, step.base_params)
    if fields is not None:
        records.put(step.base_key, _record(step, owner, step.base_params, fields))
    return fields


def _record(step: Step, probe: Probe, params: ProbeParams, fields: Fields) -> Record:
    return Record(step.match.name, probe.name, probe.version, dict(params), fields)
