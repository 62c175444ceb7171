"""The folder that every store works in; a shared location, where there is one, stands behind it (`rlviz.store.store`).

::

    records/<ab>/<key>.safetensors   one probe's record of one tensor; its header says which, and carries its hash
    results/<key>/manifest.json      a pair: identities, what was asked, tensors, and record keys with their hashes
    results/<key>/head.json          the manifest in brief, for lists
    results/<key>/provenance.json    times, bytes and versions, apart, so that records stay byte-identical
    results/<key>/summary.json       pooled numbers, for lists
    results/<key>/tensors.parquet    the metric table at default parameters, its hash in tensors.parquet.sha256
    results/<key>/preview.json       a preview; without a manifest it is one of no result
    results/<key>/used, pinned       empty: last use (its time), and "do not evict"
    links/<id>.json                  short links
    locks/<key>                      held while a run computes that pair

Every file appears whole or not at all: it is written beside its place and renamed into it. Nothing is flushed to
the disk by force: after a power cut a torn file fails its hash, counts as absent, and is computed again.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from rlviz.errors import InvalidInput
from rlviz.store.atomic import temporary_beside, write_whole
from rlviz.store.documents import SCHEMA, head_of, read_manifest, read_sealed, record_keys
from rlviz.store.fields import read_record, record_bytes
from rlviz.store.seal import digest_of_json, seal_of_file, sealed_json
from rlviz.types import Record

_KEY = re.compile(r"[0-9A-Za-z_-]{1,128}")
_USED_EVERY_S = 60  # a page that is polled does not write the time of its last use at every poll


class Folder:
    """Records, results and links below one folder. Safe to use from several threads and processes."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser()
        if self.root.exists() and not self.root.is_dir():
            raise InvalidInput(str(self.root), "is a file, and a store is a folder", "Give --store another path.")

    # Records

    def record_path(self, key: str) -> Path:
        return self.root / "records" / _checked(key)[:2] / f"{key}.safetensors"

    def has(self, key: str, expected: str | None = None) -> bool:
        """Whether that record has landed whole: a damaged one is absent, and is computed again."""
        return self.get(key, expected) is not None

    def get(self, key: str, expected: str | None = None) -> Record | None:
        """The record, its fields read when asked for; None where absent or damaged.

        `expected` is the digest that a manifest gives, for records of rlviz 0.1, which carry none themselves.
        """
        path = self.record_path(key)
        seal = seal_of_file(path)
        return read_record(path, key) if seal is not None and seal.holds(expected) else None

    def put(self, key: str, record: Record) -> None:
        """Land one record, atomically. Writing the same key twice is harmless: the bytes are the same."""
        write_whole(self.record_path(key), record_bytes(record, key))

    # Documents of a result

    def result_path(self, key: str) -> Path:
        return self.root / "results" / _checked(key)

    def write_json(self, key: str, name: str, content: Mapping[str, Any]) -> None:
        """One JSON document of a result, with its hash: ``provenance``, ``summary``, ``preview``."""
        write_whole(self.result_path(key) / f"{name}.json", sealed_json(content))

    def read_json(self, key: str, name: str) -> dict[str, Any] | None:
        """That document; None where it is absent, damaged, or was edited, and for what is no key at all."""
        if not _KEY.fullmatch(key):
            return None
        return _DOCUMENTS.get(name, read_sealed)(self.result_path(key) / f"{name}.json")

    def write_manifest(self, key: str, manifest: Mapping[str, Any]) -> None:
        """A result's manifest with the size and hash of each record that has landed; then its head, for lists."""
        seals = {k: seal_of_file(self.record_path(k)) for k in sorted(record_keys(manifest))}
        hashes = {k: [seal.digest, seal.nbytes] for k, seal in seals.items() if seal is not None}
        content = sealed_json({**manifest, "schema": SCHEMA, "hashes": hashes})
        write_whole(self.result_path(key) / "manifest.json", content)
        self.write_json(key, "head", head_of({**manifest, "hashes": hashes}, digest_of_json(content), time.time()))

    def write_table(self, key: str, write: Callable[[Path], None]) -> None:
        """Let `write` fill the Parquet file of a result, then move it and its hash into place."""
        target = self.result_path(key) / "tensors.parquet"
        with temporary_beside(target) as temporary:
            write(temporary)
            digest = sha256(temporary.read_bytes()).hexdigest()
        write_whole(table_hash_path(target), f"{digest}  {target.name}\n".encode())

    def table(self, key: str) -> Path | None:
        """The Parquet file of a result; None where it is absent or damaged."""
        target = self.result_path(key) / "tensors.parquet"
        seal = seal_of_file(target)
        try:
            claimed = table_hash_path(target).read_text(encoding="ascii", errors="replace")[:64]
        except FileNotFoundError:
            return None
        return target if seal is not None and seal.digest == claimed else None

    def results(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Keys and manifests of all results here, newest first."""
        for key in self.result_keys():
            if manifest := Folder.read_json(self, key, "manifest"):
                yield key, manifest

    def previews(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Keys and documents of all previews here, newest first."""
        for key in self.result_keys():
            if preview := Folder.read_json(self, key, "preview"):
                yield key, preview

    def result_keys(self) -> list[str]:
        """Keys of everything kept here, results and previews, finished or not; newest first."""
        folders = [p for p in (self.root / "results").glob("*") if p.is_dir() and _KEY.fullmatch(p.name)]
        # One that another process evicts meanwhile has no time left to sort by.
        return [p.name for p in sorted(folders, key=lambda p: _changed(p) or 0.0, reverse=True)]

    def find(self, prefix: str) -> list[str]:
        """Keys of results here that begin with `prefix`, newest first."""
        keys = [key for key in self.result_keys() if key.startswith(prefix)]
        return [key for key in keys if Folder.read_json(self, key, "manifest")]

    def remove(self, key: str) -> int:
        """Delete a result and the records no other result uses; returns the number of records deleted."""
        manifest = Folder.read_json(self, key, "manifest") or {}
        kept = {k for other, m in self.results() if other != key for k in record_keys(m)}
        orphans = record_keys(manifest) - kept
        self.discard(key, orphans)
        return len(orphans)

    def discard(self, key: str, records: Iterable[str]) -> int:
        """Delete a result and the records named; returns the bytes that are free now."""
        paths = [self.record_path(record) for record in records]
        doomed = [*paths, *(path for path, _, _ in files_below(self.result_path(key)))]
        freed = sum(_size(path) for path in doomed)
        # Its manifest goes first: what a reader then finds is no result, never half of one.
        (self.result_path(key) / "manifest.json").unlink(missing_ok=True)
        shutil.rmtree(self.result_path(key), ignore_errors=True)
        for path in paths:
            path.unlink(missing_ok=True)
        return freed

    # Marks

    def touch(self, key: str) -> None:
        """Note that a result was used now: what was used longest ago is evicted first."""
        mark = self.result_path(key) / "used"
        if time.time() - (_changed(mark) or 0.0) > _USED_EVERY_S:
            with suppress(OSError):  # a store that is only read, or evicted meanwhile: then nobody needs the time
                mark.touch()

    def used(self, key: str) -> float:
        """When a result was last used, in seconds since 1970; where no use was noted, when it last changed."""
        folder = self.result_path(key)
        return _changed(folder / "used") or _changed(folder) or 0.0

    def pin(self, key: str) -> None:
        """Keep a result whatever the size cap says."""
        write_whole(self.result_path(key) / "pinned", b"")

    def unpin(self, key: str) -> None:
        """Let a result be evicted again."""
        (self.result_path(key) / "pinned").unlink(missing_ok=True)

    def pinned(self, key: str) -> bool:
        return (self.result_path(key) / "pinned").exists()

    # Links

    def write_link(self, link_id: str, document: Mapping[str, Any]) -> None:
        """Keep what a short link stands for; never evicted."""
        write_whole(self.link_path(link_id), sealed_json(document))

    def read_link(self, link_id: str) -> dict[str, Any] | None:
        """What a short link stands for; None where there is none of that name."""
        return read_sealed(self.link_path(link_id)) if _KEY.fullmatch(link_id) else None

    def link_path(self, link_id: str) -> Path:
        return self.root / "links" / f"{_checked(link_id)}.json"

    # Locks

    @contextmanager
    def lock(self, key: str, waiting: Callable[[], None], poll_s: float = 0.25) -> Generator[None]:
        """Hold the pair's lock; calls `waiting` on each poll while another process holds it."""
        path = self.root / "locks" / _checked(key)
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

    @contextmanager
    def alone(self, key: str) -> Generator[bool]:
        """The pair's lock if it is free; False, and nothing held, while anybody has it."""
        path = self.root / "locks" / _checked(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True


_DOCUMENTS: Mapping[str, Callable[[Path], dict[str, Any] | None]] = {"manifest": read_manifest}


def files_below(root: Path) -> Iterator[tuple[Path, int, float]]:
    """Path, bytes and time of change of every file below a folder; what vanishes meanwhile is left out."""
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue
            yield path, stat.st_size, stat.st_mtime


def table_hash_path(table: Path) -> Path:
    """Where the hash of a table is kept, in the format of ``sha256sum``."""
    return table.with_name(f"{table.name}.sha256")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _changed(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return None


def _checked(key: str) -> str:
    """The key, once it is seen that it names nothing but a file of ours."""
    if not _KEY.fullmatch(key):
        raise InvalidInput(key[:80] or "''", "is not a key", "`python -m rlviz store list` shows the keys there are.")
    return key
