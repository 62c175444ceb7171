"""The dashboard as a person uses it, in a real browser."""

from __future__ import annotations

import contextlib
import json
import re
import time
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from playwright.sync_api import Page, TimeoutError, expect

from tests.browser.conftest import App, start_app

pytestmark = pytest.mark.browser
PAGES = ("", "sparsity", "precision", "spectra", "angles", "masks", "gates", "methods")


def goto(page: Page, url: str) -> None:
    page.goto(url, wait_until="domcontentloaded")
    expect(page.get_by_test_id("stAppViewContainer")).to_be_visible()


def settled(page: Page) -> None:
    """Wait until the script has run to its end."""
    page.wait_for_function(
        "() => { const a = document.querySelector('[data-testid=stApp]');"
        " return a && a.getAttribute('data-test-script-state') === 'notRunning'; }"
    )


def heatmap(page: Page):
    chart = page.locator(".st-key-heatmap .js-plotly-plot")
    expect(chart).to_be_visible()
    return chart


DRAWN = (
    "key => { const p = document.querySelector(`.st-key-${key} .js-plotly-plot`);"
    " const maps = p._fullData.filter(t => t.type === 'heatmap');"
    " return JSON.stringify(maps.map(t => Array.from(t.z, row => Array.from(row)))); }"
)


def drawn(page: Page, key: str) -> str:
    """Every heat map value on screen, as plotly holds it."""
    return page.evaluate(DRAWN, key)


def redrawn(page: Page, key: str, before: str) -> str:
    """The same, once it differs from `before`."""
    page.wait_for_function(f"([key, before]) => ({DRAWN})(key) !== before", arg=[key, before])
    return drawn(page, key)


def query(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def fill(page: Page, label: str, text: str) -> None:
    field = page.get_by_label(label, exact=True)
    field.fill(text)
    field.press("Enter")
    field.press("Escape")  # closes the list of suggestions, which hides the rest of the page


def press_run(page: Page) -> None:
    """Press Exact run, unless somebody else's run takes it away; again where the page was just being redrawn."""
    run = page.get_by_role("button", name="Exact run")
    for _ in range(3):
        with contextlib.suppress(TimeoutError):
            run.click(timeout=5_000)
        with contextlib.suppress(TimeoutError):
            run.wait_for(state="hidden", timeout=20_000)
            return
    raise AssertionError("pressing Exact run three times did not start it")


def estimated(app: App, tuned: str) -> None:
    """Wait until the preview of this model, which a page asks for by itself, has ended."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        jobs = [json.loads(path.read_text()) for path in (app.store / "jobs").glob("*.json")]
        states = [j["state"] for j in jobs if j["work"]["kind"] == "preview" and tuned in j["work"]["tuned"]]
        if states and not {"queued", "running"} & set(states):
            return
        time.sleep(0.2)
    raise AssertionError(f"the preview of {tuned} did not end")


def run_hub_pair(page: Page, app: App, tuned: str = "acme/rl") -> None:
    goto(page, app.url)
    fill(page, "Base", "acme/base")
    fill(page, "Tuned", tuned)
    run_unless_stored(page)
    settled(page)


def run_unless_stored(page: Page) -> None:
    """Press Run, unless an earlier test has left the result in the store."""
    run = page.get_by_role("button", name="Exact run")
    expect(run.or_(page.locator(".st-key-heatmap .js-plotly-plot")).first).to_be_visible()
    if run.is_visible():
        press_run(page)
    heatmap(page)


def copied_link(page: Page) -> str:
    page.get_by_role("button", name="Share").click()
    page.get_by_text("Long link, for any host").click()
    code = page.locator("[data-testid=stCode]").filter(has_text="base=")
    expect(code).to_be_visible()
    link = code.inner_text().strip()
    page.keyboard.press("Escape")
    return link


def test_demo_is_one_click_away(app, new_page):
    page = new_page()
    goto(page, app.url)
    page.get_by_role("button", name="RL vs SFT").click()
    heatmap(page)
    expect(page.get_by_text("40.4 % of weights are unchanged").first).to_be_visible()
    assert query(page)["tuned"] == ["demo:rl", "demo:sft", "demo:sft_same"]


def test_paste_run_heatmap_toggle_click_link(app, new_page):
    page = new_page()
    run_hub_pair(page, app)
    in_bf16 = drawn(page, "heatmap")
    page.get_by_role("radio", name="fp32", exact=True).click()
    in_fp32 = redrawn(page, "heatmap", in_bf16)
    assert query(page)["lens"] == ["fp32"]

    # The third cell of the first row: clicking it makes its tensor the chosen one.
    plane = page.locator(".st-key-heatmap .js-plotly-plot .nsewdrag").first
    plane.scroll_into_view_if_needed()
    box = plane.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.5)
    page.wait_for_function("() => location.search.includes('tensor=')")
    tensor = query(page)["tensor"][0]
    assert "layers.1" in tensor
    expect(page.get_by_text(tensor).first).to_be_visible()
    settled(page)

    link = copied_link(page)
    parameters = parse_qs(urlsplit(link).query)
    commits = [hub_commit(parameters[key][0]) for key in ("base", "tuned")]
    assert all(re.fullmatch(r"[0-9a-f]{40}", commit) for commit in commits)

    other = new_page()
    goto(other, link)
    heatmap(other)
    settled(other)
    assert drawn(other, "heatmap") == in_fp32
    expect(other.get_by_text(tensor).first).to_be_visible()
    assert query(other)["lens"] == ["fp32"]
    expect(other.get_by_role("button", name="Exact run")).to_have_count(0)


def hub_commit(ref: str) -> str:
    return ref.split("@")[1]


def test_warm_link_reads_nothing_from_the_hub(app, hub, new_page):
    page = new_page()
    run_hub_pair(page, app)
    link = copied_link(page)
    before = len(hub.fake.requests)
    other = new_page()
    goto(other, link)
    heatmap(other)
    settled(other)
    assert not [r for r in hub.fake.requests[before:] if "/resolve/" in r.path or r.origin == "cdn"]


def test_choices_follow_from_page_to_page(app, new_page):
    page = new_page()
    run_hub_pair(page, app)
    page.get_by_role("radio", name="fp16", exact=True).click()
    page.wait_for_function("() => location.search.includes('lens=fp16')")
    settled(page)
    page.get_by_role("link", name="Sparsity").click()
    expect(page.locator(".st-key-by_layer .js-plotly-plot")).to_be_visible()
    settled(page)
    expect(page.get_by_role("radio", name="fp16", exact=True)).to_be_checked()
    assert query(page)["base"] == ["acme/base"]


def test_every_choice_survives_the_link(app, new_page):
    page = new_page()
    run_hub_pair(page, app)
    chosen = {
        "metric": "Relative update norm",
        "lens": "fp8_e4m3",
        "coverage": "linear layers",
        "k": "16",
        "eta": "0.01",
        "tensor": "model.layers.1.mlp.down_proj.weight",
    }
    query_text = "&".join(f"{key}={quote(value)}" for key, value in chosen.items())
    goto(page, f"{app.url}/?base=acme/base&tuned=acme/rl&{query_text}")
    heatmap(page)
    settled(page)
    here = drawn(page, "heatmap")
    link = copied_link(page)
    assert {key: values[0] for key, values in parse_qs(urlsplit(link).query).items() if key in chosen} == {
        **chosen,
        "metric": "relative_update_norm",  # by its key, which outlives its title
    }
    other = new_page()
    goto(other, link)
    heatmap(other)
    settled(other)
    assert drawn(other, "heatmap") == here
    other.get_by_role("link", name="Angles").click()
    expect(other.locator(".st-key-angle_curves .js-plotly-plot")).to_be_visible()
    settled(other)
    assert {key: values[0] for key, values in query(other).items() if key in chosen} == chosen


def test_masks_follow_k_and_alpha_and_read_no_weight(app, hub, new_page):
    page = new_page()
    run_hub_pair(page, app)
    goto(page, f"{app.url}/masks?base=acme/base&tuned=acme/rl&k=96&alpha=0.1")
    expect(page.locator(".st-key-mask_overlaps .js-plotly-plot")).to_be_visible()
    expect(page.get_by_text("the preset below 96").first).to_be_visible()
    settled(page)
    assert (query(page)["k"], query(page)["alpha"]) == (["96"], ["0.1"])
    before, requests = drawn(page, "mask_excess"), len(hub.fake.requests)
    page.locator(".st-key-control_alpha input[type=range]").focus()
    page.keyboard.press("ArrowRight")
    assert redrawn(page, "mask_excess", before) != before
    expect(page.get_by_text("α = 0.2").first).to_be_visible()
    settled(page)
    assert (query(page)["k"], query(page)["alpha"]) == (["96"], ["0.2"])
    assert not [r for r in hub.fake.requests[requests:] if r.origin == "cdn"]


def test_every_link_of_the_verdict_leads_to_its_figure(app, new_page):
    page = new_page()
    run_hub_pair(page, app)
    goto(page, f"{app.url}/gates?base=acme/base&tuned=acme/rl&k=8")
    expect(page.locator(".st-key-gates_odds .js-plotly-plot")).to_be_visible()
    settled(page)
    links = page.locator("table a[href^='#']")
    assert links.count() == 13
    for i in range(links.count()):
        anchor = links.nth(i).get_attribute("href").removeprefix("#")
        figure = page.locator(f".st-key-gates_{anchor} .js-plotly-plot")
        expect(figure).to_be_attached()
        links.nth(i).click()
        page.wait_for_function(
            "id => { const top = document.getElementById(id).getBoundingClientRect().top;"
            " return top > -20 && top < innerHeight / 2; }",
            arg=anchor,
        )
        page.evaluate("() => document.querySelector('[data-testid=stMain]').scrollTo(0, 0)")


def test_garbage_in_the_url_falls_back_to_defaults(app, new_page):
    page = new_page()
    run_hub_pair(page, app)
    garbage = "lens=xyz&k=abc&tensor=nonsense&metric=nope&eta=7&tau=-1&coverage=some&budget=x&alpha=0.4"
    for name in ("", "precision", "angles", "masks", "gates"):
        goto(page, f"{app.url}/{name}?base=acme/base&tuned=acme/rl&{garbage}")
        expect(page.locator(".js-plotly-plot").first).to_be_visible()
        settled(page)
        expect(page.get_by_text("Something went wrong")).to_have_count(0)


def test_two_sessions_share_one_run(app, hub, new_page, tmp_path):
    hub.fake.add_repo("acme/shared", hub.folder / "sft", card={"base_model": "acme/base"})  # no other test asks for it
    pages = [new_page(), new_page()]
    for page in pages:
        goto(page, f"{app.url}/?base=acme/base&tuned=acme/shared")
        expect(page.get_by_role("button", name="Exact run")).to_be_visible()
    estimated(app, "acme/shared")  # the preview reads all of so small a model, and is not what is counted here
    for page in pages:
        expect(
            page.get_by_text("everything was read").or_(page.get_by_text("every weight was read")).first
        ).to_be_visible()
        expect(page.get_by_text("estimating")).to_have_count(0)
        settled(page)
    before = len(hub.fake.requests)
    for page in pages:
        press_run(page)
    for page in pages:
        heatmap(page)
    weights = hub.folder / "sft" / "model.safetensors"
    total = sum(r.nbytes for r in hub.fake.requests[before:] if r.origin == "cdn")
    both = weights.stat().st_size + (hub.folder / "base" / "model.safetensors").stat().st_size
    assert total > 0
    assert total < 1.6 * both, "the weights were downloaded twice"


@pytest.mark.parametrize(
    ("tuned", "sentence"),
    [
        ("acme/nothing", "does not exist"),
        ("acme/gated", "gated"),
        ("not a model", "not a model"),
        ("https://example.com/a/b", "example.com"),
        ("acme/rl@nobranch", "nobranch"),
    ],
)
def test_bad_reference_is_a_sentence(app, new_page, tuned, sentence):
    page = new_page()
    goto(page, f"{app.url}/?base=acme/base&tuned={quote(tuned)}")
    expect(page.get_by_text(re.compile(re.escape(sentence), re.I)).first).to_be_visible()
    settled(page)
    expect(page.get_by_text("Traceback")).to_have_count(0)
    expect(page.get_by_text("Something went wrong")).to_have_count(0)


def test_hosted_mode_opens_no_local_folder(hub, new_page, tmp_path):
    process, hosted = start_app(tmp_path / "store", hub.fake.endpoint, RLVIZ_MODE="hosted", HF_TOKEN="hf_operator")
    try:
        page = new_page()
        goto(page, f"{hosted.url}/?base={quote(str(hub.folder / 'base'))}&tuned=acme/rl")
        expect(page.get_by_text("opens no local files").first).to_be_visible()
        goto(page, f"{hosted.url}/?base=demo:base&tuned=demo:rl")
        expect(page.get_by_role("button", name="Exact run")).to_be_visible()
        assert not [r for r in hub.fake.requests if "hf_operator" in (r.authorization or "")]
    finally:
        process.terminate()
        process.wait(20)


def test_cancel_then_resume(hub, new_page, tmp_path):
    process, app = start_app(tmp_path / "store", hub.fake.endpoint)
    hub.fake.latency_s = 0.3
    try:
        page = new_page()
        goto(page, f"{app.url}/?base=acme/base&tuned=acme/rl")
        page.get_by_role("button", name="Exact run").click()
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_text("Cancelled").first).to_be_visible()
        hub.fake.latency_s = 0.0
        page.get_by_role("button", name="Exact run").click()
        heatmap(page)
        settled(page)
        expect(page.get_by_text("unfinished")).to_have_count(0)
    finally:
        hub.fake.latency_s = 0.0
        process.terminate()
        process.wait(20)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_draws_in_both_themes(app, new_page, scheme, request):
    page = new_page(scheme)
    goto(page, f"{app.url}/?base=demo:base&tuned=demo:rl&tuned=demo:sft")
    run_unless_stored(page)
    for name in PAGES:
        goto(page, f"{app.url}/{name}?base=demo:base&tuned=demo:rl&tuned=demo:sft")
        settled(page)
        expect(page.get_by_text("Something went wrong")).to_have_count(0)
        if name != "methods":
            expect(page.locator(".js-plotly-plot").first).to_be_visible()
            assert all(json.loads(alts(page)))


def alts(page: Page) -> str:
    """Whether each chart says its message in words."""
    return page.evaluate(
        "() => JSON.stringify([...document.querySelectorAll('[data-testid=stPlotlyChart]')]"
        ".map(c => Boolean(c.querySelector('[aria-label]') || c.getAttribute('aria-label'))))"
    )


def test_downloads_are_the_numbers_on_screen(app, new_page):
    page = new_page()
    run_hub_pair(page, app)
    page.locator(".st-key-heatmap").wait_for()
    page.get_by_role("button", name="Data").nth(1).click()
    with page.expect_download() as download:
        page.locator(".st-key-heatmap_csv button").click()
    text = download.value.path().read_text()
    assert "q_proj" in text
    assert len(text.splitlines()) > 5


def test_page_answers_while_a_run_is_under_way(hub, new_page, tmp_path):
    process, app = start_app(tmp_path / "store", hub.fake.endpoint)
    hub.fake.latency_s = 0.2
    try:
        page, other = new_page(), new_page()
        goto(page, f"{app.url}/?base=acme/base&tuned=acme/sft")
        page.get_by_role("button", name="Exact run").click()
        expect(page.get_by_role("button", name="Cancel")).to_be_visible()
        goto(other, f"{app.url}/methods")
        expect(other.get_by_role("heading", name="Methods")).to_be_visible()
        hub.fake.latency_s = 0.0
        heatmap(page)
    finally:
        hub.fake.latency_s = 0.0
        process.terminate()
        process.wait(20)
