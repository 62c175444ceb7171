"""`make bench`: rlviz against the plain loops it must beat, in one run, ratios written into the README.

    python -m bench [--size 0.5b] [--repeats 3] [--dir DIR] [--no-readme] [--only coordinate|full|network]

Every figure is a whole process, started in turn with its opponent (A B A B …), so that both meet the same machine;
the median of the ratios is reported. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from statistics import median

import psutil

from bench import preview_hub, throughput
from bench.readme import write_section

HERE = Path(__file__).parent
MIB = 1 << 20
# What a comparison imports; its time is subtracted from the coordinate probe's, as the requirement is about the pass.
IMPORTS = "import rlviz.api, numba, pandas, pyarrow, tqdm, rlviz.probes.coordinate.kernels"
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
TWO_THREADS = {"OPENBLAS_NUM_THREADS": "2", "OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}


@dataclass(frozen=True)
class Run:
    """One process: wall seconds, peak of the resident memory summed over its tree, standard output."""

    wall_s: float
    peak_bytes: int
    out: str
    store_bytes: int = 0


def timed(command: Sequence[str], env: dict[str, str]) -> Run:
    """Run a command to its end, sampling the memory of its whole tree every 10 ms."""
    started = time.perf_counter()
    process = psutil.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **env}, cwd=HERE.parent)
    peak = 0
    while process.poll() is None:
        peak = max(peak, _resident(process))
        time.sleep(0.01)
    wall = time.perf_counter() - started
    out = process.stdout.read()
    if process.returncode != 0:
        raise SystemExit(f"failed with code {process.returncode}: {' '.join(map(str, command))}\n{out}")
    return Run(wall, peak, out)


def _resident(process: psutil.Process) -> int:
    total = 0
    for member in (process, *_children(process)):
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue  # it ended between the listing and the reading
    return total


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def compare(base: Path, tuned: Path, probes: str) -> Run:
    """`python -m rlviz compare` into a store of its own, two workers."""
    store = tempfile.mkdtemp(prefix="rlviz-bench-")
    try:
        command = [sys.executable, "-m", "rlviz", "compare", str(base), str(tuned)]
        run = timed([*command, "--probes", probes, "--workers", "2", "--store", store, "--quiet"], ONE_THREAD)
        size = sum(p.stat().st_size for p in Path(store).rglob("*") if p.is_file())
        return replace(run, store_bytes=size)
    finally:
        shutil.rmtree(store)


def floor(base: Path, tuned: Path) -> dict[str, float]:
    """Seconds of one thread reading and `!=`-ing the same files: with `os.pread`, and into reused buffers."""
    command = [sys.executable, str(HERE / "floor_coordinate.py"), str(base), str(tuned), "--repeat", "3"]
    return json.loads(timed(command, ONE_THREAD).out)


def bench_coordinate(folder: Path, repeats: int) -> list[str]:
    rows = []
    for tuned in ("rl", "sft"):
        ours, floors, peaks = [], [], []
        for _ in range(repeats):
            imports = timed([sys.executable, "-c", IMPORTS], ONE_THREAD).wall_s
            run = compare(folder / "base", folder / tuned, "coordinate")
            ours.append(run.wall_s - imports)
            floors.append(floor(folder / "base", folder / tuned))
            peaks.append(run.peak_bytes)
        for key, words in (("seconds_pread", "`os.pread` + `!=`"), ("seconds_preadv", "the same into reused buffers")):
            ratio = median(own / f[key] for own, f in zip(ours, floors, strict=True))
            rows.append(
                f"| coordinate, {tuned} | one thread, {words} | {ratio:.2f}× its time "
                f"({median(ours):.2f} s / {median(f[key] for f in floors):.2f} s) | {max(peaks) / MIB:.0f} MiB |"
            )
            print(rows[-1], flush=True)
    return rows


def bench_full(folder: Path, repeats: int) -> list[str]:
    ratios, peaks, ours, theirs = [], [], [], []
    for _ in range(repeats):
        run = compare(folder / "base", folder / "rl", "coordinate,spectrum")
        naive = timed(
            [sys.executable, str(HERE / "naive_baseline.py"), str(folder / "base"), str(folder / "rl"), "--embeddings"],
            TWO_THREADS,
        )
        ours.append(run.wall_s)
        theirs.append(naive.wall_s)
        ratios.append(naive.wall_s / run.wall_s)
        peaks.append(run.peak_bytes)
    row = (
        f"| coordinate + spectrum, rl, embedding included | `naive_baseline.py --embeddings`, two threads | "
        f"{median(ratios):.2f}× faster ({median(ours):.0f} s / {median(theirs):.0f} s) | {max(peaks) / MIB:.0f} MiB |"
    )
    stored = f"The records of that comparison, those of the base included, take {run.store_bytes / MIB:.0f} MiB."
    print(row, stored, sep="\n", flush=True)
    return [row, "", stored]


def machine() -> str:
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        found = re.search(r"model name\s*:\s*(.+)", cpuinfo.read_text())
        model = found.group(1).strip() if found else model
    return f"{model}, {len(os.sched_getaffinity(0))} cores, {psutil.virtual_memory().total / 2**30:.0f} GiB"


def report(rows: Sequence[str], size: str, repeats: int) -> str:
    """The README's table, with the machine named."""
    head = ["| measured | against | ratio (median of the runs) | peak memory, whole tree |", "|---|---|---|---|"]
    note = (
        f"Pair of {size} parameters, {repeats} runs in turn, {date.today().isoformat()}, {machine()}, "
        f"Python {platform.python_version()}."
    )
    return "\n".join([*head, *rows, "", note])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="0.5b")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dir", type=Path, help="where the pair is (or will be) written, default a temporary folder")
    parser.add_argument("--only", choices=("coordinate", "full", "network"))
    parser.add_argument("--no-readme", action="store_true")
    args = parser.parse_args()
    folder = args.dir or Path(tempfile.mkdtemp(prefix="rlviz-pair-"))
    try:
        if not (folder / "truth.json").exists():
            command = [sys.executable, str(HERE / "make_pair.py"), str(folder), "--size", args.size, "--runs", "rl,sft"]
            subprocess.run(command, check=True)
        if args.only in {None, "network"}:
            network = [*throughput.rows(folder, args.repeats), preview_hub.row()]
            print(*network, sep="\n", flush=True)
            if not args.no_readme:
                write_section("network", report(network, args.size, args.repeats))
        if args.only == "network":
            return
        rows = bench_coordinate(folder, args.repeats) if args.only in {None, "coordinate"} else []
        rows += bench_full(folder, args.repeats) if args.only in {None, "full"} else []
        if not args.no_readme:
            write_section("bench", report(rows, args.size, args.repeats))
    finally:
        if args.dir is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
