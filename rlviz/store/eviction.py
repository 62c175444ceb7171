"""Keeping a store below a size: what was used longest ago goes first, pinned results and running ones stay."""

from __future__ import annotations

import os
import time
from collections import Counter
from dataclasses import dataclass

from rlviz.errors import InvalidInput
from rlviz.store.documents import record_keys
from rlviz.store.folder import Folder, files_below

GIB = 1 << 30
_ORPHAN_AGE_S = 3600  # a record nobody refers to may be one that a run, or an import, has only just written


@dataclass(frozen=True, slots=True)
class Evicted:
    """How many results (or previews) went, and how many bytes are free now that were not before."""

    results: int
    nbytes: int


def cap_from_environment() -> int | None:
    """`RLVIZ_STORE_MAX_GB` in bytes; None, for no cap, where it is not set."""
    text = os.environ.get("RLVIZ_STORE_MAX_GB", "").strip()
    if not text:
        return None
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = 0.0
    if not 0 < gigabytes < 1e9:
        name = f"RLVIZ_STORE_MAX_GB={text[:40]}"
        raise InvalidInput(name, "is not a positive number", "Set it to gigabytes, such as 20, or leave it out.")
    return int(gigabytes * GIB)


def evict(folder: Folder, cap_bytes: int, spare: str | None = None) -> Evicted:
    """Delete the results least recently used until records and results take at most `cap_bytes`.

    Stays: what is pinned, what a running job holds the lock of, records that a result that stays refers to, links,
    and `spare`, the result that has just landed. The store may then stay above the cap.
    """
    before = size = _size(folder)
    if size <= cap_bytes:
        return Evicted(0, 0)
    with folder.alone("evict") as only_one:
        if not only_one:  # another process is at it
            return Evicted(0, 0)
        size -= _remove_orphans(folder)
        records = {key: record_keys(manifest) for key, manifest in folder.results()}
        users = Counter(record for used in records.values() for record in used)
        gone = 0
        for key in sorted(folder.result_keys(), key=folder.used):
            if size <= cap_bytes:
                break
            if key == spare or folder.pinned(key):
                continue
            with folder.alone(key) as unused:
                if unused:
                    own = records.get(key, set())
                    users.subtract(own)
                    size -= folder.discard(key, [record for record in own if users[record] <= 0])
                    gone += 1
    return Evicted(gone, before - size)


def _remove_orphans(folder: Folder) -> int:
    """Delete records that no manifest refers to (their result was damaged, or removed half way); bytes freed."""
    wanted = {key for _, manifest in folder.results() for key in record_keys(manifest)}
    freed = 0
    for path, nbytes, changed in files_below(folder.root / "records"):
        if path.stem not in wanted and time.time() - changed > _ORPHAN_AGE_S:
            path.unlink(missing_ok=True)
            freed += nbytes
    return freed


def _size(folder: Folder) -> int:
    return sum(nbytes for part in ("records", "results") for _, nbytes, _ in files_below(folder.root / part))
