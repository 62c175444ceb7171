"""`plan` and `compare`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlviz.cli.output import check_target, dumps, write
from rlviz.errors import InvalidInput
from rlviz.printed import plan_dict, plan_text, progress_bar, summary_text
from rlviz.probes import PROBE_NAMES
from rlviz.probes.masks.probe import ALPHAS

if TYPE_CHECKING:
    from rlviz.result import PairResult

K_MAX = 128  # directions the spectrum records hold, see `engine.Request`


def add_commands(commands: Any) -> None:
    """Declare both commands; they share the options that say what is measured."""
    pair = argparse.ArgumentParser(add_help=False)
    pair.add_argument("base", metavar="BASE")
    pair.add_argument("--probes", default=",".join(PROBE_NAMES), help="what to measure, all of %(default)s unless told")
    pair.add_argument("--tensors", default="*", metavar="GLOB", help="only tensors whose name matches")
    pair.add_argument("--budget-minutes", type=float, metavar="M", help="wall time the spectra may take")
    pair.add_argument("--workers", type=int, metavar="N", help="tensors at the same time, default one per core")
    pair.add_argument("--seed", type=int, default=0, help="of the simulated nulls, default %(default)s")
    pair.add_argument("--store", metavar="DIR", help="where records are kept, default RLVIZ_STORE or the user's cache")
    pair.add_argument("--json", metavar="FILE", help="write the result as JSON; - is stdout")

    plan = commands.add_parser("plan", parents=[pair], help="what a comparison would read, from headers alone")
    plan.add_argument("tuned", metavar="TUNED")
    plan.set_defaults(command=_plan)

    compare = commands.add_parser("compare", parents=[pair], help="compare one or more tuned models with a base")
    compare.add_argument("tuned", metavar="TUNED", nargs="+")
    said = "subspace rank of angles, energies and masks, 1 to 128; default %(default)s"
    compare.add_argument("--k", type=int, default=64, help=said)
    add_alpha(compare)
    compare.add_argument(
        "--backend", metavar="WHERE", help="local, ray or ray://HOST:PORT; default RLVIZ_BACKEND, then local"
    )
    compare.add_argument("--csv", metavar="FILE", help="write one row per tensor; - is stdout")
    compare.add_argument("--arrays", metavar="FILE", help="write all singular values as safetensors")
    compare.add_argument("--quiet", action="store_true", help="no progress bar")
    compare.set_defaults(command=_compare)


def _plan(args: argparse.Namespace) -> None:
    from rlviz import api

    planned = api.plan(args.base, args.tuned, store=args.store, wanted=_wanted(args))
    if args.json:
        write(args.json, dumps(plan_dict(planned)))
    else:
        print(plan_text(planned))


def _wanted(args: argparse.Namespace) -> Any:
    from rlviz import api

    return api.request(
        probes=_probes(args.probes),
        tensors=args.tensors,
        budget_minutes=args.budget_minutes,
        workers=args.workers,
        seed=args.seed,
    )


def _probes(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise InvalidInput("--probes", "names no probe", "Write --probes coordinate,spectrum.")
    return names


def _compare(args: argparse.Namespace) -> None:
    from rlviz import api
    from rlviz.types import MetricParams

    _check_compare(args)
    params = MetricParams(k=args.k, alpha=args.alpha)
    with progress_bar(args.quiet) as report:
        results: list[PairResult] = api.compare(
            args.base,
            list(dict.fromkeys(args.tuned)),
            probes=_probes(args.probes),
            tensors=args.tensors,
            budget_minutes=args.budget_minutes,
            store=args.store,
            workers=args.workers,
            backend=args.backend,
            seed=args.seed,
            report=report,
        )
    if args.json:
        objects = [r.to_dict(params) for r in results]
        write(args.json, dumps(objects[0] if len(objects) == 1 else objects))
    if args.csv:
        import pandas as pd

        table = pd.concat([r.table(params).assign(tuned=r.tuned.pinned_ref) for r in results])
        write(args.csv, table.to_csv(index=False))
    if args.arrays:
        _write_arrays(args.arrays, results)
    if "-" not in (args.json, args.csv):
        for result in results:
            print(summary_text(result, params))


def _check_compare(args: argparse.Namespace) -> None:
    """Refuse what cannot end well before anything is read."""
    check_k(args.k)
    check_alpha(args.alpha)
    for target in (args.json, args.csv, args.arrays):
        check_target(target)
    if args.json == args.csv == "-":
        raise InvalidInput("--json - --csv -", "would mix two formats on stdout", "Write one of them to a file.")
    if args.arrays == "-":
        raise InvalidInput("--arrays -", "would print binary data", "Give a file.")
    if args.arrays and "spectrum" not in _probes(args.probes):
        raise InvalidInput("--arrays", "needs the spectrum probe", "Add --probes coordinate,spectrum.")


def check_k(k: int) -> None:
    """Refuse a subspace rank that no record answers."""
    if not 1 <= k <= K_MAX:
        raise InvalidInput(f"--k {k}", "is not a subspace rank that records hold", f"Give 1 to {K_MAX}.")


def add_alpha(parser: Any) -> None:
    """Declare the share of weights that a mask holds."""
    said = f"share of the weights in a mask: {_alphas()}; default %(default)s"
    parser.add_argument("--alpha", type=float, default=0.3, help=said)


def check_alpha(alpha: float) -> None:
    """Refuse a share at which no mask was counted."""
    if alpha not in ALPHAS:
        raise InvalidInput(f"--alpha {alpha:g}", "is not a share at which masks are counted", f"Give {_alphas()}.")


def _alphas() -> str:
    *some, last = (f"{alpha:g}" for alpha in ALPHAS)
    return f"{', '.join(some)} or {last}"


def _write_arrays(target: str, results: Sequence[PairResult]) -> None:
    from safetensors.numpy import save

    arrays: dict[str, Any] = {}
    for result in results:
        prefix = f"{result.tuned.pinned_ref}/" if len(results) > 1 else ""
        for measured in result.measured:
            fields = measured.records["spectrum"].fields if "spectrum" in measured.records else {}
            for side in ("base", "tuned", "update"):
                if f"singular_values_{side}" in fields:
                    arrays[f"{prefix}{measured.name}/singular_values_{side}"] = fields[f"singular_values_{side}"]
    if not arrays:
        raise InvalidInput(target, "there are no singular values to write", "Run with --probes coordinate,spectrum.")
    Path(target).write_bytes(save(arrays))
