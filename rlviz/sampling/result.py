"""`Preview`: what a sample of two checkpoints says, with an interval wherever there is a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from rlviz.types import Lens, LinkSpeed, ModelIdentity, Notice, Skipped, TensorMatch


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its 95 % interval, ``low <= estimate <= high``; NaN where undefined.

    The interval has zero width only where everything was read. `high` is infinite where nothing bounds the number:
    a norm of which too little was read.
    """

    estimate: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """Half of the interval's width: the ± that is shown."""
        return (self.high - self.low) / 2

    @property
    def complement(self) -> Estimate:
        """The estimate of one minus the number: sparsity from density."""
        return Estimate(1 - self.estimate, 1 - self.high, 1 - self.low)


@dataclass(frozen=True, slots=True, eq=False)
class Sampled:
    """Estimates for a tensor or a group of tensors.

    Attributes
    ----------
    density : changed share, 0 to 1, under each lens
    relative_update_norm : ``‖ΔW‖ / ‖W0‖``, at least 0
    ulp : share of entries by signed distance between bf16 codes, the 35 bins of `rlviz.bins`
    n, n_sampled : entries there are, entries read
    n_rows, n_rows_sampled : the same in rows
    """

    density: Mapping[Lens, Estimate]
    relative_update_norm: Estimate
    ulp: tuple[Estimate, ...]
    n: int
    n_sampled: int
    n_rows: int
    n_rows_sampled: int

    def sparsity(self, lens: Lens) -> Estimate:
        """Unchanged share under a lens."""
        return self.density[lens].complement


@dataclass(frozen=True, slots=True, eq=False)
class TensorPreview:
    """One matched tensor and what its sample says."""

    match: TensorMatch
    sampled: Sampled


Stopped = Literal["budget", "target", "asked", "everything read", "under way"]


@dataclass(frozen=True, slots=True, eq=False)
class Preview:
    """Estimates for one base-tuned pair.

    Attributes
    ----------
    tensors : in checkpoint order, every matched float tensor, sampled or not
    pooled : over all of them
    layers, modules, cells : the same by layer (None: outside any), by module, and by (module, layer)
    bytes_read : of weights, per model; `requests` counts the range requests of both
    stopped : why it ended; "under way" while rounds are still to come
    """

    key: str
    base: ModelIdentity
    tuned: ModelIdentity
    tensors: tuple[TensorPreview, ...]
    pooled: Sampled
    layers: Mapping[int | None, Sampled]
    modules: Mapping[str, Sampled]
    cells: Mapping[tuple[str, int | None], Sampled]
    skipped: tuple[Skipped, ...]
    notices: tuple[Notice, ...]
    total: int
    bytes_read: int
    requests: int
    rounds: int
    seed: int
    budget_bytes: int
    wall_s: float
    stopped: Stopped
    speed: LinkSpeed | None
    rlviz: str

    @property
    def complete(self) -> bool:
        """Whether no round is still to come."""
        return self.stopped != "under way"

    def to_dict(self) -> dict[str, Any]:
        """The documented JSON object (schema 1); undefined and unbounded numbers are None."""
        from rlviz.sampling.document import to_dict

        return to_dict(self)

    @staticmethod
    def from_dict(content: Mapping[str, Any]) -> Preview:
        """The preview that `to_dict` was asked of."""
        from rlviz.sampling.document import from_dict

        return from_dict(content)
