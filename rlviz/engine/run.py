"""Carries a plan out: tensors stream through the probes under a memory cap, records land as they finish."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from queue import Empty, SimpleQueue
from threading import Event, Lock

import numpy as np
from threadpoolctl import threadpool_limits

from rlviz.engine.batches import Batch, by_tensor, one_by_one
from rlviz.engine.bulletin import Progress, Report, elsewhere, posted
from rlviz.engine.feeds import ByteCount, LocalFeed, RemoteFeed, Sizes
from rlviz.engine.memory import CancelCheck, MemoryBudget
from rlviz.engine.plan import Plan, Step, manifest, without_landed
from rlviz.probes.base import Fields, NotMeasurable, TensorPair
from rlviz.sources.transport import connection_ceiling
from rlviz.store import Store
from rlviz.store.documents import SCHEMA
from rlviz.store.fields import NOT_MEASURABLE, refusal
from rlviz.types import Provenance, Record, Skipped
from rlviz.version import __version__

PROGRESS_INTERVAL_S = 0.25
LOADERS = 4  # tensors, or batches of small ones, on their way over the network while the workers compute


def silent(_: Progress) -> None:
    """The report of those who do not watch."""


def run(plan: Plan, store: Store, report: Report = silent, cancel: Event | None = None) -> tuple[Skipped, ...]:
    """Compute what has not landed and write the result's manifest.

    Parameters
    ----------
    plan : Plan
    store : Store
    report : callable
        Called at most four times a second, and once at the end, from the calling thread.
    cancel : threading.Event
        Set it from anywhere to stop; what landed stays.

    Returns
    -------
    tuple of Skipped
        Everything not compared, those found only while reading included.

    Raises
    ------
    Cancelled, UnsupportedCheckpoint, Unavailable
        After the tensors in flight were let go; the store keeps what landed.
    """
    cancel = cancel or Event()
    check = CancelCheck(plan.pairing.tuned.identity.ref, cancel)

    def waiting() -> None:
        check()
        other = elsewhere(store, plan.key) or Progress("", 0, len(plan.steps), 0, 0, 0.0, None, "")
        state = f"another run of the same pair: {other.state or 'starting'}"
        report(replace(other, state=state, elsewhere=True))

    with store.lock(plan.key, waiting), posted(store, plan.key, report) as told:
        return _Run(without_landed(plan, store), store, told, cancel).finish()


class _Run:
    """The state of one run: what is in flight, what landed, what was left out."""

    def __init__(self, plan: Plan, store: Store, report: Report, cancel: Event) -> None:
        self.plan, self.store, self.report = plan, store, report
        self.stop = Event()  # a tensor failed: what else is in flight is not worth finishing
        self.check = CancelCheck(plan.pairing.tuned.identity.ref, cancel, self.stop)
        self.started, self.clock = datetime.now(UTC), time.perf_counter()
        self.count = ByteCount()
        self.memory = MemoryBudget(plan.request.memory_bytes)
        # Its threads keep a workspace each, so they are not those that wait for the network.
        self.compute = ThreadPoolExecutor(plan.request.workers, thread_name_prefix="rlviz-compute")
        self.fetchers = ThreadPoolExecutor(connection_ceiling(), thread_name_prefix="rlviz-fetch")
        self.lock = Lock()
        self.skipped = list(plan.skipped)
        self.cost_done = 0.0
        self.expected_s = plan.seconds()
        self.done = 0
        self.last = ""
        self.reported = 0.0
        self.feed = self._feed()

    def _feed(self) -> LocalFeed | RemoteFeed:
        plan = self.plan
        if not plan.remote:
            return LocalFeed(plan.pairing, self.count, self.check)
        sizes = Sizes.within(plan.request.memory_bytes, plan.request.workers + LOADERS)
        return RemoteFeed(plan.pairing, sizes, self.store.root / "spool", self.fetchers, self.count, self.check)

    def finish(self) -> tuple[Skipped, ...]:
        """Run all pending steps, then write manifest and provenance."""
        pending = self.plan.pending
        kept = self.store.read_json(self.plan.key, "manifest") or {}
        if not pending and kept.get("complete") and kept.get("schema") == SCHEMA:
            return tuple({*self.skipped, *self._refused()})
        self._write_manifest(complete=False)
        if pending:
            self._stream(self._batches(pending))
        self._write_manifest(complete=True)
        self._write_provenance()
        return tuple({*self.skipped, *self._refused()})

    def _batches(self, pending: Sequence[Step]) -> list[Batch]:
        if isinstance(self.feed, LocalFeed):
            return one_by_one(pending)
        return by_tensor(pending, self.feed.sizes.small_bytes)

    def _stream(self, batches: Sequence[Batch]) -> None:
        threads = self.plan.request.workers + (LOADERS if self.plan.remote else 0)
        with threadpool_limits(1), self.compute, ThreadPoolExecutor(threads, thread_name_prefix="rlviz") as pool:
            ended: SimpleQueue[Future[None]] = SimpleQueue()
            futures = [pool.submit(self._load, batch) for batch in batches]
            for future in futures:
                future.add_done_callback(ended.put)
            try:
                left = len(futures)
                while left:
                    try:
                        ended.get(timeout=PROGRESS_INTERVAL_S).result()
                        left -= 1
                    except Empty:
                        pass  # nothing ended meanwhile: only the clock in the report moves
                    self._report("measuring")
            finally:
                self.stop.set()
                for future in futures:
                    future.cancel()
                # not waited for: what is still on its way ends with its checkpoint, and nobody reads it
                self.fetchers.shutdown(wait=False, cancel_futures=True)
        self._report("done", final=True)

    def _report(self, state: str, final: bool = False) -> None:
        now = time.perf_counter()
        if not final and now - self.reported < PROGRESS_INTERVAL_S:
            return
        self.reported = now
        elapsed = now - self.clock
        share = self._share_done()
        left = elapsed * (1 / share - 1) if share else max(self.expected_s - elapsed, 0.0)
        steps = len(self.plan.steps)
        landed = steps - len(self.plan.pending)
        self.report(
            Progress(
                state, landed + self.done, steps, self.count.total, self.plan.bytes_to_read, elapsed, left, self.last
            )
        )

    def _share_done(self) -> float:
        """The part that is behind, of computing or of the network: whichever has further to go."""
        computed = self.cost_done / max(sum(step.cost.seconds for step in self.plan.pending), 1e-12)
        if not self.plan.remote:
            return computed
        return min(computed, self.count.total / max(self.plan.bytes_to_read, 1))

    def _load(self, batch: Batch) -> None:
        """Open the batch's tensors, and have a worker measure them as soon as one is free."""
        need = max(step.cost.memory_bytes for task in batch for step in task.steps)
        with self.memory.reserve(need + self.feed.memory_bytes(batch), self.check), self.feed.open(batch) as pairs:
            self.compute.submit(self._measure, batch, pairs).result()

    def _measure(self, batch: Batch, pairs: Sequence[TensorPair]) -> None:
        for task, pair in zip(batch, pairs, strict=True):
            for step in task.steps:
                self.check()
                self._step(step, pair)

    def _step(self, step: Step, pair: TensorPair) -> None:
        try:
            base = self._base_fields(step, pair)
            fields = step.probe.run(pair, step.params, base)
        except NotMeasurable as error:
            detail = f"{step.probe.name}: {error.detail}"
            self.store.put(step.key, refusal(step.match.name, step.probe.version, error.reason, detail))
        else:
            self.store.put(step.key, _record(step, fields))
        with self.lock:
            self.done += 1
            self.cost_done += step.cost.seconds
            self.last = step.match.name

    def _base_fields(self, step: Step, pair: TensorPair) -> Fields | None:
        """The base-only part, from the store where another tuned model has left it there."""
        if not step.probe.keeps_base:
            return None
        kept = self.store.get(step.base_key)
        if kept is not None:
            return dict(kept.fields)
        fields = step.probe.run_base(pair, step.params)
        if fields is not None:
            self.store.put(step.base_key, _record(step, fields))
        return fields

    def _write_manifest(self, *, complete: bool) -> None:
        ordered = sorted({*self.skipped, *self._refused()}, key=lambda s: (s.name, s.reason))
        self.store.write_manifest(self.plan.key, manifest(self.plan, ordered, complete))

    def _refused(self) -> Iterator[Skipped]:
        """What probes could not measure, in this run or an earlier one."""
        for step in self.plan.steps:
            record = self.store.get(step.key)
            if record is not None and record.probe == NOT_MEASURABLE:
                yield Skipped(record.tensor, str(record.params["reason"]), str(record.params["detail"]))

    def _write_provenance(self) -> None:
        from dataclasses import asdict

        provenance = Provenance(
            rlviz=__version__,
            numpy=np.__version__,
            started=self.started.isoformat(timespec="seconds"),
            wall_s=round(time.perf_counter() - self.clock, 3),
            bytes_read=self.count.total,
            workers=self.plan.request.workers,
            machine=f"{platform.system()} {platform.machine()}",
            probes={s.probe.name: s.probe.version for s in self.plan.steps},
        )
        self.store.write_json(self.plan.key, "provenance", asdict(provenance))


def _record(step: Step, fields: Fields) -> Record:
    return Record(step.match.name, step.probe.name, step.probe.version, dict(step.params), fields)
