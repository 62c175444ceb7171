"""Checkpoints in local files: a Hugging Face folder, sharded or not, or one safetensors file.

Bytes are read by `preadv` straight into the caller's buffer, not through a memory map: mapped pages count as
resident memory.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, NoReturn

from rlviz.errors import NotFound, UnsupportedCheckpoint
from rlviz.sources.card import read_card
from rlviz.sources.checkpoint import Checkpoint
from rlviz.sources.header import HeaderEntry, parse_header, read_header_length, tensor_metas
from rlviz.sources.json_types import is_table
from rlviz.sources.layout import shards_of, tensors_by_shard
from rlviz.sources.refs import ModelRef
from rlviz.types import ModelIdentity, TensorMeta

MAX_JSON_BYTES = 256 << 20  # an index of a million tensors has about 100 MB


@dataclass(frozen=True, slots=True)
class ShardFile:
    """One file as it was when its header was read; `stamp` tells whether it is still the same file."""

    path: Path
    size: int
    mtime_ns: int
    inode: int
    header_sha256: str

    @property
    def identity(self) -> str:
        """What identifies the content without reading a weight."""
        return f"{self.path}:{self.size}:{self.mtime_ns}:{self.inode}:{self.header_sha256}"


class _Descriptor:
    """An open file that closes with its last user, so that `close` cannot pull it from under a reader."""

    def __init__(self, path: Path) -> None:
        self.fd = -1
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)


class LocalReader:
    """Reads byte ranges of shard files; files are opened at their first read. Thread-safe, picklable."""

    def __init__(self, files: Mapping[str, ShardFile]) -> None:
        self._files = dict(files)
        self._open: dict[str, _Descriptor] = {}
        self._lock = Lock()

    def __reduce__(self) -> tuple[type[LocalReader], tuple[dict[str, ShardFile]]]:
        return LocalReader, (self._files,)

    def read_into(self, shard: str, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from byte `offset`; a file that shrank or changed since it was opened is an error."""
        file = self._descriptor(shard)
        view = buffer.cast("B")
        while view:
            try:
                got = os.preadv(file.fd, [view], offset)
            except OSError as error:
                raise UnsupportedCheckpoint(
                    shard, f"cannot be read ({error.strerror})", "Check the disk and the file."
                ) from error
            if got == 0:
                self._truncated(shard, offset)
            view, offset = view[got:], offset + got

    def read_ranges(self, shard: str, ranges: Sequence[tuple[int, memoryview]]) -> None:
        """Fill each buffer from its byte offset, in file order."""
        for offset, buffer in sorted(ranges, key=lambda entry: entry[0]):
            self.read_into(shard, offset, buffer)

    def close(self) -> None:
        """Close every file as soon as no read is under way; a later read opens it again."""
        with self._lock:
            self._open.clear()

    def _descriptor(self, shard: str) -> _Descriptor:
        with self._lock:
            if shard not in self._open:
                self._open[shard] = self._opened(shard)
            return self._open[shard]

    def _opened(self, shard: str) -> _Descriptor:
        known = self._files[shard]
        file = _open(known.path)
        now = os.fstat(file.fd)
        if now.st_size < known.size:
            self._truncated(shard, now.st_size)
        if (now.st_size, now.st_mtime_ns, now.st_ino) != (known.size, known.mtime_ns, known.inode):
            raise UnsupportedCheckpoint(shard, "changed while it was being compared", "Compare again.")
        return file

    def _truncated(self, shard: str, size: int) -> NoReturn:
        problem = f"is truncated: it ends at byte {size} and had {self._files[shard].size} bytes when it was opened"
        raise UnsupportedCheckpoint(shard, problem, "Wait until it is written, or save it again.")


def open_local(ref: ModelRef) -> Checkpoint:
    """Open a local checkpoint: headers, config and card are read, no weight is.

    Raises
    ------
    NotFound
        If there is no such path, or no safetensors file in it.
    UnsupportedCheckpoint
        If the files are hostile, incomplete or of another format.
    """
    files, tensors = read_shards(ref.path, str(ref))
    folder = ref.path if ref.path.is_dir() else ref.path.parent
    shard_ids = {shard: file.identity for shard, file in files.items()}
    nbytes = sum(meta.nbytes for meta in tensors.values())
    # absolute, so that a stored result opens from any working directory
    pinned = str(ModelRef("local", str(ref.path.absolute())))
    identity = ModelIdentity(str(ref), pinned, fingerprint(shard_ids), nbytes, shareable=False)
    config = read_config(folder)
    return Checkpoint(identity, tensors, shard_ids, LocalReader(files), config, read_card(folder / "README.md"))


def read_shards(path: Path, label: str) -> tuple[dict[str, ShardFile], dict[str, TensorMeta]]:
    """Files and tensors of a folder or file, by shard name and tensor name; `label` is for errors."""
    try:
        folder, shards, weight_map = shards_of(path, label)
        files: dict[str, ShardFile] = {}
        entries: dict[str, dict[str, HeaderEntry]] = {}
        for shard in shards:
            files[shard], entries[shard] = read_header(folder / shard, shard)
    except PermissionError as error:
        raise NotFound(label, f"{error.filename} may not be read", "Ask for read permission.") from error
    except OSError as error:
        raise UnsupportedCheckpoint(label, f"cannot be read ({error.strerror})", "Check the disk.") from error
    owned = tensors_by_shard(entries, weight_map, label)
    tensors: dict[str, TensorMeta] = {}
    for shard, part in owned.items():
        tensors |= tensor_metas(part, shard)
    if not tensors:
        raise UnsupportedCheckpoint(label, "holds no tensor", "Save the model again.")
    return files, tensors


def read_header(path: Path, shard: str) -> tuple[ShardFile, dict[str, HeaderEntry]]:
    """State and tensors of one file."""
    file = _open(path)
    state = os.fstat(file.fd)
    first8 = os.pread(file.fd, 8, 0)
    length = read_header_length(first8, state.st_size, shard)
    raw = os.pread(file.fd, length, 8)
    entries = parse_header(raw, state.st_size, shard)
    digest = hashlib.sha256(first8 + raw).hexdigest()
    return ShardFile(path.resolve(), state.st_size, state.st_mtime_ns, state.st_ino, digest), entries


def fingerprint(shard_ids: Mapping[str, str]) -> str:
    """Forty hex digits over what identifies each shard: the local stand-in for a commit."""
    text = "\n".join(f"{shard}={shard_ids[shard]}" for shard in sorted(shard_ids))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:40]


def read_config(folder: Path) -> dict[str, Any]:
    """config.json as a dict, empty where there is none."""
    path = folder / "config.json"
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            raise UnsupportedCheckpoint(str(path), "is far too large for a configuration", "Save the model again.")
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError, OSError) as error:
        raise UnsupportedCheckpoint(str(path), "is not a readable JSON file", "Save the model again.") from error
    if not is_table(config):
        raise UnsupportedCheckpoint(str(path), "is not a JSON table", "Save the model again.")
    return config


def _open(path: Path) -> _Descriptor:
    try:
        return _Descriptor(path)
    except FileNotFoundError as error:
        raise NotFound(str(path), "there is no such file any more", "Compare again.") from error
