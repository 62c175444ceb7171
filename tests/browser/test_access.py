"""A host with private models, in a real browser: sign in, come back, see; sign out, and it was never there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from rlviz import api
from rlviz.access import Visitor
from rlviz.store import Store
from tests.browser.conftest import App, start_app
from tests.browser.test_dashboard import goto, heatmap, settled
from tests.checkpoints import tiny_base, tuned_from, write_checkpoint
from tests.fakehub import FakeHub
from tests.fakehub.oauth import CLIENT_ID, CLIENT_SECRET

pytestmark = pytest.mark.browser
ALICE, BOB = "hf_alice", "hf_bob"


@dataclass(frozen=True)
class Host:
    """A hosted dashboard whose store holds a private pair, and its hub."""

    app: App
    hub: FakeHub
    key: str
    query: str
    log: Path

    def url(self, page: str = "", query: str | None = None) -> str:
        return f"{self.app.url}/{page}?{self.query if query is None else query}"


@pytest.fixture(scope="module")
def host(tmp_path_factory) -> Iterator[Host]:
    folder = tmp_path_factory.mktemp("private")
    base = tiny_base()
    write_checkpoint(folder / "base", base)
    write_checkpoint(folder / "secret", tuned_from(base))
    with FakeHub(tokens={ALICE: ["acme/secret"], BOB: []}) as hub, pytest.MonkeyPatch.context() as patch:
        hub.add_repo("acme/base", folder / "base")
        hub.add_repo("acme/secret", folder / "secret", private=True)
        patch.setenv("HF_ENDPOINT", hub.endpoint)
        pair = (f"{name}@{hub.repos[name].revisions['main']}" for name in ("acme/base", "acme/secret"))
        query = urlencode(dict(zip(("base", "tuned"), pair, strict=True)))
        store = Store(folder / "store")
        result = api.compare("acme/base", "acme/secret", store=store, visitor=Visitor("alice", ALICE))
        process, app = start_app(
            folder / "store", hub.endpoint, "asgi.py", RLVIZ_MODE="hosted", OPENID_PROVIDER_URL=hub.endpoint,
            OAUTH_CLIENT_ID=CLIENT_ID, OAUTH_CLIENT_SECRET=CLIENT_SECRET, RLVIZ_COOKIE_SECRET="c" * 32,
        )  # fmt: skip
        yield Host(app, hub, result.key, query, folder)
        process.terminate()
        process.wait(20)


def open_account(page: Page, name: str) -> None:
    """Open the popover, which stays open over what is done in it."""
    settled(page)
    button = page.locator(".st-key-sign_in").get_by_role("button", name=name).first
    expect(button).to_be_visible()
    if not page.get_by_test_id("stPopoverBody").is_visible():
        button.click()


def sign_in(page: Page, host: Host, user: str | None) -> None:
    host.hub.oauth.browser.user, host.hub.oauth.browser.token = user, f"hf_{user}"
    open_account(page, "Sign in")
    page.get_by_role("button", name="Sign in with Hugging Face").click()


def paste(page: Page, token: str) -> None:
    open_account(page, "Sign in")
    page.get_by_label("Token", exact=True).fill(token)
    page.get_by_role("button", name="Use this token").click()


def sign_out(page: Page, user: str) -> None:
    open_account(page, user)
    page.get_by_role("button", name="Sign out").click()


def hidden(page: Page, host: Host) -> None:
    """The page says of the private pair what it would say of one that does not exist."""
    settled(page)
    expect(page.get_by_text("does not exist on the hub").first).to_be_visible()
    expect(page.locator(".js-plotly-plot")).to_have_count(0)
    expect(page.get_by_text("% unchanged")).to_have_count(0)
    expect(page.get_by_text(re.compile("steps|tensors match|Cancel"))).to_have_count(0)


def test_sign_in_comes_back_and_opens_the_private_result(host, new_page):
    page = new_page()
    goto(page, host.url("sparsity", f"{host.query}&lens=fp32"))
    hidden(page, host)
    sign_in(page, host, "alice")
    expect(page.locator(".st-key-by_layer .js-plotly-plot")).to_be_visible()
    assert page.url == host.url("sparsity", f"{host.query}&lens=fp32")
    assert "gated-repos" in host.hub.oauth.scopes[-1]

    stranger = new_page()  # whatever alice's visit has warmed
    goto(stranger, host.url())
    hidden(stranger, host)

    goto(page, host.url())
    heatmap(page)
    sign_out(page, "alice")
    hidden(page, host)
    assert page.url == host.url()


def test_someone_else_signed_in_sees_nothing(host, new_page):
    page = new_page()
    goto(page, host.url())
    sign_in(page, host, "bob")
    expect(page.locator(".st-key-sign_in").get_by_text("bob")).to_be_visible()
    hidden(page, host)


def test_turned_away_by_the_provider_comes_back_too(host, new_page):
    page = new_page()
    goto(page, host.url())
    hidden(page, host)
    sign_in(page, host, None)
    page.wait_for_url(host.url())
    hidden(page, host)


def test_a_pasted_token_lives_in_its_session_only(host, new_page):
    page = new_page()
    goto(page, host.url())
    paste(page, "hf_nonsense")
    expect(page.get_by_text("not a token of the hub").first).to_be_visible()
    paste(page, BOB)
    expect(page.locator(".st-key-sign_in").get_by_text("bob")).to_be_attached()
    hidden(page, host)
    sign_out(page, "bob")
    paste(page, ALICE)
    heatmap(page)
    assert ALICE not in page.url
    assert all(ALICE not in str(cookie) for cookie in page.context.cookies())
    second = page.context.new_page()  # the same browser, another session
    goto(second, host.url())
    hidden(second, host)
    second.close()
    sign_out(page, "alice")
    hidden(page, host)
    files = [path for path in host.app.store.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if ALICE.encode() in path.read_bytes()]


def test_a_token_that_has_expired_is_said(host, new_page):
    page = new_page()
    goto(page, host.url())
    sign_in(page, host, "carol")  # whose token the hub does not know any more
    open_account(page, "Sign in again")
    expect(page.get_by_text("Your sign-in has expired")).to_be_visible()
    hidden(page, host)


def test_library_lists_and_finds_only_what_may_be_seen(host, new_page):
    page = new_page()
    goto(page, host.url("library", ""))
    settled(page)
    expect(page.get_by_text("secret")).to_have_count(0)
    goto(page, host.url("library", "q=secret"))
    settled(page)
    expect(page.get_by_text("acme/secret")).to_have_count(0)
