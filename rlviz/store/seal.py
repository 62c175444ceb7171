"""Content hashes: how a record or document that was damaged on disk is told from a sound one.

Each file carries the sha256 of itself, taken with the digest's own 64 characters read as zeros: in the header of a
record, as the last field of a JSON document. A file and its hash can then never be out of step, whoever copies it.
This finds damage and careless edits; it is no signature, and no defence against someone who may write to the store.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

_ZEROS = b"0" * 64
_IN_HEADER = rb"\"sha256\": \""  # inside the JSON string that safetensors keeps in its JSON header
_LAST_FIELD = b', "sha256": "'
_TAIL = len(_LAST_FIELD) + 64 + len(b'"}')
UNSEALED = _ZEROS.decode()


@dataclass(frozen=True, slots=True)
class Seal:
    """`digest` is what the content says, `claimed` what the file says of itself (None in files of rlviz 0.1)."""

    digest: str
    claimed: str | None
    nbytes: int

    def holds(self, expected: str | None = None) -> bool:
        """Whether the content is what it says it is; an older file needs somebody else's word, where there is one."""
        return self.claimed == self.digest if self.claimed is not None else expected in (None, self.digest)


def seal_of(content: bytes) -> Seal:
    """The seal of a record file's content."""
    header_end = 8 + int.from_bytes(content[:8], "little")
    at = content.find(_IN_HEADER, 8, min(header_end, len(content)))
    if at < 0:
        return Seal(sha256(content).hexdigest(), None, len(content))
    at += len(_IN_HEADER)
    digest = sha256(content[:at])
    digest.update(_ZEROS)
    digest.update(memoryview(content)[at + 64 :])
    return Seal(digest.hexdigest(), content[at : at + 64].decode("latin-1"), len(content))


def sealed(content: bytes) -> bytes:
    """A record file's content with its digest in place of the zeros it was written with."""
    return content.replace(_IN_HEADER + _ZEROS, _IN_HEADER + seal_of(content).digest.encode(), 1)


# Hashed once per process for each state of a file: (time of change, size, inode) -> seal.
_seen: dict[Path, tuple[tuple[int, int, int], Seal]] = {}
_SEEN_MAX = 200_000


def seal_of_file(path: Path) -> Seal | None:
    """The same for a file, from memory while the file does not change; None where there is none."""
    try:
        stat = path.stat()
        state = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        known = _seen.get(path)
        if known is not None and known[0] == state:
            return known[1]
        seal = seal_of(path.read_bytes())
    except FileNotFoundError:
        return None
    if len(_seen) >= _SEEN_MAX:
        _seen.clear()
    _seen[path] = (state, seal)
    return seal


def carry_seal(source: Path, target: Path) -> None:
    """Remember for a file that was moved what was found where it came from: moving changes no byte of it."""
    if known := _seen.pop(source, None):
        _seen[target] = known


def sealed_json(content: Mapping[str, Any]) -> bytes:
    """A JSON object with its digest as the last field.

    >>> opened_json(sealed_json({"a": 1}))
    {'a': 1}
    >>> opened_json(sealed_json({"a": 1}).replace(b"1", b"2", 1)) is None
    True
    """
    text = json.dumps({k: v for k, v in content.items() if k != "sha256"}, sort_keys=True).encode()
    if text == b"{}":
        return text  # nothing to protect
    return text[:-1] + _LAST_FIELD + sha256(text).hexdigest().encode() + b'"}'


def digest_of_json(content: bytes) -> str | None:
    """The digest that a document carries; None in documents of rlviz 0.1."""
    tail = content[-_TAIL:]
    return tail[len(_LAST_FIELD) : -2].decode("latin-1") if tail.startswith(_LAST_FIELD) else None


def opened_json(content: bytes) -> dict[str, Any] | None:
    """The object in a document; None where it is damaged, was edited, or is no JSON object."""
    try:
        found: Any = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    claimed: Any = found.pop("sha256", None)
    if claimed is not None and sha256(content[:-_TAIL] + b"}").hexdigest() != claimed:
        return None
    return found
