"""One comparison in a process of its own, so that a page never shares its interpreter with a long run.

Speaks JSON lines: the request on standard input, ``{"progress": …}``, ``{"error": …}`` and ``{"done": key}`` on
standard output. It stops when asked (SIGTERM) and when its parent goes away (end of standard input).
"""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import asdict
from threading import Event, Thread
from typing import Any

from rlviz.errors import RlvizError


def main() -> int:
    """Read one request, run it, and say how it went."""
    from rlviz import api
    from rlviz.engine.run import Progress

    asked: dict[str, Any] = json.loads(sys.stdin.readline())
    cancel = Event()
    signal.signal(signal.SIGTERM, lambda *_: cancel.set())
    signal.signal(signal.SIGINT, lambda *_: cancel.set())
    Thread(target=_watch_parent, args=(cancel,), daemon=True).start()

    def report(progress: Progress) -> None:
        _say({"progress": asdict(progress)})

    try:
        result = api.compare(
            asked["base"],
            asked["tuned"],
            probes=tuple(asked["probes"]),
            tensors=asked["tensors"],
            budget_minutes=asked["budget_minutes"],
            store=asked["store"],
            report=report,
            cancel=cancel,
        )
    except RlvizError as error:
        _say({"error": {"type": type(error).__name__, "args": list(error.args)}})
        return error.exit_code
    _say({"done": result.key})
    return 0


def _watch_parent(cancel: Event) -> None:
    sys.stdin.read()  # returns when the parent closes the pipe or dies
    cancel.set()


def _say(message: dict[str, Any]) -> None:
    print(json.dumps(message), flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
