"""What the hub says about a model, in one request: its commit, its files, its card."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import httpx2

from rlviz.errors import Cancelled, InvalidInput, RlvizError, Unavailable
from rlviz.sources.refs import ModelRef
from rlviz.sources.refusals import HubModel, explain, offline_mode
from rlviz.sources.transport import Patience, Setback, persist

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

DEFAULT_ENDPOINT = "https://huggingface.co"
_LONGEST_SILENCE_S = 20.0  # of a rate limit while a model is opened; beyond it, say so and let the person decide
_TRUE = frozenset({"1", "ON", "YES", "TRUE"})


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a commit; `content_id` is its LFS sha256, or the git blob id of a small file."""

    size: int
    content_id: str


@dataclass(frozen=True, slots=True, eq=False)
class Listing:
    """The hub's answer about one commit, checked; `files` by path."""

    model: HubModel
    commit: str
    files: Mapping[str, HubFile]
    card: Mapping[str, Any]
    info: ModelInfo


def list_model(
    ref: ModelRef,
    token: str | Literal[False] | None,
    endpoint: str | None,
    patience: Patience,
    cancel: threading.Event | None = None,
) -> Listing:
    """What a revision holds, the revision resolved to its commit; raises as `open_hub` does."""

    def pause(seconds: float) -> None:
        if (cancel or threading.Event()).wait(seconds):
            raise Cancelled(str(ref), "opening was cancelled")

    where = (endpoint or os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in _TRUE:
        raise offline_mode(str(ref))
    model = HubModel(str(ref), ref.repo_id, ref.revision, where, _token(token))
    brief = replace(patience, longest_rate_limit_s=min(patience.longest_rate_limit_s, _LONGEST_SILENCE_S))
    info = persist(lambda: _ask(model, brief), brief, pause)
    commit = info.sha or ""
    if not re.fullmatch(r"[0-9a-f]{40}", commit) or info.siblings is None:
        raise explain(model, ValueError("no commit"))
    asked = ref.revision or ""
    if re.fullmatch(r"[0-9a-f]{40}", asked) and asked != commit:
        problem = f"asked for commit {asked[:12]}, the hub answers with {commit[:12]}"
        raise Unavailable(str(ref), problem, "Try again; check HF_ENDPOINT.")
    files = {s.rfilename: HubFile(s.size or 0, s.lfs.sha256 if s.lfs else s.blob_id or "") for s in info.siblings}
    card = dict(info.card_data.to_dict()) if info.card_data else {}
    return Listing(replace(model, repo_id=info.id), commit, files, card, info)


def _token(token: str | Literal[False] | None) -> str | None:
    """The token to send: as given, from the environment as the hub's client finds it, or none."""
    from huggingface_hub.utils import build_hf_headers

    given = token.strip() if isinstance(token, str) else token
    found = build_hf_headers(token=given).get("authorization", "").removeprefix("Bearer ")
    if not found.isascii() or not found.isprintable():
        raise InvalidInput("HF_TOKEN", "this is not a token", "Copy it again from huggingface.co/settings/tokens.")
    return found or None


def _ask(model: HubModel, patience: Patience) -> ModelInfo:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=model.endpoint, token=model.token or False, library_name="rlviz")
    try:
        return api.model_info(model.repo_id, revision=model.revision, files_metadata=True, timeout=patience.read_s)
    # what a server that is no hub (a login page, a proxy) makes of the client's parsing is any of these
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        problem: RlvizError | Setback = explain(model, error)
    raise problem
