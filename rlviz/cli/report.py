"""`report`: a comparison as one HTML file."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from rlviz.cli.compare import add_alpha, check_alpha, check_k
from rlviz.cli.output import check_target, write
from rlviz.printed import progress_bar
from rlviz.types import LENSES, Lens, MetricParams

if TYPE_CHECKING:
    from rlviz.result import PairResult


def add_commands(commands: Any) -> None:
    """Declare `report`."""
    report = commands.add_parser("report", help="write a comparison as one HTML file that works offline")
    report.add_argument(
        "what", metavar="KEY | BASE TUNED", nargs="+", help="key of a kept result, or a base and its tuned models"
    )
    report.add_argument("-o", "--output", metavar="FILE", required=True, help="the HTML file; - is stdout")
    report.add_argument("--lens", choices=[lens.value for lens in LENSES], default=Lens.BF16.value)
    said = "subspace rank of angles, energies and masks, 1 to 128; default %(default)s"
    report.add_argument("--k", type=int, default=64, help=said)
    add_alpha(report)
    report.add_argument(
        "--store", metavar="DIR", help="where records are kept, default RLVIZ_STORE or the user's cache"
    )
    report.add_argument("--quiet", action="store_true", help="no progress bar")
    report.set_defaults(command=_report)


def _report(args: argparse.Namespace) -> None:
    from rlviz.report import report_html

    check_target(args.output)
    check_k(args.k)
    check_alpha(args.alpha)
    results = _results(args)
    write(args.output, report_html(results, MetricParams(lens=Lens(args.lens), k=args.k, alpha=args.alpha)))


def _results(args: argparse.Namespace) -> list[PairResult]:
    """What is kept; a pair named by its models is measured first where it is not kept yet."""
    from rlviz import api

    base, *tuned = args.what
    if not tuned:
        return [api.load_result(base, args.store)]
    with progress_bar(args.quiet) as progress:
        return api.compare(base, list(dict.fromkeys(tuned)), store=args.store, report=progress)
