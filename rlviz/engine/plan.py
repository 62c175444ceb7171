"""What a run will do, known before any weight is read: steps in order, bytes, memory and time per probe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from rlviz.dtypes import ELEMENT_TYPES
from rlviz.engine.matching import scales_beside
from rlviz.engine.request import MIB, Request
from rlviz.engine.routes import Route, exact_routes, not_matrices, within_limits
from rlviz.errors import InvalidInput, NothingComparable
from rlviz.probes import AFTERWARDS, PROBE_NAMES, Probe, probe_called
from rlviz.probes.base import Cost, ProbeParams
from rlviz.sources import Pairing
from rlviz.store import Store
from rlviz.store.documents import SCHEMA, content_key
from rlviz.store.documents import result_key as stored_key
from rlviz.store.fields import NOT_MEASURABLE
from rlviz.store.load import BASE_PART
from rlviz.types import LinkSpeed, ModelIdentity, Notice, Record, Skipped, TensorMatch, TensorMeta

READ_BYTES = 8 * MIB  # of one request over the network
# What a hosted CPU with a home connection reaches; replaced by the measured rate as soon as a run has one.
ASSUMED_BYTES_PER_S = {"remote": 40e6, "local": 1.5e9}


@dataclass(frozen=True, slots=True)
class Step:
    """One probe on one tensor pair. `landed` says that its record is in the store already.

    `base_params` are those of the probe whose base record this one starts from.
    """

    match: TensorMatch
    probe: Probe
    params: ProbeParams
    base_params: ProbeParams
    key: str
    base_key: str
    cost: Cost
    landed: bool

    @property
    def nbytes(self) -> int:
        """Bytes of both sides that the step reads."""
        return compared_bytes(self.match)


@dataclass(frozen=True, slots=True)
class Plan:
    """The ordered steps of one pair and what they will take.

    `speed` is what a preview of the pair measured of the way to its files; an assumption stands in for it.
    """

    key: str
    pairing: Pairing
    request: Request
    steps: tuple[Step, ...]
    skipped: tuple[Skipped, ...]
    remote: bool
    speed: LinkSpeed | None = None

    @property
    def pending(self) -> tuple[Step, ...]:
        return tuple(step for step in self.steps if not step.landed)

    @property
    def bytes_to_read(self) -> int:
        """Bytes still to be read: each tensor once where it is kept for all its probes (hub), else per probe."""
        if self.remote:
            return sum(compared_bytes(match) for match in {s.match.name: s.match for s in self.pending}.values())
        return sum(step.nbytes for step in self.pending)

    def seconds(self, probe: str | None = None) -> float:
        """Estimated wall seconds of computing (one probe or all) plus, for all, of reading."""
        steps = [s for s in self.pending if probe in (None, s.probe.name)]
        if not steps:
            return 0.0
        compute = max(sum(s.cost.seconds for s in steps) / self.request.workers, *(s.cost.seconds for s in steps))
        return compute if probe is not None else compute + self.reading_seconds

    @property
    def reading_seconds(self) -> float:
        """The part of `seconds` that is reading."""
        if self.speed and self.remote:
            return self.speed.seconds(self.bytes_to_read, self.bytes_to_read / READ_BYTES)
        return self.bytes_to_read / ASSUMED_BYTES_PER_S["remote" if self.remote else "local"]

    @property
    def memory_bytes(self) -> int:
        """Peak of what the steps hold at once, an upper bound within the cap."""
        largest = sorted((s.cost.memory_bytes for s in self.pending), reverse=True)[: self.request.workers]
        return min(sum(largest), self.request.memory_bytes)

    @property
    def total_tensors(self) -> int:
        """Tensors in the union of both checkpoints."""
        return len({s.name for s in self.pairing.skipped} | {m.name for m in self.pairing.matched})


def plan(pairing: Pairing, store: Store, request: Request) -> Plan:
    """Order the work of one pair.

    Cheap probes come first over all tensors, so that the first heat map is complete early; within a probe the
    dearest tensors start first, which keeps the workers even at the end.

    Raises
    ------
    NothingComparable
        If the glob matches no tensor.
    InvalidInput
        If a probe's name is unknown.
    """
    names = (*PROBE_NAMES, *AFTERWARDS) if request.beside else PROBE_NAMES
    unknown = [name for name in request.probes if name not in names]
    if unknown:
        raise InvalidInput(unknown[0], "no such probe", f"There are: {', '.join(PROBE_NAMES)}.")
    matches = [m for m in pairing.matched if fnmatchcase(m.name, request.tensors)]
    if not matches:
        example = pairing.matched[0].name if pairing.matched else "none"
        raise NothingComparable(request.tensors, "matches no compared tensor", f"A name looks like {example}.")
    scales = scales_beside(store, pairing, request.beside) if request.beside else {}
    steps: list[Step] = []
    skipped = list(pairing.skipped)
    for name in (n for n in names if n in request.probes):
        probe = probe_called(name)
        applicable = [m for m in matches if probe.applies(m)]
        chosen, left_out = within_limits(probe, exact_routes(probe, applicable, request, scales), request)
        skipped += [*left_out, *not_matrices(probe, matches)]
        steps += [_step(probe, route, pairing) for route in chosen]
    identities = (pairing.base.identity, pairing.tuned.identity)
    remote = any(is_remote(i) for i in identities)
    key = result_key(*identities, request)
    return without_landed(Plan(key, pairing, request, tuple(steps), tuple(skipped), remote), store)


def result_key(base: ModelIdentity, tuned: ModelIdentity, request: Request) -> str:
    """Name of the result: both commits and what was asked; needs no network when both refs are pinned."""
    return stored_key(as_dict(base), as_dict(tuned), asked(request))


def asked(request: Request) -> dict[str, Any]:
    """What of a request the result depends on: its key is made from this, and its manifest says it."""
    return {
        "probes": {name: probe_called(name).version for name in sorted(request.probes)},
        "tensors": request.tensors,
        "budget_s": request.budget_s,
        "k_max": request.k_max,
        **({"seed": request.seed} if "nulls" in request.probes else {}),  # nothing else is drawn
        **({"beside": list(request.beside)} if request.beside else {}),
    }


def is_remote(identity: ModelIdentity) -> bool:
    """Whether reading this checkpoint crosses the network, where bytes are dear and reread never."""
    from rlviz.sources import ModelRef

    return ModelRef.parse(identity.pinned_ref).kind == "hub"


def compared_bytes(match: TensorMatch) -> int:
    """Bytes of both sides of the compared rows."""
    width = sum(ELEMENT_TYPES[meta.dtype].itemsize for meta in (match.base, match.tuned))
    return match.n * width


def _step(probe: Probe, route: Route, pairing: Pairing) -> Step:
    match, params = route.match, route.params
    base_id, tuned_id = pairing.base.tensor_id(match.base), pairing.tuned.tensor_id(match.tuned)
    about = {"probe": probe.name, "version": probe.version, "params": dict(params), "rows": match.rows}
    of_base = probe_called(probe.base_probe) if probe.base_probe else probe
    base_params = {name: value for name, value in params.items() if name in of_base.defaults()}
    about_base = {**about, "probe": of_base.name, "version": of_base.version, "params": base_params}
    base_key = content_key({**about_base, "base": base_id, "part": "base"})
    key = content_key({**about, "base": base_id, "tuned": tuned_id})
    return Step(match, probe, params, base_params, key, base_key, route.cost, landed=False)


def manifest(plan: Plan, skipped: Iterable[Skipped], complete: bool) -> dict[str, Any]:
    """What the store keeps of a pair: enough to show it again without opening either checkpoint."""
    records: dict[str, dict[str, str]] = {}
    for step in plan.steps:
        own = records.setdefault(step.match.name, {})
        own[step.probe.name] = step.key
        if step.probe.base_probe == step.probe.name:
            own[f"{step.probe.name}{BASE_PART}"] = step.base_key
    return {
        "schema": SCHEMA,
        "complete": complete,
        "asked": asked(plan.request),
        "total": plan.total_tensors,
        "base": as_dict(plan.pairing.base.identity),
        "tuned": as_dict(plan.pairing.tuned.identity),
        "tensors": [
            {"base": as_dict(m.base), "tuned": as_dict(m.tuned), "rows": m.rows, "records": records[m.name]}
            for m in plan.pairing.matched
            if m.name in records
        ],
        "skipped": [as_dict(s) for s in skipped],
        "notices": [as_dict(n) for n in plan.pairing.notices],
    }


def as_dict(flat: ModelIdentity | TensorMeta | Skipped | Notice) -> dict[str, Any]:
    """A flat dataclass as a dict; `dataclasses.asdict` copies deeply, which a manifest of 40 000 tensors feels."""
    return {f.name: getattr(flat, f.name) for f in fields(flat)}


def without_landed(plan: Plan, store: Store) -> Plan:
    """The same plan with `landed` looked up afresh, as after a wait on another process's run."""
    kept = store.read_json(plan.key, "manifest") or {}
    if not kept.get("complete") and store.fetch(plan.key):  # another host has finished it meanwhile
        kept = store.read_json(plan.key, "manifest") or {}
    hashes: Mapping[str, Any] = kept.get("hashes", {})
    return replace(plan, steps=tuple(replace(s, landed=_landed(s, store, hashes)) for s in plan.steps))


def _landed(step: Step, store: Store, hashes: Mapping[str, Any]) -> bool:
    """Whether all that a step leaves behind is in the store and sound, what it keeps of the base included."""

    def found(key: str) -> Record | None:
        return store.get(key, hashes.get(key, (None,))[0])

    record = found(step.key)
    if record is None or record.probe == NOT_MEASURABLE or step.probe.base_probe != step.probe.name:
        return record is not None
    return found(step.base_key) is not None
