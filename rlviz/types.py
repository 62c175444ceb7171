"""The nouns of rlviz: frozen values that travel between layers. Imports nothing of ours.

Reading order: a `TensorMeta` says where one tensor lies in a checkpoint; a `TensorMatch` puts a base and a
tuned tensor side by side; a probe turns the two into a `Record` of sufficient statistics; the records of one
tensor are a `Measured`, and a metric is a pure function of that and of `MetricParams`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import prod
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Side = Literal["base", "tuned"]
Access = Literal["public", "gated", "private", "unknown"]


class Lens(StrEnum):
    """The format both sides are rounded to before they are compared (metric specification, section 1)."""

    STORED = "stored"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"
    FP8_E4M3 = "fp8_e4m3"
    FP8_E5M2 = "fp8_e5m2"


LENSES: tuple[Lens, ...] = tuple(Lens)


@dataclass(frozen=True, slots=True)
class TensorMeta:
    """Where one tensor lies, known from the header alone.

    `dtype` is the safetensors code (``"BF16"``), `offset` counts from the start of the shard file, `module` is
    the piece of the parameter name the heat map groups by (``"q_proj"``); `layer` and `expert` are None where
    the name carries none.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    shard: str
    offset: int
    nbytes: int
    layer: int | None
    module: str
    expert: int | None = None

    @property
    def n(self) -> int:
        """Number of entries."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True)
class TensorMatch:
    """A base tensor and the tuned tensor compared with it.

    `rows` is the number of leading rows compared: less than the shape's only where a vocabulary grew or was
    padded. The compared shape is ``(rows, *shape[1:])``.
    """

    base: TensorMeta
    tuned: TensorMeta
    rows: int

    @property
    def name(self) -> str:
        """The base's name: the one that every table and link uses."""
        return self.base.name

    @property
    def shape(self) -> tuple[int, ...]:
        """The compared shape."""
        return (self.rows, *self.base.shape[1:]) if self.base.shape else ()

    @property
    def n(self) -> int:
        """Number of entries compared, non-finite ones included."""
        return prod(self.shape)

    @property
    def is_matrix(self) -> bool:
        """True where spectra are defined: two dimensions, both at least 2."""
        return len(self.shape) == 2 and min(self.shape) >= 2


@dataclass(frozen=True, slots=True)
class Skipped:
    """A tensor that was not compared (or not by one probe), with the reason. Nothing vanishes silently."""

    name: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Notice:
    """A warning about the pair as a whole, one sentence with the next step in `detail`."""

    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which checkpoint was read: the reference as typed, pinned by commit (hub) or fingerprint (local).

    `access` is what the hub asked of whoever read it: results of a model that is not known to be public are shown on a
    host only to those who may read it themselves.
    """

    ref: str
    pinned_ref: str
    commit: str
    nbytes: int
    shareable: bool
    access: Access = "public"

    @classmethod
    def kept(cls, fields: Mapping[str, Any]) -> ModelIdentity:
        """One that was written down; before access was noted, nobody knows what it was."""
        noted: dict[str, Any] = {"access": "unknown", **fields}
        return cls(**noted)

    @property
    def label(self) -> str:
        """Short text for a figure: last path segment and seven digits of the commit."""
        name = self.pinned_ref.split("@")[0].rstrip("/").split("/")[-1]
        return f"{name} @{self.commit[:7]}"


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """What one probe kept of one tensor pair (or of one base tensor): the unit of caching and resuming.

    `fields` maps names to arrays (scalars are 0-d); it may read them lazily from disk. `params` are the probe's
    own (never k or the lens: those are metric parameters).
    """

    tensor: str
    probe: str
    version: int
    params: Mapping[str, int | float | str]
    fields: Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Everything known about one compared tensor: its metadata and its records by probe name."""

    match: TensorMatch
    records: Mapping[str, Record]

    @property
    def name(self) -> str:
        return self.match.name

    @property
    def layer(self) -> int | None:
        return self.match.base.layer

    @property
    def module(self) -> str:
        return self.match.base.module

    @property
    def shape(self) -> tuple[int, ...]:
        return self.match.shape


@dataclass(frozen=True, slots=True)
class MetricParams:
    """What a reader may turn without a weight being read again.

    `k` is the subspace rank (clamped per matrix to r - 1), `alpha` the share of entries that a mask holds, `eta` and
    `tau` are the relative and absolute tolerances of `n_changed_rel` and `n_changed_abs`.
    """

    lens: Lens = Lens.BF16
    k: int = 64
    alpha: float = 0.3
    eta: float = 1e-3
    tau: float = 1e-5


@dataclass(frozen=True, slots=True)
class Provenance:
    """Shown under every figure and written in every export."""

    rlviz: str
    numpy: str
    started: str
    wall_s: float
    bytes_read: int
    workers: int
    machine: str
    probes: Mapping[str, int] = field(default_factory=dict[str, int])
    device: str = "cpu"  # where decompositions ran, see `RLVIZ_DEVICE`


@dataclass(frozen=True, slots=True)
class LinkSpeed:
    """What reading takes: ``latency_s + bytes / bytes_per_s`` per request, `connections` of them at a time."""

    latency_s: float
    bytes_per_s: float
    connections: int

    def seconds(self, nbytes: float, requests: float) -> float:
        """Time for so many bytes in so many requests, the connections sharing them evenly."""
        return (requests * self.latency_s + nbytes / self.bytes_per_s) / self.connections
