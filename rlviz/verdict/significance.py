"""Many matrices, one question: tests per matrix, with the number of false alarms held down."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlviz.metrics.noise_edge import edge_chance

Floats = NDArray[np.float64]
Signs = NDArray[np.int64]

FALSE_DISCOVERY_RATE = 0.01
"""Of the matrices said to differ from a null, at most this share is expected not to."""

AGREEMENT = 0.01
"""Level of the sign test by which matrices are said to agree."""

METHOD = (
    "“Significantly” is by one test per matrix and question, Benjamini-Hochberg over all its matrices at a false "
    "discovery rate of 1 %: of the matrices called significant, one in a hundred is expected not to be. With thousands "
    "of entries per test the smallest effect is significant, so that each test also has a threshold for what counts. "
    "Overlaps are tested where the null expects five entries or more in every cell of mask × changed, since z is not "
    "normal below."
)


@dataclass(frozen=True, slots=True)
class Tally:
    """Over `n` matrices, how many lie significantly above and below their null."""

    n: int
    above: int
    below: int

    @property
    def differing(self) -> int:
        """Matrices that differ from the null in either direction."""
        return self.above + self.below

    @classmethod
    def of(cls, signs: Signs, n: int) -> Tally:
        """The tally of `n` tests with these outcomes."""
        return cls(n, int(np.sum(signs > 0)), int(np.sum(signs < 0)))


def discoveries(p: Floats, rate: float = FALSE_DISCOVERY_RATE) -> NDArray[np.bool_]:
    """Hypotheses rejected by Benjamini and Hochberg's (1995) step-up procedure.

    The largest i with ``p_(i) ≤ i · rate / n`` is sought; it and all smaller ones are rejected. Holds for independent
    tests: one per matrix, on its own entries.

    Parameters
    ----------
    p : ndarray, ``[n]``, in [0, 1]

    Examples
    --------
    >>> discoveries(np.array([0.04, 0.001, 0.03, 0.5]), 0.05).tolist()
    [False, True, False, False]
    >>> discoveries(np.array([0.04, 0.001, 0.02, 0.03]), 0.05).tolist()  # one small enough carries those below it
    [True, True, True, True]
    """
    order = np.argsort(p)
    passing = np.flatnonzero(p[order] <= rate * np.arange(1, p.size + 1) / max(p.size, 1))
    rejected = np.zeros(p.size, dtype=bool)
    if passing.size:
        rejected[order[: passing[-1] + 1]] = True
    return rejected


def agree_in_sign(values: Floats, level: float = AGREEMENT) -> bool:
    """Whether `values`, one per matrix, lie to one side of 0 more often than coins fall (two-sided sign test).

    Asks nothing of how entries within a matrix depend on each other. Zeros are left out; below eight matrices no
    majority is telling at 1 %.

    Examples
    --------
    >>> agree_in_sign(-np.ones(8)), agree_in_sign(-np.ones(7)), agree_in_sign(np.array([1.0] * 9 + [-1.0] * 3))
    (True, False, False)
    """
    from scipy.special import bdtr

    n, minority = int(np.sum(values != 0)), int(min(np.sum(values < 0), np.sum(values > 0)))
    return n > 0 and 2 * float(bdtr(minority, n, 0.5)) <= level


def signs_of_scores(z: Floats) -> Signs:
    """Two-sided normal tests of z-scores: 1 significantly above, −1 below, 0 neither; undefined ones are left alone."""
    from scipy.special import ndtr

    return _signs(z, lambda known: 2 * np.asarray(ndtr(-np.abs(known)), dtype=np.float64))


def signs_of_shuffles(z: Floats, shuffles: int) -> Signs:
    """The same for scores whose SD is that of a few shuffles: Student's t, of one observation against `shuffles`.

    Under the null ``z / √(1 + 1/n)`` follows t with n − 1 degrees of freedom.
    """
    from scipy.special import stdtr

    def chance(known: Floats) -> Floats:
        return 2 * np.asarray(stdtr(shuffles - 1, -np.abs(known) / np.sqrt(1 + 1 / shuffles)), dtype=np.float64)

    return _signs(z, chance)


def _signs(z: Floats, chance: Callable[[Floats], Floats]) -> Signs:
    known = np.isfinite(z)
    found = np.zeros(z.size, dtype=np.int64)
    found[known] = np.where(discoveries(chance(z[known])), np.sign(z[known]), 0)
    return found


def tally_of_block_energies(share: Floats, k: NDArray[np.int64], entries: NDArray[np.int64]) -> Tally:
    """Exact two-sided tests of the share of an update's energy that lies in a k × k block, NaN left out.

    For independent Gaussian entries of equal variance the share is ``Beta(k²/2, (n − k²)/2)``, whatever the block.

    Parameters
    ----------
    share : ndarray, ``[m]``, in [0, 1]
    k, entries : ndarray, ``[m]``
        Size of the block and entries of the matrix, ``k² < entries``.
    """
    from scipy.special import betainc, betaincc

    known = np.isfinite(share)
    x, inside, n = share[known], k[known].astype(np.float64) ** 2, entries[known].astype(np.float64)
    below, above = (np.asarray(tail(inside / 2, (n - inside) / 2, x)) for tail in (betainc, betaincc))
    rejected = discoveries(np.minimum(1.0, 2 * np.minimum(below, above)))
    return Tally(x.size, int(np.sum(rejected & (above < below))), int(np.sum(rejected & (below < above))))


def tally_of_edges(ratio: Floats, d_out: NDArray[np.int64], d_in: NDArray[np.int64]) -> Tally:
    """One-sided tests of the largest singular value against isotropic noise's (see `noise_edge`), NaN left out."""
    known = np.isfinite(ratio)
    rejected = discoveries(edge_chance(ratio[known], d_out[known], d_in[known]))
    return Tally(int(known.sum()), int(rejected.sum()), 0)
