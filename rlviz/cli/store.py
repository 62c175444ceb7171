"""`store`: what is kept; shown, pinned, removed, carried from one store to another."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rlviz.cli.output import check_target, dumps, write
from rlviz.errors import InvalidInput, NotFound
from rlviz.printed import size_text, summary_text

if TYPE_CHECKING:
    from rlviz.store import Kept, Store

SUFFIX = ".rlviz.zip"


def add_commands(commands: Any) -> None:
    """Declare `store` and its actions."""
    where = argparse.ArgumentParser(add_help=False)
    where.add_argument(
        "--store", metavar="STORE", help="folder, s3://…, hf://buckets/… or another fsspec URL; default RLVIZ_STORE"
    )
    one = argparse.ArgumentParser(add_help=False)
    one.add_argument("key", metavar="KEY", help="key of a result, or how it begins")
    store = commands.add_parser("store", help="list, show, pin, remove, export or import kept results")
    actions = store.add_subparsers(required=True, metavar="ACTION")

    def action(name: str, carry_out: Callable[[argparse.Namespace], None], *parents: Any, about: str) -> Any:
        parser = actions.add_parser(name, parents=[*parents, where], help=about, description=about)
        parser.set_defaults(command=carry_out)
        return parser

    listed = action("list", _list, about="what the store holds, newest first")
    listed.add_argument("--json", metavar="FILE", help="write the list as JSON; - is stdout")
    show = action("show", _show, one, about="the numbers of one result")
    show.add_argument("--json", metavar="FILE", help="write the result as JSON; - is stdout")
    action("remove", _remove, one, about="delete a result, from a shared store for everybody")
    action("pin", _pin, one, about="keep a result whatever RLVIZ_STORE_MAX_GB says")
    action("unpin", _unpin, one, about="let a pinned result be evicted again")
    action("evict", _evict, about="delete what was used longest ago until the store is below RLVIZ_STORE_MAX_GB")
    export = action("export", _export, one, about="write a result as one self-contained file")
    export.add_argument("file", metavar=f"FILE{SUFFIX}")
    imported = action("import", _import, about="check such a file and add its result to the store")
    imported.add_argument("file", metavar=f"FILE{SUFFIX}")


def _list(args: argparse.Namespace) -> None:
    store = _store(args)
    kept = store.kept()
    if args.json:
        write(args.json, dumps({"schema": 1, "results": [_entry(k) for k in kept]}))
    else:
        print("\n".join(map(_line, kept)) or f"The store at {store.shown} is empty.")
    if store.trouble:
        print(f"rlviz: {store.trouble}", file=sys.stderr)


def _line(kept: Kept) -> str:
    share = f", tensors {kept.tensors}" if kept.tensors != "*" else ""
    marks = [word for word, holds in (("unfinished", not kept.complete), ("pinned", kept.pinned)) if holds]
    where = [] if kept.here else ["not here yet"]
    state = f"  ({', '.join(marks + where)})" if marks + where else ""
    pair = f"{kept.base.pinned_ref} -> {kept.tuned.pinned_ref}"
    what = f"{kept.n_tensors} tensors  {'+'.join(kept.probes)}{share}"
    return f"{kept.key[:12]}  {pair}  {what}  {size_text(kept.nbytes)}  {_age(kept.made)}{state}"


def _age(made: datetime) -> str:
    minutes = max(0, int((datetime.now(UTC) - made).total_seconds() // 60))
    for size, unit in ((60 * 24, "day"), (60, "hour"), (1, "minute")):
        if count := minutes // size:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def _entry(kept: Kept) -> dict[str, Any]:
    return {
        "key": kept.key,
        "base": kept.base.pinned_ref,
        "tuned": kept.tuned.pinned_ref,
        "complete": kept.complete,
        "n_tensors": kept.n_tensors,
        "probes": list(kept.probes),
        "tensors": kept.tensors,
        "nbytes": kept.nbytes,
        "made": kept.made.isoformat(timespec="seconds"),
        "pinned": kept.pinned,
        "here": kept.here,
        "summary": kept.summary,
    }


def _show(args: argparse.Namespace) -> None:
    from rlviz import api
    from rlviz.types import MetricParams

    check_target(args.json)
    result = api.load_result(args.key, _store(args))
    if args.json:
        write(args.json, dumps(result.to_dict(MetricParams())))
    else:
        print(summary_text(result, MetricParams()))


def _remove(args: argparse.Namespace) -> None:
    store, key = _found(args)
    print(f"removed {key[:12]} and {store.remove(key)} records that nothing else uses")


def _pin(args: argparse.Namespace) -> None:
    store, key = _found(args)
    store.pin(key)
    print(f"pinned {key[:12]}: it stays whatever the size of the store")


def _unpin(args: argparse.Namespace) -> None:
    store, key = _found(args)
    store.unpin(key)
    print(f"unpinned {key[:12]}")


def _evict(args: argparse.Namespace) -> None:
    store = _store(args)
    if store.max_bytes is None:
        raise InvalidInput("store evict", "there is no size to evict down to", "Set RLVIZ_STORE_MAX_GB.")
    gone = store.evict()
    print(f"evicted {gone.results} results, {size_text(gone.nbytes)} freed")


def _export(args: argparse.Namespace) -> None:
    check_target(args.file)
    if not args.file.endswith(SUFFIX):
        raise InvalidInput(args.file, f"does not end in {SUFFIX}", f"Give FILE{SUFFIX}.")
    store, key = _found(args)
    store.export_result(key, args.file)
    print(f"wrote {key[:12]} to {args.file}")


def _import(args: argparse.Namespace) -> None:
    from rlviz import api

    result = api.import_result(args.file, _store(args))
    print(f"imported {result.key[:12]}  {result.base.pinned_ref} -> {result.tuned.pinned_ref}")


def _store(args: argparse.Namespace) -> Store:
    from rlviz.store import Store

    return Store(args.store)


def _found(args: argparse.Namespace) -> tuple[Store, str]:
    """The store, and the one key in it that begins as the words given."""
    store = _store(args)
    found = store.find(args.key)
    if not found:
        raise NotFound(args.key, "the store holds no such result", "`python -m rlviz store list` shows what it holds.")
    if len(found) > 1:
        raise InvalidInput(args.key, f"{len(found)} results begin so", "Give more of the key.")
    return store, found[0]
