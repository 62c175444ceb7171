"""Files that appear whole or not at all: written beside their place, then renamed into it."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

_LEFT_BEHIND_S = 24 * 3600
_ATTEMPTS = 20  # each loses only to another eviction of the same folder


@contextmanager
def temporary_beside(target: Path) -> Generator[Path]:
    """A path to write to, renamed to `target` when the block ends well and deleted otherwise."""
    if not target.parent.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.{uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        temporary.replace(target)
    except BaseException as error:
        if isinstance(error, OSError) and error.errno and error.filename is None:
            error.filename = str(target)  # a full disk does not say where
        with suppress(FileNotFoundError):
            temporary.unlink()
        raise


def write_whole(target: Path, content: bytes) -> None:
    """Write a file so that no reader ever sees half of it; the folder is made where it is missing."""
    for attempt in range(_ATTEMPTS):
        try:
            with temporary_beside(target) as temporary:
                temporary.write_bytes(content)
            return
        except FileNotFoundError:  # another process evicted the folder in between
            if attempt == _ATTEMPTS - 1:
                raise


@contextmanager
def workspace(parent: Path) -> Generator[Path]:
    """An empty folder below `parent` for the length of the block; clears away what killed processes left there."""
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.iterdir():
        with suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > _LEFT_BEHIND_S:
                shutil.rmtree(left, ignore_errors=True)
    with TemporaryDirectory(dir=parent) as folder:
        yield Path(folder)


def read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None where it is absent or holds anything else."""
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return content if isinstance(content, dict) else None  # pyright: ignore[reportUnknownVariableType]
