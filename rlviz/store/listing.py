"""What a store holds, in brief: one small head per result, so that a list of hundreds parses no manifest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlviz.store.documents import head_of, read_sealed
from rlviz.store.folder import Folder
from rlviz.store.seal import digest_of_json
from rlviz.types import ModelIdentity


@dataclass(frozen=True, slots=True)
class Kept:
    """One result that a store holds.

    Attributes
    ----------
    probes : names of the probes that were asked for
    tensors : the glob over tensor names that was asked for
    made : when it was written, UTC
    nbytes : of its records, shared ones included
    here : whether it is in the local folder; False for one that only the shared location has
    summary : `PairResult.summary()` at default parameters; None while unfinished
    """

    key: str
    base: ModelIdentity
    tuned: ModelIdentity
    complete: bool
    n_tensors: int
    probes: tuple[str, ...]
    tensors: str
    made: datetime
    nbytes: int
    pinned: bool
    here: bool
    summary: Mapping[str, Any] | None


def kept_here(folder: Folder) -> tuple[Kept, ...]:
    """Every result in a folder, newest first."""
    heads = ((key, _head(folder, key)) for key in folder.result_keys())
    found = (
        kept(key, {**head, "summary": Folder.read_json(folder, key, "summary")}, folder.pinned(key), here=True)
        for key, head in heads
        if head is not None
    )
    return tuple(sorted((k for k in found if k is not None), key=lambda k: k.made, reverse=True))


def kept(key: str, head: Mapping[str, Any], pinned: bool, here: bool) -> Kept | None:
    """An entry from a head; None where the head is not one."""
    try:
        return Kept(
            key=key,
            base=ModelIdentity.kept(head["base"]),
            tuned=ModelIdentity.kept(head["tuned"]),
            complete=bool(head["complete"]),
            n_tensors=int(head["n_tensors"]),
            probes=tuple(head["probes"]),
            tensors=str(head["tensors"]),
            made=datetime.fromtimestamp(head["made"], UTC),
            nbytes=int(head["nbytes"]),
            pinned=pinned,
            here=here,
            summary=head.get("summary"),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        return None


def _head(folder: Folder, key: str) -> dict[str, Any] | None:
    """The head that belongs to the manifest as it is now, or one made from that manifest."""
    path = folder.result_path(key) / "manifest.json"
    digest = _last_digest(path)
    head = read_sealed(path.with_name("head.json"))
    if head is not None and digest is not None and head.get("of") == digest:
        return head
    manifest = Folder.read_json(folder, key, "manifest")
    if manifest is None:
        return None
    try:
        return head_of(manifest, digest, path.stat().st_mtime)
    except (FileNotFoundError, KeyError):  # evicted meanwhile; not a whole manifest
        return None


def _last_digest(path: Path) -> str | None:
    """The digest at the end of a document, without reading the document."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 128))
            return digest_of_json(file.read())
    except FileNotFoundError:
        return None
