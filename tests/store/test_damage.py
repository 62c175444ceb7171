"""Whatever happens to a file of the store, what is shown is what was measured; the damaged is measured again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from rlviz.result import PairResult, load
from rlviz.store import Store
from rlviz.store.seal import digest_of_json, opened_json, seal_of, sealed_json
from tests.store.pairs import compared, record_files

Damage = Callable[[Path], None]


def flipped(at: float) -> Damage:
    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[int(at * (len(content) - 1))] ^= 0x10
        path.write_bytes(content)

    return damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def rewritten(path: Path) -> None:
    """Valid safetensors with the same header text and other numbers."""
    with safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file({name: np.ascontiguousarray(a + np.ones((), a.dtype)) for name, a in arrays.items()}, path, metadata)


def swapped(path: Path) -> None:
    """Another record's file under this one's name."""
    other = next(p for p in sorted(path.parent.parent.rglob("*.safetensors")) if p != path)
    path.write_bytes(other.read_bytes())


RECORD_DAMAGE = [flipped(0.0), flipped(0.02), flipped(0.5), flipped(1.0), cut, emptied, Path.unlink, rewritten, swapped]


@pytest.mark.parametrize("damage", RECORD_DAMAGE)
@pytest.mark.parametrize("which", [0, -1])
def test_damaged_record_is_measured_again(copied, first: PairResult, damage: Damage, which: int):
    store = copied()
    before = {p: p.read_bytes() for p in record_files(store)}
    damage(record_files(store)[which])
    assert compared(store).rows() == first.rows()
    for tuned in ("demo:sft", "demo:sft_same"):  # whose record it was: all of them are whole again
        assert compared(store, tuned).complete
    assert {p: p.read_bytes() for p in record_files(store)} == before


def test_damaged_record_is_not_shown(copied, first: PairResult):
    store = copied()
    for path in record_files(store):
        rewritten(path)
    found = load(store, first.key)
    assert found is not None
    assert not found.complete
    assert all(not m.records for m in found.measured)


def edited(path: Path) -> None:
    """As an editor would: other numbers, neat layout, the old hash left in."""
    content = json.loads(path.read_text())
    content["complete" if "complete" in content else "n"] = False
    path.write_text(json.dumps(content, indent=1))


def stripped(path: Path) -> None:
    """The same with the hash taken out, as if the file were of an older release."""
    content = json.loads(path.read_text())
    content.pop("sha256")
    path.write_text(json.dumps(content))


@pytest.mark.parametrize("damage", [flipped(0.3), flipped(0.999), cut, emptied, Path.unlink, edited, stripped])
def test_damaged_manifest_is_absent_and_made_again(copied, first: PairResult, damage: Damage):
    store = copied()
    path = store.result_path(first.key) / "manifest.json"
    whole = path.read_bytes()
    damage(path)
    assert store.read_json(first.key, "manifest") is None
    assert load(store, first.key) is None
    assert compared(store).rows() == first.rows()
    assert path.read_bytes() == whole


@pytest.mark.parametrize("damage", [flipped(0.5), cut, emptied, edited])
def test_damaged_summary_is_absent_and_made_again(copied, first: PairResult, damage: Damage):
    store = copied()
    path = store.result_path(first.key) / "summary.json"
    whole = store.read_json(first.key, "summary")
    damage(path)
    assert store.read_json(first.key, "summary") is None
    compared(store)
    assert store.read_json(first.key, "summary") == whole


@pytest.mark.parametrize("damage", [flipped(0.5), cut, emptied, Path.unlink])
@pytest.mark.parametrize("name", ["tensors.parquet", "tensors.parquet.sha256"])
def test_damaged_table_is_absent_and_made_again(copied, first: PairResult, damage: Damage, name: str):
    store = copied()
    table = store.table(first.key)
    assert table is not None
    whole = table.read_bytes()
    damage(table.with_name(name))
    assert store.table(first.key) is None
    compared(store)
    assert table.read_bytes() == whole
    assert store.table(first.key) == table


def test_every_byte_of_a_record_counts(copied):
    content = min((p.read_bytes() for p in record_files(copied())), key=len)
    assert seal_of(content).holds()
    for at in range(0, len(content), max(1, len(content) // 2000)):
        spoiled = bytearray(content)
        spoiled[at] ^= 1
        seal = seal_of(bytes(spoiled))
        assert not seal.holds() or seal.claimed is None, at  # without a claim, the manifest's word decides
        assert not seal.holds(seal_of(content).digest), at


def test_every_byte_of_a_document_counts():
    content = sealed_json({"a": [1, 2.5], "b": {"c": "x", "d": None}})
    assert opened_json(content) == {"a": [1, 2.5], "b": {"c": "x", "d": None}}
    for at in range(len(content)):
        for bit in range(8):
            spoiled = bytearray(content)
            spoiled[at] ^= 1 << bit
            found = opened_json(bytes(spoiled))
            assert found is None or digest_of_json(bytes(spoiled)) is None, (at, bit)


def unsealed(root: Path) -> None:
    """Turn a store into one of rlviz 0.1: records and documents without hashes, manifests of schema 1."""
    for path in root.rglob("*.safetensors"):
        with safe_open(path, framework="numpy") as file:
            about = json.loads(file.metadata()["rlviz"])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        about = {name: about[name] for name in ("tensor", "probe", "version", "params")}
        save_file(arrays, path, {"rlviz": json.dumps(about, sort_keys=True)})
    for path in root.rglob("head.json"):
        path.unlink()
    for path in root.rglob("*.sha256"):
        path.unlink()
    for path in root.rglob("*.json"):
        content = json.loads(path.read_text())
        content.pop("sha256")
        if path.name == "manifest.json":
            del content["hashes"], content["asked"]
            for side in ("base", "tuned"):
                del content[side]["access"]
            content["schema"] = 1
        path.write_text(json.dumps(content, sort_keys=True))


def test_old_store_opens_and_is_renewed_without_reading_a_weight(copied, first: PairResult, monkeypatch):
    store = copied()
    unsealed(store.root)
    found = load(store, first.key)
    assert found is not None
    assert found.complete
    assert found.rows() == first.rows()
    assert [k.key for k in store.kept() if k.key == first.key] == [first.key]

    from rlviz.sources.checkpoint import Checkpoint

    def refuse(*_: object) -> None:
        raise AssertionError("a weight was read")

    monkeypatch.setattr(Checkpoint, "read_into", refuse)
    assert compared(store).rows() == first.rows()
    manifest = store.read_json(first.key, "manifest")
    assert manifest is not None
    assert manifest["schema"] == 2
    monkeypatch.undo()
    # from now on the manifest's word protects the old records too
    rewritten(store.record_path(next(iter(manifest["hashes"]))))
    damaged = load(store, first.key)
    assert damaged is not None
    assert not damaged.complete
    assert compared(store).rows() == first.rows()


def test_old_manifest_of_another_shape_is_absent(copied, first: PairResult):
    store = copied()
    unsealed(store.root)
    path = store.result_path(first.key) / "manifest.json"
    for field, wrong in (("tensors", [1]), ("base", {}), ("complete", "yes"), ("skipped", [{"name": 1}])):
        content = json.loads(path.read_text()) | {field: wrong}
        path.write_text(json.dumps(content))
        assert load(store, first.key) is None
        assert first.key not in [k.key for k in store.kept()]


def test_records_are_hashed_once_while_they_do_not_change(copied, first: PairResult, monkeypatch):
    from rlviz.store import seal

    store, hashed = copied(), []
    original = seal.seal_of
    monkeypatch.setattr(seal, "seal_of", lambda content: hashed.append(1) or original(content))
    for _ in range(3):
        load(store, first.key)
    assert len(hashed) == len((store.read_json(first.key, "manifest") or {})["hashes"])
    time.sleep(0.01)
    path = store.record_path(next(iter((store.read_json(first.key, "manifest") or {})["hashes"])))
    path.write_bytes(path.read_bytes())
    load(store, first.key)
    assert len(hashed) == len((store.read_json(first.key, "manifest") or {})["hashes"]) + 1


@pytest.mark.parametrize("key", ["../escape", "/etc", "a/b", "a\\b", "", "x" * 200, "..", "a\0b"])
def test_what_is_no_key_names_no_file(tmp_path, key: str):
    from rlviz.errors import InvalidInput

    store = Store(tmp_path)
    for path in (store.result_path, store.record_path, store.link_path):
        with pytest.raises(InvalidInput, match="is not a key"):
            path(key)
    assert store.read_json(key, "manifest") is None
    assert store.read_link(key) is None
