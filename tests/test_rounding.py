"""Flip probabilities against simulation, their limits, and the noise that explains a number of flips."""

from __future__ import annotations

from math import isnan

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlviz.rounding import bf16_step, flip_probability, noise_that_flips
from tests.probes.mask_pairs import to_bf16

DRAWS = 60_000
CODES = {  # bf16 codes: within a binade, at its edge, and where steps stop shrinking
    "middle": 0x3FC3,
    "one": 0x3F80,
    "largest below one": 0x3F7F,
    "large": 0x7E12,
    "large power": 0x7E00,
    "small": 0x0B05,
    "smallest normal": 0x0080,
    "second binade": 0x0100,
    "subnormal": 0x0013,
    "largest subnormal": 0x007F,
    "smallest": 0x0001,
    "zero": 0x0000,
}


def value_of(code):
    return float(np.array([code], np.uint16).view(ml_dtypes.bfloat16)[0])


def chance(code, std, **kwargs):
    field, edge = np.array([(code >> 7) & 0xFF]), np.array([code & 0x7F == 0])
    return float(flip_probability(field, edge, std, **kwargs)[0])


@pytest.mark.parametrize("code", CODES.values(), ids=CODES)
@pytest.mark.parametrize("steps", [0.01, 0.1, 0.3, 1.0, 10.0, 100.0])
def test_flips_as_often_as_simulated(code, steps):
    rng = np.random.default_rng([code, int(100 * steps)])
    std = steps * float(bf16_step(np.array([code >> 7]))[0])
    w0 = value_of(code) * (1 - 2 * (code & 1))  # either sign
    simulated = (to_bf16(w0 + std * rng.standard_normal(DRAWS)) != w0).mean()
    p = chance(code, std)
    assert abs(simulated - p) <= 4.5 * np.sqrt(p * (1 - p) / DRAWS) + 1e-12


@pytest.mark.parametrize("code", CODES.values(), ids=CODES)
@pytest.mark.parametrize("steps", [0.01, 0.1, 0.3, 1.0, 10.0, 100.0])
def test_from_anywhere_in_the_cell(code, steps):
    rng = np.random.default_rng([code, int(100 * steps)])
    up, down = value_of(code + 1), value_of(code - 1 if code else 0x8001)
    ends = (value_of(code) + down) / 2, (value_of(code) + up) / 2
    w0 = rng.uniform(*ends, DRAWS)
    std = steps * (up - value_of(code))
    simulated = (to_bf16(w0 + std * rng.standard_normal(DRAWS)) != to_bf16(w0)).mean()
    p = chance(code, std, finer=True)
    assert abs(simulated - p) <= 4.5 * np.sqrt(p * (1 - p) / DRAWS) + 1e-12


def test_by_hand():
    step = 2.0**-7
    assert chance(0x3FC3, step / 2) == pytest.approx(0.31731050786291415, rel=1e-12)  # 2 Φ(−1)
    assert chance(0x3F80, step / 2) == pytest.approx(0.15865525393145707 + 0.3085375387259869, rel=1e-12)
    assert chance(0x0080, 2.0**-134) == pytest.approx(0.31731050786291415, rel=1e-12)  # the same step below it
    assert bf16_step(np.array([0, 1, 2, 127, 254])).tolist() == [2.0**-133, 2.0**-133, 2.0**-132, 2.0**-7, 2.0**120]


EXPONENT = st.integers(0, 254)
STEPS = st.floats(-9, 9).map(lambda x: 10.0**x)


@settings(deadline=None, max_examples=400)
@given(EXPONENT, st.booleans(), st.booleans(), STEPS, st.floats(1, 1.01))
def test_rises_with_the_noise(exponent, edge, finer, low, factor):
    field, step = np.array([exponent]), float(bf16_step(np.array([exponent]))[0])
    p, q = (flip_probability(field, np.array([edge]), s * step, finer=finer)[0] for s in (low, low * factor))
    assert 0 <= p <= 1
    assert p <= q + 1e-15


@pytest.mark.parametrize("finer", [False, True])
def test_limits(finer):
    fields, edges = np.array([0, 1, 120, 254]), np.array([True, False, True, False])
    step = bf16_step(fields)
    assert (flip_probability(fields, edges, 0.0, finer=finer) == 0).all()
    for field, edge, u in zip(fields, edges, step, strict=True):
        one = np.array([field]), np.array([edge])
        assert flip_probability(*one, 1e-12 * u, finer=finer)[0] < 1e-11
        assert 1 - 1e-5 < flip_probability(*one, 1e6 * u, finer=finer)[0] <= 1
        width = u * (0.75 if edge and field > 1 else 1)
        # wide noise rarely stays: the cell's width times the density at its middle
        stays = 1 - flip_probability(*one, 1e3 * u, finer=finer)[0]
        assert stays == pytest.approx(width / (1e3 * u) / np.sqrt(2 * np.pi), rel=1e-5)
    if finer:  # narrow noise leaves through either end: E|noise| of the width
        p = flip_probability(fields, edges, 1e-4 * step[2], finer=True)[2]
        assert p == pytest.approx(1e-4 * np.sqrt(2 / np.pi) / 0.75, rel=1e-9)


def test_a_finer_base_flips_sooner():
    field, edge = np.array([120]), np.array([False])
    std = 0.05 * float(bf16_step(field)[0])
    assert flip_probability(field, edge, std)[0] < 1e-20
    assert flip_probability(field, edge, std, finer=True)[0] == pytest.approx(0.05 * np.sqrt(2 / np.pi), rel=1e-9)


COUNTS = st.lists(st.tuples(EXPONENT, st.booleans(), st.integers(1, 10**7)), min_size=1, max_size=12)


@settings(deadline=None)
@given(COUNTS, st.booleans(), st.data())
def test_noise_that_flips_does(strata, finer, data):
    exponent, edge, counts = (np.array(x) for x in zip(*strata, strict=True))
    flipped = data.draw(st.integers(1, int(counts.sum()) - 1)) if counts.sum() > 1 else 0
    std = noise_that_flips(counts, exponent, edge, flipped, finer=finer)
    if flipped == 0:
        assert isnan(std)
        return
    found = float(counts @ flip_probability(exponent, edge, std, finer=finer))
    assert found == pytest.approx(flipped, rel=1e-6, abs=1e-6)


@settings(deadline=None)
@given(st.integers(90, 130), st.floats(0.08, 20), st.booleans())
def test_roundtrip(exponent, steps, finer):
    fields, edge = np.arange(exponent - 6, exponent + 1), np.arange(7) % 3 == 0
    counts, std = np.full(7, 10**12), steps * float(bf16_step(np.array([exponent]))[0])
    flips = round(float(counts @ flip_probability(fields, edge, std, finer=finer)))
    assert noise_that_flips(counts, fields, edge, flips, finer=finer) == pytest.approx(std, rel=1e-6)


@pytest.mark.parametrize("finer", [False, True])
def test_none_and_all_have_no_noise(finer):
    counts, fields, edges = np.array([5, 0, 7]), np.array([110, 111, 112]), np.array([False, True, True])
    assert isnan(noise_that_flips(counts, fields, edges, 0, finer=finer))
    assert isnan(noise_that_flips(counts, fields, edges, 12, finer=finer))
    assert noise_that_flips(counts, fields, edges, 11, finer=finer) > noise_that_flips(
        counts, fields, edges, 1, finer=finer
    )
