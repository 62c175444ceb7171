"""Whether a manifest that others wrote has the shape that ours have: every field there, of its type, no other."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, get_args

from rlviz.dtypes import ELEMENT_TYPES
from rlviz.types import Access

Test = Callable[[Any], bool]

_DIGEST = re.compile(r"[0-9a-f]{64}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_MAX_INT = 1 << 62


def manifest_problem(manifest: Mapping[str, Any]) -> str | None:
    """The first thing that is wrong with a manifest of either schema, as "field: what is wrong"; None if nothing."""
    optional = {"schema", "hashes", "asked"}
    missing = [name for name in _MANIFEST if name not in manifest and name not in optional]
    return _first_problem(manifest, _MANIFEST) or (f"{missing[0]}: is missing" if missing else None)


def provenance_problem(provenance: Mapping[str, Any]) -> str | None:
    """The same for a provenance document."""
    missing = _PROVENANCE.keys() - provenance.keys() - {"device"}  # before 0.3 there was one
    return _first_problem(provenance, _PROVENANCE) or (f"{min(missing)}: is missing" if missing else None)


def _first_problem(found: Mapping[str, Any], tests: Mapping[str, Test]) -> str | None:
    for name, content in found.items():
        if name not in tests:
            return f"{name[:40]}: is no field of it"
        if not tests[name](content):
            return f"{name}: is not what belongs there"
    return None


def _text(found: Any) -> bool:
    """A string that can be written: JSON may hold halves of surrogate pairs, which no encoding has."""
    return isinstance(found, str) and not _SURROGATE.search(found)


def _boolean(found: Any) -> bool:
    return isinstance(found, bool)


def _count(found: Any) -> bool:
    return type(found) is int and 0 <= found <= _MAX_INT


def _number(found: Any) -> bool:
    return type(found) in (int, float) and 0 <= found < float("inf")


def _digest(found: Any) -> bool:
    return _text(found) and _DIGEST.fullmatch(found) is not None


def _one_of(*allowed: Any) -> Test:
    return lambda found: isinstance(found, (str, int)) and found in allowed


def _or_none(test: Test) -> Test:
    return lambda found: found is None or test(found)


def _object(tests: Mapping[str, Test], optional: frozenset[str] = frozenset()) -> Test:
    def test(found: Any) -> bool:
        names = set(found) if isinstance(found, dict) else None
        return names is not None and tests.keys() - optional <= names and _first_problem(found, tests) is None

    return test


def _each(test: Test) -> Test:
    return lambda found: isinstance(found, list) and all(map(test, found))


def _mapping(key: Test, value: Test) -> Test:
    return lambda found: isinstance(found, dict) and all(key(k) and value(v) for k, v in found.items())


def _hash(found: Any) -> bool:
    return isinstance(found, list) and len(found) == 2 and _digest(found[0]) and _count(found[1])


_IDENTITY = _object(
    {
        "ref": _text,
        "pinned_ref": _text,
        "commit": _text,
        "nbytes": _count,
        "shareable": _boolean,
        "access": _one_of(*get_args(Access)),
    },
    optional=frozenset({"access"}),
)
_META = _object(
    {
        "name": _text,
        "dtype": _one_of(*ELEMENT_TYPES),
        "shape": _each(_count),
        "shard": _text,
        "offset": _count,
        "nbytes": _count,
        "layer": _or_none(_count),
        "module": _text,
        "expert": _or_none(_count),
    }
)
_MANIFEST: Mapping[str, Test] = {
    "schema": _one_of(1, 2),
    "complete": _boolean,
    "total": _count,
    "base": _IDENTITY,
    "tuned": _IDENTITY,
    "asked": _object(
        {
            "probes": _mapping(_text, _count),
            "tensors": _text,
            "budget_s": _or_none(_number),
            "k_max": _count,
            "seed": _count,
            "beside": _each(_digest),
        },
        optional=frozenset({"seed", "beside"}),
    ),
    "tensors": _each(_object({"base": _META, "tuned": _META, "rows": _count, "records": _mapping(_text, _digest)})),
    "hashes": _mapping(_digest, _hash),
    "skipped": _each(_object({"name": _text, "reason": _text, "detail": _text})),
    "notices": _each(_object({"code": _text, "detail": _text})),
}
_PROVENANCE: Mapping[str, Test] = {
    "rlviz": _text,
    "numpy": _text,
    "started": _text,
    "wall_s": _number,
    "bytes_read": _count,
    "workers": _count,
    "machine": _text,
    "probes": _mapping(_text, _count),
    "device": _text,
}
