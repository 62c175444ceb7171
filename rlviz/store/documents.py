"""The documents of a result: how it is named, what its manifest says, and its head, the manifest in brief."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from rlviz.store.check import manifest_problem
from rlviz.store.seal import digest_of_json, opened_json

SCHEMA = 2  # of manifests; 1 knew no hashes and not what was asked


def content_key(content: Mapping[str, Any]) -> str:
    """Hex sha256 of canonical JSON: the name under which a record or result is kept."""
    return sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def result_key(base: Mapping[str, Any], tuned: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """Name of a result: both identities (`pinned_ref`, `commit`) and what was asked of them."""
    sides = {"base": base, "tuned": tuned}
    return content_key({**{side: [i["pinned_ref"], i["commit"]] for side, i in sides.items()}, **asked})


def record_keys(manifest: Mapping[str, Any]) -> set[str]:
    """All record keys a manifest refers to."""
    return {key for tensor in manifest.get("tensors", []) for key in tensor["records"].values()}


def head_of(manifest: Mapping[str, Any], digest: str | None, made: float) -> dict[str, Any]:
    """A manifest in brief; `of` is the digest of the manifest it was made from."""
    asked = manifest.get("asked", {})
    probes: set[str] = {name.split(".")[0] for tensor in manifest["tensors"] for name in tensor["records"]}
    return {
        "of": digest,
        "made": made,
        "base": manifest.get("base", {}),
        "tuned": manifest.get("tuned", {}),
        "complete": manifest["complete"],
        "n_tensors": len(manifest["tensors"]),
        "probes": sorted(asked.get("probes", probes)),
        "tensors": asked.get("tensors", "*"),
        "nbytes": sum(nbytes for _, nbytes in manifest.get("hashes", {}).values()),
    }


def read_sealed(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where it is absent, damaged, or was edited."""
    content = _content(path)
    return None if content is None else opened_json(content)


def read_manifest(path: Path) -> dict[str, Any] | None:
    """The manifest in a file; one of rlviz 0.1, which carries no hash, is looked at field by field instead."""
    content = _content(path)
    found = None if content is None else opened_json(content)
    if content is None or found is None or found.get("schema", 1) not in (1, SCHEMA):
        return None
    if digest_of_json(content) is not None:
        return found
    return found if found.get("schema") == 1 and manifest_problem(found) is None else None


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
