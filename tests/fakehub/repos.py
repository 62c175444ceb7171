"""Repositories made from folders: commits, blobs, and the JSON the hub's API answers with."""

from __future__ import annotations

import hashlib
import json
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

LFS_SUFFIXES = {".safetensors", ".bin", ".gguf", ".pt", ".pth"}
CREATED = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True, slots=True)
class Blob:
    """One file of one commit."""

    source: Path
    size: int
    blob_id: str
    sha256: str
    lfs: bool

    @classmethod
    def of(cls, source: Path) -> Blob:
        size = source.stat().st_size
        git, sha256 = hashlib.sha1(b"blob %d\0" % size), hashlib.sha256()
        with source.open("rb") as file:
            while chunk := file.read(1 << 20):  # weights may be larger than the memory
                git.update(chunk)
                sha256.update(chunk)
        return cls(source, size, git.hexdigest(), sha256.hexdigest(), source.suffix in LFS_SUFFIXES)

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.blob_id

    def lfs_info(self, id_key: str) -> dict[str, Any]:
        return {"lfs": {id_key: self.sha256, "size": self.size, "pointerSize": 135}} if self.lfs else {}


@dataclass(slots=True, eq=False)
class Repo:
    """A model repository: commits by id, and the revisions (branches, tags) that name them."""

    repo_id: str
    gated: bool = False
    private: bool = False
    disabled: bool = False
    card: Mapping[str, Any] = field(default_factory=dict)
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    revisions: dict[str, str] = field(default_factory=dict)

    def commit(self, folder: Path, revision: str) -> str:
        """Record the folder's files and let `revision` point at them; returns the 40-hex commit."""
        files = {p.relative_to(folder).as_posix(): Blob.of(p) for p in sorted(folder.rglob("*")) if p.is_file()}
        listing = json.dumps([self.repo_id, revision, len(self.commits), [(n, b.sha256) for n, b in files.items()]])
        sha = hashlib.sha1(listing.encode()).hexdigest()
        self.commits[sha] = files
        self.revisions[revision] = sha
        return sha

    def resolve(self, revision: str) -> str | None:
        """The commit a revision (or a commit) stands for."""
        return self.revisions.get(revision) or (revision if revision in self.commits else None)

    def info(self, commit: str, *, blobs: bool, expand: list[str]) -> dict[str, Any]:
        files = self.commits[commit]
        whole = {
            "id": self.repo_id,
            "modelId": self.repo_id,
            "sha": commit,
            "private": self.private,
            "gated": "manual" if self.gated else False,
            "disabled": self.disabled,
            "lastModified": CREATED,
            "createdAt": CREATED,
            "tags": ["safetensors"],
            "downloads": 0,
            "likes": 0,
            "cardData": dict(self.card),
            "siblings": [_sibling(name, blob, blobs) for name, blob in files.items()],
            "safetensors": _parameters(files),
        }
        if "baseModels" in expand:
            whole["baseModels"] = self.card.get("base_model")
        return {"id": self.repo_id, **{key: whole[key] for key in expand if key in whole}} if expand else whole

    def tree(self, commit: str, folder: str, *, recursive: bool) -> list[dict[str, Any]] | None:
        """Rows below `folder` ("" for the root); None where there is no such folder."""
        prefix = f"{folder}/" if folder else ""
        inside = {n[len(prefix) :]: b for n, b in self.commits[commit].items() if n.startswith(prefix)}
        if folder and not inside:
            return None
        rows: list[dict[str, Any]] = []
        folders = {"/".join(n.split("/")[:i]) for n in inside for i in range(1, n.count("/") + 1)}
        for name in sorted(folders):
            if recursive or "/" not in name:
                oid = hashlib.sha1(name.encode()).hexdigest()
                rows.append({"type": "directory", "path": prefix + name, "size": 0, "oid": oid})
        rows += [tree_row(prefix + n, b) for n, b in inside.items() if recursive or "/" not in n]
        return rows


def tree_row(path: str, blob: Blob) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": blob.size, "oid": blob.blob_id, **blob.lfs_info("oid")}


def _sibling(name: str, blob: Blob, blobs: bool) -> dict[str, Any]:
    detail = {"size": blob.size, "blobId": blob.blob_id, **blob.lfs_info("sha256")} if blobs else {}
    return {"rfilename": name, **detail}


def _parameters(files: Mapping[str, Blob]) -> dict[str, Any] | None:
    """Entry counts by dtype as the hub lists them; None where a header cannot be read, as on the hub."""
    counts: Counter[str] = Counter()
    for name, blob in files.items():
        if not name.endswith(".safetensors"):
            continue
        try:
            with blob.source.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                header = json.loads(file.read(min(length, blob.size)))
            for tensor, entry in header.items():
                if tensor != "__metadata__":
                    counts[entry["dtype"]] += prod(entry["shape"])
        except (ValueError, KeyError, TypeError, AttributeError, struct.error):
            return None
    return {"parameters": dict(counts), "total": sum(counts.values())} if counts else None
