"""Which tensors a probe measures, by which route, and which are too dear for either."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rlviz.engine.request import MIB, Request
from rlviz.probes import AFTERWARDS, Probe
from rlviz.probes.base import Cost, ProbeParams, Tailored
from rlviz.types import Skipped, TensorMatch


@dataclass(frozen=True, slots=True)
class Route:
    """One tensor with the parameters it is measured with, and what that costs."""

    match: TensorMatch
    params: ProbeParams
    cost: Cost


def exact_routes(
    probe: Probe, matches: Sequence[TensorMatch], request: Request, scales: Mapping[str, float]
) -> list[Route]:
    """The tensors to measure, by the exact route; some probes take a sample, or those rescaled."""
    asked_for = {"k_max": request.k_max, "seed": request.seed}
    params: ProbeParams = {name: asked_for.get(name, value) for name, value in probe.defaults().items()}
    if isinstance(probe, Tailored):
        own = probe.tailored(matches, params)
    elif probe.name in AFTERWARDS:
        own = {m.name: {**params, "scale": scales[m.name]} for m in matches if m.name in scales}
    else:
        own = {m.name: params for m in matches}
    return [Route(m, own[m.name], probe.cost(m, own[m.name])) for m in matches if m.name in own]


def within_limits(probe: Probe, exact: Sequence[Route], request: Request) -> tuple[list[Route], list[Skipped]]:
    """Which tensors get the exact route, which the leading directions only, and which do not fit at all.

    The cheapest are measured exactly first: a budget then buys the most matrices. What is chosen comes dearest first.
    """
    limited = request.budget_s is not None and "method" in probe.defaults()
    left_s = request.budget_s * request.workers if request.budget_s is not None and limited else float("inf")
    chosen: list[Route] = []
    skipped: list[Skipped] = []
    for wanted in sorted(exact, key=lambda route: (route.cost.seconds, route.match.name)):
        for route in _routes(probe, wanted):
            if route.cost.memory_bytes <= request.memory_bytes and route.cost.seconds <= left_s:
                left_s -= route.cost.seconds
                chosen.append(route)
                break
        else:
            skipped.append(_too_dear(probe, wanted, request))
    chosen.sort(key=lambda route: -route.cost.seconds)
    return chosen, skipped


def _routes(probe: Probe, exact: Route) -> Iterable[Route]:
    """The exact route, and the one that is taken where it does not fit; priced when it comes to that."""
    yield exact
    if "method" in exact.params:
        params = {**exact.params, "method": "leading"}
        yield Route(exact.match, params, probe.cost(exact.match, params))


def _too_dear(probe: Probe, exact: Route, request: Request) -> Skipped:
    costs = [route.cost for route in _routes(probe, exact)]
    name = exact.match.name
    if any(cost.memory_bytes <= request.memory_bytes for cost in costs):
        seconds = min(cost.seconds for cost in costs)
        detail = f"{probe.name}: needs about {seconds:.0f} s of one core, more than the time budget has left"
        return Skipped(name, "budget", f"{detail}; raise --budget-minutes")
    need = min(cost.memory_bytes for cost in costs) / MIB
    detail = f"{probe.name}: needs about {need:.0f} MiB, the cap is {request.memory_bytes / MIB:.0f} MiB"
    return Skipped(name, "memory", f"{detail}; raise RLVIZ_MEMORY_MB")


def not_matrices(probe: Probe, matches: Iterable[TensorMatch]) -> list[Skipped]:
    """Stacks that a probe does not measure. Vectors have no spectrum and a sample no gaps: they need no mention."""
    if isinstance(probe, Tailored):
        return []
    said = "counted, but not decomposed"
    return [
        Skipped(m.name, "not_a_matrix", f"{probe.name}: {len(m.shape)} dimensions {m.shape}; {said}")
        for m in matches
        if len(m.shape) > 2 and not probe.applies(m)
    ]
