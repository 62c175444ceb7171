"""Page latency under load: real WebSocket sessions over a finished comparison, with and without a job on all cores.

    python -m bench.load [--sessions 10,50] [--seconds 40] [--no-readme]

Each session opens the demo comparison by URL, on one of five pages in turn, then draws it again and again: first as
readers do (2 to 8 s between two pages), then all sessions at the same moment. A page counts from the request until the
script has finished. The job is a run of a pair written for it, through the same registry as the dashboard's, in workers
on every core. Nothing else should run meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import random
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from threading import Event, Thread
from urllib.parse import urlencode

import psutil
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.asyncio.client import ClientConnection, connect

from bench.readme import write_section
from rlviz import api
from rlviz.jobs import Jobs, Work
from rlviz.store import Store

ROOT = Path(__file__).parent.parent
BASE, TUNED = "demo:base", "demo:rl"
PAGES = ("", "sparsity", "precision", "spectra", "angles")
THINK_S = (2.0, 8.0)
TOGETHER_ROUNDS = 3
PATIENCE_S = 120.0
LIMIT_S = 2.0  # what the 95th percentile of readers must not exceed with ten sessions and a job


@dataclass(frozen=True)
class Row:
    """Seconds per page of one situation."""

    sessions: int
    job: bool
    reading: tuple[float, ...]
    together: tuple[float, ...]


class Session:
    """One browser tab, without the browser."""

    def __init__(self, socket: ClientConnection, page: str) -> None:
        self._socket = socket
        self._page = page

    async def draw(self) -> float:
        """Seconds until the page has been drawn in full; an AssertionError where it shows no figure."""
        message = BackMsg()
        message.rerun_script.query_string = urlencode([("base", BASE), ("tuned", TUNED)])
        message.rerun_script.page_name = self._page
        started, figures = time.perf_counter(), 0
        await self._socket.send(message.SerializeToString())
        while True:
            said = ForwardMsg()
            said.ParseFromString(await asyncio.wait_for(self._socket.recv(decode=False), PATIENCE_S))
            # Nothing is kept by hash here, as a browser would: every figure arrives as a message or as a reference.
            figures += said.WhichOneof("type") == "ref_hash" or (
                said.HasField("delta") and said.delta.new_element.WhichOneof("type") == "plotly_chart"
            )
            if (
                said.WhichOneof("type") == "script_finished"
                and said.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY
            ):
                assert figures, f"the page /{self._page} showed no figure"
                return time.perf_counter() - started


async def measure(url: str, sessions: int, seconds: float) -> tuple[list[float], list[float]]:
    """Seconds per page: as readers, and all at once."""
    chance = random.Random(sessions)
    connections = [await connect(url, subprotocols=["streamlit"], max_size=None) for _ in range(sessions)]
    try:
        tabs = [Session(connection, PAGES[i % len(PAGES)]) for i, connection in enumerate(connections)]
        for tab in tabs:  # opened one after the other, and not counted: the first of each page fills the caches
            await tab.draw()
        until = time.perf_counter() + seconds
        pauses = [random.Random(chance.random()) for _ in tabs]
        read = await asyncio.gather(*(_read(tab, until, pause) for tab, pause in zip(tabs, pauses, strict=True)))
        together: list[float] = []
        for _ in range(TOGETHER_ROUNDS):
            together += await asyncio.gather(*(tab.draw() for tab in tabs))
    finally:
        for connection in connections:
            await connection.close()
    return [took for own in read for took in own], together


async def _read(tab: Session, until: float, pause: random.Random) -> list[float]:
    took: list[float] = []
    await asyncio.sleep(pause.uniform(0, THINK_S[1]))
    while time.perf_counter() < until:
        took.append(await tab.draw())
        await asyncio.sleep(pause.uniform(*THINK_S))
    return took


@contextmanager
def dashboard(store: Path) -> Iterator[tuple[str, psutil.Process]]:
    """The app on a free port: its WebSocket, and its process."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--server.port", str(port), "--server.address", "127.0.0.1", "--server.headless", "true"]
    process = subprocess.Popen(
        [sys.executable, "-m", "streamlit", "run", "app.py", *options],
        cwd=ROOT,
        env={**os.environ, "RLVIZ_STORE": str(store)},
        stdout=subprocess.DEVNULL,
    )
    try:
        _wait(f"http://127.0.0.1:{port}/_stcore/health", process)
        yield f"ws://127.0.0.1:{port}/_stcore/stream", psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(30)


def _wait(health: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if urllib.request.urlopen(health, timeout=2).read() == b"ok":
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the dashboard did not start")


@contextmanager
def busy(pair: Path) -> Iterator[None]:
    """Exact runs of the pair, one after the other and each into a store of its own, on every core."""
    over = Event()

    def run() -> None:
        base, tuned = str(pair / "base"), str(pair / "rl")
        work = Work(api.locate(base, tuned, api.request()), base, tuned)
        while not over.is_set():
            with tempfile.TemporaryDirectory() as folder, Jobs(Store(folder)) as jobs:
                status = jobs.ask(work)
                while status and status.under_way and not over.wait(0.5):
                    status = jobs.status(work.key)
                assert over.is_set() or (status and status.state == "done"), status

    thread = Thread(target=run)
    thread.start()
    time.sleep(5)  # the workers have loaded their libraries and compute
    try:
        yield
    finally:
        over.set()
        thread.join()


def rows(counts: list[int], seconds: float) -> tuple[list[Row], int]:
    """Every situation, and the most memory the dashboard took."""
    with tempfile.TemporaryDirectory() as folder:
        pair, store = Path(folder, "pair"), Path(folder, "store")
        subprocess.run([sys.executable, ROOT / "bench/make_pair.py", pair, "--runs", "rl"], check=True, stdout=-3)
        api.compare(BASE, TUNED, store=store)
        found: list[Row] = []
        with dashboard(store) as (url, process):
            found += [Row(count, False, *_seconds(url, count, seconds)) for count in counts]
            with busy(pair):
                found += [Row(count, True, *_seconds(url, count, seconds)) for count in counts]
            return found, process.memory_info().rss


def _seconds(url: str, count: int, seconds: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    reading, together = asyncio.run(measure(url, count, seconds))
    print(f"{count} sessions: {_p(reading)} reading, {_p(together)} together", file=sys.stderr)
    return tuple(reading), tuple(together)


def table(found: list[Row], memory: int) -> str:
    """Markdown of all situations."""
    head = [
        "| open sessions | job on all cores | p50 / p95, as readers do | p50 / p95, all at the same moment | pages |",
        "|---|---|---|---|---|",
    ]
    body = [
        f"| {row.sessions} | {'yes' if row.job else 'no'} | {_p(row.reading)} | {_p(row.together)} | "
        f"{len(row.reading) + len(row.together)} |"
        for row in sorted(found, key=lambda row: (row.sessions, row.job))
    ]
    cores = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count()
    note = (
        f"Seconds from a request until the whole page is drawn, over five pages of the demo comparison; readers turn "
        f"a page every {THINK_S[0]:g} to {THINK_S[1]:g} s. {cores} cores ({platform.machine()}), which the clients "
        f"share; the dashboard then took {memory / 2**20:.0f} MiB."
    )
    return "\n".join([*head, *body, "", note])


def _p(seconds: tuple[float, ...] | list[float]) -> str:
    return f"{quantile(seconds, 50):.2f} / {quantile(seconds, 95):.2f} s"


def quantile(seconds: tuple[float, ...] | list[float], percent: int) -> float:
    """Percentile of at least two values."""
    return quantiles(seconds, n=100, method="inclusive")[percent - 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", default="10,50")
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--no-readme", action="store_true")
    args = parser.parse_args()
    found, memory = rows([int(text) for text in args.sessions.split(",")], args.seconds)
    text = table(found, memory)
    print(text)
    if not args.no_readme:
        write_section("load", text)
    slow = [r for r in found if r.job and r.sessions <= 10 and quantile(r.reading, 95) > LIMIT_S]
    if slow:
        raise SystemExit(f"p95 with {slow[0].sessions} sessions and a job is above {LIMIT_S:g} s")


if __name__ == "__main__":
    main()
