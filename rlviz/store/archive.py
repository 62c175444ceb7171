"""A result in one file, ``.rlviz.zip``: what `store export` writes and what a shared location holds of each result.

::

    manifest.json, provenance.json, summary.json, preview.json, tensors.parquet, tensors.parquet.sha256
    records/<key>.safetensors        each record the manifest refers to
    index.json                       schema, key, and sha256 and bytes of every other member

The bytes are a function of what the store holds: members in order of name, stored rather than compressed (records
are noise to a compressor, and compressors differ between machines), one fixed date.
"""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from rlviz.errors import InvalidInput, NotFound
from rlviz.store.atomic import temporary_beside
from rlviz.store.documents import SCHEMA
from rlviz.store.folder import Folder
from rlviz.store.seal import seal_of_file

INDEX = "index.json"
ARCHIVE_SCHEMA = 1
DOCUMENTS = (
    "manifest.json",
    "preview.json",
    "provenance.json",
    "summary.json",
    "tensors.parquet",
    "tensors.parquet.sha256",
)
RECORDS = "records/"
RECORD_SUFFIX = ".safetensors"


def export_result(folder: Folder, key: str, target: Path) -> None:
    """Write a result with everything it refers to.

    Raises
    ------
    NotFound
        Where the store has no such result.
    InvalidInput
        Where the result cannot stand alone: a record is missing, or its manifest is of rlviz 0.1.
    """
    index: dict[str, dict[str, Any]] = {}
    with temporary_beside(target) as temporary, ZipFile(temporary, "w", ZIP_STORED) as archive:
        for name, path in _members(folder, key):
            try:
                content = path.read_bytes()
            except FileNotFoundError as error:
                raise NotFound(key[:12], "went out of the store while it was being exported", _AGAIN) from error
            index[name] = {"bytes": len(content), "sha256": sha256(content).hexdigest()}
            archive.writestr(_info(name), content)
        about = {"schema": ARCHIVE_SCHEMA, "key": key, "members": index}
        archive.writestr(_info(INDEX), json.dumps(about, sort_keys=True))


_AGAIN = "Compare the pair again; what is in the store is not computed twice."


def _members(folder: Folder, key: str) -> list[tuple[str, Path]]:
    manifest = Folder.read_json(folder, key, "manifest")
    if manifest is None:
        raise NotFound(key, "the store holds no such result", "`python -m rlviz store list` shows what it holds.")
    if manifest.get("schema") != SCHEMA or "asked" not in manifest:
        raise InvalidInput(key[:12], "was kept by an older release, without hashes", _AGAIN)
    if not manifest["complete"]:
        raise InvalidInput(key[:12], "is unfinished", "Run the comparison to its end, then export it.")
    seals = {record: seal_of_file(folder.record_path(record)) for record in manifest["hashes"]}
    for record, (expected, _) in manifest["hashes"].items():
        seal = seals[record]
        if seal is None or not seal.holds(expected):
            raise InvalidInput(key[:12], f"record {record[:12]} is missing or damaged", _AGAIN)
    if any(seal and seal.digest != manifest["hashes"][record][0] for record, seal in seals.items()):
        folder.write_manifest(key, manifest)  # a shared record was damaged, and measured again by another pair
    documents = [(name, folder.result_path(key) / name) for name in DOCUMENTS]
    kept = [(name, path) for name, path in documents if path.exists()]
    return [*kept, *((f"{RECORDS}{record}{RECORD_SUFFIX}", folder.record_path(record)) for record in sorted(seals))]


def _info(name: str) -> ZipInfo:
    info = ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system = 3  # Unix, wherever it is written
    info.external_attr = 0o644 << 16
    return info
