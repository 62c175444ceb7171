"""What a link holds. Every choice is a widget bound to the query parameter of its own key; this is the list.

Widgets write the URL themselves (``bind="query-params"``), and take their parameter with them when a page does not
draw them: so every page draws all of them, those it has no use for out of sight (see `controls`).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from rlviz.bins import ETA_EDGES, TAU_EDGES
from rlviz.metrics import METRICS
from rlviz.probes.masks.probe import ALPHAS
from rlviz.types import LENSES, Lens, MetricParams

MAX_TUNED: Final = 6  # as many as there are colours that stay apart
LINEAR: Final = "linear layers"
BUDGETS_MIN: Final[dict[str, float | None]] = {"no limit": None, "2 min": 2.0, "10 min": 10.0, "60 min": 60.0}
RESULT: Final = "result"  # keys of kept results to show as they are, comma-separated
DEFAULTS: Final[dict[str, str]] = {
    "base": "",
    "budget": "no limit",
    "coverage": "all",
    "lens": Lens.BF16.value,
    "metric": METRICS["update_sparsity"].title,
    "tensor": "",
    RESULT: "",
    "k": "64",
    "alpha": "0.3",
    "eta": "0.001",
    "tau": "1e-05",
}


def choice(key: str) -> str:
    """The current value of one choice: its widget's, the URL's before that is drawn, or its default."""
    known = (st.session_state.get(key), st.query_params.get(key))
    return next((str(value).strip() for value in known if value not in (None, "")), DEFAULTS[key])


def params() -> MetricParams:
    """All metric parameters as chosen; what the URL garbles falls back to the default."""
    lens = choice("lens")
    return MetricParams(
        lens=Lens(lens) if lens in LENSES else Lens.BF16,
        k=int(_number("k")),
        alpha=_alpha(),
        eta=_edge("eta", ETA_EDGES),
        tau=_edge("tau", TAU_EDGES),
    )


def models() -> tuple[str, tuple[str, ...]]:
    """The references typed: base, and the tuned models in order and once each."""
    typed = st.session_state.get("tuned")
    texts: list[str] = st.query_params.get_all("tuned") if typed is None else typed
    return choice("base"), tuple(dict.fromkeys(text.strip() for text in texts if text.strip()))[:MAX_TUNED]


def edge_texts(edges: NDArray[np.float64]) -> list[str]:
    """A slider's options: three digits name every edge exactly, so the text turns back into the edge itself."""
    return [f"{edge:.3g}" for edge in edges]


def _number(key: str) -> float:
    try:
        value = float(choice(key))
    except ValueError:
        return float(DEFAULTS[key])
    return value if value > 0 else float(DEFAULTS[key])


def _alpha() -> float:
    """A share of the weights at which masks are counted."""
    value = _number("alpha")
    return value if value in ALPHAS else float(DEFAULTS["alpha"])


def _edge(key: str, edges: NDArray[np.float64]) -> float:
    """A tolerance that is one of the slider's values; counts are exact at those only."""
    value = _number(key)
    return value if value in edges else float(DEFAULTS[key])
