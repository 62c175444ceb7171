"""`preview`: estimates with their intervals from a small sample of both models."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from math import isfinite
from threading import Event
from typing import TYPE_CHECKING, Any

from rlviz.cli.output import check_target, dumps, write
from rlviz.errors import InvalidInput

if TYPE_CHECKING:
    from rlviz.sampling import Estimate, Preview, Sampled

_STOPPED = {
    "budget": "the budget is used up",
    "target": "the interval is as narrow as asked",
    "asked": "stopped on request",
    "everything read": "everything was read",
    "under way": "under way",
}


def add_commands(commands: Any) -> None:
    """Declare `preview`."""
    preview = commands.add_parser(
        "preview", help="estimate a comparison in seconds, from a small sample of both models"
    )
    preview.add_argument("base", metavar="BASE")
    preview.add_argument("tuned", metavar="TUNED")
    preview.add_argument(
        "--budget", default="64MiB", metavar="BYTES", help="read at most this of each model, default %(default)s"
    )
    preview.add_argument("--seed", type=int, default=0, metavar="N", help="the same seed reads the same rows")
    preview.add_argument(
        "--target", type=float, default=0.5, metavar="POINTS",
        help="stop once the bf16 sparsity is known to ± this many percentage points, default %(default)s; 0 reads on",
    )  # fmt: skip
    preview.add_argument(
        "--store", metavar="DIR", help="where previews are kept, default RLVIZ_STORE or the user's cache"
    )
    preview.add_argument("--json", metavar="FILE", help="write the preview as JSON; - is stdout")
    preview.set_defaults(command=_preview)


def _preview(args: argparse.Namespace) -> None:
    from rlviz import api

    check_target(args.json)
    if not 0 <= args.target < 100:  # said in the unit of the option; the API counts in shares
        raise InvalidInput(f"--target {args.target:g}", "is not a half width in points", "Give 0 or more, below 100.")
    with _stopped_by_ctrl_c() as cancel:
        found = api.preview(
            args.base,
            args.tuned,
            budget=args.budget,
            seed=args.seed,
            target=args.target / 100,
            store=args.store,
            report=_tell,
            cancel=cancel,
        )
    if args.json:
        write(args.json, dumps(found.to_dict()))
    if args.json != "-":
        print(preview_text(found))


@contextmanager
def _stopped_by_ctrl_c() -> Generator[Event]:
    """Ctrl-C asks for what is known so far; a second one interrupts."""
    cancel = Event()
    usual = signal.getsignal(signal.SIGINT)

    def ask(*_: object) -> None:
        cancel.set()
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, ask)
    try:
        yield cancel
    finally:
        signal.signal(signal.SIGINT, usual)


def _tell(preview: Preview) -> None:
    from rlviz.types import Lens

    share = with_margin(preview.pooled.sparsity(Lens.BF16))
    print(f"round {preview.rounds}: {preview.bytes_read / 1e6:.1f} MB, bf16 unchanged {share}", file=sys.stderr)


def preview_text(preview: Preview) -> str:
    """What a person reads: pooled under every lens, per module, and what it took."""
    from rlviz.types import LENSES, Lens

    lines = [
        f"{preview.base.label} -> {preview.tuned.label}   (an estimate, 95 % intervals; {preview.key[:12]})",
        f"  {len(preview.tensors)} of {preview.total} tensors estimated",
        "  unchanged:",
        *(f"    {lens.value:<10} {with_margin(preview.pooled.sparsity(lens))}" for lens in LENSES),
        f"  relative_update_norm: {_norm(preview.pooled.relative_update_norm)}",
        "  unchanged by module (bf16):",
    ]
    width = max((len(module) for module in preview.modules), default=0)
    lines += [f"    {module:<{width}}  {_module(s, Lens.BF16)}" for module, s in preview.modules.items()]
    lines.append(
        f"  {preview.bytes_read / 1e6:.1f} MB of each model in {preview.requests} requests and {preview.rounds} "
        f"round{'' if preview.rounds == 1 else 's'}, {preview.wall_s:.1f} s; {_STOPPED[preview.stopped]}"
    )
    lines += [f"  skipped {s.name} ({s.reason}): {s.detail}" for s in preview.skipped[:5]]
    if len(preview.skipped) > 5:
        lines.append(f"  … {len(preview.skipped)} skipped in all")
    lines += [f"  note: {notice.detail}" for notice in preview.notices]
    return "\n".join(lines)


def with_margin(share: Estimate) -> str:
    """A share with its interval.

    Examples
    --------
    >>> from rlviz.sampling import Estimate
    >>> with_margin(Estimate(0.6, 0.58, 0.63))
    '60.00 % (58.00 to 63.00)'
    >>> with_margin(Estimate(0.6, 0.6, 0.6))
    '60.00 % (exact)'
    """
    if not isfinite(share.estimate):
        return "nothing read yet"
    if share.low == share.high:
        return f"{100 * share.estimate:.2f} % (exact)"
    return f"{100 * share.estimate:.2f} % ({100 * share.low:.2f} to {100 * share.high:.2f})"


def _norm(norm: Estimate) -> str:
    if not isfinite(norm.estimate):
        return "nothing read yet"
    if norm.low == norm.high:
        return f"{norm.estimate:.4g} (exact)"
    high = f"{norm.high:.3g}" if isfinite(norm.high) else "unbounded"
    return f"{norm.estimate:.4g} ({norm.low:.3g} to {high})"


def _module(sampled: Sampled, lens: Any) -> str:
    return f"{with_margin(sampled.sparsity(lens)):<32} {sampled.n_rows_sampled} of {sampled.n_rows} rows"
