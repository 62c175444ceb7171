"""Estimates from a sample."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from typing import TypeVar

from rlviz.access import OWNER, Visitor, hosted
from rlviz.api.kept import kept_preview, open_store
from rlviz.engine.plan import is_remote
from rlviz.opening import Model, identity, opened
from rlviz.sampling import Preview
from rlviz.sampling.budget import asked, preview_key
from rlviz.sampling.run import Rounds
from rlviz.sampling.run import run as run_rounds
from rlviz.sampling.run import silent as tell_nobody
from rlviz.sources import pair
from rlviz.store import Store

T = TypeVar("T")


def preview(
    base: Model,
    tuned: Model,
    *,
    budget: int | str = "64MiB",
    seed: int = 0,
    target: float = 0.005,
    store: Store | Path | str | None = None,
    report: Callable[[Preview], None] = tell_nobody,
    cancel: Event | None = None,
    visitor: Visitor = OWNER,
) -> Preview:
    """Estimate how two models differ from a small random sample of both, with 95 % intervals.

    Parameters
    ----------
    base, tuned : str, Path or ModelRef
        As for `compare`.
    budget : int or str
        Weight bytes to read of each model at most: a number, or ``"64MiB"``, ``"1GB"``.
    seed : int
        The same seed reads the same rows.
    target : float
        Stop as soon as the pooled bf16 sparsity is known to ± this (0.005: half a percentage point); 0 reads on to
        the end of the budget.
    store : Store or path, optional
        Where previews are kept; one that is complete is returned from there.
    report : callable
        Receives a `Preview` after every round.
    cancel : threading.Event
        Set it to stop: what the rounds so far say is returned.
    visitor : Visitor
        On whose behalf the hub is asked.

    Raises
    ------
    InvalidInput, NotFound, Gated, Offline, UnsupportedCheckpoint, NothingComparable
    Cancelled
        If `cancel` is set before the first round has ended.
    """
    started, cancel = time.perf_counter(), cancel or Event()
    wanted, kept = asked(budget, seed, target), open_store(store)
    key = preview_key(*_both(lambda model: identity(model, visitor), base, tuned), wanted)
    before = kept_preview(kept, key)
    if before and (not hosted() or before.base.access == before.tuned.access == "public"):
        return before
    with ExitStack() as stack:
        sides = _both(lambda model: opened(model, visitor, cancel), base, tuned)
        base_side, tuned_side = map(stack.enter_context, sides)
        if before:  # whoever asks has just shown that they may read both
            return before
        # a branch may have moved since it was first asked about: the name is that of what is read
        key = preview_key(base_side.identity, tuned_side.identity, wanted)
        pairing = pair(base_side, tuned_side)
        remote = is_remote(base_side.identity) or is_remote(tuned_side.identity)
        rounds = Rounds(pairing, key=key, budget_bytes=wanted.budget_bytes, seed=seed, remote=remote, started=started)

        def keep_and_report(latest: Preview) -> None:
            kept.write_json(key, "preview", latest.to_dict())
            report(latest)

        found = run_rounds(rounds, target=target, cancel=cancel, report=keep_and_report)
    if found.stopped != "asked":
        kept.land(key)
    return found


def locate_preview(
    base: Model,
    tuned: Model,
    *,
    budget: int | str = "64MiB",
    seed: int = 0,
    target: float = 0.005,
    visitor: Visitor = OWNER,
) -> str:
    """The key under which the store keeps (or would keep) this preview; costs what `locate` costs."""
    return preview_key(*_both(lambda model: identity(model, visitor), base, tuned), asked(budget, seed, target))


def _both(ask: Callable[[Model], T], base: Model, tuned: Model) -> tuple[T, T]:
    """The answer for both models, asked side by side; the base's error first."""
    with ThreadPoolExecutor(2, thread_name_prefix="rlviz-open") as threads:
        left, right = threads.submit(ask, base), threads.submit(ask, tuned)
        return left.result(), right.result()
