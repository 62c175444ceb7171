"""The few controls figures have, each bound to the URL, none of which reads a weight.

All of them are drawn on every page, in the same place, and those a page has no use for are hidden by style: a bound
widget that is not drawn, or that moves in the page, takes its parameter out of the URL.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from rlviz.bins import ETA_EDGES, TAU_EDGES
from rlviz.metrics import METRICS, Metric
from rlviz.probes.masks.probe import ALPHAS, PRESET_RANKS
from rlviz.types import LENSES
from rlviz.ui.state import BUDGETS_MIN, DEFAULTS, LINEAR, RESULT, choice, edge_texts

# No `format_func` on any of these: a bound widget writes what it displays, and reads back only that.
_BY_TITLE = {metric.title: metric for metric in METRICS.values() if not metric.companion}
K_CHOICES = ("1", "2", "4", "8", "16", "32", "64", "96", "128")
ALL_RANKS = tuple(sorted({*K_CHOICES, *map(str, PRESET_RANKS)}, key=int))
ALPHA_CHOICES = tuple(f"{alpha:g}" for alpha in ALPHAS)


def render_controls(shown: Collection[str], ranks: Sequence[str] = K_CHOICES) -> None:
    """One row of the controls named, see `PAGE_CONTROLS`; `ranks` are what k offers beside the one chosen."""
    # The wrapper holds the width: hiding the container alone would leave a gap.
    hidden = ", ".join(f"div:has(> .st-key-control_{key})" for key in _CONTROLS if key not in shown)
    if hidden:
        st.html(f"<style>{hidden} {{display: none}}</style>")
    with st.container(horizontal=True, vertical_alignment="bottom", key="controls"):
        for key, (width, draw) in {**_CONTROLS, "k": (240, partial(_k, ranks))}.items():
            with st.container(key=f"control_{key}", width=width):
                draw()


def chosen_metric() -> Metric:
    """The metric of the heat map."""
    return _BY_TITLE.get(choice("metric"), _BY_TITLE[DEFAULTS["metric"]])


def _lens() -> None:
    st.segmented_control(
        "Lens",
        [lens.value for lens in LENSES],
        default=DEFAULTS["lens"],
        key="lens",
        bind="query-params",
        required=True,
        help="Both sides are rounded to this format before they are compared.",
    )


def _coverage() -> None:
    st.segmented_control(
        "Tensors",
        [DEFAULTS["coverage"], LINEAR],
        default=DEFAULTS["coverage"],
        key="coverage",
        bind="query-params",
        required=True,
        help="All tensors that match, or only the weight matrices of attention and MLP.",
    )


def _metric() -> None:
    titles = list(_BY_TITLE)
    st.selectbox(
        "Metric",
        titles,
        index=titles.index(DEFAULTS["metric"]),
        key="metric",
        bind="query-params",
    )


def _k(ranks: Sequence[str] = K_CHOICES) -> None:
    chosen = choice("k")
    offered = {*ranks, DEFAULTS["k"], *([chosen] if chosen in ALL_RANKS else [])}
    st.select_slider(
        "k (subspace rank)",
        sorted(offered, key=int),
        value=DEFAULTS["k"],
        key="k",
        bind="query-params",
        help="How many leading singular directions count as principal; at most r - 1 per matrix.",
    )


def _alpha() -> None:
    st.select_slider(
        "α (share of the weights in a mask)",
        ALPHA_CHOICES,
        value=DEFAULTS["alpha"],
        key="alpha",
        bind="query-params",
        help="The principal mask holds this share of largest entries of the rank-k part of the base, the low-magnitude "
        "mask this share of smallest weights; ties with the last one are inside.",
    )


def _budget() -> None:
    st.selectbox(
        "Time budget for spectra",
        list(BUDGETS_MIN),
        key="budget",
        bind="query-params",
        help="Matrices beyond it get leading directions only, or are listed as skipped.",
    )


def _threshold(key: str, label: str, edges: NDArray[np.float64]) -> Callable[[], None]:
    options = edge_texts(edges)

    def draw() -> None:
        st.select_slider(label, options, value=DEFAULTS[key], key=key, bind="query-params")

    return draw


def _result() -> None:
    """Never on view: a link says by it which kept results it means, see `permalink`."""
    st.text_input("Kept results", key=RESULT, bind="query-params", label_visibility="collapsed")


_CONTROLS: Mapping[str, tuple[int, Callable[[], None]]] = {
    "metric": (280, _metric),
    "lens": (500, _lens),
    "k": (240, _k),
    "alpha": (280, _alpha),
    "coverage": (190, _coverage),
    "eta": (340, _threshold("eta", "η (tolerance relative to the larger weight)", ETA_EDGES)),
    "tau": (340, _threshold("tau", "τ (absolute tolerance)", TAU_EDGES)),
    "budget": (200, _budget),
    RESULT: (100, _result),
}
ESTIMATE_CONTROLS = ("lens",)  # of any page as long as there is nothing but an estimate to show
RUN_CONTROLS = ("budget",)  # while an exact run could be started
PAGE_CONTROLS: Mapping[str, tuple[str, ...]] = {
    "Compare": ("metric", "lens", "k", "coverage"),
    "Sparsity": ("lens", "coverage"),
    "Precision": ("lens", "coverage", "eta", "tau"),
    "Spectra": (),
    "Angles": ("k",),
    "Masks": ("k", "alpha"),
    "Gates": ("k", "alpha"),
    "Library": (),
    "Methods": (),
}
