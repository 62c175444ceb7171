"""Values that papers report, shipped as package data, and the strip that places ours among them."""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

_REMEASURED = re.compile(r"re-measured ([\d.]+) in (\S+)")
_TOLERANCE = re.compile(r"tolerance ([\d.e+-]+) column")

KINDS = ("SFT", "RL", "preference")


@dataclass(frozen=True, slots=True)
class PublishedValue:
    """One number somebody published: `value` in the unit of the metric named `metric`, `source` with its table."""

    source: str
    base: str
    tuned: str
    method: str
    data: str
    metric: str
    value: float
    note: str

    @property
    def kind(self) -> str:
        """One of `KINDS`: supervised, reinforcement learning (GRPO, PPO, …), or preference tuning (DPO, KTO, …)."""
        if self.method == "SFT":
            return "SFT"
        return "preference" if self.data == "preference" else "RL"

    @property
    def title(self) -> str:
        """The tuned model, or what the note calls it where no repository is known."""
        return self.tuned or self.note.split(" (")[0] or "unnamed model"

    @property
    def remeasured(self) -> tuple[float, str] | None:
        """A second measurement of the same pair that the note mentions, and where it was published."""
        found = _REMEASURED.search(self.note)
        return (float(found[1]), found[2]) if found else None

    @property
    def tolerance(self) -> float | None:
        """The absolute tolerance below which the paper counts an entry as unchanged; None: equal in bf16."""
        found = _TOLERANCE.search(self.note)
        return float(found[1]) if found else None

    @property
    def remark(self) -> str:
        """What the note says besides `remeasured` and `tolerance`."""
        return _TOLERANCE.sub("", _REMEASURED.sub("", self.note)).strip("; ")


@cache
def published_values(metric: str) -> tuple[PublishedValue, ...]:
    """Published values of one column of ``published.csv`` (for example ``update_sparsity_bf16``)."""
    text = files("rlviz.data").joinpath("published.csv").read_text(encoding="utf-8")
    rows = (row for row in csv.DictReader(text.splitlines()) if row["metric"] == metric)
    return tuple(
        PublishedValue(
            source=row["source"],
            base=row["base"],
            tuned=row["tuned"],
            method=row["method"],
            data=row["data"],
            metric=row["metric"],
            value=float(row["value"]),
            note=row["note"],
        )
        for row in rows
    )


def published_range(values: Sequence[PublishedValue]) -> tuple[float, float] | None:
    """Smallest and largest of `values`; None for none."""
    return (min(v.value for v in values), max(v.value for v in values)) if values else None
