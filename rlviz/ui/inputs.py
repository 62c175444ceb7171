"""The inputs: base, tuned models, examples, and what is known of each reference while it is typed."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from rlviz.access import Visitor, digest, hosted, token_for
from rlviz.errors import RlvizError
from rlviz.sources import ModelRef, resolve
from rlviz.sources.refs import DEMO_NAMES
from rlviz.ui.state import MAX_TUNED, choice, models
from rlviz.ui.text import escaped
from rlviz.ui.visitor import visitor
from rlviz.views.words import file_size


@dataclass(frozen=True, slots=True)
class Example:
    """A pair one click away."""

    label: str
    base: str
    tuned: tuple[str, ...]
    note: str
    run_at_once: bool = False


RUN_AT_ONCE = "run_at_once"  # session key: the example just chosen is small enough to need no plan

EXAMPLES: tuple[Example, ...] = (
    Example("RL vs SFT (demo, offline)", "demo:base", ("demo:rl", "demo:sft", "demo:sft_same"), "3 M parameters", True),
    Example(
        "DeepScaleR 1.5B",
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B",
        ("agentica-org/DeepScaleR-1.5B-Preview",),
        "GRPO, published 53.8 % unchanged",
    ),
    Example("Polaris 4B", "Qwen/Qwen3-4B", ("POLARIS-Project/Polaris-4B-Preview",), "DAPO, published 79.3 % unchanged"),
)


@dataclass(frozen=True, slots=True)
class Check:
    """What is known of one typed reference: good news, or the sentence that says what is wrong."""

    ok: bool
    text: str
    suggested_base: str | None = None


def render_inputs() -> None:
    """Example buttons, the two fields, and what is known of each reference underneath."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Examples", width="content")
        for i, example in enumerate(EXAMPLES):
            st.button(example.label, key=f"example_{i}", help=example.note, on_click=_use, args=(example,))
    left, right = st.columns(2)
    with left:
        st.text_input("Base", key="base", bind="query-params", placeholder="org/name, URL, demo:base or ./folder")
        if base := choice("base"):
            _render_check("", base)
    with right:
        _, typed = models()
        st.multiselect(
            "Tuned",
            [*dict.fromkeys([*typed, *(f"demo:{name}" for name in DEMO_NAMES[1:])])],
            key="tuned",
            bind="query-params",
            accept_new_options=True,
            max_selections=MAX_TUNED,
            placeholder="org/name, org/name@revision, URL, ./folder: press Enter, add more",
        )
        for tuned in models()[1]:
            _render_check(f"{tuned}: ", tuned)
    _suggest_base()


def _use(example: Example) -> None:
    st.session_state["base"] = example.base
    st.session_state["tuned"] = list(example.tuned)
    st.session_state[RUN_AT_ONCE] = example.run_at_once


def _render_check(label: str, text: str) -> None:
    check = checked(text)
    colour, icon = ("green", "check") if check.ok else ("red", "error")
    st.caption(f":{colour}[:material/{icon}:] {escaped(label + check.text)}")


def checked(text: str) -> Check:
    """One look at a reference: a small request for a hub model, headers for a folder."""
    who = visitor()
    return _checked(text, who, digest(who.token))


@st.cache_data(ttl=60, max_entries=256, show_spinner="Looking it up …")
def _checked(text: str, _who: Visitor, token_digest: str) -> Check:
    """The answer depends on who asks: it is shared only by those with the same token."""
    try:
        ref = ModelRef.parse(text, look_here=not hosted())
        if ref.kind == "hub":
            from rlviz.sources.hub import peek

            info = peek(ref, token=token_for(ref.repo_id, _who))
            known = [file_size(info.nbytes)] if info.nbytes else []
            words = " · ".join([*known, *([info.dtype] if info.dtype else []), f"commit {info.commit[:7]}"])
            return Check(True, words, info.base_model)
        with resolve(ref, allow_local=not hosted()) as checkpoint:
            dtypes = sorted({meta.dtype for meta in checkpoint.tensors.values()})
            size = file_size(checkpoint.identity.nbytes)
            return Check(True, f"{size} · {len(checkpoint.tensors)} tensors · {', '.join(dtypes)}")
    except RlvizError as error:
        return Check(False, str(error))


def _suggest_base() -> None:
    base, tuned = models()
    if base or not tuned:
        return
    check = checked(tuned[0])
    if check.suggested_base:
        st.button(
            f"Use {escaped(check.suggested_base)} as base (named by the model card)",
            key="suggested_base",
            on_click=lambda: st.session_state.update(base=check.suggested_base),
        )
