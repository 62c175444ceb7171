"""What the pages tell an outsider about a private pair: word for word what they tell about one that does not exist."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from rlviz import api
from rlviz.access import PERMISSIONS, Permissions, Visitor
from rlviz.store import Store
from rlviz.ui.loading import jobs
from tests.checkpoints import tiny_base, tuned_from, write_checkpoint
from tests.fakehub import FakeHub

ROOT = Path(__file__).parents[1]
ALICE = "hf_alice"
ABSENT = f"acme/absent@{'a' * 40}"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    base = tiny_base(layers=1)
    write_checkpoint(tmp_path / "base", base)
    write_checkpoint(tmp_path / "secret", tuned_from(base))
    monkeypatch.setenv("RLVIZ_MODE", "hosted")
    monkeypatch.setenv("RLVIZ_STORE", str(tmp_path / "store"))
    with FakeHub(tokens={ALICE: ["acme/secret"], "hf_bob": []}) as hub:
        hub.add_repo("acme/base", tmp_path / "base")
        hub.add_repo("acme/secret", tmp_path / "secret", private=True)
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        for name in ("_heard", "_granted", "_accounts", "_down_until"):
            monkeypatch.setattr(PERMISSIONS, name, getattr(Permissions(), name))
        st.cache_resource.clear()
        st.cache_data.clear()
        yield hub
        jobs().close()
        st.cache_resource.clear()
        st.cache_data.clear()


def page(tuned: str, token: str | None = None, **query: str) -> AppTest:
    """The start page as someone with that token (or nobody) sees it."""
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    at.query_params["base"], at.query_params["tuned"] = "acme/base", tuned
    for key, value in query.items():
        at.query_params[key] = value
    if token:
        at.session_state["visitor_token"] = token
    return at.run()


def told(at: AppTest) -> str:
    """Every word on the page, and which charts and buttons there are."""
    words: list[Any] = []
    for element in at:
        proto = getattr(element, "proto", None)
        words.append((element.type, str(getattr(element, "value", "")), str(getattr(element, "label", "")), str(proto)))
    return "\n".join(" ".join(map(str, word)) for word in words)


def secret(hub: FakeHub) -> str:
    return f"acme/secret@{hub.repos['acme/secret'].revisions['main']}"


def nothing_shown(at: AppTest) -> None:
    assert not at.exception
    assert not at.get("plotly_chart")
    assert not at.get("progress")
    assert "does not exist on the hub" in told(at).replace("\\", "")


def same_as_absent(hub: FakeHub, token: str | None = None) -> None:
    at, other = page(secret(hub), token), page(ABSENT, token)
    nothing_shown(at)
    commit = hub.repos["acme/secret"].revisions["main"]
    assert plain(told(at), "secret", commit) == plain(told(other), "absent", "a" * 40)


def plain(text: str, name: str, commit: str) -> str:
    """Without the name that was asked for, and the ids that name widgets by what they show."""
    lines = text.replace(commit, "COMMIT").replace(commit[:7], "COMMIT").replace(name, "NAME").splitlines()
    return "\n".join(line for line in lines if "id: " not in line and "_id" not in line)


def test_a_kept_result_is_as_absent(hub):
    store = Store()
    result = api.compare("acme/base", "acme/secret", store=store, visitor=Visitor("a", ALICE))
    allowed = page(secret(hub), ALICE)
    assert allowed.get("plotly_chart")
    assert not allowed.exception
    same_as_absent(hub)
    same_as_absent(hub, "hf_wrong")
    same_as_absent(hub, "hf_bob")
    for opened in (page(secret(hub), result=result.key), page("", r=result.key), page("", r=result.key[:10])):
        assert not opened.get("plotly_chart")
        assert "secret" not in told(opened).replace(secret(hub), "")
    allowed.button(key="sign_out").click().run()
    nothing_shown(allowed)


def test_a_run_under_way_is_as_absent(hub):
    hub.latency_s = 0.5
    allowed = page(secret(hub), ALICE)
    assert not allowed.exception
    assert allowed.get("progress"), told(allowed)[:4000]
    same_as_absent(hub)
    hub.latency_s = 0.0
    deadline = time.monotonic() + 90
    while page(secret(hub), ALICE).get("progress"):
        assert time.monotonic() < deadline, "the estimate takes too long"
        time.sleep(0.2)
    same_as_absent(hub)


def test_a_refusal_costs_the_same_whatever_is_kept(hub):
    """Each question to the hub takes a tenth of a second, which can be measured from outside."""
    api.compare("acme/base", "acme/secret", store=Store(), visitor=Visitor("a", ALICE))
    hub.tokens["hf_bob"] = []
    for token in (None, "hf_bob"):
        page(ABSENT.replace("absent", "another"), token)  # what is asked about the base, and whose token it is
        asked = [_requests(hub, tuned, token) for tuned in (secret(hub), ABSENT)]
        assert asked[0] == asked[1]


def _requests(hub: FakeHub, tuned: str, token: str | None) -> list[str]:
    before, (name, commit) = len(hub.requests), tuned.split("@")
    page(tuned, token)
    paths = sorted(request.path for request in hub.requests[before:])
    return [path.replace(name, "NAME").replace(commit, "COMMIT") for path in paths if name in path]


def test_a_plan_goes_with_the_access(hub, monkeypatch):
    now = time.monotonic()
    monkeypatch.setattr(PERMISSIONS, "clock", lambda: now)
    assert "tensors match" in told(page(secret(hub), ALICE))
    hub.tokens[ALICE] = []
    now += 61
    st.cache_data.clear()  # holds for a minute too, by a clock of its own
    assert "tensors match" not in told(page(secret(hub), ALICE))


def test_a_model_card_draws_nothing_on_the_page(hub, tmp_path):
    """An image in a button's label would be fetched by the browser of whoever names the model."""
    trap = "![](https://evil.example/seen.png)"
    hub.add_repo("acme/trap", tmp_path / "secret", card={"base_model": trap})
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    at.query_params["tuned"] = "acme/trap"
    label = at.run().button(key="suggested_base").label
    assert trap not in label
    assert "evil.example" in label
