"""Whom this process serves: the person who started it, or visitors of a host."""

from __future__ import annotations

import os

from rlviz.errors import InvalidInput


def hosted() -> bool:
    """Whether this process serves visitors (`RLVIZ_MODE=hosted`): no local folders, no operator token by default.

    Raises
    ------
    InvalidInput
        For any other word than ``local`` and ``hosted``: a misspelt mode must not open the host's disk.
    """
    mode = os.environ.get("RLVIZ_MODE") or "local"
    if mode not in ("local", "hosted"):
        raise InvalidInput(f"RLVIZ_MODE={mode}", "is no mode", "Set it to local or hosted.")
    return mode == "hosted"
