"""The inputs: base, tuned models, examples, and what is known of each reference while it is typed."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from rlviz import api
from rlviz.errors import RlvizError
from rlviz.sources import ModelRef, resolve
from rlviz.ui.state import MAX_TUNED, TUNED_KEYS, choice, models
from rlviz.views.words import file_size


@dataclass(frozen=True, slots=True)
class Example:
    """A pair one click away."""

    label: str
    base: str
    tuned: tuple[str, ...]
    note: str


EXAMPLES: tuple[Example, ...] = (
    Example("RL vs SFT (demo, offline)", "demo:base", ("demo:rl", "demo:sft", "demo:sft_same"), "3 M parameters"),
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
    """Example buttons, then one field per model with what is known of it underneath."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Examples", width="content")
        for i, example in enumerate(EXAMPLES):
            st.button(example.label, key=f"example_{i}", help=example.note, on_click=_use, args=(example,))
    left, right = st.columns(2)
    with left:
        _field("Base", "base", "org/name, URL, demo:base or ./folder")
    with right:
        shown = max(
            st.session_state.get("n_tuned", 1), 1 + max((i for i, k in enumerate(TUNED_KEYS) if choice(k)), default=0)
        )
        for i, key in enumerate(TUNED_KEYS[:shown]):
            _field("Tuned" if i == 0 else f"Tuned {i + 1}", key, "org/name, org/name@revision, demo:rl …")
        if shown < MAX_TUNED:
            st.button("Add another", key="add_tuned", icon=":material/add:", on_click=_show, args=(shown + 1,))
    _suggest_base()


def _use(example: Example) -> None:
    st.session_state["base"] = example.base
    for i, key in enumerate(TUNED_KEYS):
        st.session_state[key] = example.tuned[i] if i < len(example.tuned) else ""
    st.session_state["n_tuned"] = len(example.tuned)


def _show(n: int) -> None:
    st.session_state["n_tuned"] = n


def _field(label: str, key: str, placeholder: str) -> None:
    st.text_input(label, key=key, bind="query-params", placeholder=placeholder)
    if text := choice(key):
        check = checked(text)
        st.caption(f":green[:material/check:] {check.text}" if check.ok else f":red[:material/error:] {check.text}")


@st.cache_data(ttl=60, max_entries=256, show_spinner="Looking it up …")
def checked(text: str) -> Check:
    """One look at a reference: a small request for a hub model, headers for a folder."""
    try:
        ref = ModelRef.parse(text)
        if ref.kind == "hub":
            from rlviz.sources.hub import peek

            info = peek(ref, token=False if api.hosted() else None)
            known = [file_size(info.nbytes)] if info.nbytes else []
            words = " · ".join([*known, *([info.dtype] if info.dtype else []), f"commit {info.commit[:7]}"])
            return Check(True, words, info.base_model)
        with resolve(ref, allow_local=not api.hosted()) as checkpoint:
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
            f"Use {check.suggested_base} as base (named by the model card)",
            key="suggested_base",
            on_click=lambda: st.session_state.update(base=check.suggested_base),
        )
