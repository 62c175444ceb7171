"""`make bench`: rlviz against the plain loops it must beat, in one run, ratios written into the README.

    python -m bench [--size 0.5b] [--repeats 3] [--dir DIR] [--no-readme] [--only SECTION]

Every figure is a whole process, started in turn with its opponent (A B A B …), so that both meet the same machine;
the median of the ratios is reported. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import psutil

from bench import accuracy, analysis, calibration, coordinate, costs, preview_hub, throughput, verdicts
from bench.process import HERE
from bench.readme import write_section


def machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text())
        model = found.group(1).strip() if found else model
    return f"{model}, {len(os.sched_getaffinity(0))} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB"


def report(rows: Sequence[str], size: str, repeats: int) -> str:
    """A table of the README, with the machine named."""
    head = ["| measured | against | ratio (median of the runs) | peak memory, whole tree |", "|---|---|---|---|"]
    note = (
        f"Pair of {size} parameters, {repeats} runs in turn, {date.today().isoformat()}, {machine()}, "
        f"Python {platform.python_version()}."
    )
    return "\n".join([*head, *rows, "", note])


def make_pair(folder: Path, size: str, *more: str) -> Path:
    """The benchmark pair of a size, written where it is not there yet."""
    if not (folder / "truth.json").exists():
        subprocess.run([sys.executable, str(HERE / "make_pair.py"), str(folder), "--size", size, *more], check=True)
    return folder


def network_rows(folder: Path, repeats: int) -> list[str]:
    return [*throughput.rows(folder, repeats), preview_hub.row()]


SECTIONS: dict[str, Callable[[Path, int], list[str]]] = {
    "coordinate": coordinate.rows,
    "analysis": analysis.rows,
    "network": network_rows,
}
# the same on any machine: no pair, no opponent
TABLES: dict[str, Callable[[], str]] = {
    "accuracy": lambda: "\n".join(accuracy.table()),
    "calibration": calibration.table,
    "verdicts": verdicts.measured,
    "costs": costs.table,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="0.5b")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dir", type=Path, help="where the pair is (or will be) written, default a temporary folder")
    parser.add_argument("--only", choices=[*SECTIONS, *TABLES])
    parser.add_argument("--no-readme", action="store_true")
    args = parser.parse_args()
    folder = args.dir or Path(tempfile.mkdtemp(prefix="rlviz-pair-"))
    try:
        if args.only not in TABLES:
            make_pair(folder, args.size, "--runs", "rl,sft")
            make_pair(folder / "fp32", args.size, "--runs", "rl", "--layers", "2", "--fp32")
        for name in [args.only] if args.only else [*SECTIONS, *TABLES]:
            text = (
                TABLES[name]()
                if name in TABLES
                else report(SECTIONS[name](folder, args.repeats), args.size, args.repeats)
            )
            print(text, flush=True)
            if not args.no_readme:
                write_section(name, text)
    finally:
        if args.dir is None:
            shutil.rmtree(folder)


def _compared(name: str, folder: Path, args: argparse.Namespace) -> str:
    return report(SECTIONS[name](folder, args.repeats), args.size, args.repeats)


if __name__ == "__main__":
    main()
