"""The public calls. The command line and the dashboard ask these and nothing deeper."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TypeVar, overload

from rlviz import engine
from rlviz.access import OWNER, Visitor, hosted
from rlviz.engine import Plan, Request
from rlviz.engine.bulletin import Report
from rlviz.engine.memory import CancelCheck
from rlviz.engine.plan import MIB, default_memory_bytes, default_workers, is_remote, result_key
from rlviz.engine.run import silent
from rlviz.errors import InvalidInput, NotFound, RlvizError, UnsupportedCheckpoint
from rlviz.opening import Model, identity, opened
from rlviz.preview import Preview
from rlviz.preview.budget import asked, preview_key
from rlviz.preview.run import Rounds
from rlviz.preview.run import run as run_rounds
from rlviz.preview.run import silent as tell_nobody
from rlviz.probes import PROBE_NAMES
from rlviz.result import PairResult, load
from rlviz.sources import ModelRef, Pairing, pair
from rlviz.sources.sanity import ancestor_notice
from rlviz.store import Store
from rlviz.types import Notice

T = TypeVar("T")


def request(
    *,
    probes: Sequence[str] = PROBE_NAMES,
    tensors: str = "*",
    budget_minutes: float | None = None,
    workers: int | None = None,
    memory_mb: int | None = None,
    k_max: int = 128,
) -> Request:
    """What to measure, with defaults from the environment (`RLVIZ_WORKERS`, `RLVIZ_MEMORY_MB`)."""
    if budget_minutes is not None and not 0 < budget_minutes < float("inf"):
        raise InvalidInput(
            f"budget of {budget_minutes:g} minutes", "is not a positive number", "Give a number above 0."
        )
    if workers is not None and workers < 1:
        raise InvalidInput(f"{workers} workers", "are too few", "Give 1 or more.")
    return Request(
        probes=tuple(probes),
        tensors=tensors,
        budget_s=None if budget_minutes is None else 60 * budget_minutes,
        memory_bytes=default_memory_bytes() if memory_mb is None else memory_mb * MIB,
        workers=workers or default_workers(),
        k_max=k_max,
    )


def plan(
    base: Model,
    tuned: Model,
    *,
    store: Store | Path | str | None = None,
    wanted: Request | None = None,
    visitor: Visitor = OWNER,
) -> Plan:
    """What a comparison would read and how long it would take; reads headers only (about 100 kB per model).

    Raises
    ------
    InvalidInput, NotFound, Gated, Offline, UnsupportedCheckpoint, NothingComparable
    """
    with opened(base, visitor) as base_side, opened(tuned, visitor) as tuned_side:
        return engine.plan(pair(base_side, tuned_side), _store(store), wanted or request())


@overload
def compare(
    base: Model,
    tuned: Model,
    *,
    probes: Sequence[str] = ...,
    tensors: str = ...,
    budget_minutes: float | None = ...,
    store: Store | Path | str | None = ...,
    workers: int | None = ...,
    report: Report = ...,
    cancel: Event | None = ...,
    visitor: Visitor = ...,
) -> PairResult: ...
@overload
def compare(
    base: Model,
    tuned: Sequence[Model],
    *,
    probes: Sequence[str] = ...,
    tensors: str = ...,
    budget_minutes: float | None = ...,
    store: Store | Path | str | None = ...,
    workers: int | None = ...,
    report: Report = ...,
    cancel: Event | None = ...,
    visitor: Visitor = ...,
) -> list[PairResult]: ...
def compare(
    base: Model,
    tuned: Model | Sequence[Model],
    *,
    probes: Sequence[str] = PROBE_NAMES,
    tensors: str = "*",
    budget_minutes: float | None = None,
    store: Store | Path | str | None = None,
    workers: int | None = None,
    report: Report = silent,
    cancel: Event | None = None,
    visitor: Visitor = OWNER,
) -> PairResult | list[PairResult]:
    """Compare a tuned model (or several) with its base and keep the records.

    Parameters
    ----------
    base, tuned : str, Path or ModelRef
        Hub id, URL, ``demo:name`` or folder; several tuned models give one result each, and the base's own
        spectra are computed once for all of them.
    probes : sequence of str
        Any of ``coordinate`` (counts, histograms, norms) and ``spectrum`` (singular values, angles, energies).
    tensors : str
        Glob over tensor names, e.g. ``"*q_proj*"``.
    budget_minutes : float, optional
        Wall time for the spectra; matrices beyond it get leading directions only, or are skipped and listed.
    store : Store or path, optional
        Where records are kept; default `RLVIZ_STORE` or the user's cache folder. A pair that is there already
        is returned without reading a weight.
    workers : int, optional
        Tensors probed at the same time, default one per core.
    report : callable
        Receives `Progress`, at most four times a second.
    cancel : threading.Event
        Set it to stop; what landed stays.
    visitor : Visitor
        On whose behalf the hub is asked; by default whoever runs the process.

    Returns
    -------
    PairResult, or a list of them when `tuned` is a list

    Raises
    ------
    InvalidInput, NotFound, Gated, Offline, UnsupportedCheckpoint, NothingComparable, Cancelled
    """
    wanted = request(probes=probes, tensors=tensors, budget_minutes=budget_minutes, workers=workers)
    several = not isinstance(tuned, (str, Path, ModelRef))
    models: Sequence[Model] = tuned if several else [tuned]  # pyright: ignore[reportAssignmentType]
    kept = _store(store)
    with ExitStack() as stack:
        base_side = stack.enter_context(opened(base, visitor, cancel))
        pairings = [pair(base_side, stack.enter_context(opened(model, visitor, cancel))) for model in models]
        results = [compare_pairing(p, kept, wanted, report, cancel) for p in pairings]
    return results if several else results[0]


def compare_pairing(
    pairing: Pairing, store: Store, wanted: Request, report: Report = silent, cancel: Event | None = None
) -> PairResult:
    """The same for checkpoints that are open already."""
    planned = engine.plan(pairing, store, wanted)
    check = CancelCheck(planned.pairing.tuned.identity.ref, cancel or Event())
    for _ in range(ATTEMPTS):
        engine.run(planned, store, report, cancel)
        with store.lock(planned.key, check):  # nobody evicts what is being read
            result = load(store, planned.key)
            if result is not None and result.complete:
                if store.table(result.key) is None or store.read_json(result.key, "summary") is None:
                    _keep_overview(result, store)
                break
    else:
        problem = "its records vanish from the store or are damaged as soon as they are written"
        raise InvalidInput(planned.key[:12], problem, "Look after the disk, or raise RLVIZ_STORE_MAX_GB.")
    return with_ancestor_notice(_landed(result, store))


ATTEMPTS = 3  # runs of one comparison while another process evicts, or the disk damages, what it needs


def _landed(result: PairResult, store: Store) -> PairResult:
    """Share a finished result; where that fails, the numbers stay, and a notice says so."""
    trouble = store.land(result.key)
    if trouble is None:
        return result
    notice = Notice("not_shared", f"{trouble} This result is kept on this machine and is uploaded at the next try.")
    return replace(result, notices=(*result.notices, notice))


def load_result(key: str, store: Store | Path | str | None = None) -> PairResult:
    """A kept result by its key (or an unambiguous prefix of it), without touching either checkpoint.

    Raises
    ------
    NotFound
        Where the store has none of that key.
    """
    kept = _store(store)
    found = load(kept, key)
    if found is None:
        matches = kept.find(key)
        if len(matches) > 1:
            raise InvalidInput(key, f"{len(matches)} results begin so", "Give more of the key.")
        found = load(kept, matches[0]) if matches else None
    if found is None:
        raise NotFound(key, "the store holds no such result", "`python -m rlviz store list` shows what it holds.")
    return with_ancestor_notice(found)


def import_result(source: Path | str, store: Store | Path | str | None = None) -> PairResult:
    """Check a ``.rlviz.zip`` and add its result to the store; its summary and table are made anew from its records.

    Nobody but who made the file vouches for the numbers: hashes show that it arrived whole, not who wrote it.

    Raises
    ------
    InvalidInput, UnsupportedCheckpoint
        The store is as it was.
    """
    kept = _store(store)
    key = kept.import_result(source)
    try:
        result = load_result(key, kept)
        _keep_overview(result, kept)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        kept.discard(key, ())
        problem = "its records do not hold what this release reads"
        raise UnsupportedCheckpoint(Path(source).name, problem, "Export it again with this release.") from error
    kept.land(key)
    return result


def _keep_overview(result: PairResult, store: Store) -> None:
    """What lists show without reading records: the table and the summary at default parameters."""
    store.write_table(result.key, lambda path: result.table().to_parquet(path, index=False))
    store.write_json(result.key, "summary", result.summary())


def with_ancestor_notice(result: PairResult) -> PairResult:
    """Add the warning that only measured norms can give: the base is not the ancestor."""
    # Matrices only: every model's norm weights lie near 1, and would make strangers look related.
    relative = result.pooled("relative_update_norm", where=lambda m: m.match.is_matrix)
    notice = ancestor_notice(relative)
    return replace(result, notices=(*result.notices, notice)) if notice else result


def locate(base: Model, tuned: Model, wanted: Request, visitor: Visitor = OWNER) -> str:
    """The key under which the store keeps (or would keep) this comparison.

    Costs no network where both references carry a commit, one small request per hub model otherwise.
    """
    return result_key(identity(base, visitor), identity(tuned, visitor), wanted)


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
    started, wanted, kept, cancel = time.perf_counter(), asked(budget, seed, target), _store(store), cancel or Event()
    key = preview_key(*_both(lambda model: identity(model, visitor), base, tuned), wanted)
    before = _kept_preview(kept, key)
    if before and (not hosted() or before.base.access == before.tuned.access == "public"):
        return before
    with ExitStack() as stack:
        sides = _both(lambda model: opened(model, visitor, cancel), base, tuned)
        for side in sides:
            stack.enter_context(side)
        if before:  # whoever asks has just shown that they may read both
            return before
        # a branch may have moved since it was first asked about: the name is that of what is read
        key = preview_key(*(side.identity for side in sides), wanted)
        pairing = pair(*sides)
        remote = any(is_remote(side.identity) for side in sides)
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


def _kept_preview(store: Store, key: str) -> Preview | None:
    """The complete preview the store holds; None where there is none that can be read."""
    content = store.read_json(key, "preview")
    if content is None or not content.get("summary", {}).get("complete"):
        return None
    store.touch(key)
    try:
        found = Preview.from_dict(content)
    except (RlvizError, KeyError, TypeError, ValueError):  # of another version, or damaged: it is made again
        return None
    return None if found.stopped == "asked" else found


def _both(ask: Callable[[Model], T], base: Model, tuned: Model) -> tuple[T, T]:
    """The answer for both models, asked side by side; the base's error first."""
    with ThreadPoolExecutor(2, thread_name_prefix="rlviz-open") as threads:
        left, right = threads.submit(ask, base), threads.submit(ask, tuned)
        return left.result(), right.result()


def _store(store: Store | Path | str | None) -> Store:
    return store if isinstance(store, Store) else Store(store)
