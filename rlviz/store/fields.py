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

from rlviz.types import Record

# One key only: safetensors writes its metadata map in no fixed order, and records must be byte-identical.
_HEADER = "rlviz"


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


def record_bytes(record: Record) -> bytes:
    """The file's content: a function of the record alone."""
    about = {
        "tensor": record.tensor,
        "probe": record.probe,
        "version": record.version,
        "params": dict(record.params),
    }
    arrays = {name: np.asarray(field, order="C") for name, field in record.fields.items()}
    return save(arrays, metadata={_HEADER: json.dumps(about, sort_keys=True)})


def read_record(path: Path) -> Record | None:
    """The record in a file; None where the file is absent, torn or not ours."""
    try:
        file = safe_open(path, framework="numpy")
        about: dict[str, Any] = json.loads((file.metadata() or {})[_HEADER])
    except (FileNotFoundError, SafetensorError, KeyError, ValueError):
        return None
    return Record(about["tensor"], about["probe"], about["version"], about["params"], StoredFields(file))
