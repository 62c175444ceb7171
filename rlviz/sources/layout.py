"""Which files of a folder make up the checkpoint, and which shard owns which tensor."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from rlviz.errors import NotFound, UnsupportedCheckpoint
from rlviz.sources.header import HeaderEntry
from rlviz.sources.json_types import is_table

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_ADAPTER_FILES = frozenset({"adapter_config.json", "adapter_model.safetensors"})
_OTHER_FORMATS = (
    (("*.bin", "*.pt", "*.pth", "*.ckpt"), "PyTorch pickle files"),
    (("*.gguf",), "GGUF files"),
    (("*.h5", "*.msgpack"), "TensorFlow or Flax files"),
)
_DOWNLOAD = "Download or save the checkpoint again."


def shards_of(path: Path, label: str) -> tuple[Path, tuple[str, ...], dict[str, str] | None]:
    """Folder, shard names and the index (tensor to shard; None where there is no index) of a path.

    As in transformers, a plain model.safetensors wins over an index; without either, every safetensors file of
    the folder counts.
    """
    if path.is_file():
        if path.suffix != ".safetensors":
            raise UnsupportedCheckpoint(label, "is not a .safetensors file", "Name the folder or a .safetensors file.")
        return path.parent, (path.name,), None
    if not path.is_dir():
        raise NotFound(label, "there is no such folder or file", "Check the path.")
    names = {entry.name for entry in path.iterdir() if entry.is_file()}
    if SINGLE in names:
        return path, (SINGLE,), None
    if INDEX in names:
        weight_map = parse_index((path / INDEX).read_bytes(), INDEX)
        shards = tuple(sorted(set(weight_map.values())))
        missing = [shard for shard in shards if shard not in names]
        if missing:
            raise UnsupportedCheckpoint(label, f"{INDEX} names {missing[0]}, which is not there", _DOWNLOAD)
        return path, shards, weight_map
    others = tuple(sorted(n for n in names if n.endswith(".safetensors") and n not in _ADAPTER_FILES))
    if not others:
        _no_weights(path, names, label)
    return path, others, None


def parse_index(raw: bytes, file: str) -> dict[str, str]:
    """Tensor name to shard file name; a shard is a plain name, never a path that could leave the folder.

    Examples
    --------
    >>> parse_index(b'{"weight_map": {"a": "model-00001-of-00002.safetensors"}}', "index.json")
    {'a': 'model-00001-of-00002.safetensors'}
    """
    try:
        index = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise UnsupportedCheckpoint(file, "is not valid JSON", _DOWNLOAD) from error
    weight_map = index.get("weight_map") if is_table(index) else None
    if not is_table(weight_map) or not weight_map:
        raise UnsupportedCheckpoint(file, "has no weight_map", _DOWNLOAD)
    for name, shard in weight_map.items():
        plain = isinstance(shard, str) and shard.endswith(".safetensors") and not set(shard) & set("/\\\0")
        if not plain:
            raise UnsupportedCheckpoint(
                file, f"maps {ascii(name)[:80]} to {ascii(shard)[:80]}, which is not a file beside it", _DOWNLOAD
            )
    return weight_map


def tensors_by_shard(
    entries: Mapping[str, Mapping[str, HeaderEntry]], weight_map: Mapping[str, str] | None, label: str
) -> dict[str, dict[str, HeaderEntry]]:
    """The tensors each shard contributes, once per name.

    The index decides where a name occurs in two shards; without a word of it, that is an error. A tensor that no
    index mentions still counts: it is in the file.
    """
    index = weight_map or {}
    for name, shard in index.items():
        if name not in entries[shard]:
            raise UnsupportedCheckpoint(label, f"{shard} lacks {name}, which its index puts there", _DOWNLOAD)
    owner: dict[str, str] = dict(index)
    for shard, part in entries.items():
        for name in part:
            first = owner.setdefault(name, shard)
            if first != shard and name not in index:
                raise UnsupportedCheckpoint(
                    label, f"{name} is in {first} and in {shard}", "Name the one file that you mean."
                )
    return {shard: {n: e for n, e in part.items() if owner[n] == shard} for shard, part in entries.items()}


def refuse_other_formats(names: Sequence[str], label: str) -> None:
    """Explain what a list of files without safetensors weights is, where that can be told."""
    if _ADAPTER_FILES & set(names):
        raise UnsupportedCheckpoint(
            label, "is an adapter, not a whole checkpoint", "Merge it into its base (merge_and_unload) and save that."
        )
    for patterns, what in _OTHER_FORMATS:
        if any(Path(name).match(pattern) for name in names for pattern in patterns):
            step = "Load it with transformers and save it with save_pretrained, which writes safetensors."
            raise UnsupportedCheckpoint(label, f"holds {what} only", step)


def _no_weights(folder: Path, names: set[str], label: str) -> NoReturn:
    refuse_other_formats(sorted(names), label)
    inner = sorted(path.parent.name for path in folder.glob("*/*.safetensors"))
    step = (
        f"Its subfolder does: write {label.rstrip('/')}/{inner[-1]}." if inner else "Name the folder of a checkpoint."
    )
    raise NotFound(label, "holds no .safetensors file", step)
