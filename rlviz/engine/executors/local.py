"""The executor of one machine: threads under a memory cap, since kernels and LAPACK let go of the interpreter lock."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Event

from threadpoolctl import threadpool_limits

from rlviz.engine.batches import Batch, by_tensor, one_by_one
from rlviz.engine.executors.base import TICK_S, Tally, Tick
from rlviz.engine.executors.measure import measure
from rlviz.engine.feeds import LocalFeed, RemoteFeed, Sizes
from rlviz.engine.memory import CancelCheck, MemoryBudget
from rlviz.engine.plan import Plan
from rlviz.probes.base import TensorPair
from rlviz.sources.transport import connection_ceiling
from rlviz.store import Store

LOADERS = 4  # tensors, or batches of small ones, on their way over the network while the workers compute


@dataclass(frozen=True, slots=True)
class LocalExecutor:
    """Tensors side by side in `Request.workers` threads, one BLAS thread each."""

    def run(self, plan: Plan, store: Store, tally: Tally, cancel: Event, tick: Tick) -> None:
        """Measure what is pending; returns or raises when the tensors in flight were let go."""
        _Stream(plan, store, tally, cancel).run(tick)


LOCAL = LocalExecutor()


class _Stream:
    """What is in flight: tensors on their way to memory, and those being measured."""

    def __init__(self, plan: Plan, store: Store, tally: Tally, cancel: Event) -> None:
        self.plan, self.store, self.tally = plan, store, tally
        self.stop = Event()  # a tensor failed: what else is in flight is not worth finishing
        self.check = CancelCheck(plan.pairing.tuned.identity.ref, cancel, self.stop)
        self.memory = MemoryBudget(plan.request.memory_bytes)
        # Its threads keep a workspace each, so they are not those that wait for the network.
        self.compute = ThreadPoolExecutor(plan.request.workers, thread_name_prefix="rlviz-compute")
        self.fetchers = ThreadPoolExecutor(connection_ceiling(), thread_name_prefix="rlviz-fetch")
        self.feed = self._feed()

    def _feed(self) -> LocalFeed | RemoteFeed:
        plan = self.plan
        if not plan.remote:
            return LocalFeed(plan.pairing, self.tally.read, self.check)
        sizes = Sizes.within(plan.request.memory_bytes, plan.request.workers + LOADERS)
        return RemoteFeed(plan.pairing, sizes, self.store.root / "spool", self.fetchers, self.tally.read, self.check)

    def _batches(self) -> list[Batch]:
        if isinstance(self.feed, LocalFeed):
            return one_by_one(self.plan.pending)
        return by_tensor(self.plan.pending, self.feed.sizes.small_bytes)

    def run(self, tick: Tick) -> None:
        threads = self.plan.request.workers + (LOADERS if self.plan.remote else 0)
        with threadpool_limits(1), self.compute, ThreadPoolExecutor(threads, thread_name_prefix="rlviz") as pool:
            ended: SimpleQueue[Future[None]] = SimpleQueue()
            futures = [pool.submit(self._load, batch) for batch in self._batches()]
            for future in futures:
                future.add_done_callback(ended.put)
            try:
                left = len(futures)
                while left:
                    try:
                        ended.get(timeout=TICK_S).result()
                        left -= 1
                    except Empty:
                        pass  # nothing ended meanwhile: only the clock in the report moves
                    tick("measuring")
            finally:
                self.stop.set()
                for future in futures:
                    future.cancel()
                # not waited for: what is still on its way ends with its checkpoint, and nobody reads it
                self.fetchers.shutdown(wait=False, cancel_futures=True)

    def _load(self, batch: Batch) -> None:
        """Open the batch's tensors, and have a worker measure them as soon as one is free."""
        need = max(step.cost.memory_bytes for task in batch for step in task.steps)
        with self.memory.reserve(need + self.feed.memory_bytes(batch), self.check), self.feed.open(batch) as pairs:
            self.compute.submit(self._measure, batch, pairs).result()

    def _measure(self, batch: Batch, pairs: Sequence[TensorPair]) -> None:
        for task, pair in zip(batch, pairs, strict=True):
            for step in task.steps:
                self.check()
                measure(step, pair, self.store)
                self.tally.landed(step)
