"""The executor on a Ray cluster: orders go out as tasks, and records land in the store.

A worker that sees the store's folder writes them there; the driver checks that each is to be found. One that does not
(the folder is not shared; the driver is a laptop; the store is a bucket, which keeps whole results) hands them back,
and the driver writes them. Ray schedules and retries.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Event
from typing import Any

import ray
from ray.exceptions import LocalRayletDiedError, NodeDiedError, OutOfMemoryError, RayTaskError, WorkerCrashedError

from rlviz.engine.batches import Batch, by_tensor
from rlviz.engine.executors.base import TICK_S, Tally, Tick
from rlviz.engine.executors.local import LOADERS
from rlviz.engine.executors.ray_cluster import Cluster
from rlviz.engine.executors.task import BasesMissing, Order, Parcel, Place, Source, device_of, work
from rlviz.engine.feeds import LocalFeed, RemoteFeed, Sizes
from rlviz.engine.memory import CancelCheck
from rlviz.engine.plan import Plan
from rlviz.errors import RlvizError, Unavailable, UnsupportedCheckpoint
from rlviz.store import Store
from rlviz.store.atomic import workspace, write_whole
from rlviz.store.seal import seal_of, seal_of_file
from rlviz.types import ModelIdentity, Record
from rlviz.version import __version__

RETRIES = 5  # of a task whose worker or node died, before the run gives up
_DIED = (WorkerCrashedError, NodeDiedError, LocalRayletDiedError, OutOfMemoryError)


class RayExecutor:
    """Tensors side by side on the cores of a cluster, the dearest first; see `rlviz.engine.executors.ray_cluster`.

    Connects at the first run that has anything to measure, and lets go when the block ends.

    Parameters
    ----------
    address : str
        ``HOST:PORT`` of a Ray head or of its Ray Client, ``local``, or "" to find one.
    """

    def __init__(self, address: str) -> None:
        self._cluster = Cluster(address)

    def __enter__(self) -> RayExecutor:
        return self

    def __exit__(self, *_: object) -> None:
        self._cluster.close()

    def run(self, plan: Plan, store: Store, tally: Tally, cancel: Event, tick: Tick) -> None:
        """Land a record for every pending step, or raise; tasks in flight are then not waited for.

        They end with the connection; on one that was there before, when they are done, and nobody takes what they find.
        None is cancelled: Ray 2.60 ends this process where a task completes just then (a failed check, "Tried to
        complete task that was not pending").
        """
        check = CancelCheck(plan.pairing.tuned.identity.ref, cancel)
        check()
        tick("connecting to Ray")
        self._cluster.open(plan.request.workers, plan.request.memory_bytes)
        folder = store.root.resolve()
        with workspace(folder / "runs") as mark:
            flight = _Flight(plan, store, tally, self._cluster, Place(folder, mark))
            while flight.go_on():
                check()
                tick(self._cluster.state)


class _Flight:
    """Orders waiting, and those that Ray has."""

    def __init__(self, plan: Plan, store: Store, tally: Tally, cluster: Cluster, place: Place) -> None:
        self.plan, self.store, self.tally, self.cluster = plan, store, tally, cluster
        self.place: Place | None = place  # None once a record that a worker wrote is not to be found here
        self.apart = False  # a worker did not see the store: base parts go along with orders from then on
        sizes = Sizes.within(plan.request.memory_bytes, plan.request.workers + LOADERS)
        self.sizes = sizes if plan.remote else None
        self.held_bytes = _feed(plan, sizes, store, tally).memory_bytes
        batches = by_tensor(plan.pending, sizes.small_bytes)
        self.waiting = deque(sorted(batches, key=lambda batch: -sum(task.seconds for task in batch)))
        self.flying: dict[Any, Batch] = {}
        self.workers: set[str] = set()
        self.remote: Any = ray.remote(num_cpus=1, max_retries=RETRIES)(work)

    def go_on(self) -> bool:
        """Hand out what the cluster has room for and land what has come back; False once all has landed."""
        while self.waiting and len(self.flying) < self.cluster.at_once:
            batch = self.waiting.popleft()
            self.flying[self._submitted(batch)] = batch
        if not self.flying:
            return False
        with self.cluster.asked():
            ended, _ = ray.wait(list(self.flying), timeout=TICK_S)
        for task in ended:
            outcome = self._outcome(task, self.flying[task])
            self._take(outcome, self.flying.pop(task))
        return True

    def _submitted(self, batch: Batch) -> Any:
        bases = self._bases(batch)
        order = ordered(self.plan, batch, self.sizes, self.place, tuple(bases))
        with self.cluster.asked():
            given = [ray.put((key, _in_memory(base))) for key, base in bases.items() if self.apart]
            need = max(step.cost.memory_bytes for task in batch for step in task.steps) + self.held_bytes(batch)
            return self.remote.options(memory=self.cluster.memory(need)).remote(order, *given)

    def _bases(self, batch: Batch) -> dict[str, Record]:
        """Base parts that have landed before, for another tuned model or another probe."""
        keys = {step.base_key for task in batch for step in task.steps if step.probe.base_probe is not None}
        kept = {key: self.store.get(key) for key in sorted(keys)}
        return {key: record for key, record in kept.items() if record is not None}

    def _outcome(self, task: Any, batch: Batch) -> Parcel | BasesMissing:
        """What a task has handed back; raises what it has met."""
        name = batch[0].match.name
        try:
            with self.cluster.asked():
                outcome: Parcel | BasesMissing | RlvizError | OSError = ray.get(task)
        except _DIED as error:
            problem = f"the Ray worker that measured it died {RETRIES + 1} times ({type(error).__name__})"
            step = "Look on the nodes for one out of memory; what had landed is kept."
            raise Unavailable(name, problem, step) from error
        except RayTaskError as error:
            if "failed to import on the worker" not in str(error):
                raise  # a bug of ours, as in a local run
            step = "Install the same rlviz, and its requirements.txt, on every node."
            raise Unavailable("rlviz", "cannot be imported by a Ray worker", step) from error
        if isinstance(outcome, RlvizError):
            raise as_typed(outcome, (self.plan.pairing.base.identity, self.plan.pairing.tuned.identity))
        if isinstance(outcome, OSError):
            raise outcome
        return outcome

    def _take(self, outcome: Parcel | BasesMissing, batch: Batch) -> None:
        """Land what came of an order, or order it again."""
        if isinstance(outcome, BasesMissing) or outcome.records:
            self.apart = True
        if isinstance(outcome, BasesMissing):
            self.waiting.appendleft(batch)
        elif not all(self._found(key, digest) for key, digest in outcome.written.items()):
            self.place, self.apart = None, True  # shown to us too late: let all that is to come be handed back
            self.waiting.appendleft(batch)
        else:
            self._land(outcome, batch)

    def _found(self, key: str, digest: str) -> bool:
        """Whether a record that a worker has written is here, and whole."""
        path = self.store.record_path(key)
        try:
            os.close(os.open(path.parent, os.O_RDONLY))  # by which NFS looks at what others have put there
            seal = seal_of_file(path)
        except OSError:
            return False
        return seal is not None and seal.holds() and seal.digest == digest

    def _land(self, parcel: Parcel, batch: Batch) -> None:
        for key, content in parcel.records.items():
            if not seal_of(content).holds():
                raise UnsupportedCheckpoint(batch[0].match.name, "its record arrived damaged", "Run it again.")
            write_whole(self.store.record_path(key), content)
        self.workers.add(parcel.worker)
        self.tally.workers = len(self.workers)
        self.tally.read.add(parcel.nbytes)
        for task in batch:
            for step in task.steps:
                self.tally.landed(step)


def ordered(plan: Plan, batch: Batch, sizes: Sizes | None, place: Place | None, bases: tuple[str, ...]) -> Order:
    """The order that a task carries: names, places and parameters."""
    base, tuned = (
        Source(identity.pinned_ref, identity.commit)
        for identity in (plan.pairing.base.identity, plan.pairing.tuned.identity)
    )
    return Order(__version__, device_of(batch), base, tuned, batch, sizes, place, bases)


def _in_memory(record: Record) -> Record:
    """The record with its arrays read, to be sent."""
    return replace(record, params=dict(record.params), fields=dict(record.fields))


def as_typed(error: RlvizError, sides: Sequence[ModelIdentity]) -> RlvizError:
    """The error with its subject as the person wrote it, who never saw the pinned reference that workers open."""
    subject = error.subject
    for side in sides:
        if subject.startswith(side.pinned_ref):
            subject = side.ref + subject.removeprefix(side.pinned_ref)
            break
    return type(error)(subject, error.problem, error.next_step)


def _feed(plan: Plan, sizes: Sizes, store: Store, tally: Tally) -> LocalFeed | RemoteFeed:
    """A feed as the workers have, which is only asked how much it would hold: no thread of it ever starts."""
    check = CancelCheck(plan.pairing.tuned.identity.ref)
    if not plan.remote:
        return LocalFeed(plan.pairing, tally.read, check)
    return RemoteFeed(plan.pairing, sizes, store.root, ThreadPoolExecutor(1), tally.read, check)
