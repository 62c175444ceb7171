"""The few controls a figure has, each bound to the URL, none of which reads a weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import streamlit as st

from rlviz.bins import ETA_EDGES, TAU_EDGES
from rlviz.metrics import METRICS, Metric
from rlviz.types import LENSES, Lens
from rlviz.ui.state import DEFAULTS, draw
from rlviz.views.words import LENS_SHORT

K_CHOICES = ("1", "2", "4", "8", "16", "32", "64", "96", "128")


def choose_lens() -> Lens:
    """The precision lens: the format both sides are rounded to before they are compared."""
    draw("lens")
    chosen = st.segmented_control(
        "Lens",
        [lens.value for lens in LENSES],
        default=None if "lens" in st.session_state else DEFAULTS["lens"],
        format_func=lambda value: LENS_SHORT[Lens(value)],
        key="lens",
        bind="query-params",
        required=True,
        help="Both sides are rounded to this format before they are compared.",
    )
    return Lens(chosen or DEFAULTS["lens"])


def choose_metric(metrics: Sequence[Metric]) -> Metric:
    """Which metric the heat map shows."""
    draw("metric")
    keys = [m.key for m in metrics]
    chosen = st.selectbox(
        "Metric",
        keys,
        index=keys.index(DEFAULTS["metric"]) if DEFAULTS["metric"] in keys else 0,
        format_func=lambda key: METRICS[key].title,
        key="metric",
        bind="query-params",
    )
    return METRICS[chosen if chosen in keys else keys[0]]


def choose_k() -> int:
    """The subspace rank; clamped per matrix to what it has."""
    draw("k")
    return int(
        st.select_slider(
            "k (subspace rank)",
            K_CHOICES,
            value=None if "k" in st.session_state else DEFAULTS["k"],
            key="k",
            bind="query-params",
            help="How many leading singular directions count as principal; at most r - 1 per matrix.",
        )
    )


def choose_threshold(which: Literal["eta", "tau"]) -> float:
    """A tolerance; its values are the bin edges of the stored histogram, so counts are exact."""
    draw(which)
    edges = ETA_EDGES if which == "eta" else TAU_EDGES
    label = "η (relative tolerance)" if which == "eta" else "τ (absolute tolerance)"
    return float(
        st.select_slider(
            label,
            [f"{edge:.3g}" for edge in edges],
            value=None if which in st.session_state else DEFAULTS[which],
            key=which,
            bind="query-params",
        )
    )
