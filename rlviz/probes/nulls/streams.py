"""Random numbers that depend on the seed, the tensor and the purpose, never on the order of work."""

from __future__ import annotations

from enum import IntEnum
from hashlib import sha256

import numpy as np


class Purpose(IntEnum):
    """What a stream is drawn for; streams of different purposes are independent."""

    SHUFFLE = 1
    ISOTROPIC = 2


def stream(seed: int, name: str, purpose: Purpose, *indices: int) -> np.random.Generator:
    """The generator of one tensor's draw: the same for the same arguments, on every machine."""
    digest = int.from_bytes(sha256(name.encode()).digest()[:8], "little")
    return np.random.default_rng([seed, digest, int(purpose), *indices])
