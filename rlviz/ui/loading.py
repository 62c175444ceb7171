"""From the references in the URL to results: what the store has, what is running, what would have to run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

from rlviz import api
from rlviz.access import hosted
from rlviz.engine.plan import Request
from rlviz.errors import RlvizError
from rlviz.jobs import UNDER_WAY, Job, Jobs
from rlviz.result import PairResult, load
from rlviz.sources import ModelRef
from rlviz.store import Store
from rlviz.ui.state import LINEAR, choice, models
from rlviz.views.breakdown import linear_layers

BUDGETS_MIN: dict[str, float | None] = {"no limit": None, "2 min": 2.0, "10 min": 10.0, "60 min": 60.0}
_BRANCH_TTL_S = 60  # how long a branch name is taken to mean the same commit while someone clicks around


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One tuned model of the comparison on the page.

    `result` is what the store has (perhaps partial), `job` what this host runs or ran for it.
    """

    base: str
    tuned: str
    key: str
    result: PairResult | None
    job: Job | None

    @property
    def complete(self) -> bool:
        return self.result is not None and self.result.complete

    @property
    def under_way(self) -> bool:
        return self.job is not None and self.job.status().state in UNDER_WAY


def comparison() -> tuple[Pair, ...]:
    """The pairs named in the URL, in order; empty while a base or every tuned model is missing.

    A pair whose reference is wrong or out of reach is left out here; `problems` says why.
    """
    return tuple(p for p in _pairs() if isinstance(p, Pair))


def problems() -> tuple[RlvizError, ...]:
    """What is wrong with the references in the URL, each sentence once."""
    return tuple({str(p): p for p in _pairs() if not isinstance(p, Pair)}.values())


def _pairs() -> Iterator[Pair | RlvizError]:
    base, tuned = models()
    for one in tuned if base else ():
        try:
            yield _pair(base, one)
        except RlvizError as error:
            yield error


def results() -> tuple[PairResult, ...]:
    """Results of the pairs that have any, partial ones included, over the tensors the reader chose to cover."""
    found = tuple(p.result for p in comparison() if p.result is not None and p.result.measured)
    if choice("coverage") != LINEAR:
        return found
    linear = tuple(r.restricted(linear_layers) for r in found)
    return linear if all(r.measured for r in linear) else found


def request() -> Request:
    """What a run started from the page measures."""
    return api.request(budget_minutes=BUDGETS_MIN.get(choice("budget")))


def start(pairs: Sequence[Pair]) -> None:
    """Start (or join) the runs of these pairs."""
    wanted = request()
    for pair in pairs:
        jobs().start(pair.key, _asked(pair, wanted))


def store() -> Store:
    """The store this host keeps results in."""
    return Store()


@st.cache_resource
def jobs() -> Jobs:
    """The process-wide registry of runs."""
    return Jobs()


def pinned(pair: Pair) -> tuple[str, str]:
    """Base and tuned as a link should hold them: commits, not branches."""
    if pair.result is None:
        return pair.base, pair.tuned
    return pair.result.base.pinned_ref, pair.result.tuned.pinned_ref


def _pair(base: str, tuned: str) -> Pair:
    for text in (base, tuned):
        # A malformed reference is refused before anything is asked of the network.
        ModelRef.parse(text, look_here=not hosted())
    key = _located(base, tuned, request())
    return Pair(base, tuned, key, _result(key), jobs().get(key))


@st.cache_data(ttl=_BRANCH_TTL_S, max_entries=256, show_spinner=False)
def _located(base: str, tuned: str, wanted: Request) -> str:
    return api.locate(base, tuned, wanted)


def _result(key: str) -> PairResult | None:
    manifest = store().result_path(key) / "manifest.json"
    if not manifest.exists():
        return None
    found = store().read_json(key, "manifest")
    if found is not None and found["complete"]:
        return _complete_result(key, manifest.stat().st_mtime_ns)
    return load(store(), key)


@st.cache_resource(max_entries=16, show_spinner=False)
def _complete_result(key: str, mtime_ns: int) -> PairResult:
    return api.load_result(key, store())


def _asked(pair: Pair, wanted: Request) -> dict[str, Any]:
    return {
        "base": pair.base,
        "tuned": pair.tuned,
        "probes": wanted.probes,
        "tensors": wanted.tensors,
        "budget_minutes": None if wanted.budget_s is None else wanted.budget_s / 60,
        "store": str(store().root),
    }
