"""Serve folders until interrupted: ``python -m tests.fakehub org/name=folder other/name=folder``."""

from __future__ import annotations

import argparse
import threading
from pathlib import Path

from tests.fakehub.server import FakeHub


def main() -> None:
    parser = argparse.ArgumentParser(prog="tests.fakehub", description=__doc__)
    parser.add_argument("repos", nargs="+", metavar="ORG/NAME=FOLDER")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-s", type=float, default=0.0)
    parser.add_argument("--bytes-per-s", type=float, default=None)
    options = parser.parse_args()
    with FakeHub(port=options.port, latency_s=options.latency_s, bytes_per_s=options.bytes_per_s) as hub:
        for entry in options.repos:
            repo_id, _, folder = entry.partition("=")
            hub.add_repo(repo_id, Path(folder))
        print(hub.endpoint, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    main()
