"""Safetensors files byte by byte, so that every dtype and every lie can be written."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path

from rlviz.sources.checkpoint import Checkpoint
from rlviz.sources.header import HeaderEntry, tensor_metas
from rlviz.sources.local import fingerprint
from rlviz.types import ModelIdentity

BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "F8_E4M3": 8, "F8_E5M2": 8, "I64": 64, "I32": 32, "I16": 16}
BITS |= {"I8": 8, "U8": 8, "BOOL": 8, "U16": 16, "U32": 32, "U64": 64, "C64": 64, "F8_E8M0": 8, "F4": 4}

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]  # name to dtype and shape


def size_of(dtype: str, shape: tuple[int, ...]) -> int:
    bits = BITS[dtype]
    for extent in shape:
        bits *= extent
    return bits // 8


def framed(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def table_of(shapes: Shapes) -> dict[str, dict[str, object]]:
    table, at = {}, 0
    for name, (dtype, shape) in shapes.items():
        end = at + size_of(dtype, shape)
        table[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    return table


def safetensors_bytes(shapes: Shapes) -> bytes:
    table = table_of(shapes)
    size = sum(size_of(dtype, shape) for dtype, shape in shapes.values())
    return framed(json.dumps(table).encode(), bytes(i % 251 for i in range(size)))


def write_shapes(path: Path, shapes: Shapes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(safetensors_bytes(shapes))
    return path


class NoReader:
    """Pairing and sanity must decide before any weight is read."""

    def read_into(self, shard: str, offset: int, buffer: memoryview) -> None:
        raise AssertionError(f"read {shard} at {offset}")

    def close(self) -> None:
        return None


def checkpoint(
    shapes: Shapes,
    ref: str = "org/name",
    config: Mapping[str, object] | None = None,
    card: Mapping[str, object] | None = None,
) -> Checkpoint:
    """A checkpoint that is only a header."""
    at, entries = 0, {}
    for name, (dtype, shape) in shapes.items():
        end = at + size_of(dtype, shape)
        entries[name] = HeaderEntry(dtype, shape, at, end)
        at = end
    identity = ModelIdentity(ref, ref, fingerprint({ref: str(list(shapes))}), at, True)
    return Checkpoint(identity, tensor_metas(entries, "s"), {"s": "s"}, NoReader(), config or {}, card or {})
