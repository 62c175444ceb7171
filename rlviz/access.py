"""Who may read what: which token goes with a request, and whether a visitor may see what was kept.

A token is sent to the hub and nowhere else. Answers are remembered in memory under a keyed digest of it, never the
token itself, and for a minute at most where they rest on one.
"""

from __future__ import annotations

import hmac
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from threading import Lock
from typing import Literal

from rlviz.mode import hosted
from rlviz.sources import permission
from rlviz.sources.permission import Answer

__all__ = ["OWNER", "PERMISSIONS", "Permissions", "Token", "Visitor", "digest", "hosted", "token_for"]

Token = str | Literal[False] | None  # None: as the environment says; False: nobody's

ASKED_S = 60.0  # how long an answer about a token holds
PUBLIC_S = 3600.0  # how long a model once seen public is taken to be
_ACCOUNT_S = 600.0  # the hub limits how often it may be asked whose a token is
_DOWN_S = 10.0  # how long a silent hub is left alone
_MOST_ANSWERS = 20_000
_SECRET = secrets.token_bytes(32)


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks. `name` is what queues and limits count by; the token lives in memory only and is never printed."""

    name: str = ""
    token: str | None = field(default=None, repr=False)


OWNER = Visitor()
"""Whoever runs the process: the command line, a notebook, the local dashboard."""


def token_for(repo_id: str, visitor: Visitor) -> Token:
    """The token to read a repository with, on behalf of a visitor.

    The visitor's own wins. On a host the operator's (`HF_TOKEN`) stands in for repositories that a glob of
    `RLVIZ_TOKEN_REPOS` names (``meta-llama/*,org/model``), and for no other.
    """
    if visitor.token:
        return visitor.token
    return None if not hosted() or _allow_listed(repo_id) else False


def _allow_listed(repo_id: str) -> bool:
    globs = (glob.strip() for glob in os.environ.get("RLVIZ_TOKEN_REPOS", "").split(","))
    return any(fnmatchcase(repo_id, glob) for glob in globs if glob)


def digest(token: Token) -> str:
    """A name for a token that tells nothing of it and means nothing in another process: for cache keys."""
    return hmac.digest(_SECRET, token.encode(), "sha256").hex() if isinstance(token, str) else repr(token)


@dataclass(frozen=True, slots=True)
class _Heard:
    """One answer of the hub, and when (monotonic seconds)."""

    answer: Answer
    at: float


@dataclass(slots=True)
class Permissions:
    """What the hub lets visitors read, remembered for a short while. One per process; safe to share by threads."""

    ask: Callable[[str, Token, str], Answer] = permission.may_read
    ask_owner: Callable[[str], tuple[Answer, str]] = permission.owner
    clock: Callable[[], float] = time.monotonic
    _heard: dict[tuple[str, str, str], _Heard] = field(default_factory=dict[tuple[str, str, str], _Heard])
    _granted: dict[tuple[str, str], float] = field(default_factory=dict[tuple[str, str], float])
    _accounts: dict[str, tuple[float, Answer, str]] = field(default_factory=dict[str, tuple[float, Answer, str]])
    _down_until: float = 0.0
    _lock: Lock = field(default_factory=Lock)

    def reads(self, repo_id: str, visitor: Visitor, commit: str = "") -> Answer:
        """Whether this visitor may read a repository (at a commit) now, as of a minute ago at most."""
        return self._answer(repo_id, token_for(repo_id, visitor), commit, ASKED_S)

    def is_public(self, repo_id: str) -> Answer:
        """Whether anybody may read a repository, as of an hour ago at most."""
        return self._answer(repo_id, False, "", PUBLIC_S)

    def once_read(self, repo_id: str, visitor: Visitor) -> bool:
        """Whether this visitor has been seen to read the repository since the process started."""
        return (digest(token_for(repo_id, visitor)), repo_id) in self._granted

    def account(self, token: str) -> tuple[Answer, str]:
        """Whether a token is valid, as of ten minutes ago at most, and the name of its account ("" where unknown)."""
        who, now = digest(token), self.clock()
        known = self._accounts.get(who)
        if known is not None and now - known[0] < (_DOWN_S if known[1] == "unknown" else _ACCOUNT_S):
            return known[1], known[2]
        answer, name = self.ask_owner(token)
        if answer == "unknown" and known is not None:
            name = known[2]
        with self._lock:
            if len(self._accounts) >= _MOST_ANSWERS:
                self._accounts.clear()
            self._accounts[who] = (now, answer, name)
        return answer, name

    def _answer(self, repo_id: str, token: Token, commit: str, max_age_s: float) -> Answer:
        who = digest(token)
        key, now = (who, repo_id, commit), self.clock()
        with self._lock:
            known = self._heard.get(key)
            if known is not None and now - known.at < (max_age_s if known.answer == "yes" else ASKED_S):
                return known.answer
            if now < self._down_until:
                return "unknown"
        answer = self.ask(repo_id, token, commit)
        with self._lock:
            if answer == "unknown":
                self._down_until = now + _DOWN_S
                return answer
            if len(self._heard) >= _MOST_ANSWERS:
                self._heard.clear()
                self._granted.clear()
            self._heard[key] = _Heard(answer, now)
            if answer == "yes":
                self._granted[who, repo_id] = now
            else:
                self._granted.pop((who, repo_id), None)
        return answer


PERMISSIONS = Permissions()
"""The process's own."""
