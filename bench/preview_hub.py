"""Seconds of a preview of a 70 B pair over the fake hub, 60 ms away: `python -m bench.preview_hub`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

from tests.fakehub.generated import BASE, TUNED, Llama


def main() -> None:
    """Serve the pair from a process of its own, and print each round."""
    command = [sys.executable, "-m", "tests.fakehub.generated", "--latency-s", "0.06", "--bytes-per-s", "40e6"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server, tempfile.TemporaryDirectory() as store:
        try:
            assert server.stdout is not None
            os.environ["HF_ENDPOINT"] = server.stdout.readline().strip()
            _measure(store)
        finally:
            server.terminate()


def _measure(store: str) -> None:
    from rlviz import api
    from rlviz.probes.coordinate.probe import warm
    from rlviz.sampling import Preview
    from rlviz.types import Lens

    warm()
    started, truth = time.perf_counter(), Llama().density

    def report(preview: Preview) -> None:
        share, took = preview.pooled.density[Lens.BF16], time.perf_counter() - started
        print(
            f"{took:5.1f} s  {preview.bytes_read / 2**20:5.1f} MiB a model  {preview.requests} requests  "
            f"{100 * share.estimate:.2f} % ({100 * share.low:.2f} to {100 * share.high:.2f}), truth {100 * truth:.2f} %"
        )

    api.preview(BASE, TUNED, store=store, report=report)


if __name__ == "__main__":
    main()
