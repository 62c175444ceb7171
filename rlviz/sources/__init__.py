"""Where checkpoints come from: references, header index, pairing, tensor naming."""

from __future__ import annotations

from threading import Event
from typing import Literal

from rlviz.errors import InvalidInput
from rlviz.sources.checkpoint import Checkpoint
from rlviz.sources.pairing import Pairing, pair
from rlviz.sources.refs import ModelRef

__all__ = ["Checkpoint", "ModelRef", "Pairing", "pair", "resolve"]


def resolve(
    ref: str | ModelRef,
    *,
    allow_local: bool = True,
    token: str | Literal[False] | None = None,
    endpoint: str | None = None,
    cancel: Event | None = None,
) -> Checkpoint:
    """Open a checkpoint: names become commits, headers become an index, no weight is read.

    Parameters
    ----------
    ref : str or ModelRef
        What `ModelRef.parse` accepts.
    allow_local : bool
        False on a host, where visitors must not read the host's disk.
    token, endpoint : str, optional
        For the hub; by default from the environment. ``token=False`` is anonymous whatever the environment holds.
    cancel : threading.Event, optional
        Stops reads over the network while they wait.
    """
    ref = ModelRef.parse(ref) if isinstance(ref, str) else ref
    if ref.kind == "hub":
        from rlviz.sources.hub import open_hub

        return open_hub(ref, token=token, endpoint=endpoint, cancel=cancel)
    if ref.kind == "demo":
        from rlviz.sources.demo import open_demo

        return open_demo(ref)
    if not allow_local:
        raise InvalidInput(str(ref), "is a path, and this server opens no local files", "Write org/name or demo:rl.")
    from rlviz.sources.local import open_local

    return open_local(ref)
