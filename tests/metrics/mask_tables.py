"""Records of the masks probe written by hand."""

from __future__ import annotations

import numpy as np

from rlviz.types import Measured, Record, TensorMatch
from tests.probes.spectrum_pairs import meta

KS, ALPHAS = (16, 64), (0.01, 0.05, 0.1, 0.2, 0.3, 0.5)


def record(everywhere, inside, *, low=None, apart=None, exponent=None, edges=None, std=float("nan"), finer=False):
    """Tables ``[S, 2]`` (unchanged, changed): all entries, and those of the masks, the same at every preset."""
    everywhere, inside = np.array(everywhere, np.int64), np.array(inside, np.int64)
    low, apart = (inside if mask is None else np.array(mask, np.int64) for mask in (low, apart))
    strata = len(everywhere)
    fields = {
        "k": np.array(KS),
        "alpha": np.array(ALPHAS),
        "exponent": np.array(range(110, 110 + strata) if exponent is None else exponent, np.int16),
        "power_of_two": np.array([0] * strata if edges is None else edges, np.uint8),
        "counts": everywhere,
        "counts_low": np.stack([low] * len(ALPHAS)),
        "counts_principal": np.stack([np.stack([inside] * len(ALPHAS))] * len(KS)),
        "counts_principal_not_low": np.stack([np.stack([apart] * len(ALPHAS))] * len(KS)),
        "finer": np.array(finer, np.uint8),
        "noise_std": np.array(std),
    }
    match = TensorMatch(meta((2, 2), "BF16"), meta((2, 2), "BF16"), 2)
    return Measured(match, {"masks": Record("w", "masks", 1, {}, fields)})
