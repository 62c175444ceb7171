"""What a preview is asked for, checked; and the name under which it is kept."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rlviz.errors import InvalidInput
from rlviz.store.documents import content_key
from rlviz.types import ModelIdentity

VERSION = 1
"""Rises whenever the same sample would give other numbers."""

SMALLEST_BYTES = 64 << 10
DEFAULT_BYTES = 64 << 20

_UNITS = {"": 1, "B": 1} | {
    f"{prefix}{unit}": base**power
    for power, prefix in enumerate("KMGT", 1)
    for unit, base in (("B", 1000), ("IB", 1024))
}


@dataclass(frozen=True, slots=True)
class Asked:
    """Budget in bytes per model, seed, and the half width at which to stop."""

    budget_bytes: int
    seed: int
    target: float


DEFAULT = Asked(DEFAULT_BYTES, seed=0, target=0.005)
"""What the page and the command line ask for unless told otherwise."""


def asked(budget: int | str, seed: int, target: float) -> Asked:
    """Check the options of a preview.

    Examples
    --------
    >>> asked("64MiB", 0, 0.005).budget_bytes, asked("1.5 GB", 0, 0.005).budget_bytes
    (67108864, 1500000000)
    >>> asked("1 TiB", 0, 0.005).budget_bytes == 2**40
    True
    >>> asked("12 parsecs", 0, 0.005)
    Traceback (most recent call last):
    rlviz.errors.InvalidInput: budget 12 parsecs: is not a number of bytes. Write it as 64MiB or 1GB.
    """
    nbytes = _bytes(budget)
    if nbytes < SMALLEST_BYTES:
        raise InvalidInput(f"budget {budget}", "is too small to say anything", "Give at least 64KiB.")
    if seed < 0:
        raise InvalidInput(f"seed {seed}", "is negative", "Give 0 or more.")
    if not 0 <= target < 1:
        raise InvalidInput(f"target {target:g}", "is not a half width of a share", "Give 0 or more, and less than 1.")
    return Asked(nbytes, seed, target)


def preview_key(base: ModelIdentity, tuned: ModelIdentity, wanted: Asked) -> str:
    """Name of the preview in the store; needs no network where both references are pinned."""
    return content_key(
        {
            "preview": VERSION,
            "base": [base.pinned_ref, base.commit],
            "tuned": [tuned.pinned_ref, tuned.commit],
            "budget_bytes": wanted.budget_bytes,
            "seed": wanted.seed,
            "target": wanted.target,
        }
    )


def _bytes(budget: int | str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)", str(budget).strip())
    if not found or found[2].upper() not in _UNITS:
        raise InvalidInput(f"budget {budget}", "is not a number of bytes", "Write it as 64MiB or 1GB.")
    return int(float(found[1]) * _UNITS[found[2].upper()])
