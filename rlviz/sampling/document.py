"""A `Preview` as JSON (schema 1) and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import inf, isfinite, isnan, nan
from typing import Any

from rlviz.errors import UnsupportedCheckpoint
from rlviz.sampling.result import Estimate, Preview, Sampled, TensorPreview
from rlviz.types import LENSES, Lens, LinkSpeed, ModelIdentity, Notice, Skipped, TensorMatch, TensorMeta

SCHEMA = 1
FP8_NOTE = "fp8 lenses: scaled by the largest magnitude of the rows first read, not of the whole tensor"

Json = Mapping[str, Any]


def to_dict(preview: Preview) -> dict[str, Any]:
    """The JSON object of a preview.

    Every estimate is ``{"estimate", "low", "high"}``; undefined numbers are null, and so is a `high` that nothing
    bounds; nine significant digits. ``ulp`` is a list of ``[estimate, low, high]`` by signed bin. ``cells`` holds the
    cells of more than one tensor: the others are their tensor.
    """
    return {
        "schema": SCHEMA,
        "kind": "preview",
        "key": preview.key,
        "base": asdict(preview.base),
        "tuned": asdict(preview.tuned),
        "summary": {
            **_sampled(preview.pooled),
            "tensors_total": preview.total,
            "bytes_read": preview.bytes_read,
            "requests": preview.requests,
            "rounds": preview.rounds,
            "seed": preview.seed,
            "budget_bytes": preview.budget_bytes,
            "wall_s": preview.wall_s,
            "stopped": preview.stopped,
            "complete": preview.complete,
            "confidence": 0.95,
            "note": FP8_NOTE,
        },
        "layers": [{"layer": layer, **_sampled(s)} for layer, s in preview.layers.items()],
        "modules": [{"module": module, **_sampled(s)} for module, s in preview.modules.items()],
        "cells": [{"module": m, "layer": layer, **_sampled(s)} for (m, layer), s in _shared(preview)],
        "tensors": [
            {
                "name": t.match.name,
                "layer": t.match.base.layer,
                "module": t.match.base.module,
                "shape": list(t.match.shape),
                **_sampled(t.sampled),
                "base": asdict(t.match.base),
                "tuned": asdict(t.match.tuned),
                "rows": t.match.rows,
            }
            for t in preview.tensors
        ],
        "skipped": [asdict(s) for s in preview.skipped],
        "notices": [asdict(n) for n in preview.notices],
        "speed": asdict(preview.speed) if preview.speed else None,
        "rlviz": preview.rlviz,
    }


def from_dict(content: Json) -> Preview:
    """The preview that `to_dict` wrote.

    Raises
    ------
    UnsupportedCheckpoint
        Where it is something else, or of a later version.
    """
    if content.get("schema") != SCHEMA or content.get("kind") != "preview":
        raise UnsupportedCheckpoint("preview", "is not a preview that this version reads", "Make the preview again.")
    summary: Json = content["summary"]
    tensors = tuple(TensorPreview(_match(t), _read_sampled(t)) for t in content["tensors"])
    shared = {(entry["module"], entry["layer"]): _read_sampled(entry) for entry in content["cells"]}
    kept = ("bytes_read", "requests", "rounds", "seed", "budget_bytes", "wall_s", "stopped")
    return Preview(
        key=content["key"],
        base=ModelIdentity(**content["base"]),
        tuned=ModelIdentity(**content["tuned"]),
        tensors=tensors,
        pooled=_read_sampled(summary),
        layers={entry["layer"]: _read_sampled(entry) for entry in content["layers"]},
        modules={entry["module"]: _read_sampled(entry) for entry in content["modules"]},
        cells={(t.match.base.module, t.match.base.layer): t.sampled for t in tensors} | shared,
        skipped=tuple(Skipped(**s) for s in content["skipped"]),
        notices=tuple(Notice(**n) for n in content["notices"]),
        total=summary["tensors_total"],
        **{name: summary[name] for name in kept},
        speed=_read_speed(content["speed"]),
        rlviz=content["rlviz"],
    )


def _shared(preview: Preview) -> list[tuple[tuple[str, int | None], Sampled]]:
    alone = {id(t.sampled) for t in preview.tensors}
    return [(cell, s) for cell, s in preview.cells.items() if id(s) not in alone]


def _sampled(s: Sampled) -> dict[str, Any]:
    return {
        "update_sparsity": {lens.value: _named(s.sparsity(lens)) for lens in LENSES},
        "relative_update_norm": _named(s.relative_update_norm),
        "ulp": [_listed(e) for e in s.ulp],
        "n": s.n,
        "n_sampled": s.n_sampled,
        "n_rows": s.n_rows,
        "n_rows_sampled": s.n_rows_sampled,
    }


def _read_sampled(entry: Json) -> Sampled:
    return Sampled(
        density={Lens(lens): _unnamed(e).complement for lens, e in entry["update_sparsity"].items()},
        relative_update_norm=_unnamed(entry["relative_update_norm"]),
        ulp=tuple(_estimate(e) for e in entry["ulp"]),
        **{name: entry[name] for name in ("n", "n_sampled", "n_rows", "n_rows_sampled")},
    )


def _listed(e: Estimate) -> list[float | None]:
    return [float(f"{x:.9g}") if isfinite(x) else None for x in (e.estimate, e.low, e.high)]


def _named(e: Estimate) -> dict[str, float | None]:
    return dict(zip(("estimate", "low", "high"), _listed(e), strict=True))


def _unnamed(entry: Json) -> Estimate:
    return _estimate([entry[name] for name in ("estimate", "low", "high")])


def _estimate(numbers: Sequence[float | None]) -> Estimate:
    estimate, low, high = (nan if x is None else x for x in numbers)
    return Estimate(estimate, low, inf if isnan(high) and not isnan(estimate) else high)


def _match(entry: Json) -> TensorMatch:
    return TensorMatch(_meta(entry["base"]), _meta(entry["tuned"]), entry["rows"])


def _meta(entry: Json) -> TensorMeta:
    fields: dict[str, Any] = dict(entry)
    return TensorMeta(shape=tuple(fields.pop("shape")), **fields)


def _read_speed(entry: Json | None) -> LinkSpeed | None:
    return None if entry is None else LinkSpeed(**entry)
