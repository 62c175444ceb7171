"""A result in one file: the same bytes each time, whole at the other end, and nothing else gets in."""

from __future__ import annotations

import json
import stat
import struct
import zipfile
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rlviz import api
from rlviz.cli import main
from rlviz.errors import InvalidInput, NotFound, UnsupportedCheckpoint
from rlviz.result import PairResult
from rlviz.store import Store
from rlviz.store.fields import record_bytes
from rlviz.store.intake import Limits, import_result
from rlviz.store.seal import opened_json, seal_of, sealed_json
from rlviz.types import Record


@pytest.fixture
def archive(measured, first: PairResult, tmp_path: Path) -> Path:
    target = tmp_path / "result.rlviz.zip"
    Store(measured[0]).export_result(first.key, target)
    return target


def members(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def packed(target: Path, contents: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(target, "w", method) as opened:
        for name, content in contents.items():
            opened.writestr(name, content)
    return target


def indexed(contents: dict[str, bytes]) -> dict[str, bytes]:
    """The members with an index that agrees with them, as a forger would write it."""
    index = json.loads(contents["index.json"])
    others = {name: content for name, content in contents.items() if name != "index.json"}
    index["members"] = {n: {"bytes": len(c), "sha256": sha256(c).hexdigest()} for n, c in others.items()}
    return {**others, "index.json": json.dumps(index).encode()}


def everything(root: Path) -> set[str]:
    return {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file()}


def test_bytes_are_a_function_of_the_result(measured, first: PairResult, archive: Path, tmp_path: Path):
    Store(measured[0]).export_result(first.key, tmp_path / "again.rlviz.zip")
    other = Store(tmp_path / "other")
    assert other.import_result(archive) == first.key
    other.export_result(first.key, tmp_path / "other.rlviz.zip")
    assert (tmp_path / "again.rlviz.zip").read_bytes() == archive.read_bytes()
    assert (tmp_path / "other.rlviz.zip").read_bytes() == archive.read_bytes()


def test_imported_result_is_the_same(first: PairResult, archive: Path, tmp_path: Path):
    found = api.import_result(archive, tmp_path / "other")
    assert found.rows() == first.rows()
    assert found.summary() == first.summary()
    assert found.provenance == first.provenance
    assert found.complete
    assert not list((tmp_path / "other" / "incoming").iterdir())


def test_import_leaves_sound_records_alone(copied, archive: Path):
    store = copied()
    before = {p: p.stat().st_mtime_ns for p in (store.root / "records").rglob("*.safetensors")}
    store.import_result(archive)
    assert {p: p.stat().st_mtime_ns for p in (store.root / "records").rglob("*.safetensors")} == before


def test_repacked_with_compression_is_taken(first: PairResult, archive: Path, tmp_path: Path):
    smaller = packed(tmp_path / "smaller.rlviz.zip", members(archive), zipfile.ZIP_DEFLATED)
    assert Store(tmp_path / "other").import_result(smaller) == first.key


def refused(archive: Path, root: Path, match: str, limits: Limits | None = None) -> None:
    """Refused with one sentence that names the file, and the store is as it was."""
    store = Store(root)
    with pytest.raises(UnsupportedCheckpoint, match=match) as caught:
        import_result(store, archive, limits or Limits())
    assert archive.name in str(caught.value)
    assert everything(root) == set()
    assert not list((root / "incoming").iterdir())


NAMES = [
    "/etc/passwd", "../escape.json", "records/../../escape", "records\\..\\escape", "C:\\escape", "notes.txt",
    "records/", "records/x.safetensors", "manifest.json/", "./manifest.json", "Manifest.json", "manifest.json\0x",
    f"records/{'0' * 64}.safetensors/x", f"records/{'A' * 64}.safetensors", "index.json ",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_no_result_has_is_refused(archive: Path, tmp_path: Path, name: str):
    contents = {**members(archive), "x" * len(name.encode()): b"{}"}
    forged = packed(tmp_path / "forged.rlviz.zip", indexed(contents))
    # Written into the bytes: the library would clean the name up for us.
    forged.write_bytes(forged.read_bytes().replace(b"x" * len(name.encode()), name.encode()))
    refused(forged, tmp_path / "store", "is not a name that a result has|is not in the archive|not a whole zip")
    assert not (tmp_path / "escape.json").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_comes_twice_is_refused(archive: Path, tmp_path: Path):
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr("manifest.json", b"{}")
    refused(archive, tmp_path / "store", "'manifest.json' is there twice")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFDIR, stat.S_IFCHR])
def test_what_is_no_plain_file_is_refused(archive: Path, tmp_path: Path, kind: int):
    contents = members(archive)
    with zipfile.ZipFile(tmp_path / "forged.rlviz.zip", "w") as opened:
        for name, content in contents.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = ((kind if name == "provenance.json" else stat.S_IFREG) | 0o644) << 16
            opened.writestr(info, b"/etc/passwd" if name == "provenance.json" else content)
    refused(tmp_path / "forged.rlviz.zip", tmp_path / "store", "'provenance.json' is not a plain file")


def test_encrypted_is_refused(archive: Path, tmp_path: Path):
    content = bytearray(archive.read_bytes())
    at = content.find(b"PK\x01\x02")
    content[at + 8] |= 1
    archive.write_bytes(content)
    refused(archive, tmp_path / "store", "is encrypted")


def test_odd_compression_is_refused(archive: Path, tmp_path: Path):
    forged = packed(tmp_path / "forged.rlviz.zip", members(archive), zipfile.ZIP_LZMA)
    refused(forged, tmp_path / "store", "packed in a way")


def test_bomb_is_refused_while_it_unpacks(archive: Path, tmp_path: Path):
    contents = {**members(archive), "summary.json": b'{"a": "' + b"0" * (64 << 20) + b'"}'}
    bomb = packed(tmp_path / "bomb.rlviz.zip", indexed(contents), zipfile.ZIP_DEFLATED)
    assert bomb.stat().st_size < 8 << 20
    refused(bomb, tmp_path / "store", "unpacks to more than")


def test_size_in_the_directory_is_not_believed(archive: Path, tmp_path: Path):
    contents = {**members(archive), "summary.json": b'{"a": "' + b"0" * (64 << 20) + b'"}'}
    bomb = packed(tmp_path / "bomb.rlviz.zip", indexed(contents), zipfile.ZIP_DEFLATED)
    content, real = bomb.read_bytes(), struct.pack("<I", len(contents["summary.json"]))
    bomb.write_bytes(content.replace(real, struct.pack("<I", 100)))
    refused(bomb, tmp_path / "store", "unpacks to more than|does not have the size|not a whole zip")


@pytest.mark.parametrize(
    ("limits", "match"),
    [
        (Limits(members=3), "more than 3"),
        (Limits(total_bytes=1000), "unpacks to more than"),
        (Limits(record_bytes=10), "unpacks to more than"),
        (Limits(document_bytes=10), "larger than an index"),
    ],
)
def test_limits(archive: Path, tmp_path: Path, limits: Limits, match: str):
    refused(archive, tmp_path / "store", match, limits)


@pytest.mark.parametrize("at", [0.0, 0.2, 0.5, 0.8, 0.99])
def test_a_flipped_byte_is_seen(archive: Path, tmp_path: Path, at: float):
    content = bytearray(archive.read_bytes())
    content[int(at * (len(content) - 1))] ^= 0x20
    archive.write_bytes(content)
    with pytest.raises(UnsupportedCheckpoint):
        Store(tmp_path / "store").import_result(archive)
    assert everything(tmp_path / "store") == set()


@pytest.mark.parametrize("content", [b"", b"PK", b"x" * 1000])
def test_what_is_no_zip_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "a.rlviz.zip").write_bytes(content)
    refused(tmp_path / "a.rlviz.zip", tmp_path / "store", "not a whole zip archive")


def test_truncated_is_refused(archive: Path, tmp_path: Path):
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    refused(archive, tmp_path / "store", "not a whole zip archive")


def test_absent_file_is_refused(tmp_path: Path):
    with pytest.raises(InvalidInput, match="no such file"):
        Store(tmp_path / "store").import_result(tmp_path / "absent.rlviz.zip")


def reforged(archive: Path, target: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The archive with a changed manifest, every hash made to agree."""
    contents = members(archive)
    manifest = opened_json(contents["manifest.json"])
    assert manifest is not None
    change(manifest)
    return packed(target, indexed({**contents, "manifest.json": sealed_json(manifest)}))


MANIFESTS: list[Callable[[dict[str, Any]], object]] = [
    lambda m: m["base"].update(pinned_ref="someone/else@" + "0" * 40),
    lambda m: m["asked"].update(tensors="*"),
    lambda m: m.update(schema=7),
    lambda m: m.update(extra=1),
    lambda m: m.pop("skipped"),
    lambda m: m.update(complete=False),
    lambda m: m.update(total="many"),
    lambda m: m.update(tensors={}),
    lambda m: m["tensors"][0].update(rows=True),
    lambda m: m["tensors"][0]["base"].update(shape=[-1]),
    lambda m: m["tensors"][0]["base"].update(shape=[1e3]),
    lambda m: m["tensors"][0]["base"].update(dtype="PICKLE"),
    lambda m: m["tensors"][0]["records"].update(coordinate="../../escape"),
    lambda m: m["tensors"][0]["base"].update(name="another.weight"),
    lambda m: m["tensors"][0]["base"].update(module="half a pair \ud800"),
    lambda m: m["hashes"].popitem(),
    lambda m: m["hashes"].update({"0" * 64: ["0" * 64, 1]}),
    lambda m: m["base"].update(nbytes=float("inf")),
    lambda m: m["notices"].append({"code": "x"}),
]


@pytest.mark.parametrize("change", MANIFESTS)
def test_a_manifest_that_is_not_right_is_refused(archive: Path, tmp_path: Path, change: Callable[[Any], None]):
    refused(
        reforged(archive, tmp_path / "forged.rlviz.zip", change), tmp_path / "store", "'(manifest.json|records/.*)' "
    )


def forged_record(archive: Path, target: Path, content: Callable[[str], bytes]) -> Path:
    """The archive with another content for one record, every hash made to agree."""
    contents = members(archive)
    manifest = opened_json(contents["manifest.json"])
    assert manifest is not None
    key = manifest["tensors"][0]["records"]["coordinate"]
    made = content(key)
    manifest["hashes"][key] = [seal_of(made).digest, len(made)]
    contents |= {f"records/{key}.safetensors": made, "manifest.json": sealed_json(manifest)}
    return packed(target, indexed(contents))


def hostile_header(key: str) -> bytes:
    return struct.pack("<Q", 1 << 60) + b"{}"


def beyond_the_file(key: str) -> bytes:
    header = b'{"a": {"dtype": "F64", "shape": [1000000], "data_offsets": [0, 8000000]}}'
    return struct.pack("<Q", len(header)) + header


def of_another_tensor(key: str) -> bytes:
    return record_bytes(Record("another.weight", "coordinate", 1, {}, {"x": np.zeros(3)}), key)


def under_another_key(key: str) -> bytes:
    return record_bytes(Record("another.weight", "coordinate", 1, {}, {"x": np.zeros(3)}), "0" * 64)


@pytest.mark.parametrize(
    "content", [hostile_header, beyond_the_file, of_another_tensor, under_another_key, lambda _: b""]
)
def test_a_record_that_is_not_right_is_refused(archive: Path, tmp_path: Path, content: Callable[[str], bytes]):
    forged = forged_record(archive, tmp_path / "forged.rlviz.zip", content)
    refused(forged, tmp_path / "store", "'records/[0-9a-f]{64}.safetensors' ")


def test_a_record_without_its_fields_is_refused_by_who_reads_it(archive: Path, tmp_path: Path):
    manifest = opened_json(members(archive)["manifest.json"])
    assert manifest is not None
    name = manifest["tensors"][0]["base"]["name"]
    forged = forged_record(
        archive,
        tmp_path / "forged.rlviz.zip",
        lambda key: record_bytes(Record(name, "coordinate", 1, {}, {"x": np.zeros(3)}), key),
    )
    with pytest.raises(UnsupportedCheckpoint, match="records do not hold"):
        api.import_result(forged, tmp_path / "store")
    assert not list(Store(tmp_path / "store").results())


def test_a_forged_summary_does_not_survive(first: PairResult, archive: Path, tmp_path: Path):
    contents = {**members(archive), "summary.json": sealed_json({"n": "<script>"})}
    api.import_result(packed(tmp_path / "forged.rlviz.zip", indexed(contents)), tmp_path / "store")
    kept = Store(tmp_path / "store").read_json(first.key, "summary")
    assert kept == json.loads(json.dumps(first.summary()))


def test_export_of_what_is_absent_or_unfinished_is_refused(copied, first: PairResult, tmp_path: Path):
    store = copied()
    with pytest.raises(NotFound, match="no such result"):
        store.export_result("0" * 64, tmp_path / "a.rlviz.zip")
    manifest = store.read_json(first.key, "manifest")
    assert manifest is not None
    store.record_path(next(iter(manifest["hashes"]))).unlink()
    with pytest.raises(InvalidInput, match="missing or damaged"):
        store.export_result(first.key, tmp_path / "a.rlviz.zip")
    store.write_manifest(first.key, {**manifest, "complete": False})
    with pytest.raises(InvalidInput, match="unfinished"):
        store.export_result(first.key, tmp_path / "a.rlviz.zip")
    assert everything(tmp_path) >= {"copied/results/" + first.key + "/manifest.json"}
    assert not (tmp_path / "a.rlviz.zip").exists()


def test_command_line(copied, first: PairResult, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    store = copied()
    here, there, file = str(store.root), str(tmp_path / "there"), str(tmp_path / "a.rlviz.zip")

    def said(*arguments: str) -> str:
        assert main(["store", *arguments]) == 0
        return capsys.readouterr().out

    said("export", first.key[:10], file, "--store", here)
    assert first.key[:12] in said("import", file, "--store", there)
    said("pin", first.key[:10], "--store", there)
    listed = json.loads(said("list", "--store", there, "--json", "-"))["results"]
    assert [(e["key"], e["pinned"], e["complete"]) for e in listed] == [(first.key, True, True)]
    assert listed[0]["summary"]["n"] == first.summary()["n"]
    line = said("list", "--store", there)
    assert all(word in line for word in (first.key[:12], "demo:base", "pinned", "coordinate+masks", "tensors"))
    assert "unpinned" in said("unpin", first.key[:10], "--store", there)
    assert "removed" in said("remove", first.key[:10], "--store", there)
    assert "is empty" in said("list", "--store", there)


def test_command_line_refuses_in_one_sentence(copied, first: PairResult, tmp_path: Path, capsys):
    store, file = copied(), str(tmp_path / "a.rlviz.zip")
    for arguments, code in (
        (("export", "0" * 12, file), 3),
        (("export", first.key, str(tmp_path / "a.zip")), 2),
        (("export", first.key, str(tmp_path / "absent" / "a.rlviz.zip")), 2),
        (("import", str(tmp_path / "absent.rlviz.zip")), 2),
        (("import", str(store.result_path(first.key) / "manifest.json")), 4),
        (("pin", "nothing"), 3),
        (("evict",), 2),
    ):
        assert main(["store", *arguments, "--store", str(store.root)]) == code, arguments
        assert capsys.readouterr().err.startswith("rlviz: ")
