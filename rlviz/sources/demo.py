"""The shipped checkpoints: the demo that opens offline, the same on every machine.

Their identity is their content (the recorded SHA-256), so that a link to a demo works on another host.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from rlviz.errors import NotFound, UnsupportedCheckpoint
from rlviz.sources.checkpoint import Checkpoint
from rlviz.sources.local import LocalReader, fingerprint, read_config, read_shards
from rlviz.sources.refs import DEMO_NAMES, ModelRef
from rlviz.types import ModelIdentity

DEMO_FOLDER = Path(__file__).parent.parent / "data" / "demo"


@dataclass(frozen=True, slots=True)
class Demo:
    """One shipped checkpoint: what it is, what it was tuned from, and the digests that identify it."""

    name: str
    title: str
    base: str | None
    size: int
    sha256: str
    header_sha256: str

    @property
    def ref(self) -> ModelRef:
        return ModelRef("demo", self.name)

    @property
    def commit(self) -> str:
        """Forty hex digits that depend on the content alone."""
        return fingerprint({"model.safetensors": self.shard_id})

    @property
    def shard_id(self) -> str:
        return f"sha256:{self.sha256}"


def demos() -> tuple[Demo, ...]:
    """All shipped checkpoints, the base first."""
    table = json.loads((DEMO_FOLDER / "manifest.json").read_text(encoding="utf-8"))
    return tuple(Demo(name=name, **table[name]) for name in DEMO_NAMES)


def open_demo(ref: ModelRef) -> Checkpoint:
    """Open a shipped checkpoint; a pinned reference must name the version that is shipped.

    Raises
    ------
    NotFound
        If the reference is pinned to another version of the demo.
    UnsupportedCheckpoint
        If the file is not the one that was shipped.
    """
    demo = next(demo for demo in demos() if demo.name == ref.location)
    if ref.revision and not demo.commit.startswith(ref.revision):
        raise NotFound(str(ref), "this rlviz ships another version of the demo", f"Write {demo.ref}.")
    folder = DEMO_FOLDER / demo.name
    files, tensors = read_shards(folder / "model.safetensors", str(ref))
    (shard, file), *_ = files.items()
    if (file.size, file.header_sha256) != (demo.size, demo.header_sha256):
        raise UnsupportedCheckpoint(str(ref), "its file is not the one that was shipped", "Install rlviz again.")
    pinned = str(demo.ref.pinned(demo.commit))
    nbytes = sum(meta.nbytes for meta in tensors.values())
    identity = ModelIdentity(str(ref), pinned, demo.commit, nbytes, shareable=True)
    card = {"base_model": f"demo:{demo.base}"} if demo.base else {}
    return Checkpoint(identity, tensors, {shard: demo.shard_id}, LocalReader(files), read_config(folder), card)
