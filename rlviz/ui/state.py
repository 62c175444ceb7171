"""What a link holds. Every choice is a widget bound to the query parameter of its own key; this is the list.

Widgets write the URL themselves (``bind="query-params"``). A choice whose widget is on another page is read here
from the session, then from the URL, then from its default, so that it follows the reader from page to page.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlencode, urlsplit, urlunsplit

import streamlit as st

from rlviz.types import LENSES, Lens, MetricParams

MAX_TUNED: Final = 6  # as many as there are colours that stay apart
TUNED_KEYS: Final = ("tuned", *(f"tuned{i}" for i in range(2, MAX_TUNED + 1)))
DEFAULTS: Final[dict[str, str]] = {
    "base": "",
    **dict.fromkeys(TUNED_KEYS, ""),
    "budget": "none",
    "lens": Lens.BF16.value,
    "metric": "update_sparsity",
    "tensor": "",
    "k": "64",
    "eta": "1e-03",
    "tau": "1e-05",
    "side": "left",
}


def choice(key: str) -> str:
    """The current value of one choice."""
    value = st.session_state.get(key)
    if value in (None, ""):
        value = st.query_params.get(key)
    return str(value).strip() if value not in (None, "") else DEFAULTS[key]


def params() -> MetricParams:
    """All metric parameters as chosen; what the URL garbles falls back to the default."""
    lens = choice("lens")
    return MetricParams(
        lens=Lens(lens) if lens in LENSES else Lens.BF16,
        k=int(_number("k")),
        eta=_number("eta"),
        tau=_number("tau"),
    )


def models() -> tuple[str, tuple[str, ...]]:
    """The references typed: base, and the tuned models that are not empty, in order and once each."""
    return choice("base"), tuple(dict.fromkeys(text for key in TUNED_KEYS if (text := choice(key))))


def link(base: str, tuned: tuple[str, ...]) -> str:
    """URL of the present page and choices with the given (pinned) references."""
    chosen = {"base": base, **dict(zip(TUNED_KEYS, tuned, strict=False))}
    for key, default in DEFAULTS.items():
        if key not in chosen and key not in TUNED_KEYS and choice(key) != default:
            chosen[key] = choice(key)
    here = urlsplit(st.context.url or "")
    return urlunsplit((here.scheme, here.netloc, here.path, urlencode(chosen), ""))


def _number(key: str) -> float:
    try:
        value = float(choice(key))
    except ValueError:
        return float(DEFAULTS[key])
    return value if value > 0 else float(DEFAULTS[key])
