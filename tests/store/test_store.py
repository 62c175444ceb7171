"""Records survive the round trip, land whole or not at all, and damage counts as absence."""

from __future__ import annotations

import numpy as np
import pytest

from rlviz.store import Store
from rlviz.store.fields import record_bytes
from rlviz.types import Record


def record(seed: int = 0) -> Record:
    rng = np.random.default_rng(seed)
    fields = {
        "counts": rng.integers(0, 9, 5),
        "norm": np.float64(rng.random()) * np.ones(()),
        "empty": np.zeros((0, 3)),
    }
    return Record("w", "coordinate", 3, {"k_max": 8, "method": "exact"}, fields)


def test_round_trip_keeps_everything(tmp_path):
    store, kept = Store(tmp_path), record()
    store.put("ab" * 32, kept)
    found = store.get("ab" * 32)
    assert found is not None
    assert (found.tensor, found.probe, found.version, found.params) == ("w", "coordinate", 3, kept.params)
    assert set(found.fields) == set(kept.fields)
    for name, array in kept.fields.items():
        np.testing.assert_array_equal(found.fields[name], array)
        assert found.fields[name].shape == np.shape(array)


def test_bytes_are_a_function_of_the_record():
    assert record_bytes(record(1), "k") == record_bytes(record(1), "k")
    assert record_bytes(record(1), "k") != record_bytes(record(2), "k")


@pytest.mark.parametrize("damage", [b"", b"x" * 40, None])
def test_damaged_record_is_absent(tmp_path, damage):
    store, key = Store(tmp_path), "cd" * 32
    store.put(key, record())
    path = store.record_path(key)
    path.write_bytes(path.read_bytes()[:-7] if damage is None else damage)
    assert store.get(key) is None


def test_absent_record_is_none(tmp_path):
    store = Store(tmp_path)
    assert store.get("0" * 64) is None
    assert not store.has("0" * 64)


def test_missing_field_is_a_key_error(tmp_path):
    store = Store(tmp_path)
    store.put("e" * 64, record())
    found = store.get("e" * 64)
    assert found is not None
    with pytest.raises(KeyError):
        found.fields["nothing"]


def test_no_temporary_file_is_left(tmp_path):
    store = Store(tmp_path)
    for i in range(4):
        store.put(f"{i:064x}", record(i))
    assert not list(tmp_path.rglob("*.tmp"))


def manifest(*keys: str) -> dict[str, object]:
    return {"complete": True, "tensors": [{"records": {"coordinate": key}} for key in keys]}


def test_remove_keeps_what_another_result_uses(tmp_path):
    store = Store(tmp_path)
    for key in ("aa", "bb", "cc"):
        store.put(key, record())
    store.write_json("first", "manifest", manifest("aa", "bb"))
    store.write_json("second", "manifest", manifest("bb", "cc"))
    assert store.remove("first") == 1
    assert [store.has(key) for key in ("aa", "bb", "cc")] == [False, True, True]
    assert [key for key, _ in store.results()] == ["second"]


def test_find_by_prefix(tmp_path):
    store = Store(tmp_path)
    for key in ("abc1", "abd2"):
        store.write_json(key, "manifest", manifest())
    assert store.find("abc") == ["abc1"]
    assert sorted(store.find("ab")) == ["abc1", "abd2"]


def test_lock_is_exclusive_between_holders(tmp_path):
    store = Store(tmp_path)

    class Waited(Exception):
        pass

    def waiting() -> None:
        raise Waited

    with store.lock("k", waiting), pytest.raises(Waited), store.lock("k", waiting):
        pass
    with store.lock("k", waiting):  # free again
        pass
