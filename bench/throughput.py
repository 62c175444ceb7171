"""Reading over a far link: rlviz against one stream and against 16 bare sockets, on the tests' fake hub.

    python -m bench.throughput FOLDER            # the pair in FOLDER/base and FOLDER/rl, as `make bench` writes it
    python -m bench.throughput FOLDER --repeats 5

Server and client are processes of their own; the link (60 ms, 40 MB/s a connection) is the server's doing. The bare
sockets ask for the same parts and look at nothing that they get.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import httpx2

ROOT = Path(__file__).parent.parent
MIB = 1 << 20
LATENCY_S, BYTES_PER_S = 0.06, 40e6
CONNECTIONS = 16
PART_BYTES = 8 * MIB
FILE = "model.safetensors"
ONE_STREAM_BYTES, MANY_STREAMS_BYTES = 128 * MIB, 512 * MIB


@contextmanager
def far_hub(folder: Path) -> Generator[str]:
    """A hub in a process of its own that serves the pair; yields its endpoint."""
    command = [sys.executable, "-m", "tests.fakehub", f"org/base={folder / 'base'}", f"org/rl={folder / 'rl'}"]
    link = ["--latency-s", str(LATENCY_S), "--bytes-per-s", str(BYTES_PER_S)]
    with subprocess.Popen([*command, *link], stdout=subprocess.PIPE, text=True, cwd=ROOT) as server:
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


def measured(way: str, endpoint: str) -> dict[str, float]:
    """One client in a process of its own: bytes, seconds, and its peak of resident memory."""
    command = [sys.executable, "-m", "bench.throughput", "--client", way, "--endpoint", endpoint]
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "RLVIZ_CONNECTIONS": str(CONNECTIONS)}
    return json.loads(subprocess.run(command, env=env, cwd=ROOT, check=True, capture_output=True, text=True).stdout)


def rows(folder: Path, repeats: int) -> list[str]:
    """Rows of the README's table."""
    runs: dict[str, list[dict[str, float]]] = {way: [] for way in CLIENTS}
    with far_hub(folder) as endpoint:
        for _ in range(repeats):
            for way in CLIENTS:
                runs[way].append(measured(way, endpoint))
    rates = {way: [run["bytes"] / run["seconds"] / 1e6 for run in of] for way, of in runs.items()}
    told = {"reader": "ranged reads", "coordinate": "coordinate, rl"}
    against = {"stream": "one stream", "sockets": f"{CONNECTIONS} bare sockets"}
    made = []
    for ours, words in told.items():
        peak = max(run["peak_bytes"] for run in runs[ours]) / MIB
        for theirs, opponent in against.items():
            ratio = median(a / b for a, b in zip(rates[ours], rates[theirs], strict=True))
            shown = f"{ratio:.1f}× its rate" if theirs == "stream" else f"{100 * ratio:.0f} % of their rate"
            speeds = f"{median(rates[ours]):.0f} MB/s / {median(rates[theirs]):.0f} MB/s"
            link = f"{1000 * LATENCY_S:.0f} ms, {BYTES_PER_S / 1e6:.0f} MB/s a connection"
            made.append(f"| {words}, {link} | {opponent} | {shown} ({speeds}) | {peak:.0f} MiB |")
    return made


# --- the clients ------------------------------------------------------------------------------------------------


def stream(endpoint: str) -> tuple[int, float]:
    """One connection, one answer."""
    url, received = _located(endpoint)[0], 0
    with httpx2.Client() as client:
        started = time.perf_counter()
        with client.stream("GET", url, headers={"Range": f"bytes=0-{ONE_STREAM_BYTES - 1}"}) as answer:
            for chunk in answer.iter_raw():
                received += len(chunk)
        return received, time.perf_counter() - started


def sockets(endpoint: str) -> tuple[int, float]:
    """As many connections, each asking for the next part as soon as it has one; nothing is checked."""
    url, size = _located(endpoint)
    total, parts = min(size, MANY_STREAMS_BYTES), queue.SimpleQueue[tuple[int, int]]()
    for first in range(0, total, PART_BYTES):
        parts.put((first, min(total, first + PART_BYTES)))
    threads = [threading.Thread(target=_drain, args=(url, parts)) for _ in range(CONNECTIONS)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return total, time.perf_counter() - started


def _drain(url: str, parts: queue.SimpleQueue[tuple[int, int]]) -> None:
    address, buffer = urlsplit(url), bytearray(PART_BYTES + 4096)
    view = memoryview(buffer)
    with socket.create_connection((address.hostname, address.port)) as connection:
        while True:
            try:
                first, stop = parts.get_nowait()
            except queue.Empty:
                return
            asked = f"GET {address.path}?{address.query} HTTP/1.1\r\nHost: {address.netloc}\r\n"
            connection.sendall(f"{asked}Range: bytes={first}-{stop - 1}\r\n\r\n".encode())
            received, head = 0, -1
            while head < 0 or received < head + 4 + stop - first:
                received += connection.recv_into(view[received:])
                head = buffer.find(b"\r\n\r\n", 0, received) if head < 0 else head


def reader(endpoint: str) -> tuple[int, float]:
    """The same bytes through rlviz, checked, into one tensor-sized buffer after the other."""
    from rlviz.sources import ModelRef
    from rlviz.sources.hub import open_hub

    with open_hub(ModelRef.parse("org/base"), endpoint=endpoint) as checkpoint:
        total = min(_located(endpoint)[1], MANY_STREAMS_BYTES)
        buffer = memoryview(bytearray(256 * MIB))
        started = time.perf_counter()
        for first in range(0, total, len(buffer)):
            checkpoint.reader.read_into(FILE, first, buffer[: min(len(buffer), total - first)])
        return total, time.perf_counter() - started


def coordinate(endpoint: str) -> tuple[int, float]:
    """A whole comparison of the pair, from the first weight asked for to the last record written."""
    from rlviz import api
    from rlviz.probes.coordinate.probe import warm

    warm()
    os.environ["HF_ENDPOINT"] = endpoint
    with tempfile.TemporaryDirectory(prefix="rlviz-bench-") as store:
        result = api.compare("org/base", "org/rl", probes=("coordinate",), store=store, workers=2)
        return result.provenance.bytes_read, result.provenance.wall_s


CLIENTS: dict[str, Callable[[str], tuple[int, float]]] = {
    "stream": stream,
    "sockets": sockets,
    "reader": reader,
    "coordinate": coordinate,
}


def _located(endpoint: str) -> tuple[str, int]:
    """Where the base's weights are, and how many bytes they have."""
    answer = httpx2.head(f"{endpoint}/org/base/resolve/main/{FILE}", timeout=60)
    return answer.headers["Location"], int(answer.headers["X-Linked-Size"])


def _peak_bytes() -> int:
    """Of this program; `ru_maxrss` would begin with that of the process it was started from."""
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) << 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--client", choices=CLIENTS)
    parser.add_argument("--endpoint")
    args = parser.parse_args()
    if args.client:
        nbytes, seconds = CLIENTS[args.client](args.endpoint)
        print(json.dumps({"bytes": nbytes, "seconds": seconds, "peak_bytes": _peak_bytes()}))
    else:
        print(*rows(args.folder, args.repeats), sep="\n")


if __name__ == "__main__":
    main()
