"""Whole processes, timed with the memory of their trees: what every row of `make bench` is measured by."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

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


@contextmanager
def scratch_store() -> Generator[Path]:
    """An empty store, deleted afterwards."""
    store = tempfile.mkdtemp(prefix="rlviz-bench-")
    try:
        yield Path(store)
    finally:
        shutil.rmtree(store)


def compare(base: Path, tuned: Path, probes: str, store: Path) -> Run:
    """`python -m rlviz compare` with two workers."""
    command = [sys.executable, "-m", "rlviz", "compare", str(base), str(tuned)]
    return timed([*command, "--probes", probes, "--workers", "2", "--store", str(store), "--quiet"], ONE_THREAD)


def imports_s() -> float:
    """Seconds of a process that only imports what a comparison imports."""
    return timed([sys.executable, "-c", IMPORTS], ONE_THREAD).wall_s


def size_bytes(folder: Path) -> int:
    """Of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
