"""What stands on every page: the comparison bar, the plan before a run, progress during it, the tensor picker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import streamlit as st

from rlviz.result import PairResult
from rlviz.types import ModelIdentity
from rlviz.ui.controls import ESTIMATE_CONTROLS, K_CHOICES, PAGE_CONTROLS, RUN_CONTROLS, render_controls
from rlviz.ui.errors import render_error
from rlviz.ui.inputs import RUN_AT_ONCE, render_inputs
from rlviz.ui.loading import Pair, look_up, problems
from rlviz.ui.permalink import render_link_notes
from rlviz.ui.picker import render_picker
from rlviz.ui.plans import distinct, render_failures, render_plans
from rlviz.ui.preview import render_preview
from rlviz.ui.progress import render_progress
from rlviz.ui.rescaled import rescale_once
from rlviz.ui.share import render_share
from rlviz.ui.starting import start, start_new_previews
from rlviz.ui.state import models
from rlviz.ui.text import escaped
from rlviz.ui.visitor import render_sign_in
from rlviz.views.masks_words import counted_ranks
from rlviz.views.tables import skipped_table
from rlviz.views.words import count, tuned_labels

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


NEED_NO_RESULT = frozenset({"Methods", "Library"})
# Notices that may mean the whole comparison is not what was meant; the others are remarks.
ALARMING = frozenset({"swapped", "other_base", "architecture", "not_ancestor", "same_checkpoint", "unmerged_adapter"})


def render_frame(page: str) -> None:
    """The bar, then whatever the pairs in the URL need next; stops the page where there is nothing to show.

    Bound widgets must keep their place in the page from run to run (see `controls`): what comes and goes around
    them stands in containers of its own.
    """
    render_sign_in()
    wrong, inputs, notes, above = st.container(), st.container(), st.container(), st.container()
    pairs = look_up()
    shown = [p.shown for p in pairs if p.shown is not None]
    estimates = [p.preview for p in pairs if p.preview is not None and p.shown is None]
    needed = page not in NEED_NO_RESULT
    if shown:  # otherwise the fields are open, and say it themselves
        with wrong:
            for problem in problems():
                render_error(problem)
    with inputs, st.expander("Models", expanded=needed and not (shown or estimates), icon=":material/tune:"):
        with st.container():
            if not shown:
                st.markdown(INTRODUCTION)
        render_inputs()
    with notes:
        render_link_notes(pairs)
    with above:
        if needed:
            _render_state(shown, pairs)
    if shown:
        render_picker(shown)
    of_page = PAGE_CONTROLS[page] if shown or not needed else ESTIMATE_CONTROLS if estimates else ()
    startable = needed and any(not p.complete and not p.under_way for p in pairs)
    ranks = tuple(map(str, counted_ranks(shown))) if page == "Masks" else ()
    render_controls([*of_page, *(RUN_CONTROLS if startable else ())], ranks or K_CHOICES)
    if needed and estimates:
        if shown:  # each part says which models it is about
            _render_part("Estimated", [e.tuned for e in estimates])
        render_preview(estimates)
        if shown:
            _render_part("Measured", [r.tuned for r in shown])
    if needed and not shown:
        st.stop()


def _render_part(what: str, tuned: Sequence[ModelIdentity]) -> None:
    st.divider()
    st.caption(f"{what}: **{escaped(', '.join(t.label for t in tuned))}**")


def _render_state(shown: Sequence[PairResult], pairs: Sequence[Pair]) -> None:
    """What is compared, and for pairs that are not complete their progress or their plan, each in its own place.

    Without places, what a run of the page draws further up or down than the last stands there twice for a moment.
    """
    bar, progress, plans = st.container(), st.container(), st.container()
    with bar:
        if not all(models()):
            st.info("Choose a base and a tuned model above, or start with the demo.")
        if shown:
            _render_bar(shown, pairs)
    waiting = [p for p in pairs if not p.complete]
    if waiting and st.session_state.pop(RUN_AT_ONCE, False):
        start(waiting)
        st.rerun()
    rescale_once(pairs)
    if start_new_previews([p for p in waiting if not p.under_way]):
        st.rerun()
    with progress:
        render_progress(waiting)
    idle = [p for p in waiting if not p.under_way]
    with plans:
        if idle:
            render_failures(idle)
            render_plans(idle)


def _render_bar(shown: Sequence[PairResult], pairs: Sequence[Pair]) -> None:
    base = shown[0].base
    tuned = " · ".join(f"**{escaped(r.tuned.label)}**" for r in shown)
    with st.container(horizontal=True, vertical_alignment="center", key="comparison_bar"):
        st.markdown(f"{escaped(base.label)} :material/arrow_right_alt: {tuned}")
        render_share(pairs)
    lines: dict[str, list[str]] = {}
    for result, label in zip(shown, tuned_labels(shown), strict=True):
        lines.setdefault(_extent(result), []).append(label)
    said = (line if len(lines) == 1 else f"{', '.join(who)}: {line}" for line, who in lines.items())
    st.caption("  \n".join(escaped(text) for text in said))
    _render_skipped(shown)
    if any(r.base.ref.startswith("demo:") for r in shown):
        with st.popover("What this demo shows, and what not", type="tertiary"):
            st.markdown(DEMO_NOTE)
    for notice in distinct(n for r in shown for n in r.notices):
        if notice.code in ALARMING:
            st.warning(escaped(notice.detail), icon=":material/warning:")
        else:
            st.caption(f":material/info: {escaped(notice.detail)}")


def _render_skipped(shown: Sequence[PairResult]) -> None:
    rows = skipped_table(shown)
    if rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(row["reason"] for row in rows).items())
        with st.popover(f"{len(rows)} skipped ({reasons})", type="tertiary"):
            st.dataframe(rows, hide_index=True)


def _extent(result: PairResult) -> str:
    """How much of the pair was compared, in one line."""
    weights = sum(m.match.n for m in result.measured if m.records)
    state = "" if result.complete else " · unfinished"
    landed = sum(bool(m.records) for m in result.measured)
    compared = f"{landed} of {result.total} tensors compared"
    return f"{compared} · {count(weights)} weights · {_dtypes(result)}{state}"


def _dtypes(result: PairResult) -> str:
    return ", ".join(dict.fromkeys(f"{m.match.base.dtype} / {m.match.tuned.dtype}" for m in result.measured))
