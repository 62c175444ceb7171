"""`reproduce`: the published table measured again."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from rlviz.cli.output import check_target, dumps, write
from rlviz.errors import Unavailable
from rlviz.printed import progress_bar

if TYPE_CHECKING:
    from rlviz.reproduce import Measure, Outcome, Remeasured, Verdict

_SIGNS: dict[Verdict, str] = {"within": "✓", "outside": "✗", "unclear": "?", "not reached": "–"}


def add_commands(commands: Any) -> None:
    """Declare `reproduce`."""
    reproduce = commands.add_parser(
        "reproduce",
        help="measure the published table again",
        description="Measure the share of weights unchanged in bf16 for every pair of the published table, and print "
        "it beside the published value. ✓: at most 1 point apart, and known to ± 1 point or better. ✗: more than 1 "
        "point from all of the 95 %% interval. ?: the interval is too wide to tell. –: not reached, with the reason. "
        "Exits with 0 where at least one pair was measured, with 3 where none could be reached.",
    )
    reproduce.add_argument("--exact", action="store_true", help="read every weight instead of a sample")
    reproduce.add_argument("--only", default="*", metavar="GLOB", help="only pairs whose tuned or base name matches")
    reproduce.add_argument("--budget", default="64MiB", metavar="SIZE", help="to sample per model, default %(default)s")
    reproduce.add_argument("--store", metavar="DIR", help="where results are kept, default RLVIZ_STORE")
    reproduce.add_argument("--json", metavar="FILE", help="write the outcomes as JSON; - is stdout")
    reproduce.add_argument("--quiet", action="store_true", help="no progress")
    reproduce.set_defaults(command=_reproduce)


def _reproduce(args: argparse.Namespace) -> None:
    from rlviz.reproduce import by_preview, in_full, reproduce, reproduction_dict, rows_matching

    check_target(args.json)
    rows = rows_matching(args.only)
    outcomes: list[Outcome] = []
    with progress_bar(args.quiet or not args.exact) as report:
        measure = in_full(args.store, report) if args.exact else by_preview(args.budget, args.store)
        for outcome in reproduce(rows, measure if args.quiet else _announced(measure)):
            outcomes.append(outcome)
            if args.json != "-":
                print(outcome_text(outcome), flush=True)
    found = reproduction_dict(outcomes, "exact" if args.exact else "preview")
    if args.json:
        write(args.json, dumps(found))
    if args.json != "-":
        print(", ".join(f"{_SIGNS[verdict]} {n} {verdict}" for verdict, n in found["summary"].items()))
    if all(o.found is None for o in outcomes):
        raise Unavailable(
            "the published table",
            f"none of {len(outcomes)} rows could be measured",
            "The reasons stand beside them; check the connection, HF_ENDPOINT and HF_TOKEN.",
        )


def _announced(measure: Measure) -> Measure:
    def announce(base: str, tuned: str) -> Remeasured:
        print(f"reading {base} -> {tuned}", file=sys.stderr, flush=True)
        return measure(base, tuned)

    return announce


def outcome_text(outcome: Outcome) -> str:
    """One row as a person reads it: sign and names, the numbers, then what to know about them."""
    from rlviz.views.preview_words import plus_minus

    p = outcome.published
    lines = [f"{_SIGNS[outcome.verdict]} {p.title}  from {p.base or 'a base that is not named'}"]
    published = f"published {100 * p.value:.4g} %"
    if outcome.found is None or outcome.difference is None:
        lines.append(f"    {published}  {p.method} on {p.data}, {p.source}")
        lines.append(f"    not reached: {outcome.reason}")
    else:
        measured = f"{plus_minus(outcome.found.share)}  {published}  {100 * outcome.difference:+.2f} points"
        lines.append(f"    {measured}  {p.method} on {p.data}, {p.source}")
    return "\n".join([*lines, *(f"    {remark}" for remark in outcome.remarks)])
