"""Questions to the hub about a token: whose it is, and which repositories it may read. No weight is touched."""

from __future__ import annotations

import os
from typing import Any, Literal

Answer = Literal["yes", "no", "unknown"]

_CONNECT_S, _READ_S = 3.0, 6.0  # a page waits for it
_REFUSALS = frozenset({401, 403, 404})


def may_read(repo_id: str, token: str | Literal[False] | None, commit: str = "") -> Answer:
    """Whether the content of a repository (and that very commit of it) can be read with a token now.

    "unknown" where the hub gives neither a yes nor a refusal. The commit matters because a name can pass from a
    private repository to a public one.
    """
    answer = _answer(f"/api/models/{repo_id}/auth-check", token)[0]
    if answer == "yes" and commit:
        answer = _answer(f"/api/models/{repo_id}/revision/{commit}", token)[0]
    return answer


def owner(token: str) -> tuple[Answer, str]:
    """Whether a token is valid, and the name of its account where it is."""
    answer, said = _answer("/api/whoami-v2", token)
    return answer, str(said.get("name", "")) if answer == "yes" else ""


def _answer(path: str, token: str | Literal[False] | None) -> tuple[Answer, dict[str, Any]]:
    import httpx2
    from huggingface_hub.utils import build_hf_headers, get_session

    from rlviz.sources.listing import DEFAULT_ENDPOINT

    endpoint = (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
    timeout = httpx2.Timeout(_READ_S, connect=_CONNECT_S)
    try:
        headers = build_hf_headers(token=token, library_name="rlviz")
        response = get_session().get(endpoint + path, headers=headers, timeout=timeout, follow_redirects=True)
        if response.status_code == 200:
            said: Any = response.json()
            return "yes", said if isinstance(said, dict) else {}
    except (httpx2.HTTPError, OSError, ValueError):
        return "unknown", {}
    return "no" if response.status_code in _REFUSALS else "unknown", {}
