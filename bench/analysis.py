"""Rows on the whole analysis: against the naive script, its nulls, opening it again, and what the plan had said."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median

from bench.process import HERE, MIB, ONE_THREAD, TWO_THREADS, compare, imports_s, scratch_store, size_bytes, timed

MEASURED = "coordinate,spectrum,masks"
WITH_NULLS = f"{MEASURED},nulls"

# in a process of its own, so that nothing is in memory: the import is not counted, the store is on disk
REOPEN = """
import json, sys, time
import pandas, rlviz.api
started = time.perf_counter()
result = rlviz.api.load_result(sys.argv[2], sys.argv[1])
result.summary()
print(json.dumps(time.perf_counter() - started))
"""
PLANNED = """
import json, sys
import rlviz.api
wanted = rlviz.api.request(probes=sys.argv[4].split(","), workers=2)
plan = rlviz.api.plan(sys.argv[1], sys.argv[2], store=sys.argv[3], wanted=wanted)
print(json.dumps([plan.seconds(), plan.memory_bytes]))
"""


def rows(folder: Path, repeats: int) -> list[str]:
    """One row a claim."""
    base, tuned = folder / "base", folder / "rl"
    ours, theirs, nulls, reopened, peaks, planned = [], [], [], [], [], []
    for _ in range(repeats):
        with scratch_store() as store:
            planned = json.loads(_python(PLANNED, base, tuned, store, MEASURED))
            run = compare(base, tuned, MEASURED, store)
            stored = size_bytes(store)
            nulls.append((compare(base, tuned, WITH_NULLS, store).wall_s - imports_s()) / run.wall_s)
            reopened.append(float(_python(REOPEN, store, _newest(store))))
        ours.append(run.wall_s)
        peaks.append(run.peak_bytes)
        naive = [sys.executable, str(HERE / "naive_baseline.py"), str(base), str(tuned), "--embeddings"]
        theirs.append(timed(naive, TWO_THREADS).wall_s)
    naive_words = "`naive_baseline.py --embeddings`, two threads"
    ratio = median(their / own for own, their in zip(ours, theirs, strict=True))
    fits = median(ours) / planned[0]
    peak = f"{max(peaks) / MIB:.0f} MiB"
    return [
        f"| coordinate + spectra + angles + masks, embedding included | {naive_words} | "
        f"{ratio:.2f}× faster ({median(ours):.0f} s / {median(theirs):.0f} s) | {peak} |",
        f"| nulls, bf16 pair | the row above | {100 * median(nulls):.0f} % more time | – |",
        _shuffle_row(folder / "fp32", repeats),
        f"| opening that result again | – | {median(reopened):.2f} s | {stored / MIB:.0f} MiB on disk |",
        f"| what the plan said | the first row | {fits:.2f}× as long ({median(ours):.0f} s / {planned[0]:.0f} s) | "
        f"{planned[1] / MIB:.0f} MiB planned, imports not counted |",
    ]


def _shuffle_row(folder: Path, repeats: int) -> str:
    """Nulls of an update stored in fp32, which can be shuffled: two layers and the embedding."""
    base, tuned, shares = folder / "base", folder / "rl", []
    for _ in range(repeats):
        with scratch_store() as store:
            run, imports = compare(base, tuned, MEASURED, store).wall_s, imports_s()
            shares.append((compare(base, tuned, WITH_NULLS, store).wall_s - imports) / (run - imports))
    more = f"{100 * median(shares):.0f} % more time"
    return f"| nulls with shuffles, fp32 update, two layers | the same pair without | {more} | – |"


def _python(script: str, *arguments: object) -> str:
    return timed([sys.executable, "-c", script, *map(str, arguments)], ONE_THREAD).out


def _newest(store: Path) -> str:
    """Key of the result written last."""
    return max((store / "results").iterdir(), key=lambda path: path.stat().st_mtime).name
