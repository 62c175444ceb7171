"""Who may read what: which token goes with a request, and whether a visitor may see a kept result."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

Token = str | Literal[False] | None  # None: as the environment says; False: nobody's


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks. `name` is what queues and limits count by; the token lives in memory only and is never printed."""

    name: str = ""
    token: str | None = field(default=None, repr=False)


OWNER = Visitor()
"""Whoever runs the process: the command line, a notebook, the local dashboard."""


def hosted() -> bool:
    """Whether this process serves visitors (`RLVIZ_MODE=hosted`): no local folders, no operator token."""
    return os.environ.get("RLVIZ_MODE", "local") == "hosted"


def token_for(repo_id: str, visitor: Visitor) -> Token:
    """The token to read a repository with, on behalf of a visitor."""
    if visitor.token:
        return visitor.token
    return False if hosted() else None
