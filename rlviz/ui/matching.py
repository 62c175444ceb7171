"""Several runs at matched norm: joined to the results where the store has them, else measured on a click."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from rlviz import api
from rlviz.engine import Request
from rlviz.result import PairResult

Lookup = Callable[[str], PairResult | None]
"""The kept result of a key, for this visitor."""


def matched_keys(found: Sequence[PairResult], wanted: Request) -> tuple[Request, tuple[str, ...]] | None:
    """What to ask of the runs, and under which keys it is kept; None where there are no two finished ones."""
    if len(found) < 2 or not all(r.complete for r in found):
        return None
    request = _request(tuple(r.key for r in found), tuple(found), wanted)
    return request and (request, tuple(api.matched_key(r, request) for r in found))


@st.cache_resource(max_entries=64, show_spinner=False)
def _request(keys: tuple[str, ...], _found: tuple[PairResult, ...], wanted: Request) -> Request | None:
    return api.matched_request(_found, wanted)


def with_matched(found: tuple[PairResult, ...], wanted: Request, look_up: Lookup) -> tuple[PairResult, ...]:
    """The results, with records at matched norm where all of them are kept."""
    asked = matched_keys(found, wanted)
    if asked is None:
        return found
    rescaled = [look_up(key) for key in asked[1]]
    whole = tuple(r for r in rescaled if r is not None and r.complete)
    return _joined(asked[1], found, whole) if len(whole) == len(found) else found


@st.cache_resource(max_entries=16, show_spinner=False)
def _joined(
    keys: tuple[str, ...], _found: tuple[PairResult, ...], _rescaled: tuple[PairResult, ...]
) -> tuple[PairResult, ...]:
    """Joined once, so that figures over the same results are drawn once."""
    return tuple(api.with_matched(_found, _rescaled))
