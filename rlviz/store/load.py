"""From a manifest back to typed values: matches, identities, and the records that have landed so far."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from rlviz.store.fields import NOT_MEASURABLE
from rlviz.store.store import Store
from rlviz.types import Measured, Record, TensorMatch, TensorMeta

# A probe's base-only record is listed under "<probe>.base"; its fields are merged into the probe's record.
BASE_PART = ".base"


def measured_tensors(store: Store, manifest: Mapping[str, Any]) -> tuple[tuple[Measured, ...], bool]:
    """Every compared tensor with the sound records that are in the store, in the manifest's order.

    The second value says whether those are all: a record that was damaged or evicted is to be measured again.
    """
    hashes: Mapping[str, Any] = manifest.get("hashes", {})

    def found(key: str) -> Record | None:
        return store.get(key, hashes.get(key, (None,))[0])

    landed = [_landed(found, entry["records"]) for entry in manifest["tensors"]]
    measured = tuple(_measured(entry, records) for entry, records in zip(manifest["tensors"], landed, strict=True))
    return measured, all(None not in records.values() for records in landed)


def _landed(found: Callable[[str], Record | None], keys: Mapping[str, str]) -> dict[str, Record | None]:
    """Each probe's record, the base's part merged in; None where either is not there."""
    records: dict[str, Record | None] = {}
    for probe, key in keys.items():
        if probe.endswith(BASE_PART):
            continue
        record = found(key)
        if record is not None and record.probe != NOT_MEASURABLE and probe + BASE_PART in keys:
            base = found(keys[probe + BASE_PART])
            record = base and replace(record, fields=ChainMap(record.fields, base.fields))  # pyright: ignore[reportArgumentType]
        records[probe] = record
    return records


def _measured(entry: Mapping[str, Any], records: Mapping[str, Record | None]) -> Measured:
    match = TensorMatch(_meta(entry["base"]), _meta(entry["tuned"]), entry["rows"])
    measured = {probe: r for probe, r in records.items() if r is not None and r.probe != NOT_MEASURABLE}
    return Measured(match, measured)


def _meta(entry: Mapping[str, Any]) -> TensorMeta:
    fields: dict[str, Any] = {**entry, "shape": tuple(entry["shape"])}
    return TensorMeta(**fields)
