"""What runs for this page: places in the queue, bars, the heat map as it fills in, cancel. Polls only meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import streamlit as st

from rlviz.jobs import JobStatus
from rlviz.ui.controls import chosen_metric
from rlviz.ui.loading import Pair, jobs, shelf
from rlviz.ui.state import params
from rlviz.ui.text import escaped
from rlviz.ui.visitor import session_id, visitor
from rlviz.views.words import count, duration, file_size

POLL_S = 0.5


def render_progress(waiting: Sequence[Pair]) -> None:
    """One bar per run and per estimate; the page is drawn again in full when one ends or an estimate gets better."""
    drawn = {status.key: status.rounds for pair in waiting for status in _under_way(pair)}
    if drawn:
        st.fragment(_bars, run_every=POLL_S)(tuple(waiting), drawn)


def _bars(pairs: Sequence[Pair], drawn: dict[str, int]) -> None:
    """`drawn` holds the rounds each estimate had when the page was drawn (exact runs: 0)."""
    now = {key: jobs().watch(key, session_id()) for key in drawn}
    for pair in pairs:
        for key in (pair.preview_key, pair.key):
            if (status := now.get(key)) and status.under_way:
                render_bar(pair.tuned, status)
    if any(status is None or not status.under_way or status.rounds > drawn[key] for key, status in now.items()):
        st.rerun()
    _partial_heatmap([pair for pair in pairs if pair.key in drawn])


def _under_way(pair: Pair) -> Iterator[JobStatus]:
    yield from (status for status in (pair.run, pair.estimating) if status and status.under_way)


def render_bar(about: str, status: JobStatus) -> None:
    """How far one job is, and the button that stops it for who may."""
    share, text = _said(status)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.progress(share, text=f"{escaped(about)}: {text}")
        if status.stopping:
            return
        if jobs().may_cancel(status.key, visitor(), session_id()):
            label = "Cancel" if status.kind == "compare" else "Stop"
            st.button(label, key=f"cancel_{status.key[:12]}", on_click=_cancel, args=(status.key,))


def _cancel(key: str) -> None:
    jobs().cancel(key, visitor(), session_id())


def _said(status: JobStatus) -> tuple[float, str]:
    """How full the bar is, and what it says."""
    if status.stopping:
        return 0.0, "stopping …"
    if status.state == "queued":
        jobs_ahead = "1 job" if status.ahead == 1 else f"{count(status.ahead)} jobs"
        return 0.0, f"queued, {jobs_ahead} ahead of yours" if status.ahead else "queued, next in line"
    left = "" if status.eta_s is None else f" · {duration(status.eta_s)} left"
    if status.kind == "preview":
        rounds = f"round {status.rounds + 1}" if status.rounds else "reading headers, then the first round"
        return 0.0, f"estimating · {rounds} …"
    progress = status.progress
    if progress is None:
        return 0.0, f"reading headers …{left}"
    return (
        progress.steps_done / max(progress.steps_total, 1),
        f"{progress.state} · {progress.steps_done} of {progress.steps_total} steps · "
        f"{file_size(progress.bytes_read)} of {file_size(progress.bytes_total)} read "
        f"({file_size(status.bytes_per_s)}/s){left}",
    )


def _partial_heatmap(pairs: Sequence[Pair]) -> None:
    from rlviz import views
    from rlviz.ui.show import theme

    kept = shelf()
    now = [(p, r) for p in pairs if (r := kept.result(p.key))]
    if any(p.shown is None and p.preview is not None and r.counted for p, r in now):
        st.rerun()  # the page still shows the estimate
    landed = [r for _, r in now if any(m.records for m in r.measured)]
    if landed:
        plot = views.plot_layer_heatmap(landed, chosen_metric(), params(), theme())
        st.plotly_chart(plot.figure, theme=None, key="partial_heatmap", alt=plot.alt)
