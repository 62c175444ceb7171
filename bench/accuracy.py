"""How far the spectrum probe is off, over a zoo of matrices. `python -m bench --only accuracy` answers into the README.

The reference is LAPACK's SVD of whole float64 matrices, with angles in their sine form below 45°; its own errors, about
1e-16 σ1 in values and 1e-16 σ1/γ in angles, are a thousandth of what is promised (the tests hold it to 40 digits).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import nan, pi, sqrt

import numpy as np
from numpy.typing import NDArray

from rlviz.metrics.subspace import angle_curve
from rlviz.probes.base import TensorPair
from tests.probes.mask_pairs import pair_of, structured
from tests.probes.spectrum_pairs import dense, measure_pair, with_spectrum

Matrix = NDArray[np.float64]

SIGMA_SEEN = 1e-6  # promises hold for singular values from this share of σ1 on,
GAP_SEEN = 1e-8  # for subspaces above a gap of this share of σ1 in both matrices,
NSS_SEEN = 1e-6  # for shifts from a quarter of reinforcement learning's smallest on,
ENERGY_SEEN = 1e-4  # and for energies from this share of the update's on


@dataclass(frozen=True, slots=True)
class Errors:
    """Worst errors of one or several pairs; NaN where nothing of the kind is defined."""

    sigma: float = nan  # relative
    nss: float = nan  # relative
    angle_deg: float = nan  # absolute
    energy: float = nan  # relative

    def worst(self, other: Errors) -> Errors:
        """The larger of each, NaN giving way."""
        return Errors(*(float(np.fmax(getattr(self, f), getattr(other, f))) for f in COLUMNS))


COLUMNS = {"sigma": "σ", "nss": "NSS", "angle_deg": "angle, degrees", "energy": "energy"}
PROMISED = Errors(sigma=1e-6, nss=1e-3, angle_deg=1e-4, energy=1e-6)


# --- the zoo ----------------------------------------------------------------------------------------------------


def conditioned(condition: float) -> Callable[..., Matrix]:
    return lambda rng, shape: with_spectrum(rng, shape, np.geomspace(1, 1 / condition, min(shape)))


def deficient(rng: np.random.Generator, shape: tuple[int, int]) -> Matrix:
    """A third of the full rank, zero rows, and columns that repeat."""
    r = min(shape)
    weight = with_spectrum(rng, shape, np.linspace(2, 1, max(r // 3, 1)))
    weight[:: max(shape[0] // 5, 2)] = 0
    weight[:, shape[1] // 2 :] = weight[:, : shape[1] - shape[1] // 2]
    return weight


def repeated(rng: np.random.Generator, shape: tuple[int, int]) -> Matrix:
    """Three values, each many times."""
    return with_spectrum(rng, shape, np.sort(np.resize([5.0, 3.0, 1.0], min(shape)))[::-1])


def narrow_gap(rng: np.random.Generator, shape: tuple[int, int]) -> Matrix:
    """Just above the gap from which angles are promised, at k = 4."""
    r = min(shape)
    return with_spectrum(rng, shape, np.append(np.linspace(1, 0.5, 4), np.linspace(0.5 - 1.5e-8, 0.01, r - 4)))


def heavy_tailed(rng: np.random.Generator, shape: tuple[int, int]) -> Matrix:
    return rng.standard_t(1.5, shape)


def power_law(rng: np.random.Generator, shape: tuple[int, int]) -> Matrix:
    return with_spectrum(rng, shape, 1.0 / np.arange(1, min(shape) + 1) ** 2)


def head_and_bulk(rng: np.random.Generator, shape: tuple[int, int]) -> Matrix:
    return structured(shape, "F64", int(rng.integers(1 << 20)))


def zero(_: np.random.Generator, shape: tuple[int, int]) -> Matrix:
    return np.zeros(shape)


def one_scale_off(rng: np.random.Generator, shape: tuple[int, int]) -> Matrix:
    """Columns six orders of magnitude apart."""
    return rng.standard_normal(shape) * np.geomspace(1e-3, 1e3, shape[1])


THREE_SHAPES = ((3, 1), (1, 3), (1, 1))
ZOO: dict[str, tuple[Callable[..., Matrix], str, tuple[tuple[int, int], ...]]] = {
    **{f"condition {c:g}": (conditioned(c), "F64", THREE_SHAPES) for c in (1, 1e2, 1e4, 1e6, 1e8)},
    "rank-deficient": (deficient, "F64", THREE_SHAPES),
    "repeated singular values": (repeated, "F64", THREE_SHAPES),
    "gap of 1.5e-8 σ1": (narrow_gap, "F64", THREE_SHAPES),
    "heavy-tailed entries": (heavy_tailed, "F64", THREE_SHAPES),
    "power-law spectrum": (power_law, "F64", THREE_SHAPES),
    "columns of all scales": (one_scale_off, "F64", THREE_SHAPES),
    "zero base": (zero, "F32", THREE_SHAPES),
    "1×n": (heavy_tailed, "F32", ((0, 5),)),
    "n×1": (heavy_tailed, "F32", ((5, 0),)),
    "very tall": (head_and_bulk, "BF16", ((60, 1),)),
    "very wide": (head_and_bulk, "BF16", ((1, 60),)),
    "stored in fp32": (head_and_bulk, "F32", THREE_SHAPES),
    "stored in fp16": (head_and_bulk, "F16", THREE_SHAPES),
    "stored in bf16": (head_and_bulk, "BF16", THREE_SHAPES),
}


def noise(rng: np.random.Generator, base: Matrix, size: float, share: float = 1.0) -> Matrix:
    """Gaussian on a share of the entries, of Frobenius norm `size` times the base's (or that of ones)."""
    drawn = rng.standard_normal(base.shape) * (rng.random(base.shape) < share)
    return drawn * (size * (np.linalg.norm(base) or sqrt(base.size)) / max(np.linalg.norm(drawn), 1e-300))


UPDATES: dict[str, Callable[[np.random.Generator, Matrix], Matrix]] = {
    "as small as reinforcement learning's": lambda rng, base: noise(rng, base, 1e-4),
    "sparse": lambda rng, base: noise(rng, base, 3e-4, 0.1),
    "fine-tuning": lambda rng, base: noise(rng, base, 0.02),
    "rank 2": lambda rng, base: with_spectrum(rng, base.shape, [3e-3, 1e-3][: min(base.shape)]) * (base.std() or 1),
}


def pairs(kind: str, size: int) -> Iterator[TensorPair]:
    """The pairs of a kind, `size` on their smaller side, one an update and shape."""
    make, dtype, sides = ZOO[kind]
    for index, (tall, wide) in enumerate(sides):
        shape = (max(size * tall, 1), max(size * wide, 1))
        rng = np.random.default_rng([size, index])
        base = make(rng, shape)
        for update in UPDATES.values():
            yield pair_of(base, base + update(rng, base), (dtype, dtype))


# --- errors -----------------------------------------------------------------------------------------------------


def errors(pair: TensorPair, k_max: int) -> Errors:
    """Of one pair, at all k that the gaps allow."""
    base, tuned = dense(pair)
    update = tuned - base
    measured = measure_pair(pair, k_max=k_max)
    found = {name: np.asarray(value, np.float64) for name, value in measured.records["spectrum"].fields.items()}
    (u0, s0, v0), (u1, s1, v1) = (np.linalg.svd(w, full_matrices=False) for w in (base, tuned))
    spectra = {"base": s0, "tuned": s1, "update": np.linalg.svd(update, compute_uv=False)}
    sigma = [_relative(found[f"singular_values_{side}"], true, SIGMA_SEEN * true[0]) for side, true in spectra.items()]
    kept, angles, energies = found["cross_left"].shape[0], [nan], [nan]
    core = (u0.T @ update @ v0.T) ** 2
    totals = {
        "left": np.cumsum((u0.T @ update) ** 2 @ np.ones(update.shape[1])),
        "right": np.cumsum(np.ones(len(update)) @ (update @ v0.T) ** 2),
        "block": np.diag(core.cumsum(axis=0).cumsum(axis=1)),
    }
    ours = {side: np.cumsum(found[f"direction_energy_{side}"]) for side in ("left", "right")}
    ours["block"] = found["block_energy"]
    for k in (k for k in range(1, min(kept + 1, len(s0))) if _separated(s0, k)):
        energy = np.sum(update**2)
        for name, true in totals.items():
            energies.append(_relative(ours[name][k - 1 : k], true[k - 1 : k], ENERGY_SEEN * energy))
        if _separated(s1, k):
            for side, w0, w1 in (("left", u0[:, :k], u1[:, :k]), ("right", v0[:k].T, v1[:k].T)):
                angles.append(np.abs(angle_curve(measured, side, k) - _angles(w0, w1)).max() * 180 / pi)
    return Errors(_worst(sigma), _nss_error(found, s0, s1), _worst(angles), _worst(energies))


def _separated(values: Matrix, k: int) -> bool:
    return bool(values[0] > 0 and values[k - 1] - values[k] > GAP_SEEN * values[0])


def _relative(found: Matrix, true: Matrix, floor: float) -> float:
    """Largest relative error where the truth is above a floor; NaN where it is nowhere."""
    seen = true > floor
    return float(np.abs(found[seen] / true[seen] - 1).max()) if seen.any() else nan


def _nss_error(found: dict[str, Matrix], base: Matrix, tuned: Matrix) -> float:
    ours = np.linalg.norm(found["singular_values_tuned"] - found["singular_values_base"])
    true, size = np.linalg.norm(tuned - base), np.linalg.norm(base)
    if true <= NSS_SEEN * size or size == 0:
        return nan
    return float(np.abs(ours / np.linalg.norm(found["singular_values_base"]) / (true / size) - 1))


def _angles(w0: Matrix, w1: Matrix) -> Matrix:
    """Principal angles, ascending, from cosines above 45° and from sines below."""
    cosines = np.linalg.svd(w0.T @ w1, compute_uv=False)
    sines = np.linalg.svd(w1 - w0 @ (w0.T @ w1), compute_uv=False)[::-1]
    return np.where(cosines > sines, np.arcsin(np.minimum(sines, 1)), np.arccos(np.minimum(cosines, 1)))


def _worst(values: list[float]) -> float:
    return float(np.fmax.reduce(values))


def errors_of(kind: str, size: int, k_max: int) -> Errors:
    """Worst over the pairs of a kind."""
    worst = Errors()
    for pair in pairs(kind, size):
        worst = worst.worst(errors(pair, k_max))
    return worst


# --- the table --------------------------------------------------------------------------------------------------


def row(name: str, found: Errors) -> str:
    cells = (getattr(found, field) for field in COLUMNS)
    return f"| {name} | " + " | ".join("–" if np.isnan(cell) else f"{cell:.1g}" for cell in cells) + " |"


def table(size: int = 128, k_max: int = 128) -> list[str]:
    """One row a kind, then the promise."""
    rows = [row(kind, errors_of(kind, size, k_max)) for kind in ZOO]
    head = ["| worst error | " + " | ".join(COLUMNS.values()) + " |", "|---|" + "--:|" * len(COLUMNS)]
    scope = (
        f"Against float64 LAPACK on whole matrices with {size} rows or columns on the smaller side, tall, wide and "
        f"square, and {len(UPDATES)} updates each (tiny, sparse, fine-tuning, rank 2); errors of σ, NSS and energies "
        f"are relative. σ of base, tuned and update, from {SIGMA_SEEN:g} σ1 on; NSS from {NSS_SEEN:g} on; angles and "
        f"energies at every k up to {k_max} whose gap exceeds {GAP_SEEN:g} σ1; energies from {ENERGY_SEEN:g} of the "
        "update's on. –: nothing of the kind is defined."
    )
    return [*head, *rows, row("**promised**", PROMISED), "", scope]
