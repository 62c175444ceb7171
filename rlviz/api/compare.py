"""Exact comparisons: asked for, planned, run and located."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import overload

from rlviz import engine
from rlviz.access import OWNER, Visitor
from rlviz.api.kept import keep_overview, kept_preview, open_store, with_ancestor_notice
from rlviz.api.matched import matched_request, with_matched
from rlviz.engine import Plan, Request
from rlviz.engine.bulletin import Report
from rlviz.engine.executors import LOCAL, Executor, executor_for
from rlviz.engine.memory import CancelCheck
from rlviz.engine.plan import result_key
from rlviz.engine.request import MIB, default_memory_bytes, default_workers
from rlviz.engine.run import silent
from rlviz.errors import InvalidInput
from rlviz.opening import Model, identity, opened
from rlviz.probes import AFTERWARDS, PROBE_NAMES
from rlviz.result import PairResult, load
from rlviz.sampling.budget import DEFAULT, preview_key
from rlviz.sources import ModelRef, Pairing, pair
from rlviz.store import Store
from rlviz.types import Notice


def request(
    *,
    probes: Sequence[str] = PROBE_NAMES,
    tensors: str = "*",
    budget_minutes: float | None = None,
    workers: int | None = None,
    memory_mb: int | None = None,
    k_max: int = 128,
    seed: int = 0,
) -> Request:
    """What to measure, with defaults from the environment (`RLVIZ_WORKERS`, `RLVIZ_MEMORY_MB`)."""
    if budget_minutes is not None and not 0 < budget_minutes < float("inf"):
        raise InvalidInput(
            f"budget of {budget_minutes:g} minutes", "is not a positive number", "Give a number above 0."
        )
    if seed < 0:
        raise InvalidInput(f"seed {seed}", "is not a seed", "Give 0 or a positive number.")
    if workers is not None and workers < 1:
        raise InvalidInput(f"{workers} workers", "are too few", "Give 1 or more.")
    return Request(
        probes=tuple(probes),
        tensors=tensors,
        budget_s=None if budget_minutes is None else 60 * budget_minutes,
        memory_bytes=default_memory_bytes() if memory_mb is None else memory_mb * MIB,
        workers=workers or default_workers(),
        k_max=k_max,
        seed=seed,
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
        return _planned(pair(base_side, tuned_side), open_store(store), wanted or request())


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
    backend: str | None = ...,
    seed: int = ...,
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
    backend: str | None = ...,
    seed: int = ...,
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
    backend: str | None = None,
    seed: int = 0,
    report: Report = silent,
    cancel: Event | None = None,
    visitor: Visitor = OWNER,
) -> PairResult | list[PairResult]:
    """Compare a tuned model (or several) with its base and keep the records.

    Parameters
    ----------
    base, tuned : str, Path or ModelRef
        Hub id, URL, ``demo:name`` or folder; several tuned models give one result each. The base's own spectra are
        computed once for all of them, and where spectra are asked for, those at matched norm too.
    probes : sequence of str
        Any of ``coordinate`` (counts, histograms, norms), ``spectrum`` (singular values, angles, energies), ``masks``
        (where changes fall) and ``nulls`` (simulations of chance).
    tensors : str
        Glob over tensor names, e.g. ``"*q_proj*"``.
    budget_minutes : float, optional
        Wall time for the spectra; matrices beyond it get leading directions only, or are skipped and listed.
    store : Store or path, optional
        Where records are kept; default `RLVIZ_STORE` or the user's cache folder. A pair that is there already
        is returned without reading a weight.
    workers : int, optional
        Tensors probed at the same time, default one per core.
    backend : str, optional
        Where they are probed: ``local``, ``ray`` or ``ray://HOST:PORT``; default `RLVIZ_BACKEND`, then ``local``. The
        result is the same.
    seed : int
        Of the simulated nulls, at least 0: the same seed gives the same bytes.
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
    wanted = request(probes=probes, tensors=tensors, budget_minutes=budget_minutes, workers=workers, seed=seed)
    several = not isinstance(tuned, (str, Path, ModelRef))
    models: Sequence[Model] = tuned if several else [tuned]  # pyright: ignore[reportAssignmentType]
    kept = open_store(store)
    with ExitStack() as stack:
        executor = stack.enter_context(executor_for(backend))
        base_side = stack.enter_context(opened(base, visitor, cancel))
        pairings = [pair(base_side, stack.enter_context(opened(model, visitor, cancel))) for model in models]
        results = [compare_pairing(p, kept, wanted, report, cancel, executor=executor) for p in pairings]
        matched = matched_request(results, wanted)
        if matched is not None:
            rescaled = [compare_pairing(p, kept, matched, report, cancel, executor=executor) for p in pairings]
            results = with_matched(results, rescaled)
    return results if several else results[0]


def rescale(
    base: Model,
    tuned: Model,
    beside: Sequence[str],
    *,
    store: Store | Path | str | None = None,
    report: Report = silent,
    cancel: Event | None = None,
    visitor: Visitor = OWNER,
) -> PairResult:
    """One of several compared runs at the smallest norm among them; `compare` of several models does this by itself.

    Parameters
    ----------
    beside : keys of the finished results of all runs, this one's among them

    Raises
    ------
    InvalidInput
        Where the store lacks one of the results; else as `compare`.
    """
    wanted = replace(request(probes=AFTERWARDS), beside=tuple(sorted(beside)))
    with ExitStack() as stack:
        executor = stack.enter_context(executor_for(None))
        sides = [stack.enter_context(opened(model, visitor, cancel)) for model in (base, tuned)]
        return compare_pairing(pair(*sides), open_store(store), wanted, report, cancel, executor=executor)


def compare_pairing(
    pairing: Pairing,
    store: Store,
    wanted: Request,
    report: Report = silent,
    cancel: Event | None = None,
    *,
    executor: Executor = LOCAL,
) -> PairResult:
    """The same for checkpoints that are open already."""
    planned = _planned(pairing, store, wanted)
    check = CancelCheck(planned.pairing.tuned.identity.ref, cancel or Event())
    for _ in range(ATTEMPTS):
        engine.run(planned, store, report, cancel, executor)
        with store.lock(planned.key, check):  # nobody evicts what is being read
            result = load(store, planned.key)
            if result is not None and result.complete:
                if store.table(result.key) is None or store.read_json(result.key, "summary") is None:
                    keep_overview(result, store)
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


def _planned(pairing: Pairing, store: Store, wanted: Request) -> Plan:
    """The plan, its times warmed by what a preview of the same pair measured."""
    planned = engine.plan(pairing, store, wanted)
    if not (planned.remote and planned.pending):
        return planned  # nothing is read over a network: a shared store is not asked for the preview
    known = kept_preview(store, preview_key(pairing.base.identity, pairing.tuned.identity, DEFAULT))
    return replace(planned, speed=known.speed) if known else planned


def locate(base: Model, tuned: Model, wanted: Request, visitor: Visitor = OWNER) -> str:
    """The key under which the store keeps (or would keep) this comparison.

    Costs no network where both references carry a commit, one small request per hub model otherwise.
    """
    return result_key(identity(base, visitor), identity(tuned, visitor), wanted)
