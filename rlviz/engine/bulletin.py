"""Where a run stands, told to other processes: a small file beside the lock that the run holds.

Whoever waits for that lock, or shows the pair on a page, reads it there. It is removed when the run ends; one left
behind by a killed run means nothing, because nobody holds its lock.
"""

from __future__ import annotations

import fcntl
import json
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from rlviz.store import Store
from rlviz.store.atomic import read_object, write_whole

INTERVAL_S = 0.5


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands; `state` is one short phrase.

    `eta_s` is what the plan expects until something has been measured, and None while the run waits.

    `elsewhere` says that the figures are those of another process's run of the same pair, which this one waits for.
    """

    state: str
    steps_done: int
    steps_total: int
    bytes_read: int
    bytes_total: int
    elapsed_s: float
    eta_s: float | None
    last: str
    elsewhere: bool = False


Report = Callable[[Progress], None]


@contextmanager
def posted(store: Store, key: str, report: Report) -> Generator[Report]:
    """A report that also tells other processes, at most twice a second; for as long as the block runs."""
    path = _path(store, key)
    posted_at = float("-inf")

    def both(progress: Progress) -> None:
        nonlocal posted_at
        if time.monotonic() - posted_at >= INTERVAL_S:
            write_whole(path, json.dumps(asdict(progress)).encode())
            posted_at = time.monotonic()
        report(progress)

    try:
        yield both
    finally:
        path.unlink(missing_ok=True)


def elsewhere(store: Store, key: str) -> Progress | None:
    """What the run that holds this pair's lock said last; None where none does, or it has said nothing yet."""
    said = read_object(_path(store, key))
    if said is None or not held(store.root / "locks" / key):
        return None
    try:
        return Progress(**said)
    except TypeError:  # another release's file
        return None


def held(lock: Path) -> bool:
    """Whether some process, this one included, holds the lock on that file."""
    try:
        with lock.open() as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _path(store: Store, key: str) -> Path:
    return store.root / "locks" / f"{key}.progress"
