"""What a host adds to the dashboard: signing in with Hugging Face, and coming back to where one was."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

PROVIDER = "huggingface"
_HUB = "https://huggingface.co"
_SCOPES = "openid profile gated-repos"
_DEPARTURES = ("/auth/login", "/auth/logout")
_RETURN = "/oauth2callback"
_COOKIE = "rlviz_back"
_COOKIE_S = 600
_LONGEST_BACK = 3500  # a browser drops cookies above 4 KiB


def sign_in_settings(environ: Mapping[str, str]) -> dict[str, Any]:
    """Streamlit's secrets for `st.login`, from the variables that a Space sets; empty where sign-in is not set up.

    A Space with ``hf_oauth: true`` gives OAUTH_CLIENT_ID, OAUTH_CLIENT_SECRET, OAUTH_SCOPES, OPENID_PROVIDER_URL and
    SPACE_HOST; elsewhere RLVIZ_URL is the address visitors use. Without RLVIZ_COOKIE_SECRET a restart signs all out.
    """
    address = environ.get("RLVIZ_URL") or (f"https://{environ['SPACE_HOST']}" if environ.get("SPACE_HOST") else "")
    if not (environ.get("OAUTH_CLIENT_ID") and environ.get("OAUTH_CLIENT_SECRET") and address):
        return {}
    provider = environ.get("OPENID_PROVIDER_URL") or _HUB
    return {
        "auth": {
            "redirect_uri": address.rstrip("/") + _RETURN,
            "cookie_secret": environ.get("RLVIZ_COOKIE_SECRET") or secrets.token_hex(32),
            "expose_tokens": ["access"],
            PROVIDER: {
                "client_id": environ["OAUTH_CLIENT_ID"],
                "client_secret": environ["OAUTH_CLIENT_SECRET"],
                "server_metadata_url": provider.rstrip("/") + "/.well-known/openid-configuration",
                "client_kwargs": {"scope": environ.get("OAUTH_SCOPES") or _SCOPES, "prompt": "consent"},
            },
        }
    }


def middleware() -> list[Middleware]:
    """What stands between the server and the dashboard on a host."""
    return [Middleware(ComeBack)]


class ComeBack:
    """Signing in and out lead to the start page and drop the query, which holds the whole comparison: restore it.

    Where the visitor was is what the browser names as the referrer when it leaves; it waits in a short-lived cookie.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] not in (*_DEPARTURES, _RETURN):
            await self._app(scope, receive, send)
            return
        back = _back(scope["path"], Headers(scope=scope))

        async def send_back(message: Message) -> None:
            if message["type"] == "http.response.start" and back:
                _redirect(MutableHeaders(raw=message["headers"]), back)
            await send(message)

        await self._app(scope, receive, send_back)


def _redirect(headers: MutableHeaders, back: str) -> None:
    """Home becomes where the visitor was; a way out to the provider takes a note along."""
    value, life_s = quote(back, safe=""), _COOKIE_S
    if headers.get("location") == "/":
        headers["location"] = back
        value, life_s = "", 0
    headers.append("set-cookie", f"{_COOKIE}={value}; Path=/; Max-Age={life_s}; HttpOnly; SameSite=Lax")


def _back(path: str, headers: Headers) -> str:
    """Path and query on this very host; empty where nothing usable is known."""
    if path in _DEPARTURES:
        referrer = urlsplit(headers.get("referer", ""))
        found = referrer.path + (f"?{referrer.query}" if referrer.query else "")
    else:
        note = SimpleCookie(headers.get("cookie", "")).get(_COOKIE)
        found = unquote(note.value) if note else ""
    plain = found.isascii() and found.isprintable() and len(found) <= _LONGEST_BACK
    return found if plain and found.startswith("/") and not found.startswith(("//", "/\\")) else ""
