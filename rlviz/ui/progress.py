"""A run under way: bars, the heat map as it fills in, cancel. Polls only while something runs."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from rlviz.jobs import UNDER_WAY, JobStatus
from rlviz.result import load
from rlviz.ui.controls import chosen_metric
from rlviz.ui.loading import Pair, store
from rlviz.ui.state import params
from rlviz.ui.text import escaped
from rlviz.views.words import duration, file_size

POLL_S = 0.5


def render_progress(waiting: Sequence[Pair]) -> None:
    """One bar per running pair; the page is drawn again in full when the last of them ends."""
    st.fragment(_bars, run_every=POLL_S)(tuple(p for p in waiting if p.under_way))


def _bars(pairs: Sequence[Pair]) -> None:
    statuses = [(pair, pair.job.status()) for pair in pairs if pair.job]
    for pair, status in statuses:
        if status.state in UNDER_WAY:
            _bar(pair, status)
    if all(status.state not in UNDER_WAY for _, status in statuses):
        st.rerun()
    _partial_heatmap(pairs)


def _bar(pair: Pair, status: JobStatus) -> None:
    progress = status.progress
    with st.container(horizontal=True, vertical_alignment="center"):
        if progress is None:
            doing = "queued" if status.state == "queued" else "reading headers"
            st.progress(0.0, text=f"{escaped(pair.tuned)}: {doing} …")
        else:
            left = f" · {duration(progress.eta_s)} left" if progress.eta_s is not None else ""
            rate = progress.bytes_read / progress.elapsed_s if progress.elapsed_s else 0.0
            st.progress(
                progress.steps_done / max(progress.steps_total, 1),
                text=f"{escaped(pair.tuned)}: {progress.state} · "
                f"{progress.steps_done} of {progress.steps_total} steps · "
                f"{file_size(progress.bytes_read)} read ({file_size(rate)}/s){left}",
            )
        if pair.job:
            st.button("Cancel", key=f"cancel_{pair.key[:12]}", on_click=pair.job.cancel)


def _partial_heatmap(pairs: Sequence[Pair]) -> None:
    from rlviz import views
    from rlviz.ui.show import theme

    landed = [r for p in pairs if (r := load(store(), p.key)) and any(m.records for m in r.measured)]
    if landed:
        plot = views.plot_layer_heatmap(landed, chosen_metric(), params(), theme())
        st.plotly_chart(plot.figure, theme=None, key="partial_heatmap", alt=plot.alt)
