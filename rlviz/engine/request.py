"""What is asked of a pair, apart from the pair itself, and its defaults from the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass

from rlviz.errors import InvalidInput
from rlviz.probes import PROBE_NAMES

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a pair, apart from the pair itself.

    Attributes
    ----------
    probes : names in `PROBE_NAMES`
    tensors : glob over tensor names
    budget_s : seconds of wall time the spectra may take, None for no limit
    memory_bytes : cap over everything that is in flight at once
    workers : tensors probed at the same time, one BLAS thread each
    seed : of the simulated nulls, at least 0
    beside : keys of finished results, this pair's among them, to whose smallest norm the update is rescaled
    """

    probes: tuple[str, ...] = PROBE_NAMES
    tensors: str = "*"
    budget_s: float | None = None
    memory_bytes: int = 2048 * MIB
    workers: int = 2
    k_max: int = 128
    seed: int = 0
    beside: tuple[str, ...] = ()


def default_workers() -> int:
    """`RLVIZ_WORKERS`, or one per usable core."""
    if text := os.environ.get("RLVIZ_WORKERS"):
        return positive_int("RLVIZ_WORKERS", text)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_memory_bytes() -> int:
    """`RLVIZ_MEMORY_MB` (default 2048) in bytes."""
    return positive_int("RLVIZ_MEMORY_MB", os.environ.get("RLVIZ_MEMORY_MB", "2048")) * MIB


def positive_int(name: str, text: str) -> int:
    """The number in an environment variable or option, or an `InvalidInput` that names it."""
    if not text.strip().isdecimal() or int(text) < 1:
        raise InvalidInput(f"{name}={text}", "is not a positive whole number", f"Set {name} to 1 or more.")
    return int(text)
