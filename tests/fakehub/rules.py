"""The ways in which a hub misbehaves, each by name: what the fault matrix goes through."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tests.fakehub.faults import Fault, Match, Request
from tests.fakehub.server import FakeHub

RATE_LIMITED = {"RateLimit": '"resolvers";r=0;t=1', "RateLimit-Policy": '"fixed window";"resolvers";q=500;w=300'}
LIMITED_FOR_LONG = {"Retry-After": "4000"}
OUTAGE_S = 0.1


@dataclass(frozen=True, slots=True)
class Rule:
    """One misbehaviour.

    once, always : the fault for one request, and for every request from then on
    where : the requests that it can hit at all
    """

    name: str
    once: Callable[[FakeHub], Fault]
    always: Callable[[FakeHub], Fault]
    where: Match

    def strike(self, hub: FakeHub, when: Match, *, passes: bool) -> None:
        """Let it happen at the first request that `when` picks; it passes, or stays for good."""
        fault = replace(self.once(hub), times=1) if passes else self.always(hub)
        hub.inject(lambda request: self.where(request) and when(request), fault)


def anywhere(_: Request) -> bool:
    return True


def storage(request: Request) -> bool:
    return request.origin == "cdn"


def files(request: Request) -> bool:
    """Content and the links to it, not the answers about the model."""
    return storage(request) or "/resolve/" in request.path


def weights(request: Request) -> bool:
    """What is read after the headers, which lie at the start of their file."""
    return storage(request) and not (request.range or "").startswith("bytes=0-")


def every(moved_to: tuple[str, Path]) -> tuple[Rule, ...]:
    """All rules; `moved_to` is the repository that gets a new commit, and the commit's folder."""

    def pinned(request: Request) -> bool:
        return f"/{moved_to[0]}/resolve/" in request.path or weights(request)

    def moved(hub: FakeHub) -> Fault:
        return Fault(then=lambda: hub.push(*moved_to))

    def same(fault: Fault) -> tuple[Callable[[FakeHub], Fault], Callable[[FakeHub], Fault]]:
        return (lambda hub: fault), (lambda hub: fault)

    def restarting(hub: FakeHub) -> Fault:
        def restart() -> None:
            hub.stop()
            threading.Timer(OUTAGE_S, hub.resume).start()

        return Fault(then=restart)

    def limited(headers: dict[str, str]) -> Callable[[FakeHub], Fault]:
        return lambda hub: Fault(status=429, headers=headers)

    return (
        Rule("latency", *same(Fault(delay_s=0.02)), anywhere),
        Rule("bandwidth", *same(Fault(bytes_per_s=4e6)), anywhere),
        Rule("rate limit", limited(RATE_LIMITED), limited(LIMITED_FOR_LONG), anywhere),
        Rule("server error", *same(Fault(status=503)), anywhere),
        Rule("reset", *same(Fault(reset=True)), anywhere),
        Rule("truncated", *same(Fault(truncate=7)), anywhere),
        Rule("wrong range", *same(Fault(content_range="bytes 1-2/3")), files),
        Rule("range ignored", *same(Fault(ignore_range=True)), storage),
        Rule("link expired", lambda hub: Fault(then=hub.expire_links), lambda hub: Fault(status=403), storage),
        Rule("commit moved", moved, moved, pinned),
        Rule("hub down", restarting, lambda hub: Fault(then=hub.stop), anywhere),
    )
