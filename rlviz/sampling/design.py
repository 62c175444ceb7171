"""How large units are, and which are read in each round.

Bytes are limited by the budget, requests by time. Kish's optimum for the size of a cluster,
``sqrt(cost per request / cost per row · (1 - ρ) / ρ)``, is far beyond what the budget leaves to a tensor even for
strongly correlated rows (at 60 ms, 16 connections of 40 MB/s, rows of 16 kB and ρ = 0.05: 52 rows): so units are as
many as the time allows, between 12 and 64 a tensor, of what the budget then leaves to each, and whole rows.

Rounds: one unit of every tensor, so that a whole heat map appears early; then a second, which gives variances; then
each round doubles the bytes. Its units go to tensors in proportion to ``√n · S / √cost``: the square root, between
what serves the pooled number (n) and what serves every cell alike (1), is Bankier's power allocation
(doi:10.1080/00031305.1988.10475556). S, the scatter of units, is that of the module and never the tensor's own: a
tensor whose first units happen to agree would get fewer because of what they said, and be estimated with a bias
towards that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from rlviz.sampling.intervals import FEW_UNITS, Floats
from rlviz.sampling.sample import Sample
from rlviz.sampling.units import Grid, grid, row_itemsize, whole
from rlviz.types import LinkSpeed, TensorMatch

WHOLE_BYTES = 16 << 10
"""Tensors up to this size are read whole: a request costs as much as their bytes."""

FEWEST_UNITS, MOST_UNITS = 12, 64
"""Units that a tensor's part of the budget is divided into."""

SMALLEST_UNIT_BYTES = 4 << 10

TWO_ROUNDS = 0.6
"""Share of the budget that two units of every tensor take where rows are long."""

REQUESTS_S = 8.0
"""Seconds that the requests of a whole preview may take."""

FIRST_UNITS = 1536
"""Units of the first rounds: six seconds at 60 ms over 16 connections."""

REMOTE = LinkSpeed(latency_s=0.06, bytes_per_s=40e6, connections=16)
LOCAL = LinkSpeed(latency_s=2e-4, bytes_per_s=1.5e9, connections=2)
"""Assumed until measured."""


def grids(matches: Sequence[TensorMatch], budget_bytes: int, link: LinkSpeed) -> list[Grid]:
    """The units of every tensor: the budget buys at least `FEWEST_UNITS` of each where rows are short enough."""
    sizes = np.array([float(m.n * row_itemsize(m)) for m in matches])
    part = _even_part(sizes, budget_bytes)
    tensors = max(1, int((sizes > WHOLE_BYTES).sum()))
    affordable = REQUESTS_S * link.connections / link.latency_s / 2 / tensors
    draws = int(np.clip(affordable, FEWEST_UNITS, MOST_UNITS))
    unit_bytes = max(part / draws, SMALLEST_UNIT_BYTES)
    return [_grid(m, size, part, unit_bytes, draws) for m, size in zip(matches, sizes.tolist(), strict=True)]


def _grid(match: TensorMatch, size: float, part: float, unit_bytes: float, draws: int) -> Grid:
    """One tensor's units. Where single rows are too long for `FEW_UNITS` of them, two units get most of the part.

    Such a tensor's own interval is the proven bound whatever is read of it, and the pooled one gains from each byte.
    """
    if size <= max(WHOLE_BYTES, unit_bytes):
        return whole(match)
    row_bytes = match.shape[-1] * row_itemsize(match)
    return grid(match, unit_bytes if part >= FEW_UNITS * row_bytes else TWO_ROUNDS / 2 * part, draws)


def _even_part(sizes: Floats, budget_bytes: int) -> float:
    """The s with ``Σ min(size, s) = budget``: what each tensor gets where small ones leave their rest to the others."""
    rest, left = float(budget_bytes), len(sizes)
    for size in np.sort(sizes).tolist():
        if size >= rest / left:
            break
        rest, left = rest - size, left - 1
    return rest / max(left, 1)


def in_turns(samples: Sequence[Sample], seed: int) -> list[int]:
    """Tensors in the order of their first unit: one of every cell of the heat map, then the second of each, …

    The cells of a turn come in random order: where the budget ends within one, the tensors read speak for the others,
    and those at the front of the file would speak for the first layers only.
    """
    cells: dict[tuple[str, int | None], list[int]] = defaultdict(list)
    for index, sample in enumerate(samples):
        meta = sample.grid.match.base
        cells[meta.module, meta.layer].append(index)
    random = np.random.default_rng(seed)
    shuffled = [[cell[i] for i in random.permutation(len(cell))] for cell in cells.values()]
    longest = max(map(len, shuffled), default=0)
    turns = [[cell[turn] for cell in shuffled if turn < len(cell)] for turn in range(longest)]
    return [turn[i] for turn in turns for i in random.permutation(len(turn))]


def next_units(samples: Sequence[Sample], turns: Sequence[int], scatter: Floats, round_bytes: float) -> dict[int, int]:
    """How many more units of which tensors the next round reads; empty where no unit is left.

    `scatter` is the standard deviation of a unit's share, by tensor (taken over its module); it is asked for only
    once every tensor has two units.
    """
    for wanted in (1, 2):
        lacking = [i for i in turns if samples[i].units < min(wanted, samples[i].grid.count)]
        if lacking:
            return dict.fromkeys(lacking[:FIRST_UNITS], 1)
    return _allocated(samples, scatter, round_bytes)


def _allocated(samples: Sequence[Sample], scatter: Floats, round_bytes: float) -> dict[int, int]:
    """Units in proportion to ``√n · S / √cost``, beyond those read; what a full tensor leaves goes to the others."""
    n = np.array([float(s.grid.match.n) for s in samples])
    cost = np.array([float(s.grid.unit_bytes) for s in samples])
    units, most = np.array([s.units for s in samples]), np.array([s.grid.count for s in samples])
    if (units >= most).all():
        return {}
    wish = np.sqrt(n / np.maximum(cost, 1)) * np.maximum(scatter, 1e-12)
    spent = float(cost @ units)

    def goal(scale: float) -> Floats:
        return np.clip(np.floor(scale * wish), units, most)

    low, high = 0.0, float((most / wish).max()) + 1
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if cost @ goal(middle) - spent <= round_bytes else (low, middle)
    more = (goal(low) - units).astype(int)
    left = round_bytes - float(cost @ more)
    for i in np.argsort(np.floor(low * wish) - low * wish).tolist():  # the largest remainders get what rounding left
        if cost[i] <= left and units[i] + more[i] < most[i]:
            more[i] += 1
            left -= cost[i]
    return {i: int(more[i]) for i in np.flatnonzero(more).tolist()}


def module_scatter(samples: Sequence[Sample], lens: int) -> Floats:
    """Standard deviation between units of one tensor under one lens, by tensor: a quarter its module's, else overall.

    The rest is the whole pair's: where two units of a few tensors decide what a module gets, an allocation that trusts
    them more makes the estimate low where they happened to agree, and its interval too narrow.
    """
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for sample in samples:
        if sample.units > 1:
            rates = np.array([c[lens] for c in sample.counts], float) / np.maximum(sample.entries, 1)
            own = sums[sample.grid.match.base.module]
            own[0] += float(((rates - rates.mean()) ** 2).sum())
            own[1] += sample.units - 1
    squares, freedom = (sum(own[i] for own in sums.values()) for i in (0, 1))
    overall = max(squares / freedom if freedom else 1.0, 1e-12)
    of_module = {module: own[0] / own[1] for module, own in sums.items()}
    return np.sqrt([(of_module.get(s.grid.match.base.module, overall) + 3 * overall) / 4 for s in samples])
