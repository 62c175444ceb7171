"""The rounds of a preview: draw, read, count, estimate, report; until the budget, the target or a stop."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from threading import Event

from rlviz.dtypes import ELEMENT_TYPES
from rlviz.errors import Cancelled, NothingComparable
from rlviz.sampling.assemble import estimates
from rlviz.sampling.design import LOCAL, REMOTE, grids, in_turns, module_scatter, next_units
from rlviz.sampling.domains import Cache
from rlviz.sampling.reading import Draw, Traffic, fitted_speed, merged_bytes, read
from rlviz.sampling.result import Preview, Stopped
from rlviz.sampling.sample import Sample
from rlviz.sources import Pairing
from rlviz.sources.transport import connection_ceiling
from rlviz.types import LENSES, Lens, LinkSpeed, Side, Skipped
from rlviz.version import __version__

Report = Callable[[Preview], None]
Finish = Callable[[], None]
Reader = Callable[[Pairing, Sequence[Draw], Traffic], Finish]
_SIDES: tuple[Side, Side] = ("base", "tuned")
_CRUMBS = 0.02  # of the budget: too little for another round trip
ENOUGH_UNITS = 1000  # a half width is then known to a tenth of itself, even where a few units hold most of the change
_HEADLINE = LENSES.index(Lens.BF16)


def silent(_: Preview) -> None:
    """Report to nobody."""


class Rounds:
    """One preview under way.

    Parameters
    ----------
    pairing : Pairing
        Both checkpoints, open.
    key : str
        What the store calls the result.
    budget_bytes : int
        Weight bytes that may be read of either model.
    seed : int
        Of all that is random.
    remote : bool
        Whether reading crosses the network, where requests are dear.
    started : float
        `time.perf_counter` when the work began, opening included.
    reader : callable, optional
        Puts units in flight, and returns what waits for them and adds their counts to the samples; by default
        `rlviz.sampling.reading.read`.
    """

    def __init__(
        self,
        pairing: Pairing,
        *,
        key: str,
        budget_bytes: int,
        seed: int,
        remote: bool,
        started: float,
        reader: Reader = read,
    ) -> None:
        floats = [m for m in pairing.matched if ELEMENT_TYPES[m.base.dtype].is_float and m.n > 0]
        if not floats:
            problem = "has no tensor of floating-point numbers in common with the tuned model"
            raise NothingComparable(pairing.base.identity.ref, problem, "Integers are compared by `compare`.")
        self.pairing, self.key, self.budget_bytes, self.seed, self.remote = pairing, key, budget_bytes, seed, remote
        self.samples = [Sample(grid) for grid in grids(floats, budget_bytes, REMOTE if remote else LOCAL)]
        self.turns = in_turns(self.samples, seed)
        self.traffic = Traffic(pairing)
        self._read = reader
        self._ahead: Finish | None = None
        self.rounds = 0
        self._cache: Cache = {}
        self._started = started
        sampled = {m.name for m in floats}
        self._skipped = (*pairing.skipped, *(_not_sampled(m.name) for m in pairing.matched if m.name not in sampled))

    @property
    def every_tensor_twice(self) -> bool:
        """Whether each tensor has two units, or all it has: before that, a cell of the heat map has no variance."""
        return all(s.units >= min(2, s.grid.count) for s in self.samples)

    def advance(self) -> bool:
        """Read one more round; False where what is left of the budget is not worth one."""
        finish, self._ahead = self._ahead or self._begin(), None
        if finish is None:
            return False
        finish()
        self.rounds += 1
        return True

    def is_known_to(self, target: float, now: Preview) -> bool:
        """Whether the pooled bf16 share is known to ± `target`, after enough units to trust that.

        Stopping as soon as an interval looks narrow picks the moments at which its variance was estimated too low:
        with a few hundred units, intervals that end this way held the truth in half of the previews of a mixed
        population. The fewer units there are, the sooner they are read anyway.
        """
        drawn = sum(s.units for s in self.samples if not s.is_whole)
        narrow = now.pooled.density[Lens.BF16].half_width <= target
        return narrow and drawn >= ENOUGH_UNITS and self.every_tensor_twice

    def look_ahead(self) -> None:
        """Put the next round in flight already where it is certain to come: two units of each tensor are needed."""
        if not self.every_tensor_twice:
            self._ahead = self._begin()

    def _begin(self) -> Finish | None:
        draws = [] if self._left < self.budget_bytes * _CRUMBS else self._affordable(self._draws())
        return self._read(self.pairing, draws, self.traffic) if draws else None

    def _draws(self) -> list[Draw]:
        ready = self.every_tensor_twice
        scatter = module_scatter(self.samples, _HEADLINE) if ready else module_scatter([], _HEADLINE)
        wanted = next_units(self.samples, self.turns, scatter, min(max(self.traffic.nbytes, 1 << 20), self._left))
        draws: list[Draw] = []
        for index in (i for i in self.turns if i in wanted):
            sample = self.samples[index]
            for unit, stratum in sample.grid.order(self.seed, sample.units, sample.units + wanted[index]):
                draws.append(Draw(sample, stratum, *sample.grid.bounds(unit)))
        return draws

    def _affordable(self, draws: list[Draw]) -> list[Draw]:
        """As many, from the front, as fit what is left of the budget."""

        def fits(count: int) -> bool:
            return all(merged_bytes(draws[:count], side, self.remote) <= self._left for side in _SIDES)

        if fits(len(draws)):
            return draws
        low, high = 0, len(draws)
        while low < high - 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return draws[:low]

    @property
    def _left(self) -> int:
        return self.budget_bytes - self.traffic.nbytes

    def preview(self, stopped: Stopped) -> Preview:
        """What the rounds so far say."""
        pairing = self.pairing
        names = {s.name for s in pairing.skipped} | {m.name for m in pairing.matched}
        return Preview(
            key=self.key,
            base=pairing.base.identity,
            tuned=pairing.tuned.identity,
            **estimates(self.samples, self._cache).as_fields(),
            skipped=self._skipped,
            notices=pairing.notices,
            total=len(names),
            bytes_read=self.traffic.nbytes,
            requests=self.traffic.requests,
            rounds=self.rounds,
            seed=self.seed,
            budget_bytes=self.budget_bytes,
            wall_s=time.perf_counter() - self._started,
            stopped=stopped,
            speed=self._speed(),
            rlviz=__version__,
        )

    def _speed(self) -> LinkSpeed | None:
        return fitted_speed(self.traffic.timings, REMOTE, connection_ceiling()) if self.remote else None

    @property
    def everything_read(self) -> bool:
        """Whether every unit of every tensor was read."""
        return all(s.is_whole for s in self.samples)


def run(rounds: Rounds, *, target: float, cancel: Event, report: Report) -> Preview:
    """Go through the rounds; `report` gets a preview after each.

    Stops where the half width of the pooled bf16 interval is at most `target` and every tensor has two units, where
    everything was read, where no unit fits the budget any more, or where `cancel` is set.

    Raises
    ------
    Cancelled
        Where `cancel` is set before the first round has ended; later, the rounds so far are returned.
    """
    latest: Preview | None = None
    while latest is None or not latest.complete:
        latest = _one_more(rounds, latest, target, cancel)
        report(latest)
    return latest


def _one_more(rounds: Rounds, latest: Preview | None, target: float, cancel: Event) -> Preview:
    """The preview after another round, or the latest with the reason why there is none."""
    try:
        if cancel.is_set():
            raise Cancelled(rounds.pairing.base.identity.ref, "the preview was cancelled before anything was known")
        advanced = rounds.advance()
    except Cancelled:
        if latest is None:
            raise
        return replace(latest, stopped="asked")
    rounds.look_ahead()
    now = rounds.preview("under way")
    close = rounds.is_known_to(target, now)
    if rounds.everything_read:
        return replace(now, stopped="everything read")
    if not advanced:
        return replace(now, stopped="budget")
    return replace(now, stopped="target") if close else now


def _not_sampled(name: str) -> Skipped:
    return Skipped(name, "not_sampled", "integers and booleans are counted by `compare`, not estimated")
