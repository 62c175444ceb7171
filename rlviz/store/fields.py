"""One record as one safetensors file: arrays as tensors, everything else as one JSON string in the header."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from rlviz.store.seal import UNSEALED, sealed
from rlviz.types import Record

# One key only: safetensors writes its metadata map in no fixed order, and records must be byte-identical.
_HEADER = "rlviz"
_DTYPES = frozenset({"BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F16", "F32", "F64"})

NOT_MEASURABLE = "not measurable"  # the probe's name in a record that only says why there is none


def refusal(tensor: str, version: int, reason: str, detail: str) -> Record:
    """A record saying that a probe cannot measure a tensor, so that it is not read again to find that out."""
    return Record(tensor, NOT_MEASURABLE, version, {"reason": reason, "detail": detail}, {})


class StoredFields(Mapping[str, NDArray[np.generic]]):
    """A record's arrays, each read from its file when first asked for."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._names: tuple[str, ...] = tuple(file.keys())
        self._read: dict[str, NDArray[np.generic]] = {}

    def __getitem__(self, name: str) -> NDArray[np.generic]:
        if name not in self._read:
            if name not in self._names:
                raise KeyError(name)
            self._read[name] = self._file.get_tensor(name)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def record_bytes(record: Record, key: str) -> bytes:
    """The file's content: a function of the record and its key alone, sealed (see `rlviz.store.seal`)."""
    about = {
        "key": key,
        "sha256": UNSEALED,
        "tensor": record.tensor,
        "probe": record.probe,
        "version": record.version,
        "params": dict(record.params),
    }
    arrays = {name: np.asarray(field, order="C") for name, field in record.fields.items()}
    return sealed(save(arrays, metadata={_HEADER: json.dumps(about, sort_keys=True)}))


def read_record(path: Path, key: str) -> Record | None:
    """The record in a file; None where the file is absent, torn, not ours or another record's.

    Does not hash: see `rlviz.store.seal`.
    """
    try:
        file = safe_open(path, framework="numpy")
        names: list[str] = file.keys()
        about: Any = json.loads((file.metadata() or {})[_HEADER])
        tensor, probe, version, params = (about[name] for name in ("tensor", "probe", "version", "params"))
    except (FileNotFoundError, SafetensorError, KeyError, TypeError, ValueError, RecursionError):
        return None
    if about.get("key", key) != key or any(file.get_slice(name).get_dtype() not in _DTYPES for name in names):
        return None
    return Record(tensor, probe, version, params, StoredFields(file))
