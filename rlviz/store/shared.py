"""Results at a location that several hosts share: one archive per result, and a small head written after it.

::

    results/<key>-<hash>.rlviz.zip   what `store export` writes; its name carries its hash, so it is never overwritten
    results/<key>.json               the head: what a list shows, and the archive's name, sha256 and bytes
    previews/<key>.json              a finished preview
    links/<id>.json                  a short link

One archive rather than thousands of records: a 70 B pair has some 2 000 of them, and a bucket takes about a tenth of
a second for each request (a Hugging Face bucket one commit), whatever its size. The price is that a base's records
are kept once per result there.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import Any

from rlviz.errors import RlvizError
from rlviz.store.archive import export_result
from rlviz.store.atomic import workspace, write_whole
from rlviz.store.folder import Folder
from rlviz.store.intake import import_result
from rlviz.store.location import Location
from rlviz.store.seal import opened_json, sealed_json

log = logging.getLogger(__name__)

ASK_AGAIN_S = 15.0  # how long an answer "not there", or none at all, is taken to hold
_LISTED_S = 60.0
_CONNECTIONS = 16
_HEAD = re.compile(r"[0-9a-f]{64}\.json")
_SHARED_MARK = "shared"  # in a result's folder: the head's `of` for which it is known to be at the location


class Shared:
    """What a folder has in common with other hosts. Every method raises `Offline` where the location fails."""

    def __init__(self, folder: Folder, location: Location) -> None:
        self._folder, self._location = folder, location
        self._lock = Lock()
        self._absent: dict[str, float] = {}  # object name -> when it may be asked for again
        self._heads: dict[str, dict[str, Any]] = {}
        self._listed_at = float("-inf")

    def publish(self, key: str) -> None:
        """Put a finished result (or a preview, where there is no result) there: data first, head last."""
        folder = self._folder
        head = folder.read_json(key, "head")
        if head is not None and head.get("complete"):
            if not _shareable(head):
                return
            if _mark(folder, key).is_file() and _mark(folder, key).read_text() == head["of"]:
                return
            with workspace(folder.root / "outgoing") as outgoing:
                archive = outgoing / "result.rlviz.zip"
                export_result(folder, key, archive)
                self._put(key, head, archive)
            write_whole(_mark(folder, key), str(head["of"]).encode())
        elif (preview := folder.read_json(key, "preview")) and _shareable(preview):
            self._location.write(f"previews/{key}.json", sealed_json(preview))

    def _put(self, key: str, head: Mapping[str, Any], archive: Path) -> None:
        digest = _hash_of_file(archive)
        name = f"{key}-{digest[:16]}.rlviz.zip"
        before = opened_json(self._location.read(f"results/{key}.json") or b"") or {}
        self._location.upload(archive, f"results/{name}")
        summary = self._folder.read_json(key, "summary")
        about = {
            **head,
            "summary": summary,
            "archive": name,
            "sha256_archive": digest,
            "bytes_archive": archive.stat().st_size,
        }
        self._location.write(f"results/{key}.json", sealed_json(about))
        replaced = before.get("archive")
        if isinstance(replaced, str) and replaced != name and "/" not in replaced:
            self._location.delete(f"results/{replaced}")

    def fetch(self, key: str) -> bool:
        """Bring a result here, checked as any import is; False where the location has no sound one of that key."""
        name = f"results/{key}.json"
        head = self._object(name)
        if head is None:
            return False
        with workspace(self._folder.root / "incoming") as incoming:
            archive = incoming / "result.rlviz.zip"
            sound = (
                self._location.download(f"results/{Path(str(head.get('archive'))).name}", archive)
                and _hash_of_file(archive) == head.get("sha256_archive")
                and self._import(key, archive)
            )
        if not sound:  # torn, tampered with, or replaced while it was read
            log.warning("%s: the archive of %s is damaged and counts as absent", self._location.shown, key[:12])
            self._not_there(name)
            return False
        write_whole(_mark(self._folder, key), str(head.get("of")).encode())
        return True

    def _import(self, key: str, archive: Path) -> bool:
        try:
            return import_result(self._folder, archive) == key
        except RlvizError as error:
            log.warning("%s: %s", self._location.shown, error)
            return False

    def preview(self, key: str) -> dict[str, Any] | None:
        """A preview that is there."""
        return self._object(f"previews/{key}.json")

    def link(self, link: str) -> dict[str, Any] | None:
        """What a short link stands for."""
        return self._object(f"links/{link}.json")

    def put_link(self, link: str, content: Mapping[str, Any]) -> None:
        """Put a short link there."""
        self._location.write(f"links/{link}.json", sealed_json(content))

    def heads(self) -> dict[str, dict[str, Any]]:
        """Key and head of every result there; asked once a minute."""
        with self._lock:
            if time.monotonic() - self._listed_at < _LISTED_S:
                return self._heads
        names = [name for name in self._location.names("results") if _HEAD.fullmatch(name)]
        with ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="rlviz-store") as pool:
            contents = list(pool.map(lambda name: self._location.read(f"results/{name}"), names))
        found = {n.removesuffix(".json"): opened_json(c) for n, c in zip(names, contents, strict=True) if c is not None}
        with self._lock:
            self._heads = {key: head for key, head in found.items() if head is not None}
            self._listed_at = time.monotonic()
            return self._heads

    def remove(self, key: str) -> bool:
        """Take a result away from the location, for everybody; whether it was there."""
        head = opened_json(self._location.read(f"results/{key}.json") or b"")
        self._location.delete(f"results/{key}.json")
        if head is not None:
            self._location.delete(f"results/{Path(str(head.get('archive'))).name}")
        with self._lock:
            self._heads = {k: v for k, v in self._heads.items() if k != key}
        return head is not None

    def _object(self, name: str) -> dict[str, Any] | None:
        """A small document, unless it was asked for a moment ago and not there."""
        with self._lock:
            if time.monotonic() < self._absent.get(name, 0.0):
                return None
        try:
            content = self._location.read(name)
        except RlvizError:
            self._not_there(name)  # a page that asks at every poll must not wait for a dead network each time
            raise
        found = None if content is None else opened_json(content)
        if found is None:
            self._not_there(name)
        return found

    def _not_there(self, name: str) -> None:
        with self._lock:
            if len(self._absent) > 10_000:
                self._absent.clear()
            self._absent[name] = time.monotonic() + ASK_AGAIN_S


def _shareable(document: Mapping[str, Any]) -> bool:
    """Whether others can ask for that pair: for folders of this host they cannot, and need not know the paths."""
    return all(document.get(side, {}).get("shareable") for side in ("base", "tuned"))


def _mark(folder: Folder, key: str) -> Path:
    return folder.result_path(key) / _SHARED_MARK


def _hash_of_file(path: Path) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
