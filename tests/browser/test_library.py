"""Links, the Library, and what leaves the dashboard as a file, in a real browser."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

import rlviz
from rlviz import links
from rlviz.access import OWNER
from rlviz.links import View
from rlviz.shelf import Shelf
from rlviz.store import Store
from tests.browser.conftest import start_app
from tests.browser.test_dashboard import goto, heatmap, query, settled

pytestmark = pytest.mark.browser
OLD = "0" * 64  # key of a result that an older release left


@pytest.fixture(scope="module")
def kept(hub, tmp_path_factory):
    """A dashboard over a store with one demo result, and the same as an older release would have left it."""
    store = Store(tmp_path_factory.mktemp("library"))
    rlviz.compare("demo:base", "demo:rl", tensors="*layers.0*", store=store)
    result = rlviz.compare("demo:base", "demo:rl", store=store)
    _age(store, result.key)
    process, app = start_app(store.root, hub.fake.endpoint)
    yield app, result
    process.terminate()
    process.wait(20)


def _age(store: Store, key: str) -> None:
    """Keep a copy of a result whose records say that version 0 of the coordinate probe made them."""
    manifest, provenance = store.read_json(key, "manifest"), store.read_json(key, "provenance")
    assert manifest is not None
    assert provenance is not None
    for i, tensor in enumerate(manifest["tensors"]):
        record = store.get(tensor["records"]["coordinate"])
        assert record is not None
        tensor["records"] = {"coordinate": f"{i:064x}"}
        store.put(f"{i:064x}", replace(record, version=0))
    store.write_manifest(OLD, manifest)
    store.write_json(OLD, "provenance", {**provenance, "rlviz": "0.0.9"})


def share(page: Page) -> str:
    """Open the popover; returns the short link."""
    page.get_by_role("button", name="Share").click()
    code = page.locator("[data-testid=stCode]").filter(has_text="?r=").first
    expect(code).to_be_visible()
    return code.inner_text().strip()


def note(page: Page, text: str) -> None:
    expect(page.get_by_test_id("stAlert").filter(has_text=re.compile(text)).first).to_be_visible()
    expect(page.get_by_text("Something went wrong")).to_have_count(0)


def test_a_short_link_restores_page_models_and_choices(kept, new_page):
    app, result = kept
    page = new_page()
    tensor = "model.layers.1.mlp.up_proj.weight"
    goto(page, f"{app.url}/angles?base=demo:base&tuned=demo:rl&k=16&lens=fp16&metric=nss&tensor={tensor}")
    expect(page.locator(".st-key-angle_curves .js-plotly-plot")).to_be_visible()
    link = share(page)
    assert re.fullmatch(re.escape(app.url) + r"/\?r=[0-9a-f]{10}", link)

    other = new_page()
    goto(other, link)
    expect(other.locator(".st-key-angle_curves .js-plotly-plot")).to_be_visible()
    settled(other)
    assert urlsplit(other.url).path == "/angles"
    expected = {"base": [result.base.pinned_ref], "tuned": [result.tuned.pinned_ref], "k": ["16"], "lens": ["fp16"]}
    expected |= {"metric": ["Normalised spectral shift"], "tensor": [tensor]}
    assert query(other) == expected
    other.reload(wait_until="domcontentloaded")
    expect(other.locator(".st-key-angle_curves .js-plotly-plot")).to_be_visible()
    settled(other)
    assert query(other) == expected


def test_what_a_link_asks_for_in_vain_is_said(kept, new_page):
    app, result = kept
    page = new_page()
    goto(page, f"{app.url}/?r=0123456789")
    note(page, "No link 0123456789 is kept here")
    view = View(
        "gallery", result.base, (result.tuned,), (result.key,), {"metric": "gone", "lens": "fp4", "rotation": "on"}
    )
    goto(page, f"{app.url}/?r={links.keep(Store(app.store), view)}")
    heatmap(page)
    for said in (
        "metric “gone”.*Update sparsity",
        "lens “fp4”.*bf16",
        "rotation “on”",
        "page “gallery”, which is no more",
    ):
        note(page, said)
    goto(page, f"{app.url}/?base=demo:base&tuned=demo:rl&metric=Old title&k=7")
    heatmap(page)
    note(page, "metric “Old title”.*Update sparsity")
    note(page, "k “7”.*64")


def test_a_link_of_an_older_release_shows_its_numbers_and_says_so(kept, new_page):
    app, result = kept
    page = new_page()
    probes = {"coordinate": 0}
    view = View("sparsity", result.base, (result.tuned,), (OLD,), {"metric": "nss"}, "0.0.9", probes)
    goto(page, f"{app.url}/?r={links.keep(Store(app.store), view)}")
    expect(page.locator(".st-key-by_layer .js-plotly-plot")).to_be_visible()
    note(page, r"measured by rlviz 0\.0\.9 \(coordinate v0\); this release measures with v1")
    settled(page)
    assert query(page)["result"] == [OLD]
    again = share(page)
    page.keyboard.press("Escape")
    other = new_page()
    goto(other, again)
    note(other, "coordinate v0")
    page.get_by_role("button", name="Measure with this release").click()
    expect(page.get_by_text("coordinate v0")).to_have_count(0)
    expect(page.locator(".st-key-by_layer .js-plotly-plot")).to_be_visible()

    gone = replace(view, results=("f" * 64,))
    goto(other, f"{app.url}/?r={links.keep(Store(app.store), gone)}")
    note(other, r"no longer kept here; it was measured by rlviz 0\.0\.9 \(coordinate v0\)")


def tick(page: Page, table: str, row: int) -> None:
    """Tick a row of a table, which is drawn on a canvas: rows are 35 pixels high, below a header."""
    grid = page.locator(f".st-key-{table} [data-testid=stDataFrame]")
    expect(grid).to_be_visible()
    expect(grid.locator("canvas").first).to_be_attached()
    settled(page)
    box = grid.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 16, box["y"] + 35 * row + 52)


def test_the_library_finds_and_opens_results(kept, new_page):
    app, result = kept
    page = new_page()
    goto(page, f"{app.url}/library")
    expect(page.get_by_text("3 of 3 results")).to_be_visible()
    page.get_by_role("searchbox", name="Search").fill("demo *layers.0*")
    page.get_by_role("searchbox", name="Search").press("Enter")
    expect(page.get_by_text("1 of 3 results")).to_be_visible()
    tick(page, "library", 0)
    page.get_by_role("link", name="Open Compare").click()
    note(page, "measured with settings of its own")
    heatmap(page)
    settled(page)
    assert query(page)["tuned"] == [result.tuned.pinned_ref]
    assert query(page)["result"] != [result.key]

    page.get_by_role("link", name="Library").click()
    tick(page, "published", 0)
    page.wait_for_function("() => location.search.includes('R1-Distill')")
    assert query(page)["base"] == ["Qwen/Qwen2.5-Math-1.5B"]


def test_an_empty_library_says_what_to_do(hub, new_page, tmp_path):
    process, app = start_app(tmp_path / "store", hub.fake.endpoint)
    try:
        page = new_page()
        goto(page, f"{app.url}/library")
        note(page, "Nothing is kept here yet")
        expect(page.get_by_role("heading", name="Published values")).to_be_visible()
    finally:
        process.terminate()
        process.wait(20)


def test_files_of_the_share_popover(kept, new_page, browser, tmp_path):
    app, result = kept
    page = new_page()
    goto(page, f"{app.url}/?base=demo:base&tuned=demo:rl")
    heatmap(page)
    link = share(page)
    with page.expect_download() as exported:
        page.get_by_role("button", name="Data (zip)").click()
    other = Store(tmp_path / "other")
    assert other.import_result(exported.value.path()) == result.key
    assert Shelf(other, OWNER).result(result.key) is not None
    expect(page.get_by_test_id("stCode").filter(has_text="compared with")).to_contain_text(result.tuned.commit)
    with page.expect_download() as report:
        page.get_by_role("button", name="Report (HTML)").click()
    report.value.save_as(tmp_path / "report.html")
    for scheme in ("light", "dark"):
        _check_report(browser, tmp_path / "report.html", scheme, link)


def _check_report(browser: Browser, file: Path, scheme: str, link: str) -> None:
    """The report, opened from the disk with the network cut: every figure drawn, in the reader's theme."""
    context = browser.new_context(color_scheme=scheme, offline=True)
    page, requests, errors = context.new_page(), [], []
    page.on("request", lambda r: None if r.url.startswith(("data:", "blob:")) else requests.append(r.url))
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.goto(file.as_uri())
    page.wait_for_function("scheme => document.documentElement.dataset.drawn === scheme", arg=scheme)
    figures = page.locator("figure")
    assert page.locator(".js-plotly-plot .main-svg").count() >= figures.count() > 12
    background = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    drawn = page.evaluate("() => getComputedStyle(document.querySelector('.main-svg')).backgroundColor")
    assert background == drawn == {"light": "rgb(255, 255, 255)", "dark": "rgb(15, 18, 22)"}[scheme]
    assert page.locator("[data-title*='loud'], [data-title*='hare']").count() == 0
    expect(page.get_by_role("link", name=link)).to_have_attribute("href", link)
    page.emulate_media(color_scheme="dark" if scheme == "light" else "light")
    page.wait_for_function("scheme => document.documentElement.dataset.drawn !== scheme", arg=scheme)
    assert requests == [file.as_uri()]
    assert errors == []
    context.close()
