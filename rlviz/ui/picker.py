"""The sidebar: one tensor, chosen by layer and module or by searching its name, followed on every page."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from rlviz.result import PairResult
from rlviz.ui.state import choice
from rlviz.views.chosen import default_tensor


def picked_tensor(results: Sequence[PairResult]) -> str:
    """Name of the chosen tensor, by default the middle layer's first matrix."""
    names = [m.name for m in results[0].measured]
    chosen = choice("tensor")
    return chosen if chosen in names else default_tensor(results[0])


def picked_matrix(results: Sequence[PairResult]) -> str:
    """The chosen tensor if it has a spectrum, otherwise (and saying so) a matrix of the same layer."""
    chosen, matrix = picked_tensor(results), nearest_matrix(results)
    if matrix != chosen:
        st.caption(f"`{chosen}` is no matrix; shown instead:")
    return matrix


def nearest_matrix(results: Sequence[PairResult]) -> str:
    """The chosen tensor if it has a spectrum, otherwise a matrix of the same layer."""
    result, chosen = results[0], results[0].by_name(picked_tensor(results))
    if chosen.match.is_matrix:
        return chosen.name
    matrices = [m for m in result.measured if m.match.is_matrix]
    same_layer = [m for m in matrices if m.layer == chosen.layer]
    return (same_layer or matrices or [chosen])[0].name


def render_picker(results: Sequence[PairResult]) -> None:
    """The sidebar's content. The search box holds the choice; layer and module only move it."""
    result = results[0]
    names = [m.name for m in result.measured]
    current = result.by_name(picked_tensor(results))
    layers = sorted({m.layer for m in result.measured if m.layer is not None})
    if st.session_state.get("tensor") not in names:
        st.session_state["tensor"] = current.name
    with st.sidebar:
        st.selectbox("Tensor", names, key="tensor", bind="query-params", help="Type to search.")
        if len(layers) > 1 and current.layer is not None:
            st.session_state["pick_layer"] = current.layer
            st.select_slider("Layer", layers, key="pick_layer", on_change=_move, args=(result,))
        modules = [m.module for m in result.measured if m.layer == current.layer]
        st.session_state["pick_module"] = current.module
        st.radio("Module", list(dict.fromkeys(modules)), key="pick_module", on_change=_move, args=(result,))


def _move(result: PairResult) -> None:
    """Go to the tensor at the slider's layer and the list's module, or to the layer's first."""
    here = result.by_name(st.session_state["tensor"])
    layer = st.session_state.get("pick_layer") if here.layer is not None else None
    row = [m for m in result.measured if m.layer == layer]
    same = [m for m in row if m.module == st.session_state["pick_module"]] or row
    if same:
        st.session_state["tensor"] = same[0].name
