"""From the references in the URL to what can be shown: results, estimates, and how far their runs are.

Every read goes through the `Shelf` of whoever is at the other end of the session.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import streamlit as st

from rlviz import api
from rlviz.access import Visitor, digest, hosted
from rlviz.engine import Request
from rlviz.errors import RlvizError
from rlviz.jobs import Jobs, JobStatus
from rlviz.result import PairResult, load
from rlviz.sampling import Preview
from rlviz.shelf import Shelf
from rlviz.sources import ModelRef
from rlviz.store import Store
from rlviz.ui.matching import with_matched
from rlviz.ui.state import BUDGETS_MIN, LINEAR, RESULT, choice, models
from rlviz.ui.visitor import OF_VISITOR, session_id, visitor
from rlviz.views.breakdown import linear_layers

_KEY = re.compile(r"[0-9a-f]{64}")
_FOUND = f"{OF_VISITOR}found"  # session key: what this run of the page looked up
_BRANCH_TTL_S = 60  # how long a branch name is taken to mean the same commit while someone clicks around


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """One tuned model of the comparison on the page.

    `result` and `preview` are what the store has for this visitor (perhaps partial), `run` and `estimating` how far
    the host is with either.
    """

    base: str
    tuned: str
    key: str
    preview_key: str
    result: PairResult | None
    preview: Preview | None
    run: JobStatus | None
    estimating: JobStatus | None

    @property
    def complete(self) -> bool:
        return self.result is not None and self.result.complete

    @property
    def shown(self) -> PairResult | None:
        """The exact result, from where on it says more than the estimate: a few tensors are not the model."""
        if self.result is None or not self.result.measured:
            return None
        return self.result if self.preview is None or self.result.counted else None

    @property
    def under_way(self) -> bool:
        """Whether the exact run is queued or running."""
        return self.run is not None and self.run.under_way


def look_up() -> tuple[Pair, ...]:
    """The pairs named in the URL, in order, as they stand now; empty while a base or every tuned model is missing.

    A pair whose reference is wrong or out of reach is left out; `problems` says why. Called once per run of a page.
    """
    base, tuned = models()
    found = [_pair_or_error(base, one) for one in tuned] if base else []
    st.session_state[_FOUND] = found
    return comparison()


def comparison() -> tuple[Pair, ...]:
    """What `look_up` found."""
    return tuple(p for p in _found() if isinstance(p, Pair))


def problems() -> tuple[RlvizError, ...]:
    """What is wrong with the references in the URL, each sentence once."""
    return tuple({str(p): p for p in _found() if not isinstance(p, Pair)}.values())


def _found() -> list[Pair | RlvizError]:
    return st.session_state.get(_FOUND, [])


def _pair_or_error(base: str, tuned: str) -> Pair | RlvizError:
    try:
        return _pair(base, tuned)
    except RlvizError as error:
        return error


def results() -> tuple[PairResult, ...]:
    """Results of the pairs that have any, partial ones included, over the tensors the reader chose to cover."""
    found = with_matched(
        tuple(p.shown for p in comparison() if p.shown is not None), request(), lambda key: _result(shelf(), key)
    )
    if choice("coverage") != LINEAR:
        return found
    linear = tuple(r.restricted(linear_layers) for r in found)
    return linear if all(r.measured for r in linear) else found


def request() -> Request:
    """What a run started from the page measures."""
    return api.request(budget_minutes=BUDGETS_MIN.get(choice("budget")))


@st.cache_resource
def store() -> Store:
    """The store this host keeps results in."""
    return Store()


def shelf() -> Shelf:
    """That store as this session's visitor may see it."""
    return Shelf(store(), visitor())


@st.cache_resource
def jobs() -> Jobs:
    """This process's hand on the host's runs."""
    return Jobs(store())


def _pair(base: str, tuned: str) -> Pair:
    refs = [ModelRef.parse(text, look_here=not hosted()) for text in (base, tuned)]
    kept = shelf()
    # Asked before the store is, so that the time a refusal takes does not tell what is kept.
    refused = kept.refused(*refs)
    linked = None if refused else _linked(base, tuned)
    if linked is not None:
        return Pair(base, tuned, linked.key, "", linked, None, None, None)
    who = visitor()
    key, preview_key = _located(base, tuned, request(), who, digest(who.token))
    if refused:
        return Pair(base, tuned, key, preview_key, None, None, None, None)
    result, preview = _result(kept, key), kept.preview(preview_key)
    # A key can be computed by whoever knows two commits: what runs is told to those who may read both models only.
    told = result is not None or preview is not None or kept.may_ask(*refs)
    run, estimating = (_watched(key), _watched(preview_key)) if told else (None, None)
    return Pair(base, tuned, key, preview_key, result, preview, run, estimating)


def _linked(base: str, tuned: str) -> PairResult | None:
    """The finished result of this very pair that the link names, whatever it was measured with."""
    for key in linked_keys():
        result = _result(shelf(), key)
        if result and result.complete and (result.base.pinned_ref, result.tuned.pinned_ref) == (base, tuned):
            return result
    return None


def linked_keys() -> list[str]:
    """Keys of the kept results that the link names; none once the reader has asked for new ones."""
    # Unlike in `choice`, an emptied widget counts, though the URL still has what it held.
    asked = str(st.session_state.get(RESULT, st.query_params.get(RESULT, "")))
    return [key for key in asked.split(",") if _KEY.fullmatch(key)]


def _watched(key: str) -> JobStatus | None:
    return jobs().watch(key, session_id())


@st.cache_data(ttl=_BRANCH_TTL_S, max_entries=1024, show_spinner=False)
def _located(base: str, tuned: str, wanted: Request, _who: Visitor, token_digest: str) -> tuple[str, str]:
    """Keys of the exact result and of the preview, as this visitor's token resolves the two names."""
    return api.locate(base, tuned, wanted, _who), api.locate_preview(base, tuned, visitor=_who)


def _result(kept: Shelf, key: str) -> PairResult | None:
    stamp = kept.stamp(key)
    if stamp is None:
        return None
    return _complete_result(key, stamp) or load(store(), key)


@st.cache_resource(max_entries=16, show_spinner=False)
def _complete_result(key: str, stamp: int) -> PairResult | None:
    """A finished result, shared by all sessions: each has been let through by its own shelf before."""
    manifest = store().read_json(key, "manifest")
    return api.load_result(key, store()) if manifest and manifest["complete"] else None
