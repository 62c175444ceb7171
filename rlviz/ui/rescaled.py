"""The runs of a comparison at matched norm: their figure, or what it takes to have it."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from rlviz import views
from rlviz.engine import Request
from rlviz.metrics import METRICS
from rlviz.result import PairResult
from rlviz.types import MetricParams
from rlviz.ui.errors import render_error
from rlviz.ui.loading import Pair, comparison, jobs, request, results
from rlviz.ui.matching import matched_keys
from rlviz.ui.progress import POLL_S, render_bar
from rlviz.ui.show import render_plot, theme
from rlviz.ui.starting import RESCALE, refusals, start_rescaled
from rlviz.ui.text import escaped
from rlviz.ui.visitor import session_id
from rlviz.views.words import tuned_labels

_WHY = "A run that moved further rotates and shifts more. Rescaled to the smallest norm, matrix by matrix, it need not."


def render_matched(shown: Sequence[PairResult], metrics: tuple[str, ...], params: MetricParams) -> None:
    """Metrics of several runs as they are and at the smallest norm among them; nothing for a single run."""
    if len(shown) < 2:
        return
    st.markdown("#### At matched norm")
    if _matched(shown):
        plot = views.plot_matched_norm(shown, metrics, params, theme())
        render_plot(plot, f"matched_{metrics[0]}", shown, METRICS[f"{metrics[0]}_matched"])
        return
    asked = matched_keys(shown, request())
    if asked is None:
        st.caption(f"{_WHY} It can be measured of finished runs, on matrices whose spectra all of them have changed.")
    else:
        _render_waiting(shown, *asked)


def rescale_once(pairs: Sequence[Pair]) -> None:
    """Go on to matched norm where this session has just had several runs made, and the last has ended."""
    if not st.session_state.get(RESCALE) or not all(p.complete for p in pairs):
        return
    del st.session_state[RESCALE]
    found = results()
    asked = matched_keys(found, request())
    if asked and not _matched(found):
        wanted, keys = asked
        start_rescaled(pairs, keys, wanted)


def _matched(shown: Sequence[PairResult]) -> bool:
    return any("matched" in m.records for r in shown for m in r.measured)


def _render_waiting(shown: Sequence[PairResult], wanted: Request, keys: tuple[str, ...]) -> None:
    """The bars of what runs, or the button that starts it."""
    statuses = [jobs().watch(key, session_id()) for key in keys]
    if any(status and status.under_way for status in statuses):
        st.fragment(_bars, run_every=POLL_S)(tuple(tuned_labels(shown)), keys)
        return
    for status in statuses:
        if status and status.error:
            render_error(status.error)
    for refusal in refusals():
        st.warning(escaped(refusal), icon=":material/hourglass_disabled:")
    st.caption(f"{_WHY} It takes another decomposition of every run but the shortest.")
    pairs = [p for p in comparison() if p.shown is not None]
    st.button("Measure at matched norm", key="rescale", on_click=start_rescaled, args=(pairs, keys, wanted))


def _bars(labels: tuple[str, ...], keys: tuple[str, ...]) -> None:
    now = [jobs().watch(key, session_id()) for key in keys]
    running = [(label, status) for label, status in zip(labels, now, strict=True) if status and status.under_way]
    for label, status in running:
        render_bar(f"{label} at matched norm", status)
    if not running:
        st.rerun()
