"""A preview of a 70 B pair over the fake hub, 60 ms away: `python -m bench.preview_hub` prints the table row of it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

from tests.fakehub.generated import BASE, TUNED, Llama


def main() -> None:
    """Serve the pair from a process of its own; each round to standard error, the row to standard output."""
    command = [sys.executable, "-m", "tests.fakehub.generated", "--latency-s", "0.06", "--bytes-per-s", "40e6"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, tempfile.TemporaryDirectory() as store:
        try:
            assert server.stdout is not None
            os.environ["HF_ENDPOINT"] = server.stdout.readline().strip()
            print(_measure(store))
        finally:
            server.terminate()


def row() -> str:
    """The row, from a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "bench.preview_hub"], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


def _measure(store: str) -> str:
    from rlviz import api
    from rlviz.probes.coordinate.probe import warm
    from rlviz.sampling import Preview
    from rlviz.types import Lens

    warm()
    started, truth = time.perf_counter(), Llama().density

    def told(preview: Preview) -> str:
        share, took = preview.pooled.density[Lens.BF16], time.perf_counter() - started
        found = f"{100 * share.estimate:.2f} % changed ({100 * share.low:.2f} to {100 * share.high:.2f})"
        read = f"{preview.bytes_read / 2**20:.1f} MiB of each model in {preview.requests} requests"
        return f"| preview of an 80-layer 70 B pair | truth {100 * truth:.2f} % | {found} in {took:.1f} s | {read} |"

    def report(preview: Preview) -> None:
        print(told(preview), file=sys.stderr)

    return told(api.preview(BASE, TUNED, store=store, report=report))


if __name__ == "__main__":
    main()
