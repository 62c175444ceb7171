"""What a remote worker is told, what it does, and what it hands back. Knows nothing of whatever carries it there.

An order names tensors of two pinned checkpoints. It holds no weight and no secret: a worker opens the checkpoints by
itself, with the token of its own environment, and reads their bytes from where they are. It writes its records into
the store's folder where it sees that folder; where it does not, it hands them back as the bytes of their files.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import gettempdir
from threading import Event

from threadpoolctl import threadpool_limits

from rlviz.engine.batches import Batch
from rlviz.engine.executors.measure import Records, measure
from rlviz.engine.feeds import ByteCount, LocalFeed, RemoteFeed, Sizes
from rlviz.engine.memory import CancelCheck
from rlviz.errors import Gated, NotFound, RlvizError, Unavailable, UnsupportedCheckpoint
from rlviz.probes.spectrum.device import selected
from rlviz.sources import Checkpoint, ModelRef, Pairing, resolve
from rlviz.sources.transport import connection_ceiling
from rlviz.store.atomic import write_whole
from rlviz.store.fields import record_bytes
from rlviz.store.folder import Folder
from rlviz.store.seal import seal_of
from rlviz.types import Record
from rlviz.version import __version__

_OPEN_MODELS = 4  # that a worker keeps open from one order to the next


@dataclass(frozen=True, slots=True)
class Source:
    """One side: its pinned reference, and the commit (or the fingerprint of its files) that is to be found there."""

    ref: str
    commit: str


@dataclass(frozen=True, slots=True)
class Place:
    """The driver's store: its folder, and one below that of a name that no other has, there while the run lasts."""

    folder: Path
    mark: Path

    def seen(self) -> bool:
        """Whether this process sees that very folder, and writes there as the same user.

        The path alone proves nothing: each node may have a folder of that name.
        """
        try:
            owner = self.mark.stat().st_uid
        except OSError:
            return False
        return owner == os.getuid() and os.access(self.mark, os.W_OK)


@dataclass(frozen=True, slots=True)
class Order:
    """The steps of one large tensor, or of several small ones that lie together.

    Attributes
    ----------
    release, device : of rlviz, and what computes the spectra; a worker of another one refuses
    base, tuned : the two sides
    batch : tensors with their byte ranges, and per tensor the probes with parameters and record keys
    sizes : how bytes that cross a network are held; None where both sides are local files, read in place
    store : where the driver keeps records; None to have all of them handed back
    bases : keys of base parts that are in the store already
    """

    release: str
    device: str
    base: Source
    tuned: Source
    batch: Batch
    sizes: Sizes | None
    store: Place | None
    bases: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Parcel:
    """What came of an order.

    Attributes
    ----------
    written : records that the worker wrote into the store: digest by key
    records : those that it could not write there: file contents by key
    nbytes : weight bytes read
    worker : the process that read them
    """

    written: dict[str, str]
    records: dict[str, bytes]
    nbytes: int
    worker: str


@dataclass(frozen=True, slots=True)
class BasesMissing:
    """The answer of a worker that does not see the store, to an order that counts on what is in it."""


class _Here:
    """The store's folder, seen from a worker. What is in it is taken from there; what is found lands at once."""

    def __init__(self, folder: Path) -> None:
        self._folder = Folder(folder)
        self.get = self._folder.get
        self.written: dict[str, str] = {}
        self.records: dict[str, bytes] = {}

    def put(self, key: str, record: Record) -> None:
        content = record_bytes(record, key)
        write_whole(self._folder.record_path(key), content)
        self.written[key] = seal_of(content).digest


class _Away:
    """The records of one order in memory: base parts that came along with it, and everything that is found."""

    def __init__(self, given: dict[str, Record]) -> None:
        self._kept = given
        self.written: dict[str, str] = {}
        self.records: dict[str, bytes] = {}

    def get(self, key: str) -> Record | None:
        return self._kept.get(key)

    def put(self, key: str, record: Record) -> None:
        self._kept[key] = record
        self.records[key] = record_bytes(record, key)


def work(order: Order, *given: tuple[str, Record]) -> Parcel | BasesMissing | RlvizError | OSError:
    """Measure the tensors of an order on one thread.

    Parameters
    ----------
    order : Order
    *given : (key, record)
        Base parts that the store has already, for a worker that does not see it.

    Returns
    -------
    Parcel, BasesMissing, or the error that a local run would have raised
        As a value: an exception would arrive wrapped in the traceback of whatever carried it.
    """
    if order.store is not None and order.store.seen():
        records = _Here(order.store.folder)
    elif order.bases and not given:
        return BasesMissing()
    else:
        records = _Away(dict(given))
    count = ByteCount()
    try:
        _measure(order, records, count)
    except RlvizError as error:
        return error
    except OSError as error:  # a full disk, say: a fact about this node
        if error.errno is None:  # none of the disk's
            raise
        return error
    return Parcel(records.written, records.records, count.total, f"{platform.node()}:{os.getpid()}")


def device_of(batch: Batch) -> str:
    """What computes the spectra of a batch in this process; other devices give other last digits."""
    spectral = any(step.probe.base_probe is not None for task in batch for step in task.steps)
    return selected().name if spectral else "cpu"


def _measure(order: Order, records: Records, count: ByteCount) -> None:
    if order.release != __version__:
        problem = f"has rlviz {__version__}, and the run was started with {order.release}"
        raise Unavailable(f"worker {platform.node()}", problem, "Install the same release on every node.")
    if (device := device_of(order.batch)) != order.device:
        problem = f"computes on {device}, and the run was started on {order.device}"
        raise Unavailable(f"worker {platform.node()}", problem, "Set RLVIZ_DEVICE to the same everywhere, or nowhere.")
    matches = tuple(task.match for task in order.batch)
    pairing = Pairing(_opened(order.base), _opened(order.tuned), matches, (), ())
    stop = Event()
    try:
        check = CancelCheck(order.tuned.ref, stop)
        with threadpool_limits(1), _feed(order, pairing, count, check) as feed, feed.open(order.batch) as pairs:
            for task, pair in zip(order.batch, pairs, strict=True):
                for step in task.steps:
                    measure(step, pair, records)
    finally:
        stop.set()


@contextmanager
def _feed(order: Order, pairing: Pairing, count: ByteCount, check: CancelCheck) -> Generator[LocalFeed | RemoteFeed]:
    if order.sizes is None:
        yield LocalFeed(pairing, count, check)
        return
    fetchers = ThreadPoolExecutor(connection_ceiling(), thread_name_prefix="rlviz-fetch")
    try:
        yield RemoteFeed(pairing, order.sizes, Path(gettempdir()), fetchers, count, check)
    finally:
        fetchers.shutdown(wait=False, cancel_futures=True)


@lru_cache(_OPEN_MODELS)
def _opened(source: Source) -> Checkpoint:
    """The checkpoint as this node sees it, which must be the one that the run was planned on."""
    ref = ModelRef.parse(source.ref)
    try:
        checkpoint = resolve(ref)
    except (NotFound, Gated) as error:
        raise type(error)(error.subject, error.problem, _next_step(ref, error)) from error
    if checkpoint.identity.commit != source.commit:
        problem = f"worker {platform.node()} finds other files there than the run was planned on"
        raise UnsupportedCheckpoint(source.ref, problem, "Compare again; all nodes must see the same folder.")
    return checkpoint


def _next_step(ref: ModelRef, error: RlvizError) -> str:
    """What to do about a model that the driver could open and this node cannot."""
    if ref.kind == "local":
        return f"Worker {platform.node()} does not see it: put it in a folder that all nodes share, or use a hub id."
    return f"Worker {platform.node()} reads with the HF_TOKEN of its own environment. {error.next_step}".strip()
