"""Taking in a ``.rlviz.zip`` that somebody else made: everything is checked before anything lands.

Nothing that the archive's own directory says is believed: names come from a fixed list, sizes are counted while the
members are unpacked. What is unpacked lies in a folder of its own until the last check is passed; then records move
into the store, then documents, and the manifest last.
"""

from __future__ import annotations

import re
import stat
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from rlviz.errors import InvalidInput, UnsupportedCheckpoint
from rlviz.store.archive import ARCHIVE_SCHEMA, DOCUMENTS, INDEX, RECORD_SUFFIX, RECORDS
from rlviz.store.atomic import workspace, write_whole
from rlviz.store.check import manifest_problem, provenance_problem
from rlviz.store.documents import head_of, record_keys, result_key
from rlviz.store.fields import read_record
from rlviz.store.folder import Folder
from rlviz.store.seal import carry_seal, digest_of_json, opened_json, seal_of_file

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may hold at most. The ratio is of bytes unpacked to bytes packed, for members above 1 MiB."""

    members: int = 200_000
    total_bytes: int = 32 << 30
    document_bytes: int = 256 * MIB
    record_bytes: int = 1 << 30
    ratio: int = 100


LIMITS = Limits()
_RECORD = re.compile(rf"{RECORDS}([0-9a-f]{{64}}){re.escape(RECORD_SUFFIX)}")
_CHUNK = MIB
_STEP = "Ask whoever made it to export it again."


class _Refused(Exception):
    """Why a member (or the archive) is not taken; becomes an `UnsupportedCheckpoint` that names the file."""

    def __init__(self, member: str, problem: str) -> None:
        super().__init__(member, problem)
        self.member, self.problem = member, problem


def import_result(folder: Folder, source: Path, limits: Limits = LIMITS) -> str:
    """Check an archive and add its result to the store; returns the result's key.

    Raises
    ------
    InvalidInput
        Where there is no such file.
    UnsupportedCheckpoint
        Where the file is no archive of ours, is damaged, or tries something; the sentence names file and member.
    """
    if not source.is_file():
        raise InvalidInput(str(source), "there is no such file", "Give a .rlviz.zip that `store export` wrote.")
    try:
        with workspace(folder.root / "incoming") as staged:
            key = _unpack(source, staged, limits)
            manifest = _checked_manifest(staged, key)
            _check_records(staged, manifest)
            _land(folder, staged, key, manifest)
    except _Refused as error:
        what = f"{error.member[:120]!r} {error.problem}" if error.member else error.problem
        raise UnsupportedCheckpoint(source.name, what, _STEP) from error
    except (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, UnicodeError) as error:
        raise UnsupportedCheckpoint(source.name, "is not a whole zip archive", _STEP) from error
    return key


def _unpack(source: Path, staged: Path, limits: Limits) -> str:
    """Unpack every member, each against the index; returns the key that the index gives."""
    with ZipFile(source) as archive:
        members = _directory(archive, limits)
        index = _index(archive, members, limits)
        listed: Mapping[str, Any] = index["members"]
        if unlisted := set(members) - set(listed) - {INDEX}:
            raise _Refused(min(unlisted), "is not in the index")
        left = limits.total_bytes
        for name, said in listed.items():
            if name not in members or name == INDEX:
                raise _Refused(name, "is in the index and not in the archive")
            limit = min(left, limits.record_bytes if name.startswith(RECORDS) else limits.document_bytes)
            target = staged / name
            target.parent.mkdir(exist_ok=True)
            with archive.open(members[name]) as packed, target.open("xb") as unpacked:
                left -= _copy(packed, unpacked, members[name], said, min(limit, _ceiling(members[name], limits)))
    return index["key"]


def _directory(archive: ZipFile, limits: Limits) -> dict[str, ZipInfo]:
    """The members by name, once every name is one of ours, every member a plain file, and none comes twice."""
    infos = archive.infolist()
    if len(infos) > limits.members:
        raise _Refused("", f"holds {len(infos)} members, more than {limits.members}")
    members: dict[str, ZipInfo] = {}
    for info in infos:
        # orig_filename is the name before the library cuts it at a NUL or turns separators round
        name = info.orig_filename
        if name != info.filename or not (name in DOCUMENTS or name == INDEX or _RECORD.fullmatch(name)):
            raise _Refused(name, "is not a name that a result has")
        if name in members:
            raise _Refused(name, "is there twice")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG):
            raise _Refused(name, "is not a plain file")
        if info.flag_bits & 0x1:
            raise _Refused(name, "is encrypted")
        if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise _Refused(name, "is packed in a way that is not read here")
        members[name] = info
    return members


def _index(archive: ZipFile, members: Mapping[str, ZipInfo], limits: Limits) -> dict[str, Any]:
    if INDEX not in members:
        raise _Refused("", "has no index.json: it is not an exported result")
    ceiling = min(limits.document_bytes, _ceiling(members[INDEX], limits))
    with archive.open(members[INDEX]) as packed:
        content = packed.read(ceiling + 1)
    if len(content) > ceiling:
        raise _Refused(INDEX, "is larger than an index can be")
    index = opened_json(content)
    if index is None or index.get("schema") != ARCHIVE_SCHEMA:
        raise _Refused(INDEX, f"is not an index of schema {ARCHIVE_SCHEMA}")
    key, listed = index.get("key"), index.get("members")
    if not isinstance(key, str) or not re.fullmatch(r"[0-9a-f]{64}", key) or not isinstance(listed, dict):
        raise _Refused(INDEX, "names no result")
    for name, said in listed.items():
        whole = isinstance(said, dict) and type(said.get("bytes")) is int and isinstance(said.get("sha256"), str)
        if not whole:
            raise _Refused(str(name), "has no size and hash in the index")
    return index


def _ceiling(info: ZipInfo, limits: Limits) -> int:
    """How much a member may unpack to, judged by the bytes it takes in the archive."""
    return max(MIB, limits.ratio * info.compress_size)


def _copy(packed: IO[bytes], unpacked: IO[bytes], info: ZipInfo, said: Mapping[str, Any], ceiling: int) -> int:
    digest, size = sha256(), 0
    while chunk := packed.read(_CHUNK):
        size += len(chunk)
        if size > ceiling:
            raise _Refused(info.filename, f"unpacks to more than {ceiling / MIB:.0f} MiB, more than a result can hold")
        digest.update(chunk)
        unpacked.write(chunk)
    if size != said["bytes"] or digest.hexdigest() != said["sha256"]:
        raise _Refused(info.filename, "does not have the size and hash that the index gives")
    return size


def _checked_manifest(staged: Path, key: str) -> dict[str, Any]:
    try:
        content = (staged / "manifest.json").read_bytes()
    except FileNotFoundError as error:
        raise _Refused("manifest.json", "is missing") from error
    manifest = opened_json(content)
    if manifest is None or digest_of_json(content) is None:
        raise _Refused("manifest.json", "is not a manifest, or its hash does not hold")
    if problem := manifest_problem(manifest):
        raise _Refused("manifest.json", f"is not a manifest ({problem})")
    if not manifest["complete"] or "asked" not in manifest or "hashes" not in manifest:
        raise _Refused("manifest.json", "is not that of a finished result")
    if result_key(manifest["base"], manifest["tuned"], manifest["asked"]) != key:
        raise _Refused("manifest.json", "is of another result than the index says")
    for name in ("provenance.json", "summary.json", "preview.json"):
        path = staged / name
        document = opened_json(path.read_bytes()) if path.exists() else {}
        if document is None:
            raise _Refused(name, "is not a JSON object, or its hash does not hold")
        if name == "provenance.json" and path.exists() and (problem := provenance_problem(document)):
            raise _Refused(name, f"is not a provenance ({problem})")
    return manifest


def _check_records(staged: Path, manifest: Mapping[str, Any]) -> None:
    """Each record is there, is the one its name says, parses, and has the hash that the manifest gives."""
    hashes: Mapping[str, list[Any]] = manifest["hashes"]
    if stranger := set(hashes) - record_keys(manifest):
        raise _Refused("manifest.json", f"gives the hash of {min(stranger)[:12]}, which no tensor refers to")
    folder = staged / RECORDS
    there = {path.name.removesuffix(RECORD_SUFFIX) for path in folder.glob("*")}
    if odd := there ^ set(hashes):
        raise _Refused(f"{RECORDS}{min(odd)}{RECORD_SUFFIX}", "is not both in the archive and in its manifest")
    tensors = {key: t["base"]["name"] for t in manifest["tensors"] for key in t["records"].values()}
    for key, (digest, nbytes) in hashes.items():
        path = folder / f"{key}{RECORD_SUFFIX}"
        name = f"{RECORDS}{path.name}"
        seal = seal_of_file(path)
        if seal is None or not seal.holds(digest) or [seal.digest, seal.nbytes] != [digest, nbytes]:
            raise _Refused(name, "does not have the hash that the manifest gives")
        record = read_record(path, key)
        if record is None or record.tensor != tensors[key]:
            raise _Refused(name, "is not the record of its tensor")


def _land(folder: Folder, staged: Path, key: str, manifest: Mapping[str, Any]) -> None:
    """Move what was checked into the store. Records that are there and sound stay, as others may be reading them."""
    for record, (digest, _) in manifest["hashes"].items():
        target = folder.record_path(record)
        if not folder.has(record, digest):
            target.parent.mkdir(parents=True, exist_ok=True)
            arrived = (staged / RECORDS / target.name).replace(target)
            carry_seal(staged / RECORDS / target.name, arrived)
    result = folder.result_path(key)
    result.mkdir(parents=True, exist_ok=True)
    for name in DOCUMENTS:
        if name != "manifest.json" and (staged / name).exists():
            write_whole(result / name, (staged / name).read_bytes())
    content = (staged / "manifest.json").read_bytes()
    write_whole(result / "manifest.json", content)
    made = (staged / "manifest.json").stat().st_mtime
    folder.write_json(key, "head", head_of(manifest, digest_of_json(content), made))
    folder.touch(key)
