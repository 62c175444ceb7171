"""What a store holds, read back or brought in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rlviz.errors import InvalidInput, NotFound, RlvizError, UnsupportedCheckpoint
from rlviz.result import PairResult, load
from rlviz.sampling import Preview
from rlviz.sources.sanity import ancestor_notice
from rlviz.store import Store


def load_result(key: str, store: Store | Path | str | None = None) -> PairResult:
    """A kept result by its key (or an unambiguous prefix of it), without touching either checkpoint.

    Raises
    ------
    NotFound
        Where the store has none of that key.
    """
    kept = open_store(store)
    found = load(kept, key)
    if found is None:
        matches = kept.find(key)
        if len(matches) > 1:
            raise InvalidInput(key, f"{len(matches)} results begin so", "Give more of the key.")
        found = load(kept, matches[0]) if matches else None
    if found is None:
        raise NotFound(key, "the store holds no such result", "`python -m rlviz store list` shows what it holds.")
    return with_ancestor_notice(found)


def import_result(source: Path | str, store: Store | Path | str | None = None) -> PairResult:
    """Check a ``.rlviz.zip`` and add its result to the store; its summary and table are made anew from its records.

    Nobody but who made the file vouches for the numbers: hashes show that it arrived whole, not who wrote it.

    Raises
    ------
    InvalidInput, UnsupportedCheckpoint
        The store is as it was.
    """
    kept = open_store(store)
    key = kept.import_result(source)
    try:
        result = load_result(key, kept)
        keep_overview(result, kept)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        kept.discard(key, ())
        problem = "its records do not hold what this release reads"
        raise UnsupportedCheckpoint(Path(source).name, problem, "Export it again with this release.") from error
    kept.land(key)
    return result


def keep_overview(result: PairResult, store: Store) -> None:
    """What lists show without reading records: the table and the summary at default parameters."""
    store.write_table(result.key, lambda path: result.table().to_parquet(path, index=False))
    store.write_json(result.key, "summary", result.summary())


def with_ancestor_notice(result: PairResult) -> PairResult:
    """Add the warning that only measured norms can give: the base is not the ancestor."""
    # Matrices only: every model's norm weights lie near 1, and would make strangers look related.
    relative = result.pooled("relative_update_norm", where=lambda m: m.match.is_matrix)
    notice = ancestor_notice(relative)
    return replace(result, notices=(*result.notices, notice)) if notice else result


def kept_preview(store: Store, key: str) -> Preview | None:
    """The complete preview the store holds; None where there is none that can be read."""
    content = store.read_json(key, "preview")
    if content is None or not content.get("summary", {}).get("complete"):
        return None
    store.touch(key)
    try:
        found = Preview.from_dict(content)
    except (RlvizError, KeyError, TypeError, ValueError):  # of another version, or damaged: it is made again
        return None
    return None if found.stopped == "asked" else found


def open_store(store: Store | Path | str | None) -> Store:
    """The store meant: one that is open already, a folder or URL, or the default."""
    return store if isinstance(store, Store) else Store(store)
