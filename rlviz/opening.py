"""From what someone typed to an open checkpoint, on behalf of a visitor."""

from __future__ import annotations

from pathlib import Path
from threading import Event

from rlviz.access import Visitor, hosted, token_for
from rlviz.sources import Checkpoint, ModelRef, resolve
from rlviz.types import ModelIdentity

Model = str | Path | ModelRef


def reference(model: Model) -> ModelRef:
    """The reference behind any accepted form; a `Path` is a folder, never a hub id."""
    if isinstance(model, Path):
        model = str(model) if model.is_absolute() else f"./{model}"
    return model if isinstance(model, ModelRef) else ModelRef.parse(model, look_here=not hosted())


def opened(model: Model, visitor: Visitor, cancel: Event | None = None) -> Checkpoint:
    """The checkpoint, its headers read; no local path on a host."""
    ref = reference(model)
    token = token_for(ref.repo_id, visitor) if ref.kind == "hub" else None
    return resolve(ref, allow_local=not hosted(), token=token, cancel=cancel)


def identity(model: Model, visitor: Visitor) -> ModelIdentity:
    """Which checkpoint that is: without network where the reference is pinned, one small request otherwise."""
    ref = reference(model)
    if ref.kind == "hub":
        from rlviz.sources.hub import OPENING, peek

        token = token_for(ref.repo_id, visitor)
        commit = (ref.revision or "") if ref.is_pinned else peek(ref, token=token, patience=OPENING).commit
        return ModelIdentity(str(ref), str(ref.pinned(commit)), commit, 0, True)
    with opened(ref, visitor) as checkpoint:
        return checkpoint.identity
