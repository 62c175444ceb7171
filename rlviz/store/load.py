"""From a manifest back to typed values: matches, identities, and the records that have landed so far."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from rlviz.store.fields import NOT_MEASURABLE
from rlviz.store.store import Store
from rlviz.types import Measured, Record, TensorMatch, TensorMeta

# A probe's base-only record is listed under "<probe>.base"; its fields are merged into the probe's record.
BASE_PART = ".base"


def measured_tensors(store: Store, manifest: Mapping[str, Any]) -> tuple[Measured, ...]:
    """Every compared tensor with the records that are in the store, in the manifest's order."""
    return tuple(_measured(store, entry) for entry in manifest["tensors"])


def _measured(store: Store, entry: Mapping[str, Any]) -> Measured:
    match = TensorMatch(_meta(entry["base"]), _meta(entry["tuned"]), entry["rows"])
    keys: Mapping[str, str] = entry["records"]
    records: dict[str, Record] = {}
    for probe, key in keys.items():
        record = None if probe.endswith(BASE_PART) else store.get(key)
        if record is None or record.probe == NOT_MEASURABLE:
            continue
        base = store.get(keys[probe + BASE_PART]) if probe + BASE_PART in keys else None
        if base is not None:
            record = replace(record, fields=ChainMap(record.fields, base.fields))  # pyright: ignore[reportArgumentType]
        records[probe] = record
    return Measured(match, records)


def _meta(entry: Mapping[str, Any]) -> TensorMeta:
    fields: dict[str, Any] = {**entry, "shape": tuple(entry["shape"])}
    return TensorMeta(**fields)
