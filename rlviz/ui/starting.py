"""Plans, and asking the host for what they say: previews by themselves, exact runs on a click."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import streamlit as st

from rlviz import api
from rlviz.access import Visitor, digest, token_for
from rlviz.engine import Plan, Request
from rlviz.engine.plan import compared_bytes
from rlviz.errors import RlvizError
from rlviz.jobs import Work
from rlviz.sampling.budget import DEFAULT_BYTES
from rlviz.sources import ModelRef
from rlviz.types import ModelIdentity
from rlviz.ui.loading import Pair, comparison, jobs, request, shelf, store
from rlviz.ui.state import BUDGETS_MIN, choice
from rlviz.ui.visitor import OF_VISITOR, session_id, visitor

# session key: previews this session has asked for, so that a cancelled one stays so
_ASKED = f"{OF_VISITOR}asked previews"
RESCALE = f"{OF_VISITOR}rescale"  # session key: that the runs just started are to be rescaled when all have ended
_REFUSED = f"{OF_VISITOR}refused"  # session key: what the last attempt to start was refused with
_PLAN_TTL_S = 300


def planned(pair: Pair) -> Plan:
    """What the exact run would read, from headers; raises what `api.plan` raises."""
    who = visitor()
    # A plan names tensors: it goes as soon as access does.
    standing = (digest(who.token), shelf().may_ask(pair.base, pair.tuned))
    plan = _planned(pair.base, pair.tuned, request(), who, (*standing, pair.key))
    return replace(plan, speed=pair.preview.speed) if pair.preview else plan  # newer than the plan, which is kept


@st.cache_resource(ttl=_PLAN_TTL_S, max_entries=32, show_spinner="Reading headers …")
def _planned(base: str, tuned: str, wanted: Request, _who: Visitor, kept_for: tuple[str, bool, str]) -> Plan:
    return api.plan(base, tuned, store=store(), wanted=wanted, visitor=_who)


def start(pairs: Sequence[Pair]) -> None:
    """Start (or join) the exact runs of these pairs; a refusal is shown by `refusals`."""
    refused: list[str] = []
    for pair in pairs:
        try:
            jobs().ask(_exact(pair, planned(pair)), visitor(), session_id())
        except RlvizError as error:
            refused.append(str(error))
    st.session_state[_REFUSED] = list(dict.fromkeys(refused))
    st.session_state[RESCALE] = len(comparison()) > 1


def start_rescaled(pairs: Sequence[Pair], keys: Sequence[str], wanted: Request) -> None:
    """Start (or join) the runs of these finished pairs at matched norm, kept under `keys`."""
    refused: list[str] = []
    for pair, key in zip(pairs, keys, strict=True):
        try:
            again = _exact(pair, planned(pair))
            work = replace(again, key=key, probes=wanted.probes, beside=wanted.beside, budget_minutes=None)
            nbytes = sum(compared_bytes(m.match) for m in pair.result.measured) if pair.result else 0
            jobs().ask(replace(work, nbytes=nbytes, expected_s=None), visitor(), session_id())
        except RlvizError as error:
            refused.append(str(error))
    st.session_state[_REFUSED] = list(dict.fromkeys(refused))


def start_new_previews(pairs: Sequence[Pair]) -> bool:
    """Ask for the estimates this session has not asked for yet; says whether any was asked for now."""
    asked: set[str] = st.session_state.setdefault(_ASKED, set())
    new = [p for p in pairs if p.preview_key not in asked and (p.preview is None or not p.preview.complete)]
    started = [_start_preview(pair) for pair in new]  # all of them, also after the first
    return any(started)


def start_previews(pairs: Sequence[Pair]) -> None:
    """Ask for the estimates of these pairs, again if need be."""
    for pair in pairs:
        _start_preview(pair)


def _start_preview(pair: Pair) -> bool:
    """A refusal is shown by `refusals`, a pair without a plan by the plan's own sentence."""
    st.session_state.setdefault(_ASKED, set()).add(pair.preview_key)
    try:
        plan = planned(pair)
    except RlvizError:
        return False
    try:
        jobs().ask(_estimate(pair, plan), visitor(), session_id())
    except RlvizError as error:
        st.session_state[_REFUSED] = [str(error)]
        return False
    return True


def refusals() -> list[str]:
    """Why nothing was started at the last attempt."""
    return st.session_state.get(_REFUSED, [])


def _exact(pair: Pair, plan: Plan) -> Work:
    base, tuned = (_reference(i) for i in _identities(plan))
    return Work(
        pair.key,
        base,
        tuned,
        budget_minutes=BUDGETS_MIN.get(choice("budget")),
        nbytes=plan.bytes_to_read,
        model_bytes=max(i.nbytes for i in _identities(plan)),
        expected_s=plan.seconds(),
        needs_token=_needs_token(plan),
    )


def _estimate(pair: Pair, plan: Plan) -> Work:
    base, tuned = (_reference(i) for i in _identities(plan))
    nbytes = min(2 * DEFAULT_BYTES, sum(i.nbytes for i in _identities(plan)))
    return Work(pair.preview_key, base, tuned, kind="preview", nbytes=nbytes, needs_token=_needs_token(plan))


def _identities(plan: Plan) -> tuple[ModelIdentity, ModelIdentity]:
    return plan.pairing.base.identity, plan.pairing.tuned.identity


def _reference(identity: ModelIdentity) -> str:
    """What the worker opens: the commit where there is one, so that a branch may move meanwhile."""
    return identity.pinned_ref


def _needs_token(plan: Plan) -> bool:
    """Whether it takes this visitor's own token: nobody else's would do, and theirs is not written down."""
    own = visitor().token
    return own is not None and any(
        i.access != "public" and token_for(ModelRef.parse(i.pinned_ref).repo_id, Visitor()) is False
        for i in _identities(plan)
    )
