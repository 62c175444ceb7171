"""Who is next: visitors take turns, and each visitor's own jobs keep their order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from rlviz.jobs.folder import Entry


def in_turn(entries: Iterable[Entry], last_turn_s: Callable[[str], float]) -> list[Entry]:
    """The queued jobs of one lane in the order in which they will start.

    A visitor's n-th job (running ones count) stands in the n-th round; within a round, who waited longest since
    their last job began comes first. So nobody waits for more than one job of each other visitor.
    """
    entries = list(entries)
    seen = Counter(e.visitor for e in entries if e.state == "running")
    rounds: dict[str, int] = {}
    for entry in sorted((e for e in entries if e.state == "queued"), key=lambda e: (e.asked_s, e.key)):
        rounds[entry.key] = seen[entry.visitor]
        seen[entry.visitor] += 1
    turn = {visitor: last_turn_s(visitor) for visitor in seen}
    queued = [e for e in entries if e.key in rounds]
    return sorted(queued, key=lambda e: (rounds[e.key], turn[e.visitor], e.asked_s, e.key))
