"""Before a run: what it would read and take, what would be left out, and the button that starts it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import streamlit as st

from rlviz.engine import Plan
from rlviz.errors import RlvizError
from rlviz.types import Notice
from rlviz.ui.errors import render_error
from rlviz.ui.loading import Pair
from rlviz.ui.starting import planned, refusals, start, start_previews
from rlviz.ui.text import escaped
from rlviz.views.words import duration, file_size


def render_failures(waiting: Sequence[Pair]) -> None:
    """How earlier runs and estimates of these pairs ended, where they did not end well, and what stood in the way."""
    for refusal in refusals():
        st.warning(escaped(refusal), icon=":material/hourglass_disabled:")
    for pair in waiting:
        for status in (pair.run, pair.estimating):
            if status and status.error and status.state == "failed":
                render_error(status.error)
        if pair.run and pair.run.state == "cancelled":
            st.info(f"Cancelled: {escaped(pair.tuned)}. What had landed is kept; run again to go on.")
        if pair.run and pair.run.state == "waiting":
            st.info(f"{escaped(pair.tuned)}: interrupted by a restart, and needs your token to go on. Run it again.")


def render_plans(waiting: Sequence[Pair]) -> None:
    """One line per pair still to be computed, and the button that starts them."""
    plans = [(pair, plan) for pair in waiting if (plan := _plan_or_sentence(pair))]
    if not plans:
        return
    for pair, plan in plans:
        _render_plan(pair, plan)
    for notice in distinct(n for _, plan in plans for n in plan.pairing.notices):
        st.caption(f":material/info: {escaped(notice.detail)}")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        possible = [pair for pair, _ in plans]
        st.button("Exact run", key="run", type="primary", on_click=start, args=(possible,))
        stopped = [p for p in possible if p.preview is None and not (p.estimating and p.estimating.under_way)]
        if stopped:
            st.button("Preview", key="preview", on_click=start_previews, args=(stopped,))


def _plan_or_sentence(pair: Pair) -> Plan | None:
    try:
        return planned(pair)
    except RlvizError as error:
        render_error(error)
        return None


def _render_plan(pair: Pair, plan: Plan) -> None:
    matched, skipped = plan.pairing.matched, plan.skipped
    tuned = escaped(plan.pairing.tuned.identity.label)
    dtypes = Counter(f"{m.base.dtype} / {m.tuned.dtype}" for m in matched)
    reading = {"reading": plan.reading_seconds} if plan.remote else {}
    parts = reading | {name: plan.seconds(name) for name in plan.request.probes}
    costs = " · ".join(f"{name} {duration(seconds)}" for name, seconds in parts.items())
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"**Plan** {tuned}: {len(matched)} of {plan.total_tensors} tensors match "
            f"({', '.join(dtypes)}) · {file_size(plan.bytes_to_read)} to read · about "
            f"{duration(plan.seconds())} ({costs}) · up to {file_size(plan.memory_bytes)} of memory",
            width="content",
        )
        with st.popover(f"{len(matched)} tensors, {len(skipped)} skipped", type="tertiary"):
            st.dataframe(
                [
                    {
                        "tensor": m.name,
                        "shape": " × ".join(map(str, m.shape)),
                        "base": m.base.dtype,
                        "tuned": m.tuned.dtype,
                    }
                    for m in matched
                ],
                hide_index=True,
            )
            if skipped:
                rows = [{"tensor": s.name, "reason": s.reason, "detail": s.detail} for s in skipped]
                st.dataframe(rows, hide_index=True)


def distinct(notices: Iterable[Notice]) -> list[Notice]:
    """Each sentence once, in order."""
    return list({n.detail: n for n in notices}.values())
