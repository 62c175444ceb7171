"""Who is next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rlviz.jobs.folder import Entry
from rlviz.jobs.order import in_turn
from tests.jobs.helpers import named


def entry(key: str, asked_s: float, state: str = "queued") -> Entry:
    """A job of the visitor that its key begins with."""
    return Entry(named(key), key[0], state, asked_s, asked_s)  # type: ignore[arg-type]


def order(entries: list[Entry], **last_turn_s: float) -> str:
    return " ".join(e.key for e in in_turn(entries, lambda visitor: last_turn_s.get(visitor, 0.0)))


def test_first_come_first_served_for_one_visitor():
    assert order([entry("a2", 2), entry("a1", 1), entry("a3", 3)]) == "a1 a2 a3"


def test_visitors_alternate():
    entries = [entry(f"a{i}", i) for i in range(3)] + [entry("b1", 10), entry("c1", 11)]
    assert order(entries) == "a0 b1 c1 a1 a2"


def test_a_running_job_counts_as_a_turn():
    assert order([entry("a1", 1, "running"), entry("a2", 2), entry("b1", 3)]) == "b1 a2"


def test_who_waited_longest_since_their_last_turn_is_next():
    """Without it, a visitor with a long queue would be next whenever a place gets free."""
    entries = [entry("a2", 2), entry("b1", 10)]
    assert order(entries, a=100.0) == "b1 a2"
    assert order(entries, a=100.0, b=200.0) == "a2 b1"


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=12))
def test_nobody_waits_for_more_than_one_job_of_each_other_visitor(visitors):
    """Serve a whole queue: between two turns of anyone, everyone else has at most one."""
    waiting = [entry(f"{visitor}{i}", i) for i, visitor in enumerate(visitors)]
    turns: dict[str, float] = {}
    served: list[str] = []
    while waiting:
        following = in_turn(waiting, lambda visitor: turns.get(visitor, 0.0))[0]
        turns[following.visitor] = len(served) + 1.0
        served.append(following.key)
        waiting.remove(following)
    for visitor in set(visitors):
        own = [i for i, key in enumerate(served) if key[0] == visitor]
        assert [served[i] for i in own] == sorted((served[i] for i in own), key=lambda key: int(key[1:]))
        for start, end in zip([-1, *own], own, strict=False):
            between = [key[0] for key in served[start + 1 : end]]
            assert all(between.count(other) <= 1 for other in between)
