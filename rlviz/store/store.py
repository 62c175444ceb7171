"""The store: one folder that any tool can read.

::

    records/<ab>/<key>.safetensors   one probe's record of one tensor; its header says which
    results/<key>/manifest.json      a pair: identities, tensors, and the record keys of each
    results/<key>/provenance.json    times, bytes and versions, apart, so that records stay byte-identical
    results/<key>/tensors.parquet    the metric table at default parameters
    locks/<key>                      held while a run computes that pair

Every file appears whole or not at all: it is written beside its place and renamed into it. Nothing is flushed to
the disk by force: after a power cut a torn file fails validation, counts as absent, and is computed again.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

from rlviz.errors import InvalidInput
from rlviz.store.fields import read_record, record_bytes
from rlviz.types import Record


def default_root() -> Path:
    """`RLVIZ_STORE`, or ``rlviz`` in the user's cache folder."""
    if root := os.environ.get("RLVIZ_STORE"):
        return Path(root).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "rlviz"


def content_key(content: Mapping[str, Any]) -> str:
    """Hex sha256 of canonical JSON: the name under which a record or result is kept."""
    return sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


class Store:
    """Records and results below one folder. Safe to use from several threads and processes."""

    def __init__(self, root: Path | str | None = None) -> None:
        self.root = Path(root).expanduser() if root is not None else default_root()
        if self.root.exists() and not self.root.is_dir():
            raise InvalidInput(str(self.root), "is a file, and a store is a folder", "Give --store another path.")

    # Records

    def record_path(self, key: str) -> Path:
        return self.root / "records" / key[:2] / f"{key}.safetensors"

    def has(self, key: str) -> bool:
        """Whether that record has landed whole: a damaged one is absent, and is computed again."""
        return self.get(key) is not None

    def get(self, key: str) -> Record | None:
        """The record, its fields read when asked for; None where absent or damaged."""
        return read_record(self.record_path(key))

    def put(self, key: str, record: Record) -> None:
        """Land one record, atomically. Writing the same key twice is harmless: the bytes are the same."""
        self._replace(self.record_path(key), record_bytes(record))

    # Results

    def result_path(self, key: str) -> Path:
        return self.root / "results" / key

    def write_json(self, key: str, name: str, content: Any) -> None:
        """One JSON file of a result: ``manifest`` or ``provenance``."""
        text = json.dumps(content, sort_keys=True)
        self._replace(self.result_path(key) / f"{name}.json", text.encode())

    def read_json(self, key: str, name: str) -> dict[str, Any] | None:
        """That file's content; None where it is absent or is not JSON."""
        try:
            return json.loads((self.result_path(key) / f"{name}.json").read_bytes())
        except (FileNotFoundError, ValueError):
            return None

    def write_table(self, key: str, write: Callable[[Path], None]) -> None:
        """Let `write` fill the Parquet file of a result, then move it into place."""
        target = self.result_path(key) / "tensors.parquet"
        temporary = self._temporary(target)
        write(temporary)
        temporary.replace(target)

    def results(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Keys and manifests of all results, newest first."""
        folders = [p for p in (self.root / "results").glob("*") if p.is_dir()]
        for folder in sorted(folders, key=lambda p: p.stat().st_mtime, reverse=True):
            if manifest := self.read_json(folder.name, "manifest"):
                yield folder.name, manifest

    def find(self, prefix: str) -> list[str]:
        """Result keys that begin with `prefix`."""
        return [key for key, _ in self.results() if key.startswith(prefix)]

    def remove(self, key: str) -> int:
        """Delete a result and the records no other result uses; returns the number of records deleted."""
        manifest = self.read_json(key, "manifest") or {}
        kept = {k for other, m in self.results() if other != key for k in record_keys(m)}
        orphans = record_keys(manifest) - kept
        shutil.rmtree(self.result_path(key), ignore_errors=True)
        for orphan in orphans:
            self.record_path(orphan).unlink(missing_ok=True)
        return len(orphans)

    @contextmanager
    def lock(self, key: str, waiting: Callable[[], None], poll_s: float = 0.25) -> Generator[None]:
        """Hold the pair's lock; calls `waiting` on each poll while another process holds it."""
        path = self.root / "locks" / key
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            problem = f"the store cannot be written here ({error.strerror})"
            raise InvalidInput(str(self.root), problem, "Set RLVIZ_STORE or --store to a folder of yours.") from error
        with path.open("w") as handle:
            while True:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    waiting()
                    time.sleep(poll_s)
            yield

    def _temporary(self, target: Path) -> Path:
        if not target.parent.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
        return target.with_name(f".{target.name}.{os.getpid()}.{uuid4().hex[:8]}.tmp")

    def _replace(self, target: Path, content: bytes) -> None:
        temporary = self._temporary(target)
        try:
            temporary.write_bytes(content)
            temporary.replace(target)
        except BaseException:
            with suppress(FileNotFoundError):
                temporary.unlink()
            raise


def record_keys(manifest: Mapping[str, Any]) -> set[str]:
    """All record keys a manifest refers to."""
    return {key for tensor in manifest.get("tensors", []) for key in tensor["records"].values()}
