"""Rows on the coordinate probe, against reading and comparing the same bytes on one thread."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median

from bench.process import HERE, MIB, ONE_THREAD, compare, imports_s, scratch_store, timed


def floor(base: Path, tuned: Path) -> dict[str, float]:
    """Seconds of one thread reading and `!=`-ing the same files: with `os.pread`, and into reused buffers."""
    command = [sys.executable, str(HERE / "floor_coordinate.py"), str(base), str(tuned), "--repeat", "3"]
    return json.loads(timed(command, ONE_THREAD).out)


def rows(folder: Path, repeats: int) -> list[str]:
    """Two rows a run: imports are subtracted, as the requirement is about the pass."""
    found = []
    for tuned in ("rl", "sft"):
        ours, floors, peaks = [], [], []
        for _ in range(repeats):
            imports = imports_s()
            with scratch_store() as store:
                run = compare(folder / "base", folder / tuned, "coordinate", store)
            ours.append(run.wall_s - imports)
            floors.append(floor(folder / "base", folder / tuned))
            peaks.append(run.peak_bytes)
        for key, words in (("seconds_pread", "`os.pread` + `!=`"), ("seconds_preadv", "the same into reused buffers")):
            ratio = median(own / f[key] for own, f in zip(ours, floors, strict=True))
            found.append(
                f"| coordinate, {tuned} | one thread, {words} | {ratio:.2f}× its time "
                f"({median(ours):.2f} s / {median(f[key] for f in floors):.2f} s) | {max(peaks) / MIB:.0f} MiB |"
            )
    return found
