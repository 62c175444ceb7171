"""The intervals hold the truth as often as they say, on every structure (a reduced `bench.coverage`)."""

from __future__ import annotations

import numpy as np
import pytest

from bench.coverage import PLAIN, STRUCTURES, WIDTH, Outcome, Shape, population, trial
from rlviz.sampling.reading import Draw
from rlviz.sampling.run import Rounds
from rlviz.types import Lens

SHAPE = Shape(layers=3, modules=2, rows=2048, budget_rows=300)
TRIALS = 80  # previews per structure, 480 in all; the seeds are fixed


@pytest.fixture(scope="module")
def outcomes() -> dict[str, Outcome]:
    found: dict[str, Outcome] = {}
    for number, structure in enumerate(STRUCTURES):
        people = [population(structure, SHAPE, 10 * number + i) for i in range(3)]
        found[structure] = Outcome()
        for seed in range(TRIALS):
            trial(people[seed % 3], 100 * number + seed, 0.0, found[structure])
    return found


def test_the_pooled_interval_holds_as_often_as_it_says(outcomes):
    held = sum(o.pooled.held for o in outcomes.values())
    trials = sum(o.pooled.trials for o in outcomes.values())
    assert 0.93 <= held / trials <= 0.98
    for structure, outcome in outcomes.items():  # three standard deviations of 80 trials are 7 points
        assert outcome.pooled.coverage >= 0.88, structure


def test_stopping_at_a_target_does_not_pick_the_intervals_that_are_too_narrow_by_chance():
    people, outcome = population("mixture", Shape(layers=4, modules=2, rows=2048, budget_rows=300), 10), Outcome()
    for seed in range(40):
        trial(people, seed, 0.01, outcome)
    assert outcome.pooled.coverage >= 0.85


def test_a_tensor_of_which_200_rows_were_read_is_held_as_often_as_promised(outcomes):
    for structure, outcome in outcomes.items():
        assert outcome.tensors.trials >= 60, structure
        assert outcome.tensors.coverage >= 0.92, structure


def test_the_exact_bound_holds_and_is_never_of_zero_width(outcomes):
    frozen = outcomes["frozen layers"].bound
    assert frozen.trials > 0
    assert frozen.coverage >= 0.975
    assert min(frozen.widths) > 0


def test_intervals_are_as_wide_as_the_structure_makes_them(outcomes):
    """Row stripes cost width, column stripes do not: every unit crosses all columns."""
    widths = {structure: outcomes[structure].pooled.half_width for structure in PLAIN}
    assert widths["column stripes"] < 1.2 * widths["isotropic"]
    assert widths["row stripes"] > 4 * widths["isotropic"]


def test_tensors_that_the_budget_did_not_reach_are_spoken_for_by_a_random_sample():
    """Layers change more and more towards the end of the file: the first to be read must not be the first layers."""
    people, held, estimates = population("isotropic", Shape(layers=60, modules=2, rows=128, budget_rows=0), 0), 0, []
    for seed in range(20):
        rounds = Rounds(
            people.pairing, key="", budget_bytes=24 << 10, seed=seed, remote=True, started=0.0, reader=people.read
        )
        while rounds.advance():
            pass
        pooled = rounds.preview("budget").pooled.density[Lens.BF16]
        held += pooled.low <= people.pooled <= pooled.high
        estimates.append(pooled.estimate)
    assert 0 < sum(s.units > 0 for s in rounds.samples) < len(rounds.samples) / 2
    assert held >= 17
    assert np.mean(estimates) == pytest.approx(people.pooled, rel=0.15)


def test_ignoring_the_clusters_would_fail():
    """The negative control: entries taken for independent draws, striped rows give far too narrow an interval."""
    people, held = population("row stripes", SHAPE, 7), 0
    for seed in range(40):
        rounds = Rounds(
            people.pairing, key="", budget_bytes=400_000, seed=seed, remote=True, started=0.0, reader=people.read
        )
        while rounds.advance():
            pass
        pooled = rounds.preview("budget").pooled
        p = pooled.density[Lens.BF16].estimate
        naive = 1.96 * np.sqrt(p * (1 - p) / pooled.n_sampled)
        held += abs(p - people.pooled) <= naive
    assert held < 24


def test_the_looked_up_counts_are_those_of_the_rows():
    people = population("block-sparse", SHAPE, 0)
    rounds = Rounds(people.pairing, key="", budget_bytes=400_000, seed=0, remote=True, started=0.0, reader=people.read)
    sample = rounds.samples[0]
    people.read(people.pairing, [Draw(sample, 0, 0, 2048 * WIDTH)], rounds.traffic)()
    assert sample.counts[0][0] / sample.entries[0] == people.density(sample.grid.match.name)
