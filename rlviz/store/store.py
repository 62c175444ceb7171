"""`Store`: the folder results are kept in, and the location behind it that a team shares, where there is one.

Everything is read and written in the folder. With a location (``s3://…``, ``hf://buckets/…``, ``memory://…``, any
fsspec URL) the folder is a local copy: what is not in it is fetched when asked for, what was finished in it is
uploaded. Locks, spool and job files stay in the folder: they are this host's own.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from rlviz.errors import RlvizError
from rlviz.store import archive, eviction, intake
from rlviz.store.eviction import Evicted, cap_from_environment
from rlviz.store.folder import Folder
from rlviz.store.listing import Kept, kept, kept_here
from rlviz.store.location import Location
from rlviz.store.shared import Shared

log = logging.getLogger(__name__)
_WHOLE_KEY = re.compile(r"[0-9a-f]{64}")


def user_cache() -> Path:
    """``rlviz`` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "rlviz"


def default_root() -> str:
    """`RLVIZ_STORE` (a folder or a URL), or ``rlviz`` in the user's cache folder."""
    return os.environ.get("RLVIZ_STORE") or str(user_cache())


class Store(Folder):
    """Results of one folder, or of one shared location through a folder. Safe from several threads and processes.

    Parameters
    ----------
    root : Path or str, optional
        A folder, ``file://…``, or an fsspec URL; default `RLVIZ_STORE`, then the user's cache folder.
    max_bytes : int, optional
        Size that the folder is kept below after each result; default `RLVIZ_STORE_MAX_GB`, then none.

    Attributes
    ----------
    root : the local folder
    url : what opens the same store again; may hold credentials
    shown : the same for people to read

    Raises
    ------
    InvalidInput
        Where a file is in the way, or no driver for the URL is installed.
    """

    def __init__(self, root: Path | str | None = None, max_bytes: int | None = None) -> None:
        self.url = str(root if root is not None else default_root())
        self.max_bytes = cap_from_environment() if max_bytes is None else max_bytes
        parts = urlsplit(self.url)
        local = "://" not in self.url or parts.scheme == "file"
        path = Path(unquote(parts.path) if parts.scheme == "file" else self.url)
        remote = user_cache() / "remote" / sha256(self.url.encode()).hexdigest()[:16]
        super().__init__(path if local else remote)
        location = None if local else Location(self.url)
        self.shown = str(self.root) if location is None else location.shown
        self._shared = None if location is None else Shared(self, location)
        self.trouble: RlvizError | None = None  # what the location last failed with, if it failed last

    # What the location may have and the folder has not

    def read_json(self, key: str, name: str) -> dict[str, Any] | None:
        """A document of a result; a manifest or preview that is not here is fetched with all that belongs to it."""
        found = super().read_json(key, name)
        if found is not None or self._shared is None or not _WHOLE_KEY.fullmatch(key):
            return found
        if name == "manifest" and self.fetch(key):
            return super().read_json(key, name)
        if name == "preview" and (preview := self._asked(partial(self._shared.preview, key), None)):
            self.write_json(key, name, preview)
            return preview
        return None

    def fetch(self, key: str) -> bool:
        """Bring a finished result from the location; False where there is none, or the location fails."""
        if self._shared is None or not self._asked(partial(self._shared.fetch, key), False):
            return False
        self._evict(spare=key)
        return True

    def read_link(self, link_id: str) -> dict[str, Any] | None:
        """What a short link stands for; None where there is none of that name."""
        found = super().read_link(link_id)
        if found is None and self._shared is not None and link_id.isalnum():
            found = self._asked(partial(self._shared.link, link_id), None)
            if found is not None:
                super().write_link(link_id, found)
        return found

    def find(self, prefix: str) -> list[str]:
        """Result keys that begin with `prefix`, here or at the location."""
        here = super().find(prefix)
        there = {} if self._shared is None else self._asked(self._shared.heads, {})
        return [*here, *(key for key in there if key.startswith(prefix) and key not in here)]

    def kept(self) -> tuple[Kept, ...]:
        """Every result, newest first; no manifest is parsed and no record read."""
        here = kept_here(self)
        if self._shared is None:
            return here
        known = {entry.key for entry in here if entry.complete}
        heads = self._asked(self._shared.heads, {})
        there = (kept(key, head, pinned=False, here=False) for key, head in heads.items() if key not in known)
        found = {entry.key: entry for entry in (*here, *(e for e in there if e is not None))}
        return tuple(sorted(found.values(), key=lambda entry: entry.made, reverse=True))

    # What changes

    def land(self, key: str) -> RlvizError | None:
        """After a result or preview is whole: upload it, and keep the folder below its size.

        A location that fails does not fail the run, whose numbers are here: what it failed with is returned, and
        the upload is tried again the next time the pair is asked for.
        """
        self.touch(key)
        trouble = None
        if self._shared is not None:
            try:
                self._shared.publish(key)
            except RlvizError as error:
                trouble = self.trouble = error
                log.info("%s", error)  # shown by whoever asked: a notice, or `trouble`
        self._evict(spare=key)
        return trouble

    def write_link(self, link_id: str, document: Mapping[str, Any]) -> None:
        """Keep what a short link stands for; never evicted. Where the location fails, this host alone knows it."""
        super().write_link(link_id, document)
        if self._shared is not None:
            self._asked(partial(self._shared.put_link, link_id, document), None)

    def remove(self, key: str) -> int:
        """Delete a result, at the location too, and the records here that no other result uses; returns how many.

        Raises
        ------
        Offline
            Where the location fails; nothing is deleted then.
        """
        if self._shared is not None:
            self._shared.remove(key)
        return super().remove(key)

    def pin(self, key: str) -> None:
        """Keep a result in this folder whatever the size cap says, fetched first where it is not here."""
        self.read_json(key, "manifest")
        super().pin(key)

    def evict(self) -> Evicted:
        """Delete what was used longest ago until the folder is below its cap; nothing at the location."""
        return self._evict(spare=None)

    def _evict(self, spare: str | None) -> Evicted:
        return Evicted(0, 0) if self.max_bytes is None else eviction.evict(self, self.max_bytes, spare)

    # Files

    def export_result(self, key: str, target: Path | str) -> None:
        """Write a finished result as one self-contained ``.rlviz.zip`` (see `rlviz.store.archive`)."""
        self.read_json(key, "manifest")  # fetches it where only the location has it
        archive.export_result(self, key, Path(target))

    def import_result(self, source: Path | str) -> str:
        """Check such a file and add its result; returns its key (see `rlviz.store.intake`)."""
        return intake.import_result(self, Path(source))

    def _asked(self, ask: Any, otherwise: Any) -> Any:
        """What the location answers, or `otherwise` where it fails; the failure is kept and logged."""
        try:
            answer = ask()
        except RlvizError as error:
            self.trouble = error
            log.info("%s", error)  # shown by whoever asked: a notice, or `trouble`
            return otherwise
        self.trouble = None
        return answer
