"""Whether a host takes a job on: its limits, each refused in a sentence that names it."""

from __future__ import annotations

from collections.abc import Sequence

from rlviz.errors import OverLimit
from rlviz.jobs.folder import Entry
from rlviz.jobs.ledger import Ledger
from rlviz.jobs.work import GB, UNDER_WAY, Limits, Work

OWN_MACHINE = "or run rlviz on a machine of your own, where no limits apply"


def admit(work: Work, visitor: str, entries: Sequence[Entry], ledger: Ledger, limits: Limits) -> None:
    """Raise `OverLimit` where a limit stands in the way of one more job for this visitor."""
    lane = [e for e in entries if e.state in UNDER_WAY and e.work.kind == work.kind]
    own = [e for e in lane if e.visitor == visitor]
    _check_model(work, limits)
    _check_share(work, own, limits)
    _check_queue(work, lane, limits)
    _check_day(work, visitor, entries, ledger, limits)


def _check_model(work: Work, limits: Limits) -> None:
    if work.kind == "compare" and limits.model_bytes is not None and work.model_bytes > limits.model_bytes:
        problem = (
            f"a model of {work.model_bytes / GB:.0f} GB, and this host compares models of up to "
            f"{limits.model_bytes / GB:.0f} GB exactly (RLVIZ_MAX_MODEL_GB)"
        )
        raise OverLimit(work.subject, problem, f"The preview reads samples of any size; use that, {OWN_MACHINE}.")


def _check_share(work: Work, own: Sequence[Entry], limits: Limits) -> None:
    share = limits.share(work.kind)
    if share is not None and len(own) >= share:
        what = "exact runs" if work.kind == "compare" else "previews"
        problem = f"{len(own)} {what} of yours are under way, and this host takes {share} per visitor (RLVIZ_MAX_JOBS)"
        raise OverLimit(work.subject, problem, f"Wait for one to end or cancel one, {OWN_MACHINE}.")


def _check_queue(work: Work, lane: Sequence[Entry], limits: Limits) -> None:
    queued = sum(e.state == "queued" for e in lane)
    if limits.queued is not None and queued >= limits.queued:
        problem = f"{queued} jobs are waiting already, and this host queues {limits.queued} (RLVIZ_MAX_QUEUE)"
        raise OverLimit(work.subject, problem, f"Ask again in some minutes, {OWN_MACHINE}.")


def _check_day(work: Work, visitor: str, entries: Sequence[Entry], ledger: Ledger, limits: Limits) -> None:
    """What was read counts, and what is still to be read for jobs under way."""
    if limits.bytes_per_day is None:
        return
    read = ledger.bytes_today(visitor)
    own = [e for e in entries if e.visitor == visitor and e.state in UNDER_WAY]
    planned = sum(max(e.work.nbytes - e.nbytes_read, 0) for e in own)
    if read >= limits.bytes_per_day or read + planned + work.nbytes > limits.bytes_per_day:
        wanted = f", and this would read {work.nbytes / GB:.1f} GB" if work.nbytes else ""
        coming = f" and {planned / GB:.1f} GB are on their way" if planned else ""
        problem = (
            f"{read / GB:.1f} GB were read for you in the last 24 hours{coming}{wanted}; this host reads "
            f"{limits.bytes_per_day / GB:.0f} GB per visitor and day (RLVIZ_MAX_GB_PER_DAY)"
        )
        raise OverLimit(work.subject, problem, f"Ask again when some hours have passed, {OWN_MACHINE}.")
