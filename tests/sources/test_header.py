from __future__ import annotations

import json
import random
import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, deserialize

from rlviz.errors import UnsupportedCheckpoint
from rlviz.sources.header import MAX_HEADER_BYTES, HeaderEntry, parse_header, read_header_length, tensor_metas
from tests.sources.files import BITS, Shapes, framed, safetensors_bytes, size_of, table_of

FILE = "model-00001-of-00002.safetensors"


def parse(content: bytes) -> dict[str, HeaderEntry]:
    length = read_header_length(content[:8], len(content), FILE)
    return parse_header(content[8 : 8 + length], len(content), FILE)


def parse_table(table: object, data_bytes: int) -> dict[str, HeaderEntry]:
    return parse(framed(json.dumps(table).encode(), bytes(data_bytes)))


@st.composite
def shape_tables(draw: st.DrawFn, codes: tuple[str, ...] = tuple(BITS)) -> Shapes:
    names = draw(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), unique=True, max_size=6))
    shape = st.lists(st.integers(0, 5), max_size=4).map(tuple)
    table = {name: (draw(st.sampled_from(codes)), draw(shape)) for name in names if name != "__metadata__"}
    # half-byte types fill whole bytes
    return {n: (code, (*s, 2) if code == "F4" else s) for n, (code, s) in table.items()}


@given(shape_tables())
def test_agrees_with_the_safetensors_library(shapes: Shapes) -> None:
    content = safetensors_bytes(shapes)
    ours = parse(content)
    theirs = dict(deserialize(content))
    assert ours.keys() == theirs.keys()
    for name, entry in ours.items():
        assert (entry.dtype, list(entry.shape)) == (theirs[name]["dtype"], theirs[name]["shape"])
        assert content[entry.begin : entry.end] == bytes(theirs[name]["data"])


@given(shape_tables())
def test_entries_tile_the_data(shapes: Shapes) -> None:
    content = safetensors_bytes(shapes)
    entries = list(parse(content).values())
    assert sum(e.end - e.begin for e in entries) == sum(size_of(*s) for s in shapes.values())
    assert [e.begin for e in entries] == sorted(e.begin for e in entries)


@settings(max_examples=300)
@given(shape_tables(), st.randoms(use_true_random=False), st.integers(1, 4))
def test_mutated_files_parse_or_are_refused(shapes: Shapes, rng: random.Random, flips: int) -> None:
    content = bytearray(safetensors_bytes(shapes))
    for _ in range(flips):
        kind, at = rng.randrange(4), rng.randrange(len(content))
        if kind == 0:
            content[at] = rng.randrange(256)
        elif kind == 1:
            content[at] = rng.choice(b'{}[]",:0123456789-e.')
        elif kind == 2:
            del content[at:]
        else:
            content[at:at] = rng.choice([b"0", b"9" * 30, b"[", b"{", b'"', b",", b"null", b"\xff"])
        if not content:
            break
    entries, refusal = {}, None
    try:
        entries = parse(bytes(content))
    except UnsupportedCheckpoint as error:
        refusal = error
    if refusal:
        assert refusal.subject == FILE
        assert len(str(refusal)) < 500
        return
    # whatever the mutation made of the table, tensors tile the data to the end of the file
    at = 8 + int.from_bytes(content[:8], "little")
    for entry in entries.values():
        assert entry.begin == at
        at = entry.end
    assert at == len(content)


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dtype": "f32"}, "has the dtype 'f32'"),
        ({"dtype": 3}, "has the dtype 3"),
        ({"dtype": None}, "has the dtype None"),
        ({"shape": [-2]}, "has the shape [-2]"),
        ({"shape": [2.0]}, "has the shape [2.0]"),
        ({"shape": [True, 2]}, "has the shape [True, 2]"),
        ({"shape": 2}, "has the shape 2"),
        ({"shape": None}, "has the shape None"),
        ({"shape": [1] * 65}, "has the shape"),
        ({"shape": [2**40, 2**40]}, "has the impossible shape"),
        ({"shape": [10**18] * 64}, "has the impossible shape"),
        ({"shape": [3]}, "needs 12 bytes and has 8"),
        ({"dtype": "F64"}, "needs 16 bytes and has 8"),
        ({"data_offsets": [0]}, "has the data_offsets [0]"),
        ({"data_offsets": [0, 4, 8]}, "has the data_offsets"),
        ({"data_offsets": [8, 0]}, "has the data_offsets"),
        ({"data_offsets": [-8, 0]}, "has the data_offsets"),
        ({"data_offsets": [0, "8"]}, "has the data_offsets"),
        ({"data_offsets": [False, 8]}, "has the data_offsets"),
        ({"data_offsets": [8, 16]}, "is truncated: tensor 'w' ends at byte"),
        ({"data_offsets": [10**30, 10**30 + 8]}, "is truncated"),
    ],
)
def test_hostile_entries(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UnsupportedCheckpoint) as caught:
        parse_table({"w": ENTRY | changes}, 8)
    assert words in str(caught.value)
    assert str(caught.value).startswith(FILE)


def two(first: list[int], second: list[int]) -> dict[str, object]:
    return {name: ENTRY | {"data_offsets": span} for name, span in (("a", first), ("b", second))}


@pytest.mark.parametrize(
    ("table", "data_bytes", "words"),
    [
        (two([0, 8], [0, 8]), 8, "tensors 'a' and 'b' overlap"),
        (two([0, 8], [4, 12]), 12, "tensors 'a' and 'b' overlap"),
        (two([0, 8], [10, 18]), 18, "has 2 bytes between tensors 'a' and 'b'"),
        ({"w": ENTRY | {"data_offsets": [4, 12]}}, 12, "has 4 bytes before its first tensor"),
        ({"w": ENTRY}, 11, "has 3 bytes after its last tensor"),
        ({}, 5, "has 5 bytes that belong to no tensor"),
        ({"w": ENTRY}, 7, "is truncated"),
        ({"w": [1, 2]}, 0, "is not described by a table"),
        ({"w": None}, 0, "is not described by a table"),
        ({"__metadata__": {"format": 3}}, 0, "__metadata__"),
        ({"__metadata__": ["format"]}, 0, "__metadata__"),
        ([], 0, "is not a table"),
        (12, 0, "is not a table"),
        ({"\ud800": ENTRY}, 8, "not valid Unicode"),
    ],
)
def test_hostile_tables(table: object, data_bytes: int, words: str) -> None:
    with pytest.raises(UnsupportedCheckpoint) as caught:
        parse_table(table, data_bytes)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"{\xff\xfe}", "not UTF-8"),
        (b'{"w":', "not valid JSON"),
        (b'{"w": ' + b"9" * 5000 + b"}", "not valid JSON"),
        (b'{"a":' + b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"w":{}}', "has 'w' twice"),
        (b'{"w":{"dtype":"U8","dtype":"I8","shape":[0],"data_offsets":[0,0]}}', "has 'dtype' twice"),
        (b'{"w":{"dtype":"U8","shape":[NaN],"data_offsets":[0,0]}}', "has the shape"),
        (b"PK\x03\x04........", "is not a safetensors file"),
    ],
)
def test_hostile_json(raw: bytes, words: str) -> None:
    with pytest.raises(UnsupportedCheckpoint) as caught:
        parse(framed(raw))
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has 0 bytes"),
        (b"1234567", "has 7 bytes"),
        (struct.pack("<Q", 100) + b"{}", "is truncated: its header takes 100 bytes and the file has 10"),
        (struct.pack("<Q", MAX_HEADER_BYTES + 1) + b"{}", "announces a header of 100000001 bytes"),
        (b"\xff" * 64, "announces a header of 18446744073709551615 bytes"),
        (struct.pack("<Q", 0), "empty header"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<!doctype html><html></html>", "is not a safetensors file"),
    ],
)
def test_hostile_lengths(content: bytes, words: str) -> None:
    with pytest.raises(UnsupportedCheckpoint) as caught:
        parse(content)
    assert words in str(caught.value)


def test_a_lying_length_allocates_nothing() -> None:
    tracemalloc.start()
    try:
        for length in (MAX_HEADER_BYTES, 2**40, 2**64 - 1):
            with pytest.raises(UnsupportedCheckpoint):
                parse(struct.pack("<Q", length) + b"{}")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_unknown_types_keep_their_entry() -> None:
    table = table_of({"a": ("F32", (2,)), "b": ("U32", (3,))})
    table["c"] = {"dtype": "F3_NEW", "shape": [100], "data_offsets": [20, 33]}
    entries = parse_table(table, 33)
    assert entries["c"].dtype == "F3_NEW"
    with pytest.raises(SafetensorError):  # the library refuses the whole file
        deserialize(framed(json.dumps(table).encode(), bytes(33)))


def test_metadata_and_padding_are_no_tensors() -> None:
    raw = json.dumps({"__metadata__": {"format": "pt"}, "w": ENTRY}).encode() + b"   "
    assert list(parse(framed(raw, bytes(8)))) == ["w"]
    assert list(parse_table({"__metadata__": None, "w": ENTRY}, 8)) == ["w"]


def test_metas_carry_position_and_name() -> None:
    content = safetensors_bytes({"model.layers.4.mlp.up_proj.weight": ("BF16", (3, 5))})
    (meta,) = tensor_metas(parse(content), "s.safetensors").values()
    assert (meta.offset, meta.nbytes, meta.n) == (len(content) - 30, 30, 15)
    assert (meta.layer, meta.module, meta.shard) == (4, "up_proj", "s.safetensors")
