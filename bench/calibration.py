"""Do the nulls of the masks tell noise from structure? `python -m bench --only calibration` answers into the README.

Matrices are `make_pair.py`'s: a low-rank head on a Gaussian bulk. Noise has to look like nothing; what is planted has
to be found, and found where it was put. `--no-readme` prints the tables only.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from rlviz.metrics import METRICS
from rlviz.rounding import bf16_step
from rlviz.types import Measured, MetricParams
from tests.probes.mask_pairs import Oracle, base_record, measured_with, noisy, pair_of, structured, with_coordinates

SHAPES = ((320, 160), (160, 320), (256, 256), (512, 96), (96, 512), (400, 200), (128, 384), (224, 224))
STDS = (1e-5, 5e-5)  # the noise of make_pair.py's rl run, and five times as much
MASKS = ("principal", "low_magnitude", "principal_not_low")
PLANTED = ("everywhere", "off-principal", "principal", "low-magnitude", "every fourth row")
LEAK = 0.05  # share of all other entries that a planted update reaches too, so that odds stay finite
PARAMS = MetricParams()
MH = "log_odds_principal_mh"


def replicates(shape: tuple[int, int], std: float, count: int, dtype: str = "BF16") -> list[Measured]:
    """`count` draws of noise on one base, which is decomposed once."""
    rng, base = np.random.default_rng(shape), structured(shape, dtype)
    pairs = [pair_of(base, noisy(base, std, rng), (dtype, dtype)) for _ in range(count)]
    of_base = base_record(pairs[0], PARAMS.k)
    return [measured_with(pair, of_base) for pair in pairs]


def planted(where: str, shape: tuple[int, int] = (320, 256)) -> Measured:
    """An update confined to some entries (see `LEAK`), large enough to flip about half of those it reaches."""
    rng, base = np.random.default_rng(0), structured(shape)
    oracle = Oracle(pair_of(base, base))
    principal = oracle.scores(PARAMS.k) >= oracle.threshold(PARAMS.k, PARAMS.alpha)
    reached = {
        "everywhere": np.ones(shape, bool),
        "off-principal": ~principal,
        "principal": principal,
        "low-magnitude": oracle.low(PARAMS.alpha),
        "every fourth row": np.repeat(np.arange(shape[0]) % 4 == 0, shape[1]).reshape(shape),
    }[where]
    inside = reached | (rng.random(shape) < LEAK)
    std = 0.7 * float(np.median(bf16_step(oracle.strata[0][reached])))
    return with_coordinates(pair_of(base, np.where(inside, noisy(base, std, rng), base)))


def values(key: str, group: Iterable[Measured], params: MetricParams = PARAMS) -> np.ndarray:
    return np.array([METRICS[key].of(one, params) for one in group])


def covered(group: list[Measured], params: MetricParams = PARAMS) -> float:
    """How often the 95 % interval of the stratified log odds holds 0, where it is defined."""
    low, high = (values(f"{MH}_ci_{end}", group, params) for end in ("low", "high"))
    return np.mean(((low < 0) & (high > 0))[np.isfinite(low)])


def null_rows(dtype: str, count: int = 12) -> Iterable[str]:
    groups = [replicates(shape, std, count, dtype) for shape in SHAPES for std in STDS]
    every = [one for group in groups for one in group]
    for mask in MASKS:
        key, z = f"overlap_{mask}", values(f"overlap_{mask}_z", every)
        error = max(abs(np.mean(values(key, group) - values(f"{key}_null", group))) for group in groups)
        odds = f"{covered(every):.1%}" if mask == "principal" else "–"
        normal = f"{z.mean():+.2f} | {z.std():.2f} | {np.mean(abs(z) < 3):.1%}"
        yield f"| {dtype} | {mask.replace('_', ' ')} | {normal} | {error:.4f} | {odds} |"


def control_row(where: str) -> str:
    one = planted(where)
    of = lambda key: METRICS[key].of(one, PARAMS)
    density = one.records["masks"].fields["counts"].sum(axis=0)[1] / one.match.n
    z = " | ".join(f"{of(f'overlap_{mask}_z'):+.0f}" for mask in MASKS[:2])
    odds = f"{of(MH):+.2f} ({of(f'{MH}_ci_low'):+.2f} to {of(f'{MH}_ci_high'):+.2f})"
    stripes = " | ".join(f"{of(f'{p}_dispersion'):.1f} / {of(f'{p}_dispersion_null'):.1f}" for p in ("row", "column"))
    return f"| {where} | {density:.0%} | {of('enrichment_principal'):.2f} | {z} | {odds} | {stripes} |"


def table(count: int = 12) -> str:
    """Both tables as Markdown, and what they were made of."""
    n = len(SHAPES) * len(STDS) * count
    return "\n".join(
        [
            "| noise on | overlap | mean z | SD of z | \\|z\\| < 3 | error of the null mean | 95 % odds hold 0 |",
            "|---|---|--:|--:|--:|--:|--:|",
            *(row for dtype in ("BF16", "F32") for row in null_rows(dtype, count)),
            "",
            "| planted on | changed | principal, × chance | z | z, low magnitude | log odds | rows / null | columns |",
            "|---|--:|--:|--:|--:|--:|--:|--:|",
            *map(control_row, PLANTED),
            "",
            f"Noise: {n} matrices a row ({len(SHAPES)} shapes of {min(map(min, SHAPES))} to {max(map(max, SHAPES))}, "
            f"{count} draws at each of two sizes), k = {PARAMS.k}, α = {PARAMS.alpha:g}; errors are of a mean over "
            f"{count} draws, as shares of all changes. Planted: one matrix of 320 × 256 each.",
        ]
    )
