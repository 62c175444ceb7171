"""What stands on every page: the comparison bar, the plan before a run, progress during it, the tensor picker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import streamlit as st

from rlviz import api
from rlviz.engine import Plan
from rlviz.errors import RlvizError
from rlviz.result import PairResult
from rlviz.types import Notice
from rlviz.ui.controls import render_controls
from rlviz.ui.errors import render_error
from rlviz.ui.inputs import RUN_AT_ONCE, render_inputs
from rlviz.ui.loading import BUDGETS_MIN, Pair, comparison, pinned, request, start, store
from rlviz.ui.picker import render_picker
from rlviz.ui.progress import render_progress
from rlviz.ui.state import link, models
from rlviz.views.words import count, duration, file_size, tuned_labels

INTRODUCTION = """
Paste a **base** model and one or more models **tuned** from it. rlviz reads the weights of both and shows, layer by
layer, how much of the update survives in the stored precision, how the spectrum moved, and where the update lies
against the principal components, each number beside what chance alone would give.
"""

DEMO_NOTE = """
The demo checkpoints were really trained (3 M parameters, one bf16 base), and show the measurements and their controls;
they do not replicate the papers. SFT at RL's learning rate on in-distribution text (`sft_same`) is nearly as sparse as
RL; at matched norm RL rotates and shifts no less than SFT; RL's update here lies *on* the principal block; and `sft` is
undertrained and forgot (pass@1 .152, base .452, rl .570).
"""


NEEDS_NO_RESULT = "Methods"


def render_frame(page: str) -> None:
    """The bar, then whatever the pairs in the URL need next; stops the page where there is nothing to show."""
    pairs = comparison_or_sentence()
    shown = [p.result for p in pairs if p.result is not None and p.result.measured]
    if page == NEEDS_NO_RESULT:
        with st.expander("Models", icon=":material/tune:"):
            render_inputs()
        if shown:
            render_picker(shown)
        render_controls(page)
        return
    with st.expander("Models", expanded=not shown, icon=":material/tune:"):
        if not shown:
            st.markdown(INTRODUCTION)
        render_inputs()
    if not all(models()):
        st.info("Choose a base and a tuned model above, or start with the demo.")
        st.stop()
    if shown:
        _render_bar(shown, pairs)
    waiting = [p for p in pairs if not p.complete]
    if waiting and st.session_state.pop(RUN_AT_ONCE, False):
        start(waiting)
        st.rerun()
    if any(p.under_way for p in waiting):
        render_progress(waiting)
    elif waiting:
        _render_failures(waiting)
        _render_plans(waiting)
    if not shown:
        st.stop()
    render_picker(shown)
    render_controls(page)


def comparison_or_sentence() -> tuple[Pair, ...]:
    """The pairs, or none after a sentence that says what is wrong with a reference."""
    try:
        return comparison()
    except RlvizError as error:
        render_error(error)
        return ()


def _render_bar(shown: Sequence[PairResult], pairs: Sequence[Pair]) -> None:
    base = shown[0].base
    tuned = "  ".join(f":material/arrow_right_alt: **{r.tuned.label}**" for r in shown)
    with st.container(horizontal=True, vertical_alignment="center", key="comparison_bar"):
        st.markdown(f"{base.label}  {tuned}")
        _render_link(pairs)
    lines: dict[str, list[str]] = {}
    for result, label in zip(shown, tuned_labels(shown), strict=True):
        lines.setdefault(_extent(result), []).append(label)
    st.caption("  \n".join(line if len(lines) == 1 else f"{', '.join(who)}: {line}" for line, who in lines.items()))
    _render_skipped(shown)
    if any(r.base.ref.startswith("demo:") for r in shown):
        with st.popover("What this demo shows, and what not", type="tertiary"):
            st.markdown(DEMO_NOTE)
    for notice in _distinct(n for r in shown for n in r.notices):
        st.warning(notice.detail, icon=":material/info:")


def _render_link(pairs: Sequence[Pair]) -> None:
    with st.popover("Copy link", icon=":material/link:"):
        commits = [pinned(p) for p in pairs]
        st.code(link(commits[0][0], tuple(tuned for _, tuned in commits)), language=None, wrap_lines=True)
        local = [r.pinned_ref for p in pairs if p.result for r in (p.result.base, p.result.tuned) if not r.shareable]
        if local:
            st.caption(f"Local, not shareable: {', '.join(dict.fromkeys(local))}. The link opens on this machine only.")
        else:
            st.caption("Holds commits, so it shows the same numbers after a branch has moved.")


def _render_skipped(shown: Sequence[PairResult]) -> None:
    rows = [
        {"tuned": r.tuned.label, "tensor": s.name, "reason": s.reason, "detail": s.detail}
        for r in shown
        for s in r.skipped
    ]
    if rows:
        reasons = ", ".join(
            f"{count} {reason}" for reason, count in Counter(str(row["reason"]) for row in rows).items()
        )
        with st.popover(f"{len(rows)} skipped ({reasons})", type="tertiary"):
            st.dataframe(rows, hide_index=True)


def _render_failures(waiting: Sequence[Pair]) -> None:
    for pair in waiting:
        status = pair.job.status() if pair.job else None
        if status and status.error and status.state == "failed":
            render_error(status.error)
        elif status and status.state == "cancelled":
            st.info(f"Cancelled: {pair.tuned}. What had landed is kept; run again to go on.")


def _render_plans(waiting: Sequence[Pair]) -> None:
    plans = [planned for p in waiting if (planned := _plan_or_sentence(p))]
    if not plans:
        return
    for planned in plans:
        _render_plan(planned)
    for notice in _distinct(n for planned in plans for n in planned.pairing.notices):
        st.caption(f":material/info: {notice.detail}")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox(
            "Time budget for spectra",
            list(BUDGETS_MIN),
            format_func=lambda b: "no limit" if b == "none" else f"{b} min",
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
    dtypes = Counter(f"{m.base.dtype} / {m.tuned.dtype}" for m in matched)
    costs = " · ".join(f"{name} {duration(planned.seconds(name))}" for name in planned.request.probes)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"**Plan** {planned.pairing.tuned.identity.label}: {len(matched)} of {planned.total_tensors} tensors match "
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


def _extent(result: PairResult) -> str:
    """How much of the pair was compared, in one line."""
    weights = sum(m.match.n for m in result.measured)
    state = "" if result.complete else " · unfinished"
    compared = f"{len(result.measured)} of {result.total} tensors compared"
    return f"{compared} · {count(weights)} weights · {_dtypes(result)}{state}"


def _dtypes(result: PairResult) -> str:
    return ", ".join(dict.fromkeys(f"{m.match.base.dtype} / {m.match.tuned.dtype}" for m in result.measured))


def _distinct(notices: Iterable[Notice]) -> list[Notice]:
    return list({n.detail: n for n in notices}.values())
