"""A checkpoint: header index plus a byte reader. Opening one reads headers only (about 100 kB)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rlviz.dtypes import ELEMENT_TYPES
from rlviz.types import ModelIdentity, TensorMeta


class ByteReader(Protocol):
    """Random access to the bytes of a checkpoint's shards. Safe to call from several threads."""

    def read_into(self, shard: str, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from byte `offset` of `shard`, wholly or raise an `RlvizError`."""
        ...

    def read_ranges(self, shard: str, ranges: Sequence[tuple[int, memoryview]]) -> None:
        """Fill each buffer from its byte offset of `shard`; over a network all at once, neighbours merged."""
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """One model's tensors by name, where they lie, and how to read them.

    `config` is the parsed config.json and `card` the model card's metadata (``base_model`` …), each empty
    where absent. `shard_ids` maps a shard to what identifies its content (hub: LFS sha256 at a commit; local:
    path, size, mtime_ns, inode, header hash); a tensor's cache identity is built from it.
    """

    identity: ModelIdentity
    tensors: Mapping[str, TensorMeta]
    shard_ids: Mapping[str, str]
    reader: ByteReader
    config: Mapping[str, Any] = field(default_factory=dict)
    card: Mapping[str, Any] = field(default_factory=dict)

    def tensor_id(self, meta: TensorMeta) -> str:
        """What identifies one tensor's bytes: shard identity, offset, dtype and shape."""
        return f"{self.shard_ids[meta.shard]}:{meta.offset}:{meta.dtype}:{'x'.join(map(str, meta.shape))}"

    def read(self, meta: TensorMeta, start: int, stop: int) -> NDArray[np.generic]:
        """Raw codes of entries ``[start, stop)`` in row-major order, shape ``(stop - start,)``."""
        element = ELEMENT_TYPES[meta.dtype]
        codes = np.empty(stop - start, dtype=element.codes)
        self.read_into(meta, start, codes)
        return codes

    def read_into(self, meta: TensorMeta, start: int, codes: NDArray[np.generic]) -> None:
        """Fill the contiguous array `codes` with the entries that begin at flat index `start`."""
        if codes.size == 0:  # an empty view cannot be cast, and there is nothing to read
            return
        itemsize = ELEMENT_TYPES[meta.dtype].itemsize
        self.reader.read_into(meta.shard, meta.offset + start * itemsize, codes.data.cast("B"))

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.close()
