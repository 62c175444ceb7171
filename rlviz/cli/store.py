"""`store`: what is kept, shown, removed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rlviz.cli.output import dumps, write
from rlviz.errors import InvalidInput
from rlviz.printed import summary_text

if TYPE_CHECKING:
    from rlviz.store import Store


def add_commands(commands: Any) -> None:
    """Declare `store` and its actions."""
    store = commands.add_parser("store", help="list, show or remove kept results")
    store.add_argument("action", choices=("list", "show", "remove"))
    store.add_argument("key", metavar="KEY", nargs="?", help="key of a result, or how it begins")
    store.add_argument("--store", metavar="DIR")
    store.add_argument("--json", metavar="FILE", help="for show: write the result as JSON; - is stdout")
    store.set_defaults(command=_store)


def _store(args: argparse.Namespace) -> None:
    from rlviz import api
    from rlviz.store import Store
    from rlviz.types import MetricParams

    kept = Store(args.store)
    if args.action == "list":
        print("\n".join(_listed(kept)) or f"The store at {kept.root} is empty.")
        return
    if not args.key:
        raise InvalidInput(f"store {args.action}", "needs the key of a result", "`store list` shows them.")
    result = api.load_result(args.key, kept)
    if args.action == "remove":
        print(f"removed {result.key[:12]} and {kept.remove(result.key)} records that nothing else uses")
    elif args.json:
        write(args.json, dumps(result.to_dict(MetricParams())))
    else:
        print(summary_text(result, MetricParams()))


def _listed(kept: Store) -> Iterator[str]:
    for key, manifest in kept.results():
        state = "" if manifest["complete"] else "  (unfinished)"
        base, tuned = manifest["base"]["pinned_ref"], manifest["tuned"]["pinned_ref"]
        yield f"{key[:12]}  {base} -> {tuned}  {len(manifest['tensors'])} tensors{state}"
