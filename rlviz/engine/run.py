"""Carries a plan out: an executor measures what is pending, records land as they finish, then the manifest."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from threading import Event

import numpy as np

from rlviz.engine.bulletin import Progress, Report, elsewhere, posted
from rlviz.engine.executors import LOCAL, Executor, Tally
from rlviz.engine.executors.base import TICK_S
from rlviz.engine.memory import CancelCheck
from rlviz.engine.plan import Plan, manifest, without_landed
from rlviz.probes.spectrum.device import selected
from rlviz.store import Store
from rlviz.store.documents import SCHEMA
from rlviz.store.fields import NOT_MEASURABLE
from rlviz.types import Provenance, Skipped
from rlviz.version import __version__


def silent(_: Progress) -> None:
    """The report of those who do not watch."""


def run(
    plan: Plan,
    store: Store,
    report: Report = silent,
    cancel: Event | None = None,
    executor: Executor = LOCAL,
) -> tuple[Skipped, ...]:
    """Compute what has not landed and write the result's manifest.

    Parameters
    ----------
    plan : Plan
    store : Store
    report : callable
        Called at most four times a second, and once at the end, from the calling thread.
    cancel : threading.Event
        Set it from anywhere to stop; what landed stays.
    executor : Executor
        Where steps are measured; records and manifest do not depend on it.

    Returns
    -------
    tuple of Skipped
        Everything not compared, those found only while reading included.

    Raises
    ------
    Cancelled, UnsupportedCheckpoint, Unavailable
        After the tensors in flight were let go; the store keeps what landed.
    InvalidInput
        At once, where `RLVIZ_DEVICE` names a device that is not there.
    """
    cancel = cancel or Event()
    check = CancelCheck(plan.pairing.tuned.identity.ref, cancel)

    def waiting() -> None:
        check()
        other = elsewhere(store, plan.key) or Progress("", 0, len(plan.steps), 0, 0, 0.0, None, "")
        state = f"another run of the same pair: {other.state or 'starting'}"
        report(replace(other, state=state, elsewhere=True))

    with store.lock(plan.key, waiting), posted(store, plan.key, report) as told:
        return _Run(without_landed(plan, store), store, told, cancel, executor).finish()


class _Run:
    """The state of one run: how far it is, and what was left out."""

    def __init__(self, plan: Plan, store: Store, report: Report, cancel: Event, executor: Executor) -> None:
        self.plan, self.store, self.report = plan, store, report
        self.cancel, self.executor = cancel, executor
        self.started, self.clock = datetime.now(UTC), time.perf_counter()
        self.tally = Tally(plan.request.workers)
        self.skipped = list(plan.skipped)
        self.expected_s = plan.seconds()
        # asked for here, so that a device that is not there is known before anything is read
        self.device = selected().name if any(step.probe.base_probe for step in plan.pending) else "cpu"
        self.reported = 0.0

    def finish(self) -> tuple[Skipped, ...]:
        """Have all pending steps measured, then write manifest and provenance."""
        kept = self.store.read_json(self.plan.key, "manifest") or {}
        if not self.plan.pending and kept.get("complete") and kept.get("schema") == SCHEMA:
            return tuple({*self.skipped, *self._refused()})
        self._write_manifest(complete=False)
        if self.plan.pending:
            self.executor.run(self.plan, self.store, self.tally, self.cancel, self._report)
            self._report("done", final=True)
        self._write_manifest(complete=True)
        self._write_provenance()
        return tuple({*self.skipped, *self._refused()})

    def _report(self, state: str, final: bool = False) -> None:
        now = time.perf_counter()
        if not final and now - self.reported < TICK_S:
            return
        self.reported = now
        elapsed = now - self.clock
        share = self._share_done()
        left = max(elapsed * (1 / share - 1) if share else self.expected_s - elapsed, 0.0)
        steps = len(self.plan.steps)
        landed = steps - len(self.plan.pending)
        self.report(
            Progress(
                state,
                landed + self.tally.steps,
                steps,
                self.tally.read.total,
                self.plan.bytes_to_read,
                elapsed,
                left,
                self.tally.last,
            )
        )

    def _share_done(self) -> float:
        """The part that is behind, of computing or of the network: whichever has further to go."""
        computed = self.tally.cost_s / max(sum(step.cost.seconds for step in self.plan.pending), 1e-12)
        if not self.plan.remote:
            return computed
        return min(computed, self.tally.read.total / max(self.plan.bytes_to_read, 1))

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
        provenance = Provenance(
            rlviz=__version__,
            numpy=np.__version__,
            started=self.started.isoformat(timespec="seconds"),
            wall_s=round(time.perf_counter() - self.clock, 3),
            bytes_read=self.tally.read.total,
            workers=self.tally.workers,
            machine=f"{platform.system()} {platform.machine()}",
            probes={s.probe.name: s.probe.version for s in self.plan.steps},
            device=self.device,
        )
        self.store.write_json(self.plan.key, "provenance", asdict(provenance))
