"""An estimate before the exact run; a run that its visitor walks away from, and one whose server is killed."""

from __future__ import annotations

import os
import signal

import pytest
from playwright.sync_api import Page, expect

from rlviz.store import Store
from tests.browser.conftest import App, start_app
from tests.browser.test_dashboard import goto, heatmap

pytestmark = pytest.mark.browser

PAIR = "?base=acme/base&tuned=acme/sft"


@pytest.fixture
def slow(hub):
    """The hub, far away until told otherwise."""
    hub.fake.latency_s = 0.3
    yield hub.fake
    hub.fake.latency_s = 0.0


def result(app: App) -> tuple[str, dict]:
    """The one result in the store."""
    ((key, manifest),) = Store(app.store).results()
    return key, manifest


def started(page: Page, app: App) -> None:
    goto(page, f"{app.url}/{PAIR}")
    page.get_by_role("button", name="Exact run").click()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()


def finished(page: Page) -> None:
    heatmap(page)
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    expect(page.get_by_text("unfinished")).to_have_count(0)


def test_preview_appears_before_the_exact_run(hub, new_page, tmp_path):
    process, app = start_app(tmp_path / "store", hub.fake.endpoint)
    try:
        page = new_page()
        goto(page, f"{app.url}/{PAIR}")
        expect(page.locator(".st-key-preview_heatmap .js-plotly-plot")).to_be_visible()
        expect(page.get_by_text("bit-identical in bf16").first).to_be_visible()
        expect(page.get_by_role("button", name="Exact run")).to_be_visible()
        assert not list(Store(app.store).results()), "nothing was compared in full yet"
        page.get_by_role("radio", name="fp32", exact=True).click()
        expect(page.get_by_text("bit-identical in fp32").first).to_be_visible()
        page.get_by_role("button", name="Exact run").click()
        finished(page)
        expect(page.locator(".st-key-preview_heatmap")).to_have_count(0)
    finally:
        process.terminate()
        process.wait(20)


def test_close_and_reopen_during_a_run(hub, slow, new_page, tmp_path):
    process, app = start_app(tmp_path / "store", hub.fake.endpoint)
    try:
        page = new_page()
        started(page, app)
        page.close()
        back = new_page()
        goto(back, f"{app.url}/{PAIR}")
        expect(back.get_by_role("button", name="Cancel")).to_be_visible()  # it went on, and is found again
        slow.latency_s = 0.0
        finished(back)
        assert result(app)[1]["complete"]
    finally:
        process.terminate()
        process.wait(20)


def test_a_killed_server_goes_on_by_itself(hub, slow, new_page, tmp_path):
    process, app = start_app(tmp_path / "store", hub.fake.endpoint)
    started(new_page(), app)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(20)
    slow.latency_s = 0.0
    process, app = start_app(tmp_path / "store", hub.fake.endpoint)
    try:
        page = new_page()
        goto(page, f"{app.url}/{PAIR}")  # nobody presses anything
        finished(page)
        assert result(app)[1]["complete"]
    finally:
        process.terminate()
        process.wait(20)
