"""How often the preview's 95 % intervals hold the truth: `python -m bench.coverage` rewrites the README's table.

The real sampler, allocation and estimators run over populations whose every row is known; only the reading is
replaced by a look-up of the rows' counts, so that thousands of previews take minutes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from bench.readme import write_section
from rlviz.bins import ULP_BINS
from rlviz.sampling.intervals import FEW_UNITS
from rlviz.sampling.reading import Draw, Traffic
from rlviz.sampling.run import Rounds
from rlviz.sampling.sample import ULPS
from rlviz.sources import Checkpoint, Pairing
from rlviz.types import LENSES, Lens, ModelIdentity, TensorMatch, TensorMeta

WIDTH = 256
"""Entries of a row."""

Rates = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Shape:
    """A population's size: layers × modules tensors of `rows` rows, and the budget in rows a tensor."""

    layers: int
    modules: int
    rows: int
    budget_rows: int


FEW_LARGE = Shape(layers=4, modules=2, rows=4096, budget_rows=400)
MANY = Shape(layers=24, modules=7, rows=1024, budget_rows=160)
"""Enough units to stop at a target."""
MANY_THIN = Shape(layers=12, modules=4, rows=2048, budget_rows=48)
"""Two to seven units a tensor, as in a preview of a very large model."""


# --- structures: changed entries per row ------------------------------------------------------------------------


def isotropic(random: np.random.Generator, rows: int, share: float) -> Counts:
    """Every entry alike."""
    return random.binomial(WIDTH, share, rows)


def row_striped(random: np.random.Generator, rows: int, share: float) -> Counts:
    """Runs of 1 to 16 rows; a sixth of them change six times as much as the others."""
    lengths = random.integers(1, 17, rows)
    strong = np.repeat(random.random(rows) < 1 / 6, lengths)[:rows]
    low = share / (5 / 6 + 1)
    return random.binomial(WIDTH, np.where(strong, 6 * low, low))


def column_striped(random: np.random.Generator, rows: int, share: float) -> Counts:
    """A tenth of the columns hold most of the change; every row crosses all of them."""
    strong = WIDTH // 10
    inside = min(1.0, 0.7 * share * WIDTH / strong)
    outside = (share * WIDTH - inside * strong) / (WIDTH - strong)
    return random.binomial(strong, inside, rows) + random.binomial(WIDTH - strong, outside, rows)


def block_sparse(random: np.random.Generator, rows: int, share: float) -> Counts:
    """Blocks of 32 rows by 64 columns; a tenth of them change, densely, and nothing else does."""
    blocks = random.random((-(-rows // 32), WIDTH // 64)) < 0.1
    active = np.repeat(blocks.sum(axis=1), 32)[:rows]
    return random.binomial(active * 64, min(1.0, 10 * share))


Structure = Callable[[np.random.Generator, int, float], Counts]
PLAIN: dict[str, Structure] = {
    "isotropic": isotropic,
    "row stripes": row_striped,
    "column stripes": column_striped,
    "block-sparse": block_sparse,
}
STRUCTURES = (*PLAIN, "frozen layers", "mixture")


@dataclass(frozen=True, eq=False)
class Population:
    """A pair whose rows are known: `sums[t][r]` entries changed in the first r rows of tensor t."""

    pairing: Pairing
    sums: dict[str, Counts]
    shape: Shape

    @property
    def pooled(self) -> float:
        return sum(int(s[-1]) for s in self.sums.values()) / sum((s.size - 1) * WIDTH for s in self.sums.values())

    def density(self, name: str) -> float:
        return float(self.sums[name][-1] / ((self.sums[name].size - 1) * WIDTH))

    def read(self, _: Pairing, draws: Sequence[Draw], traffic: Traffic) -> Callable[[], None]:
        """What `rlviz.sampling.reading.read` does, by look-up."""
        return lambda: self._count(draws, traffic)

    def _count(self, draws: Sequence[Draw], traffic: Traffic) -> None:
        for draw in draws:
            sums, n = self.sums[draw.sample.grid.match.name], draw.stop - draw.start
            changed = int(sums[draw.stop // WIDTH] - sums[draw.start // WIDTH])
            ulps = np.zeros(ULPS, np.int64)
            ulps[ULP_BINS - 1], ulps[ULP_BINS] = n - changed, changed
            draw.sample.strata.append(draw.stratum)
            draw.sample.entries.append(n)
            draw.sample.counts.append(np.concatenate([np.full(len(LENSES), changed), ulps]))
            draw.sample.squares.append((changed * 1e-8, n * 4e-4))
            draw.sample.read += n
            draw.sample.rows += n // WIDTH
            traffic.add(draw)


def population(structure: str, shape: Shape, seed: int) -> Population:
    """Tensors of one structure; layers differ in how much they change, from 2 to 20 %."""
    random = np.random.default_rng(seed)
    tensors: dict[str, TensorMeta] = {}
    sums: dict[str, Counts] = {}
    offset = 0
    for layer in range(shape.layers):
        share = 0.02 * 10 ** (layer / max(shape.layers - 1, 1))
        for module in range(shape.modules):
            name, nbytes = f"model.layers.{layer}.module{module}.weight", shape.rows * WIDTH * 2
            tensors[name] = TensorMeta(
                name, "BF16", (shape.rows, WIDTH), "model.safetensors", offset, nbytes, layer, f"module{module}"
            )
            offset += nbytes
            counts = _counts(random, structure, layer, module, shape.rows, share)
            sums[name] = np.concatenate(([0], np.cumsum(counts)))
    sides = [
        Checkpoint(ModelIdentity(s, s, s, offset, False), tensors, {"model.safetensors": s}, _NoBytes())
        for s in ("base", "tuned")
    ]
    matched = tuple(TensorMatch(meta, meta, shape.rows) for meta in tensors.values())
    return Population(Pairing(*sides, matched, (), ()), sums, shape)


def _counts(random: np.random.Generator, structure: str, layer: int, module: int, rows: int, share: float) -> Counts:
    if structure == "frozen layers":
        return np.zeros(rows, np.int64) if layer % 2 else row_striped(random, rows, share)
    if structure == "mixture":
        kinds = list(PLAIN.values())
        return np.zeros(rows, np.int64) if layer % 4 == 3 else kinds[(module + layer) % len(kinds)](random, rows, share)
    return PLAIN[structure](random, rows, share)


class _NoBytes:
    """A reader for checkpoints that have no files."""

    def read_into(self, shard: str, offset: int, buffer: memoryview) -> None:
        raise NotImplementedError(f"{shard} has no bytes")

    def read_ranges(self, shard: str, ranges: Sequence[tuple[int, memoryview]]) -> None:
        raise NotImplementedError(f"{shard} has no bytes")

    def close(self) -> None:
        """Nothing is open."""


# --- trials -----------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """How many intervals held the truth, and how wide they were (half widths)."""

    held: int = 0
    trials: int = 0
    widths: list[float] = field(default_factory=list[float])

    def add(self, low: float, truth: float, high: float) -> None:
        self.trials += 1
        self.held += low <= truth <= high
        self.widths.append((high - low) / 2)

    @property
    def coverage(self) -> float:
        return self.held / self.trials if self.trials else float("nan")

    @property
    def half_width(self) -> float:
        return float(np.mean(self.widths)) if self.widths else float("nan")


@dataclass
class Outcome:
    """Coverage of one structure: pooled, per tensor with at least 200 rows read, and where the exact bound is used."""

    pooled: Tally = field(default_factory=Tally)
    tensors: Tally = field(default_factory=Tally)
    bound: Tally = field(default_factory=Tally)


def trial(people: Population, seed: int, target: float, outcome: Outcome) -> None:
    """One preview to the end of its budget or its target."""
    shape = people.shape
    budget = shape.layers * shape.modules * shape.budget_rows * WIDTH * 2
    rounds = Rounds(
        people.pairing, key="", budget_bytes=budget, seed=seed, remote=True, started=0.0, reader=people.read
    )
    while rounds.advance():
        if target and rounds.is_known_to(target, rounds.preview("under way")):
            break
    found = rounds.preview("budget")
    pooled = found.pooled.density[Lens.BF16]
    outcome.pooled.add(pooled.low, people.pooled, pooled.high)
    for tensor, sample in zip(found.tensors, rounds.samples, strict=True):
        own, truth = tensor.sampled.density[Lens.BF16], people.density(tensor.match.name)
        agree = len({(int(c[0]), n) for c, n in zip(sample.counts, sample.entries, strict=True)}) == 1
        if agree or sample.units < FEW_UNITS:
            outcome.bound.add(own.low, truth, own.high)
        elif tensor.sampled.n_rows_sampled >= 200:
            outcome.tensors.add(own.low, truth, own.high)


def measure(structure: str, shape: Shape, seeds: int, target: float = 0.0, populations: int = 4) -> Outcome:
    """Coverage over `seeds` previews, of `populations` populations in turn."""
    people = [population(structure, shape, seed) for seed in range(populations)]
    outcome = Outcome()
    for seed in range(seeds):
        trial(people[seed % populations], seed, target, outcome)
    return outcome


CASES = (("", FEW_LARGE, 0.0, 1), (", thin", MANY_THIN, 0.0, 1), (", stopped at ± 0.3", MANY, 0.003, 4))
"""Label, population, target and the part of the seeds it gets."""


def table(seeds: int) -> str:
    """The README's table."""
    lines = [
        "| structure | pooled | ± points | per tensor, ≥ 200 rows | ± points | exact bound (few or equal units) |",
        "|---|---|---|---|---|---|",
    ]
    for label, shape, target, part in CASES:
        for structure in STRUCTURES:
            o = measure(structure, shape, seeds // part, target)
            cells = [_percent(o.pooled), _points(o.pooled), _percent(o.tensors), _points(o.tensors), _percent(o.bound)]
            lines.append(f"| {structure}{label} | {' | '.join(cells)} |")
            print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


def _percent(tally: Tally) -> str:
    return f"{100 * tally.coverage:.1f} %" if tally.trials else "–"


def _points(tally: Tally) -> str:
    return f"{100 * tally.half_width:.2f}" if tally.trials else "–"


if __name__ == "__main__":
    write_section("coverage", table(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
