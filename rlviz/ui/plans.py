"""Before a run: what it would read and take, what would be left out, and the button that starts it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import streamlit as st

from rlviz import api
from rlviz.engine import Plan
from rlviz.errors import RlvizError
from rlviz.types import Notice
from rlviz.ui.errors import render_error
from rlviz.ui.loading import BUDGETS_MIN, Pair, request, start, store
from rlviz.ui.text import escaped
from rlviz.views.words import duration, file_size


def render_failures(waiting: Sequence[Pair]) -> None:
    """How earlier runs of these pairs ended, where they did not end well."""
    for pair in waiting:
        status = pair.job.status() if pair.job else None
        if status and status.error and status.state == "failed":
            render_error(status.error)
        elif status and status.state == "cancelled":
            st.info(f"Cancelled: {escaped(pair.tuned)}. What had landed is kept; run again to go on.")


def render_plans(waiting: Sequence[Pair]) -> None:
    """One line per pair still to be computed, and the button that starts them."""
    plans = [planned for p in waiting if (planned := _plan_or_sentence(p))]
    if not plans:
        return
    for planned in plans:
        _render_plan(planned)
    for notice in distinct(n for planned in plans for n in planned.pairing.notices):
        st.caption(f":material/info: {escaped(notice.detail)}")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox(
            "Time budget for spectra",
            list(BUDGETS_MIN),
            key="budget",
            bind="query-params",
            width=200,
            help="Matrices beyond it get leading directions only, or are listed as skipped.",
        )
        st.button("Exact run", key="run", type="primary", on_click=lambda: start(waiting))


def _plan_or_sentence(pair: Pair) -> Plan | None:
    try:
        with st.spinner("Reading headers …"):
            return api.plan(pair.base, pair.tuned, store=store(), wanted=request())
    except RlvizError as error:
        render_error(error)
        return None


def _render_plan(planned: Plan) -> None:
    matched, skipped = planned.pairing.matched, planned.skipped
    tuned = escaped(planned.pairing.tuned.identity.label)
    dtypes = Counter(f"{m.base.dtype} / {m.tuned.dtype}" for m in matched)
    costs = " · ".join(f"{name} {duration(planned.seconds(name))}" for name in planned.request.probes)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"**Plan** {tuned}: {len(matched)} of {planned.total_tensors} tensors match "
            f"({', '.join(dtypes)}) · {file_size(planned.bytes_to_read)} to read · about "
            f"{duration(planned.seconds())} ({costs}) · up to {file_size(planned.memory_bytes)} of memory",
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
