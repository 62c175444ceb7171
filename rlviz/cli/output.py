"""Where results go: a file or stdout, refused before the work rather than after."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rlviz.errors import InvalidInput


def check_target(target: str | None) -> None:
    """Refuse an unwritable output before hours of work, not after."""
    if not target or target == "-":
        return
    if Path(target).is_dir():
        raise InvalidInput(target, "is a folder", "Give a file to write to.")
    if not Path(target).absolute().parent.is_dir():
        raise InvalidInput(target, "its folder does not exist", "Create the folder or give another file.")


def write(target: str, text: str) -> None:
    """Write a text file, or to stdout for ``-``."""
    if target == "-":
        print(text)
    else:
        Path(target).write_text(text + "\n", encoding="utf-8")


def dumps(content: Any) -> str:
    """JSON as every command prints it; refuses NaN."""
    return json.dumps(content, indent=1, allow_nan=False)
