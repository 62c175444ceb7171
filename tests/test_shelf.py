"""What rests on a private model exists for those who may read it now, and for nobody else, whichever way they ask."""

from __future__ import annotations

import json
import shutil

import pytest

from rlviz import api
from rlviz.access import ASKED_S, PUBLIC_S, Permissions, Visitor
from rlviz.errors import NotFound, Offline
from rlviz.shelf import Shelf
from rlviz.store import Store
from rlviz.types import ModelIdentity
from tests.checkpoints import tiny_base, tuned_from, write_checkpoint
from tests.fakehub import FakeHub

ALICE, BOB, NOBODY = Visitor("alice", "hf_alice"), Visitor("bob", "hf_bob"), Visitor("nobody")
COORDINATE = api.request(probes=("coordinate",))


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """A store with one pair of each kind, measured once, and the folders its models were made from."""
    folder = tmp_path_factory.mktemp("shelf")
    base = tiny_base(layers=1)
    write_checkpoint(folder / "base", base)
    write_checkpoint(folder / "tuned", tuned_from(base))
    store = Store(folder / "store")
    with pytest.MonkeyPatch.context() as patch, hub_over(folder) as hub:
        patch.setenv("HF_ENDPOINT", hub.endpoint)
        for tuned in ("public", "private", "gated"):
            api.compare("acme/base", f"acme/{tuned}", probes=("coordinate",), store=store, visitor=ALICE)
        for tuned in ("private", "gated"):
            api.preview("acme/base", f"acme/{tuned}", store=store, visitor=ALICE)
        api.compare("acme/hidden", "acme/public", probes=("coordinate",), store=store, visitor=ALICE)
    api.compare("demo:base", "demo:rl", probes=("coordinate",), store=store)
    api.compare(folder / "base", folder / "tuned", probes=("coordinate",), store=store)
    return folder


def hub_over(folder) -> FakeHub:
    hub = FakeHub(tokens={"hf_alice": ["acme/private", "acme/gated", "acme/hidden"], "hf_bob": ["acme/hidden"]})
    hub.add_repo("acme/base", folder / "base")
    hub.add_repo("acme/public", folder / "tuned")
    hub.add_repo("acme/private", folder / "tuned", private=True)
    hub.add_repo("acme/gated", folder / "tuned", gated=True)
    hub.add_repo("acme/hidden", folder / "base", private=True)
    return hub


class Host:
    """A host over a copy of that store: its hub, and time that passes by hand."""

    def __init__(self, folder, store: Store, hub: FakeHub) -> None:
        self.folder, self.store, self.hub = folder, store, hub
        self.now = 0.0
        self.permissions = Permissions(clock=lambda: self.now)
        self.keys = {m["tuned"]["pinned_ref"].split("@")[0]: key for key, m in store.results()}
        self.keys["acme/hidden"] = next(k for k, m in store.results() if "hidden" in m["base"]["pinned_ref"])
        self.keys["acme/public"] = next(
            k for k, m in store.results() if "base" in m["base"]["pinned_ref"] and "public" in m["tuned"]["pinned_ref"]
        )

    def shelf(self, visitor: Visitor) -> Shelf:
        return Shelf(self.store, visitor, self.permissions)

    def preview_key(self, tuned: str) -> str:
        return next(key for key, p in self.store.previews() if p["tuned"]["pinned_ref"].startswith(tuned))

    def rewrite(self, tuned: str, **identity: object) -> str:
        """Change what a kept manifest says of its tuned model; None takes a field out."""
        key = self.keys[tuned]
        manifest = self.store.read_json(key, "manifest")
        changed = {**manifest["tuned"], **identity}
        manifest["tuned"] = {name: value for name, value in changed.items() if value is not None}
        self.store.write_manifest(key, manifest)
        return key


@pytest.fixture
def host(measured, tmp_path, monkeypatch):
    shutil.copytree(measured / "store", tmp_path / "store")
    monkeypatch.setenv("RLVIZ_MODE", "hosted")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with hub_over(measured) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield Host(measured, Store(tmp_path / "store"), hub)


def seen(host: Host, visitor: Visitor) -> set[str]:
    """Tuned models of the entries a visitor gets to see, with the base where that is the hidden one."""
    entries = host.shelf(visitor).entries()
    return {("hidden>" if "hidden" in e.base.ref else "") + e.tuned.ref.split("/")[-1] for e in entries}


def test_each_sees_what_they_may_read(host):
    assert seen(host, ALICE) == {"public", "private", "gated", "hidden>public", "demo:rl"}
    assert seen(host, BOB) == {"public", "hidden>public", "demo:rl"}
    assert seen(host, NOBODY) == {"public", "demo:rl"}


def test_local_mode_sees_everything_and_asks_nobody(host, monkeypatch):
    monkeypatch.delenv("RLVIZ_MODE")
    shelf = host.shelf(Visitor())
    assert len(shelf.entries()) == 6
    assert shelf.may_ask("acme/private", str(host.folder / "base"))
    assert shelf.result(host.keys["acme/private"]) is not None
    assert host.hub.requests == []


@pytest.mark.parametrize("visitor", [BOB, NOBODY, Visitor("eve", "hf_wrong"), Visitor("eve", "")])
@pytest.mark.parametrize("tuned", ["acme/private", "acme/gated"])
def test_every_way_to_a_hidden_result_finds_nothing(host, visitor, tuned, tmp_path):
    key, shelf = host.keys[tuned], host.shelf(visitor)
    assert host.shelf(ALICE).result(key).complete  # warms whatever could leak
    assert host.shelf(ALICE).preview(host.preview_key(tuned)) is not None
    assert shelf.result(key) is None
    assert shelf.stamp(key) is None
    assert shelf.preview(host.preview_key(tuned)) is None
    assert shelf.find(key) == shelf.find(key[:6]) == ()
    assert key not in {entry.key for entry in shelf.entries()}
    assert not shelf.may_ask("acme/base", tuned)
    assert not shelf.may_ask(tuned)
    with pytest.raises(NotFound) as hidden:
        shelf.export(key, tmp_path / "hidden.zip")
    absent = key[:-1] + ("0" if key[-1] != "0" else "1")
    with pytest.raises(NotFound) as missing:
        shelf.export(absent, tmp_path / "absent.zip")
    assert str(hidden.value).replace(key, "KEY") == str(missing.value).replace(absent, "KEY")
    assert list(tmp_path.glob("*.zip")) == []


def test_a_visitor_without_a_usable_token_still_sees_what_is_public(host):
    assert seen(host, Visitor("eve", "hf_wrong")) == {"public", "demo:rl"}


def test_who_may_see_it_gets_all_of_it(host, tmp_path):
    key, shelf = host.keys["acme/private"], host.shelf(ALICE)
    result = shelf.result(key)
    assert result.complete
    assert result.tuned.access == "private"
    assert shelf.find(key[:8]) == (key,)
    entry = next(entry for entry in shelf.entries() if entry.key == key)
    assert entry.summary["update_sparsity"] == pytest.approx(result.summary()["update_sparsity"])
    assert (entry.complete, entry.n_tensors, entry.pinned) == (True, len(result.measured), False)
    shelf.export(key, tmp_path / "out.rlviz.zip")
    assert (tmp_path / "out.rlviz.zip").stat().st_size > 0


@pytest.mark.parametrize("content", [{"schema": 99}, {"base": {}, "tuned": {}}, {}])
def test_a_preview_of_another_shape_is_absent(host, content):
    key, kept = next(iter(host.store.previews()))
    changed = {**kept, **content} if content else {"schema": kept["schema"], "kind": "preview"}
    host.store.write_json(key, "preview", changed)
    assert host.shelf(ALICE).preview(key) is None


def test_partial_results_have_the_same_rule(host):
    key = host.keys["acme/private"]
    manifest = host.store.read_json(key, "manifest")
    host.store.write_manifest(key, {**manifest, "complete": False})
    assert host.shelf(BOB).result(key) is None
    assert host.shelf(BOB).stamp(key) is None
    assert not host.shelf(ALICE).result(key).complete


def test_access_withdrawn_holds_within_a_minute(host):
    key = host.keys["acme/private"]
    assert host.shelf(ALICE).result(key) is not None
    host.hub.tokens["hf_alice"] = ["acme/hidden"]
    host.now = ASKED_S
    assert host.shelf(ALICE).result(key) is None
    assert seen(host, ALICE) == {"public", "hidden>public", "demo:rl"}


def test_access_granted_holds_within_a_minute(host):
    key = host.keys["acme/private"]
    assert host.shelf(BOB).result(key) is None
    host.hub.tokens["hf_bob"] = ["acme/private"]
    host.now = ASKED_S
    assert host.shelf(BOB).result(key) is not None


def test_a_model_made_private_later_disappears_within_the_hour(host):
    key = host.keys["acme/public"]
    assert host.shelf(NOBODY).result(key) is not None
    host.hub.repos["acme/public"].private = True
    host.now = PUBLIC_S
    assert host.shelf(NOBODY).result(key) is None
    host.hub.tokens["hf_alice"].append("acme/public")
    assert host.shelf(ALICE).result(key) is not None


def test_a_model_opened_to_all_appears(host):
    host.hub.repos["acme/private"].private = False
    assert host.shelf(NOBODY).result(host.keys["acme/private"]) is not None


def test_a_public_namesake_opens_nothing(host):
    """The private repository is gone and a public one has taken its name: the measured commit is not in it."""
    del host.hub.repos["acme/private"]
    host.hub.add_repo("acme/private", host.folder / "base")
    assert host.shelf(NOBODY).result(host.keys["acme/private"]) is None


def test_while_the_hub_is_down(host):
    private, public = host.keys["acme/private"], host.keys["acme/public"]
    assert host.shelf(ALICE).result(private) is not None
    host.hub.stop()
    host.now = PUBLIC_S
    assert seen(host, ALICE) == seen(host, NOBODY) == {"public", "demo:rl"}
    assert host.shelf(NOBODY).result(public) is not None
    for visitor in (BOB, NOBODY):  # who could not know hears what they always hear
        assert host.shelf(visitor).result(private) is None
    with pytest.raises(Offline, match="whether you may still read"):
        host.shelf(ALICE).result(private)
    with pytest.raises(Offline, match="whether you may still read"):
        host.shelf(ALICE).preview(host.preview_key("acme/private"))
    assert host.shelf(ALICE).find(private) == ()


@pytest.mark.parametrize("access", [None, "unknown", "gated", "private"])
def test_what_is_not_known_to_be_public_is_checked(host, access):
    key = host.rewrite("acme/private", access=access)
    assert host.shelf(NOBODY).result(key) is None
    assert host.shelf(BOB).find(key) == ()
    assert host.shelf(ALICE).result(key) is not None


def test_a_false_claim_of_being_public_is_found_out(host):
    key = host.rewrite("acme/private", access="public")
    assert host.shelf(NOBODY).result(key) is None
    assert host.shelf(ALICE).result(key) is not None


@pytest.mark.parametrize(
    "pinned", ["acme/public", "acme/public@main", f"acme/public@{'0' * 40}", "http://evil.example/a/b", "/etc", ""]
)
def test_a_reference_that_is_not_the_measured_commit_shows_nothing(host, pinned):
    key = host.rewrite("acme/private", pinned_ref=pinned)
    for visitor in (ALICE, NOBODY):
        assert host.shelf(visitor).result(key) is None


def test_results_of_folders_are_not_shown_on_a_host(host):
    key = next(key for key, m in host.store.results() if m["base"]["pinned_ref"].startswith("/"))
    assert host.shelf(ALICE).result(key) is None
    assert not host.shelf(ALICE).may_ask(str(host.folder / "base"))


def test_operator_token_opens_results_of_its_allow_list(host, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    assert seen(host, NOBODY) == {"public", "demo:rl"}
    monkeypatch.setenv("RLVIZ_TOKEN_REPOS", "acme/gat*")
    assert seen(host, NOBODY) == {"public", "gated", "demo:rl"}
    assert seen(host, BOB) == {"public", "hidden>public", "demo:rl"}  # a token of one's own is the one that counts


def test_who_may_ask_does_not_depend_on_the_store(host):
    """What an outsider is told, and what the hub is asked for it, is the same with and without a result."""
    asked = []
    for store in (host.store, Store(host.folder / "empty")):
        host.hub.requests.clear()
        assert not Shelf(store, BOB, Permissions()).may_ask("acme/base", "acme/private")
        asked.append([(r.method, r.path, r.authorization) for r in host.hub.requests])
    assert asked[0] == asked[1] != []


def test_finding_asks_the_same_whatever_is_sought(host):
    asked = []
    for prefix in (host.keys["acme/private"], "zzz", ""):
        host.hub.requests.clear()
        Shelf(host.store, BOB, Permissions()).find(prefix)
        asked.append(sorted(r.path for r in host.hub.requests))
    assert asked[0] == asked[1] == asked[2] != []


def test_may_ask_in_public_goes_on_while_the_hub_is_down(host):
    assert host.shelf(NOBODY).may_ask("acme/base", "acme/public")
    host.hub.stop()
    host.now = ASKED_S
    assert host.shelf(BOB).may_ask("acme/base", "acme/public")
    assert not host.shelf(BOB).may_ask("acme/base", "acme/hidden")


@pytest.mark.parametrize("ref", ["", "not a model", "http://evil.example/a/b", "./base", "acme/absent"])
def test_nobody_may_ask_about_what_is_no_model(host, ref):
    assert not host.shelf(ALICE).may_ask("acme/base", ref)


def test_visible_takes_identities(host):
    identities = [ModelIdentity.kept(host.store.read_json(host.keys[t], "manifest")["tuned"]) for t in host.keys]
    assert host.shelf(NOBODY).visible()
    assert not host.shelf(NOBODY).visible(*identities)
    assert json.dumps([i.pinned_ref for i in identities])


def test_hundreds_of_entries_ask_once_per_model(host):
    manifest = host.store.read_json(host.keys["acme/private"], "manifest")
    for i in range(50):
        host.store.write_manifest(f"{i:064x}", manifest)
    assert len(host.shelf(ALICE).entries()) == 55
    asked = [r.path for r in host.hub.requests]
    assert len(asked) == len(set(asked))
