"""One job in a process of its own, so that a page never shares its interpreter with a long run.

Speaks JSON lines: the work on standard input (the visitor's token comes this way only), and on standard output
``{"progress": …}``, ``{"round": n, "nbytes": …}``, then ``{"error": […]}`` or ``{"done": key}``. It stops when asked
(SIGTERM) and when its parent goes away (end of standard input), and lets the server's pages have the processor first.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from threading import Event, Thread
from typing import Any

from rlviz.access import Visitor
from rlviz.errors import InvalidInput, RlvizError

NICE = {"compare": 10, "preview": 5}  # pages first, then previews, which someone is looking at

Say = Callable[[dict[str, Any]], None]


def main() -> int:
    """Read one request, run it, and say how it went."""
    asked: dict[str, Any] = json.loads(sys.stdin.readline())
    work: dict[str, Any] = asked["work"]
    os.nice(NICE[work["kind"]])
    cancel = Event()
    signal.signal(signal.SIGTERM, lambda *_: cancel.set())
    signal.signal(signal.SIGINT, lambda *_: cancel.set())
    Thread(target=_watch_parent, args=(cancel,), daemon=True).start()
    spoken, sys.stdout = sys.stdout, sys.stderr  # what a library prints is not ours to parse

    def say(message: dict[str, Any]) -> None:
        with suppress(BrokenPipeError):  # the parent is gone, and `cancel` is set
            print(json.dumps(message), file=spoken, flush=True)

    run = _compare if work["kind"] == "compare" else _preview
    try:
        run(work, asked["store"], Visitor(**asked["visitor"]), say, cancel)
    except RlvizError as error:
        say({"error": [type(error).__name__, error.subject, error.problem, error.next_step]})
        return error.exit_code
    except OSError as error:  # a full disk: running it again, as after a crash, would not help
        if error.errno is None:  # none of the disk's
            raise
        traceback.print_exc()
        problem = f"a file of this host cannot be read or written ({error.strerror})"
        next_step = "What had landed is kept. Free space there, or set RLVIZ_STORE to another folder; then run again."
        say({"error": [InvalidInput.__name__, f"{work['tuned']} against {work['base']}", problem, next_step]})
        return InvalidInput.exit_code
    say({"done": work["key"]})
    return 0


def _compare(work: dict[str, Any], store: str, visitor: Visitor, say: Say, cancel: Event) -> None:
    from rlviz import api

    told: dict[str, Any] = {
        "store": store,
        "report": lambda progress: say({"progress": asdict(progress)}),
        "cancel": cancel,
        "visitor": visitor,
    }
    if work["beside"]:
        api.rescale(work["base"], work["tuned"], work["beside"], **told)
        return
    api.compare(
        work["base"],
        work["tuned"],
        probes=tuple(work["probes"]),
        tensors=work["tensors"],
        budget_minutes=work["budget_minutes"],
        **told,
    )


def _preview(work: dict[str, Any], store: str, visitor: Visitor, say: Say, cancel: Event) -> None:
    from rlviz import api

    api.preview(
        work["base"],
        work["tuned"],
        budget=work["budget"],
        seed=work["seed"],
        store=store,
        report=lambda preview: say({"round": preview.rounds, "nbytes": 2 * preview.bytes_read}),
        cancel=cancel,
        visitor=visitor,
    )


def _watch_parent(cancel: Event) -> None:
    # Straight from the descriptor: a thread inside `sys.stdin.read` would hold a lock the interpreter needs to exit.
    while os.read(0, 4096):
        pass
    cancel.set()


if __name__ == "__main__":
    raise SystemExit(main())
