"""What a probe is: arrays of one tensor pair in, a small record of sufficient statistics out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rlviz.types import Side, TensorMatch

Fields = dict[str, NDArray[np.generic]]
ProbeParams = Mapping[str, int | float | str]


class NotMeasurable(Exception):
    """This tensor cannot be measured by this probe; the engine lists it as skipped, with the reason."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class CodeSource(Protocol):
    """Raw codes of one tensor, however they got here (local file, memory, spool). See `rlviz.dtypes`."""

    def read_into(self, start: int, codes: NDArray[np.generic]) -> None:
        """Fill the contiguous array `codes` with the entries from flat index `start` on."""
        ...


@dataclass(frozen=True, slots=True)
class Window:
    """An aligned piece of both tensors, as ``[rows, columns]`` codes.

    Either whole rows (``column == 0`` and full width) or a part of a single row. The arrays are reused for the
    next window: copy what you keep.
    """

    row: int
    column: int
    base: NDArray[np.generic]
    tuned: NDArray[np.generic]


@dataclass(frozen=True, slots=True, eq=False)
class TensorPair:
    """Both sides of one match while it is being probed.

    The tensor is seen as a matrix ``[d_out, d_in]``: leading dimensions are folded into rows, a vector or
    scalar is one row.
    """

    match: TensorMatch
    base: CodeSource
    tuned: CodeSource
    base_codes: np.dtype
    tuned_codes: np.dtype

    @property
    def d_in(self) -> int:
        return self.match.shape[-1] if self.match.shape else 1

    @property
    def d_out(self) -> int:
        return prod(self.match.shape[:-1])

    def windows(self, entries: int) -> Iterator[Window]:
        """Aligned windows of at most `entries` entries, in row-major order, through two reused buffers."""
        d_in, d_out = self.d_in, self.d_out
        if d_in == 0 or d_out == 0:
            return
        rows, width = max(1, entries // d_in), min(d_in, max(1, entries))
        base = np.empty(min(rows, d_out) * width, dtype=self.base_codes)
        tuned = np.empty(base.size, dtype=self.tuned_codes)
        for row in range(0, d_out, rows):
            height = min(rows, d_out - row)
            for column in range(0, d_in, width):
                columns = min(width, d_in - column)
                size, start = height * columns, row * d_in + column
                self.base.read_into(start, base[:size])
                self.tuned.read_into(start, tuned[:size])
                shape = (height, columns)
                yield Window(row, column, base[:size].reshape(shape), tuned[:size].reshape(shape))

    def rows(self, side: Side, row: int, height: int) -> NDArray[np.generic]:
        """Codes of rows ``[row, row + height)`` of one side, a fresh array ``[height, d_in]``."""
        source, dtype = (self.base, self.base_codes) if side == "base" else (self.tuned, self.tuned_codes)
        codes = np.empty(height * self.d_in, dtype=dtype)
        source.read_into(row * self.d_in, codes)
        return codes.reshape(height, self.d_in)


@dataclass(frozen=True, slots=True)
class Cost:
    """What running a probe on one pair takes, for the plan: peak bytes in memory and seconds on one core.

    `rereads` are the sides that it reads more than once or out of order; over a network, the others are not kept.
    """

    memory_bytes: int
    seconds: float
    rereads: frozenset[Side] = frozenset({"base", "tuned"})


class Probe(Protocol):
    """One way of reading a tensor pair. `version` rises whenever any field's value may change.

    `base_probe` names the probe whose `run_base` makes the base-only record that `run` starts from: itself, another
    one with the same parameters (both then share the record), or None. Metrics see the fields of a probe's own base
    record merged with those of `run`.
    """

    name: str
    version: int
    base_probe: str | None

    def defaults(self) -> ProbeParams:
        """Parameters and their defaults; they are part of the cache key."""
        ...

    def applies(self, match: TensorMatch) -> bool:
        """Whether the probe measures such a tensor at all (spectra: matrices only)."""
        ...

    def cost(self, match: TensorMatch, params: ProbeParams) -> Cost:
        """The price of `run`, including `run_base` where that is the probe's own."""
        ...

    def run_base(self, pair: TensorPair, params: ProbeParams) -> Fields | None:
        """What needs the base alone, computed once per base tensor and stored under its own key.

        None where the probe has no such part.
        """
        ...

    def run(self, pair: TensorPair, params: ProbeParams, base: Fields | None) -> Fields:
        """All other fields. `base` is what `run_base` returned (perhaps read back from the store)."""
        ...


@runtime_checkable
class Tailored(Protocol):
    """A probe that measures a sample: it decides by itself which matrices, out of all, get what."""

    def tailored(self, matches: Iterable[TensorMatch], params: ProbeParams) -> Mapping[str, ProbeParams]:
        """Parameters by tensor name; tensors without an entry are not measured, and not missed."""
        ...
