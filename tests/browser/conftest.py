"""A real dashboard, a real Chromium, and a hub on loopback; every request that leaves the machine is a failure."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.checkpoints import tiny_base, tuned_from, write_checkpoint
from tests.fakehub import FakeHub

ROOT = Path(__file__).parents[2]
FLAGS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-default-apps",
    "--disable-extensions",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
]
LOCAL = ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:")


@dataclass(frozen=True)
class App:
    """One running dashboard and the store it writes to."""

    url: str
    store: Path


@dataclass(frozen=True)
class Hub:
    """The fake hub with its pairs, and local folders beside it."""

    fake: FakeHub
    folder: Path


@pytest.fixture(scope="session")
def hub(tmp_path_factory) -> Iterator[Hub]:
    folder = tmp_path_factory.mktemp("checkpoints")
    base = tiny_base(width=192)  # weights well above what headers take
    write_checkpoint(folder / "base", base)
    write_checkpoint(folder / "rl", tuned_from(base))
    write_checkpoint(folder / "sft", tuned_from(base, seed=3, std=3e-3))
    with FakeHub() as fake:
        fake.add_repo("acme/base", folder / "base")
        fake.add_repo("acme/rl", folder / "rl", card={"base_model": "acme/base"})
        fake.add_repo("acme/sft", folder / "sft", card={"base_model": "acme/base"})
        fake.add_repo("acme/gated", folder / "rl", gated=True)
        yield Hub(fake, folder)


def start_app(store: Path, endpoint: str, script: str = "app.py", **env: str) -> tuple[subprocess.Popen[bytes], App]:
    """Start the dashboard on a free port and wait until it answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            sys.executable, "-m", "streamlit", "run", script, "--server.port", str(port),
            "--server.address", "127.0.0.1", "--server.headless", "true",
        ],
        cwd=ROOT,
        env={
            **os.environ, "RLVIZ_STORE": str(store), "HF_ENDPOINT": endpoint,
            "RLVIZ_URL": f"http://127.0.0.1:{port}", **env,
        },
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    app = App(f"http://127.0.0.1:{port}", store)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, "the dashboard did not start"
        try:
            # Any path answers 200 with the page itself: only the body tells that it is healthy.
            if urllib.request.urlopen(f"{app.url}/_stcore/health", timeout=2).read() == b"ok":
                return process, app
        except OSError:
            time.sleep(0.2)
    process.terminate()
    raise AssertionError("the dashboard did not become healthy")


@pytest.fixture(scope="session")
def app(hub, tmp_path_factory) -> Iterator[App]:
    process, app = start_app(tmp_path_factory.mktemp("store"), hub.fake.endpoint)
    yield app
    process.terminate()
    process.wait(20)


@pytest.fixture(scope="session")
def browser():
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=120_000)  # the first run of a machine may still be compiling elsewhere
    executable = shutil.which("chromium")
    assert executable, "chromium is missing: run `make test`, which installs it, or install it yourself"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, headless=True, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def new_page(browser):
    """A function that opens a fresh context (no cookies, no state); checks at the end that nothing went outside."""
    contexts, outside = [], []

    def open_page(colour_scheme: str = "light"):
        context = browser.new_context(color_scheme=colour_scheme, viewport={"width": 1440, "height": 1000})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(120_000)
        page.on("request", lambda r: None if r.url.startswith(LOCAL) else outside.append(r.url))
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert outside == []
