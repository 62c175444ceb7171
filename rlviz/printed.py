"""What the command line prints: plans, summaries, the progress bar."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from math import isfinite
from typing import TYPE_CHECKING, Any

from rlviz.types import LENSES, MetricParams

if TYPE_CHECKING:
    from rlviz.engine import Plan, Progress
    from rlviz.result import PairResult

SKIPPED_SHOWN = 5
HEADLINES = ("relative_update_norm", "nss", "energy_principal_enrichment")


def plan_dict(planned: Plan) -> dict[str, Any]:
    """A plan as JSON (schema 1)."""
    sides = (planned.pairing.base.identity, planned.pairing.tuned.identity)
    return {
        "schema": 1,
        "key": planned.key,
        "base": asdict(sides[0]),
        "tuned": asdict(sides[1]),
        "tensors_compared": len({step.match.name for step in planned.steps}),
        "tensors_total": planned.total_tensors,
        "bytes_to_read": planned.bytes_to_read,
        "memory_bytes": planned.memory_bytes,
        "seconds": planned.seconds(),
        "probes": {
            name: {
                "seconds": planned.seconds(name),
                "pending": sum(s.probe.name == name for s in planned.pending),
                "steps": sum(s.probe.name == name for s in planned.steps),
            }
            for name in planned.request.probes
        },
        "tensors": [
            {
                "name": m.name,
                "layer": m.base.layer,
                "module": m.base.module,
                "shape": list(m.shape),
                "dtype_base": m.base.dtype,
                "dtype_tuned": m.tuned.dtype,
            }
            for m in planned.pairing.matched
        ],
        "skipped": [asdict(s) for s in planned.skipped],
        "notices": [asdict(n) for n in planned.pairing.notices],
    }


def plan_text(planned: Plan) -> str:
    """A plan as a person reads it."""
    about = plan_dict(planned)
    base, tuned = about["base"], about["tuned"]
    lines = [
        f"base   {base['pinned_ref']}  {size_text(base['nbytes'])}",
        f"tuned  {tuned['pinned_ref']}  {size_text(tuned['nbytes'])}",
        f"{about['tensors_compared']} of {about['tensors_total']} tensors compared, "
        f"{size_text(about['bytes_to_read'])} to read, about {time_text(about['seconds'])}, "
        f"up to {size_text(about['memory_bytes'])} of memory",
    ]
    if planned.remote:
        lines.append(f"  reading: about {time_text(planned.reading_seconds)}")
    for name, probe in about["probes"].items():
        lines.append(
            f"  {name}: {probe['pending']} of {probe['steps']} tensors to do, about {time_text(probe['seconds'])}"
        )
    lines += [f"  skipped {s['name']} ({s['reason']}): {s['detail']}" for s in about["skipped"]]
    lines += [f"note: {n['detail']}" for n in about["notices"]]
    return "\n".join(lines)


@contextmanager
def progress_bar(quiet: bool) -> Generator[Callable[[Progress], None]]:
    """A report that moves a bar on stderr, one unit per probed tensor."""
    from tqdm import tqdm

    bar: Any = tqdm(disable=quiet, unit="step", file=sys.stderr, leave=False, delay=0.01)  # none for what is kept

    def report(progress: Progress) -> None:
        bar.total = progress.steps_total
        bar.n = progress.steps_done
        bar.set_description_str(progress.state, refresh=False)
        bar.set_postfix_str(f"{size_text(progress.bytes_read)} read {progress.last}", refresh=False)
        bar.refresh()

    try:
        yield report
    finally:
        bar.close()


def summary_text(result: PairResult, params: MetricParams) -> str:
    """What a person wants to see first; the full numbers are in --json and --csv."""
    shares = {lens: result.pooled("update_sparsity", replace(params, lens=lens)) for lens in LENSES}
    others = {key: result.pooled(key, params) for key in HEADLINES}
    lines = [
        f"{result.base.label} -> {result.tuned.label}   ({result.key[:12]})",
        f"  {len(result.measured)} of {result.total} tensors compared",
    ]
    known = [f"{lens} {100 * share:.4g} %" for lens, share in shares.items() if isfinite(share)]
    lines += [f"  unchanged: {'  '.join(known)}"] if known else []
    lines += [f"  {key}: {value:.4g}" for key, value in others.items() if isfinite(value)]
    lines += list(_masks(result, params))
    lines += [f"  skipped {s.name} ({s.reason}): {s.detail}" for s in result.skipped[:SKIPPED_SHOWN]]
    if len(result.skipped) > SKIPPED_SHOWN:
        reasons = ", ".join(f"{n} {reason}" for reason, n in Counter(s.reason for s in result.skipped).items())
        lines.append(f"  … {len(result.skipped)} skipped in all ({reasons})")
    lines += [f"  note: {notice.detail}" for notice in result.notices]
    return "\n".join(lines)


def _masks(result: PairResult, params: MetricParams) -> Iterator[str]:
    """Where changes fall, each share beside chance and what rounding alone gives."""
    for mask in ("principal", "low_magnitude"):
        key = f"overlap_{mask}"
        share, chance, null = (result.pooled(f"{key}{end}", params) for end in ("", "_baseline", "_null"))
        if isfinite(share):
            beside = f", rounding alone {100 * null:.4g} %" if isfinite(null) else ""
            yield f"  {key}: {100 * share:.4g} % (chance {100 * chance:.4g} %{beside})"


def time_text(seconds: float) -> str:
    """A time span of a plan.

    Examples
    --------
    >>> time_text(8.2), time_text(150), time_text(15528)
    ('8 s', '2 min 30 s', '4 h 18 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes else f"{rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def size_text(nbytes: int) -> str:
    """Bytes as people say them, in powers of ten."""
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.1f} MB"
