"""The header of a safetensors file: a table of tensors that is trusted only after every claim was checked.

Format (huggingface.co/docs/safetensors): 8 bytes little-endian length N, N bytes of JSON, then the data. The
checks are those of the reference implementation, so a file that passes here opens there; one exception: a
well-formed dtype we do not know keeps its entry, to be listed as not compared.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NoReturn

from rlviz.dtypes import ELEMENT_TYPES
from rlviz.errors import UnsupportedCheckpoint
from rlviz.sources.json_types import is_list, is_table
from rlviz.sources.naming import describe
from rlviz.types import TensorMeta

MAX_HEADER_BYTES = 100_000_000  # the limit of the reference implementation
_MAX_DIMENSIONS = 64  # NumPy's limit
_MAX_ENTRIES = 2**63 - 1
_DTYPE = re.compile(r"[A-Z][A-Z0-9_]{0,31}")
# whole-byte types we cannot compare but whose size can be checked
_OTHER_ITEMSIZE = {"U16": 2, "U32": 4, "U64": 8, "C64": 8, "F8_E8M0": 1, "F8_E4M3FNUZ": 1, "F8_E5M2FNUZ": 1}
_ITEMSIZE = {code: element.itemsize for code, element in ELEMENT_TYPES.items()} | _OTHER_ITEMSIZE
_DOWNLOAD_AGAIN = "Download or save the file again."


@dataclass(frozen=True, slots=True)
class HeaderEntry:
    """One tensor of one file; `begin` and `end` count bytes from the start of the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_header_length(first8: bytes, file_size: int, file: str) -> int:
    """Length in bytes of the JSON that follows the first eight bytes.

    Parameters
    ----------
    first8 : bytes
        The first eight bytes of the file (fewer where it is shorter).
    file_size : int
        Size of the whole file, bytes.
    file : str
        Its name, for the error.

    Raises
    ------
    UnsupportedCheckpoint
        Where the length cannot be true; nothing of that size is ever allocated.
    """
    if first8 == b"version ":
        _broken(file, "is a Git LFS pointer, not the weights", "Run `git lfs pull` in its folder.")
    if len(first8) < 8 or file_size < 8:
        _broken(file, f"has {file_size} bytes, too few for a safetensors file")
    length = int.from_bytes(first8[:8], "little")
    if length > MAX_HEADER_BYTES:
        _broken(file, f"is not a safetensors file (it announces a header of {length} bytes)")
    if length > file_size - 8:
        _broken(file, f"is truncated: its header takes {length} bytes and the file has {file_size}")
    if length < 2:
        _broken(file, "has an empty header")
    return length


def parse_header(raw: bytes, file_size: int, file: str) -> dict[str, HeaderEntry]:
    """Tensors of one file in the order of their bytes.

    Parameters
    ----------
    raw : bytes
        The JSON, without the eight length bytes.
    file_size : int
        Size of the whole file, bytes.
    file : str
        Its name, for the error.

    Raises
    ------
    UnsupportedCheckpoint
        Names the file, the tensor and what is wrong.

    Examples
    --------
    >>> raw = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    >>> parse_header(raw, 8 + len(raw) + 8, "model.safetensors")["w"]
    HeaderEntry(dtype='F32', shape=(2,), begin=62, end=70)
    """
    table = _load_table(raw, file)
    _check_metadata(table.pop("__metadata__", None), file)
    data_begin = 8 + len(raw)
    entries = {name: _entry(name, value, data_begin, file) for name, value in table.items()}
    ordered = dict(sorted(entries.items(), key=lambda item: (item[1].begin, item[1].end)))
    _check_layout(ordered, data_begin, file_size, file)
    return ordered


def tensor_metas(entries: Mapping[str, HeaderEntry], shard: str) -> dict[str, TensorMeta]:
    """The entries of one shard as tensors of a checkpoint, with layer, module and expert read off the name."""
    return {name: _meta(name, entry, shard) for name, entry in entries.items()}


def _meta(name: str, entry: HeaderEntry, shard: str) -> TensorMeta:
    layer, module, expert = describe(name)
    nbytes = entry.end - entry.begin
    return TensorMeta(name, entry.dtype, entry.shape, shard, entry.begin, nbytes, layer, module, expert)


def _broken(file: str, problem: str, next_step: str = _DOWNLOAD_AGAIN) -> NoReturn:
    raise UnsupportedCheckpoint(file, problem, next_step)


def _clip(text: object) -> str:
    """Short and printable: names and values come from the file."""
    shown = ascii(text)
    return shown if len(shown) <= 100 else shown[:97] + "..."


class _Duplicate(ValueError):
    """A key that occurs twice in one JSON object: two readers could take two different tensors for it."""


def _unique_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        seen: set[str] = set()
        raise _Duplicate(next(key for key, _ in pairs if key in seen or seen.add(key)))
    return table


def _load_table(raw: bytes, file: str) -> dict[str, Any]:
    if not raw.startswith(b"{"):
        _broken(file, "is not a safetensors file (its header is not a table)")
    try:
        table = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique_pairs)
    except UnicodeDecodeError:
        _broken(file, "has a header that is not UTF-8")
    except _Duplicate as error:
        _broken(file, f"has {_clip(str(error))} twice in its header")
    except RecursionError:
        _broken(file, "has a header that is nested too deeply")
    except ValueError:  # includes JSONDecodeError and integers of thousands of digits
        _broken(file, "has a header that is not valid JSON")
    return table


def _check_metadata(metadata: object, file: str) -> None:
    if metadata is None:
        return
    if not is_table(metadata) or not all(isinstance(value, str) for value in metadata.values()):
        _broken(file, "has a __metadata__ that is not a table of texts")


def _entry(name: str, value: object, data_begin: int, file: str) -> HeaderEntry:
    label = f"tensor {_clip(name)}"
    if not _encodable(name):
        _broken(file, f"{label} has a name that is not valid Unicode")
    if not is_table(value):
        _broken(file, f"{label} is not described by a table")
    dtype, shape, offsets = (value.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype):
        _broken(file, f"{label} has the dtype {_clip(dtype)}")
    sizes = _natural_numbers(shape)
    if sizes is None or len(sizes) > _MAX_DIMENSIONS:
        _broken(file, f"{label} has the shape {_clip(shape)}")
    span = _natural_numbers(offsets)
    if span is None or len(span) != 2 or span[0] > span[1]:
        _broken(file, f"{label} has the data_offsets {_clip(offsets)}")
    n = _count(sizes)
    if n is None:
        _broken(file, f"{label} has the impossible shape {_clip(shape)}")
    itemsize = _ITEMSIZE.get(dtype)
    if itemsize is not None and n * itemsize != span[1] - span[0]:
        _broken(file, f"{label} of shape {sizes} in {dtype} needs {n * itemsize} bytes and has {span[1] - span[0]}")
    return HeaderEntry(dtype, sizes, data_begin + span[0], data_begin + span[1])


def _encodable(name: str) -> bool:
    """False for lone surrogates, which JSON can spell and no file or page can hold."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def _natural_numbers(value: object) -> tuple[int, ...] | None:
    if not is_list(value) or not all(type(item) is int and item >= 0 for item in value):
        return None
    return tuple(value)


def _count(shape: tuple[int, ...]) -> int | None:
    """Number of entries, or None where no file could hold them (stops before the product grows)."""
    if 0 in shape:
        return 0
    n = 1
    for size in shape:
        n *= size
        if n > _MAX_ENTRIES:
            return None
    return n


def _check_layout(entries: Mapping[str, HeaderEntry], data_begin: int, file_size: int, file: str) -> None:
    """Tensors must lie one after the other from the first data byte to the last byte of the file."""
    if not entries:
        if file_size != data_begin:
            _broken(file, f"has {file_size - data_begin} bytes that belong to no tensor")
        return
    names, values = list(entries), list(entries.values())
    last = max(values, key=lambda entry: entry.end)
    if last.end > file_size:
        name = names[values.index(last)]
        _broken(file, f"is truncated: tensor {_clip(name)} ends at byte {last.end} and the file has {file_size}")
    if values[0].begin != data_begin:
        _broken(file, f"has {values[0].begin - data_begin} bytes before its first tensor")
    for (name, entry), (after, following) in pairwise(entries.items()):
        if following.begin < entry.end:
            _broken(file, f"tensors {_clip(name)} and {_clip(after)} overlap")
        if following.begin > entry.end:
            _broken(file, f"has {following.begin - entry.end} bytes between tensors {_clip(name)} and {_clip(after)}")
    if last.end != file_size:
        _broken(file, f"has {file_size - last.end} bytes after its last tensor")
