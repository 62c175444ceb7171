"""Who is at the other end of this session, and the token that goes with it.

A pasted token stays in this session's memory; that of a sign-in in the browser's signed cookie. Neither is written to
a link, a log, a cache key or the disk.
"""

from __future__ import annotations

from typing import Any

import streamlit as st

from rlviz.access import OWNER, PERMISSIONS, Visitor, hosted
from rlviz.ui.hosting import PROVIDER
from rlviz.ui.text import escaped

OF_VISITOR = "of visitor: "
"""Session keys that begin so hold what was found on a visitor's behalf, and go when the token changes."""

_TOKEN, _FIELD, _PROBLEM = "visitor_token", "visitor_token_field", "visitor_problem"
_NOT_A_TOKEN = "This is not a token of the hub. Copy it again from huggingface.co/settings/tokens."
_EXPIRED = "Your sign-in has expired: sign in again to see private and gated models."
_MOST_CHARACTERS = 512


def visitor() -> Visitor:
    """On whose behalf this run of the page asks: named by account, address or session, in that order."""
    if not hosted():
        return OWNER
    token, account = _token()
    if account:
        return Visitor(f"hf {account}", token)
    address = st.context.ip_address
    return Visitor(f"ip {address}" if address else f"session {session_id()}", token)


def render_sign_in() -> None:
    """On a host: sign in, paste a token, or sign out. Quiet, since public models need none of it."""
    if not hosted():
        return
    token, account = _token()
    expired = token is None and _signed_in() is not None
    label = account or ("Token in use" if token else "Sign in again" if expired else "Sign in")
    with (
        st.container(horizontal_alignment="right"),
        st.popover(escaped(label), icon=":material/account_circle:", type="tertiary", key="sign_in"),
    ):
        if token:
            st.markdown(
                f"The hub is read as **{escaped(account)}**." if account else "The hub is read with your token."
            )
            st.button("Sign out", key="sign_out", on_click=_sign_out)
            return
        if expired:
            st.warning(_EXPIRED)
        st.caption("Public models need no account. With one, you see the private and gated models that it may read.")
        if "is_logged_in" in st.user and st.button("Sign in with Hugging Face", key="sign_in_hub"):
            st.login(PROVIDER)
        _render_token_field()


def _render_token_field() -> None:
    with st.form("token_form", clear_on_submit=True, border=False):
        st.text_input(
            "Token",
            key=_FIELD,
            type="password",
            autocomplete="off",
            placeholder="hf_…",
            help="A fine-grained token with read access is enough. It stays in this session's memory and is forgotten "
            "when you close the page.",
        )
        st.form_submit_button("Use this token", on_click=_paste)
    if problem := st.session_state.get(_PROBLEM):
        st.error(problem)


def _paste() -> None:
    """Take the token out of the field, and refuse one that the hub does not know."""
    text = str(st.session_state.pop(_FIELD, "")).strip()
    st.session_state.pop(_PROBLEM, None)
    readable = text.isascii() and text.isprintable() and " " not in text and len(text) <= _MOST_CHARACTERS
    if not readable or PERMISSIONS.account(text)[0] == "no":
        st.session_state[_PROBLEM] = _NOT_A_TOKEN
    elif text:
        st.session_state[_TOKEN] = text
        _forget()


def _token() -> tuple[str | None, str]:
    """The token to use and the name of its account ("" where the hub could not say); a refused one is dropped."""
    pasted: str | None = st.session_state.get(_TOKEN)
    token = pasted or _signed_in()
    if token is None:
        return None, ""
    answer, account = PERMISSIONS.account(token)
    if answer != "no":
        return token, account or ("" if pasted else str(st.user.get("preferred_username") or ""))
    if pasted:
        del st.session_state[_TOKEN]
        _forget()
        st.session_state[_PROBLEM] = "The hub no longer accepts your token: paste another."
    return None, ""


def _signed_in() -> str | None:
    """The access token of a sign-in."""
    tokens: Any = st.user.get("tokens") if st.user.get("is_logged_in") else None
    return tokens.get("access") if tokens else None


def _sign_out() -> None:
    _forget()
    if not st.session_state.pop(_TOKEN, None) and _signed_in():
        st.logout()


def _forget() -> None:
    for key in [key for key in st.session_state if str(key).startswith(OF_VISITOR)]:
        del st.session_state[key]


def session_id() -> str:
    """Name of this browser tab's session: who watches a run."""
    from streamlit.runtime.scriptrunner import get_script_run_ctx

    context = get_script_run_ctx()
    return context.session_id if context else ""
