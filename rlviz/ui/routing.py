"""A page opened by link on a server that has just started runs without its router: run app.py for it.

Streamlit finds scripts in ``pages/`` by itself until the first `st.navigation` of the process, and would run the
page alone, without the frame around it.
"""

from __future__ import annotations

import runpy
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import streamlit as st

_ROUTED = "routed"
_APP = Path(__file__).parents[2] / "app.py"


@contextmanager
def routed() -> Generator[None]:
    """Around a page's run by the router: lets the page see that it is not alone."""
    st.session_state[_ROUTED] = True
    try:
        yield
    finally:
        del st.session_state[_ROUTED]


def require_router() -> None:
    """First line of every page: where the router is missing, run it (which turns the discovery off) and end."""
    if _ROUTED not in st.session_state:
        runpy.run_path(str(_APP), run_name="__main__")
        st.stop()
