"""What a run will do, known before any weight is read: steps in order, bytes, memory and time per probe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from rlviz.dtypes import ELEMENT_TYPES
from rlviz.engine.request import MIB, Request
from rlviz.errors import InvalidInput, NothingComparable
from rlviz.probes import PROBE_NAMES, Probe, probe_called
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
    """One probe on one tensor pair. `landed` says that its record is in the store already."""

    match: TensorMatch
    probe: Probe
    params: ProbeParams
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
    unknown = [name for name in request.probes if name not in PROBE_NAMES]
    if unknown:
        raise InvalidInput(unknown[0], "no such probe", f"There are: {', '.join(PROBE_NAMES)}.")
    matches = [m for m in pairing.matched if fnmatchcase(m.name, request.tensors)]
    if not matches:
        example = pairing.matched[0].name if pairing.matched else "none"
        raise NothingComparable(request.tensors, "matches no compared tensor", f"A name looks like {example}.")
    steps: list[Step] = []
    skipped = list(pairing.skipped)
    for name in (n for n in PROBE_NAMES if n in request.probes):
        probe = probe_called(name)
        chosen, left_out = _within_limits(probe, [m for m in matches if probe.applies(m)], request)
        skipped += [*left_out, *_not_matrices(probe, matches)]
        steps += [_step(probe, params, match, pairing) for match, params in chosen]
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
    }


def is_remote(identity: ModelIdentity) -> bool:
    """Whether reading this checkpoint crosses the network, where bytes are dear and reread never."""
    from rlviz.sources import ModelRef

    return ModelRef.parse(identity.pinned_ref).kind == "hub"


def compared_bytes(match: TensorMatch) -> int:
    """Bytes of both sides of the compared rows."""
    width = sum(ELEMENT_TYPES[meta.dtype].itemsize for meta in (match.base, match.tuned))
    return match.n * width


def _params(probe: Probe, request: Request, **changed: Any) -> ProbeParams:
    params = {**probe.defaults(), **changed}
    if "k_max" in params:
        params["k_max"] = request.k_max
    return params


def _within_limits(
    probe: Probe, matches: Sequence[TensorMatch], request: Request
) -> tuple[list[tuple[TensorMatch, ProbeParams]], list[Skipped]]:
    """Which tensors get the exact route, which the leading directions only, and which do not fit at all.

    The cheapest are measured exactly first: a budget then buys the most matrices.
    """
    exact = _params(probe, request)
    routes = [exact, _params(probe, request, method="leading")] if "method" in exact else [exact]
    left_s = request.budget_s * request.workers if request.budget_s is not None and len(routes) > 1 else float("inf")
    chosen: list[tuple[TensorMatch, ProbeParams]] = []
    skipped: list[Skipped] = []
    for match in sorted(matches, key=lambda m: (probe.cost(m, exact).seconds, m.name)):
        costs = [(params, probe.cost(match, params)) for params in routes]
        fitting = [(params, c) for params, c in costs if c.memory_bytes <= request.memory_bytes]
        affordable = [(params, c) for params, c in fitting if c.seconds <= left_s]
        if affordable:
            params, cost = affordable[0]
            left_s -= cost.seconds
            chosen.append((match, params))
        else:
            skipped.append(_too_dear(match.name, probe.name, [c for _, c in costs], bool(fitting), request))
    chosen.sort(key=lambda pair: -probe.cost(*pair).seconds)
    return chosen, skipped


def _too_dear(name: str, probe: str, costs: Iterable[Cost], fits: bool, request: Request) -> Skipped:
    if fits:
        seconds = min(c.seconds for c in costs)
        detail = f"{probe}: needs about {seconds:.0f} s of one core, more than the time budget has left"
        return Skipped(name, "budget", f"{detail}; raise --budget-minutes")
    need = min(c.memory_bytes for c in costs) / MIB
    detail = f"{probe}: needs about {need:.0f} MiB, the cap is {request.memory_bytes / MIB:.0f} MiB"
    return Skipped(name, "memory", f"{detail}; raise RLVIZ_MEMORY_MB")


def _not_matrices(probe: Probe, matches: Iterable[TensorMatch]) -> list[Skipped]:
    """Stacks that a probe does not measure. Vectors have no spectrum, and need no mention."""
    return [
        Skipped(
            m.name, "not_a_matrix", f"{probe.name}: {len(m.shape)} dimensions {m.shape}; counted, but not decomposed"
        )
        for m in matches
        if len(m.shape) > 2 and not probe.applies(m)
    ]


def _step(probe: Probe, params: ProbeParams, match: TensorMatch, pairing: Pairing) -> Step:
    base_id, tuned_id = pairing.base.tensor_id(match.base), pairing.tuned.tensor_id(match.tuned)
    about = {"probe": probe.name, "version": probe.version, "params": dict(params), "rows": match.rows}
    base_key = content_key({**about, "base": base_id, "part": "base"})
    key = content_key({**about, "base": base_id, "tuned": tuned_id})
    return Step(match, probe, params, key, base_key, probe.cost(match, params), landed=False)


def manifest(plan: Plan, skipped: Iterable[Skipped], complete: bool) -> dict[str, Any]:
    """What the store keeps of a pair: enough to show it again without opening either checkpoint."""
    records: dict[str, dict[str, str]] = {}
    for step in plan.steps:
        own = records.setdefault(step.match.name, {})
        own[step.probe.name] = step.key
        if step.probe.keeps_base:
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
    if record is None or record.probe == NOT_MEASURABLE or not step.probe.keeps_base:
        return record is not None
    return found(step.base_key) is not None
