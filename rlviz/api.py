"""The public calls. The command line and the dashboard ask these and nothing deeper."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import overload

from rlviz import engine
from rlviz.access import OWNER, Visitor
from rlviz.engine import Plan, Request
from rlviz.engine.plan import MIB, default_memory_bytes, default_workers, result_key
from rlviz.engine.run import Report, silent
from rlviz.errors import InvalidInput, NotFound
from rlviz.opening import Model, identity, opened
from rlviz.probes import PROBE_NAMES
from rlviz.result import PairResult, load
from rlviz.sources import ModelRef, Pairing, pair
from rlviz.sources.sanity import ancestor_notice
from rlviz.store import Store


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
    engine.run(planned, store, report, cancel)
    result = load_result(planned.key, store)
    if not (store.result_path(planned.key) / "tensors.parquet").exists():
        store.write_table(planned.key, lambda path: result.table().to_parquet(path, index=False))
        store.write_json(planned.key, "summary", result.summary())  # what a library lists without reading records
    return result


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


def _store(store: Store | Path | str | None) -> Store:
    return store if isinstance(store, Store) else Store(store)
