"""Modes, tokens, and what the hub says of them: nothing a visitor types reaches the disk or another host."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from rlviz import api, opening
from rlviz.access import ASKED_S, OWNER, PUBLIC_S, Permissions, Visitor, digest, hosted, token_for
from rlviz.errors import Gated, InvalidInput, NotFound, RlvizError
from rlviz.sources import permission
from rlviz.sources.permission import Answer
from rlviz.store import Store
from tests.checkpoints import tiny_base, tuned_from, write_checkpoint
from tests.fakehub import FakeHub, Fault

ALICE, BOB, NOBODY = Visitor("alice", "hf_alice"), Visitor("bob", "hf_bob"), Visitor("nobody")


@pytest.fixture
def host(monkeypatch, tmp_path):
    """A host in front of a hub where alice may read everything, bob what is public."""
    base = tiny_base()
    write_checkpoint(tmp_path / "base", base)
    write_checkpoint(tmp_path / "tuned", tuned_from(base))
    monkeypatch.setenv("RLVIZ_MODE", "hosted")
    monkeypatch.setenv("HF_TOKEN", "hf_operator")
    tokens = {"hf_alice": ["acme/private", "acme/gated"], "hf_bob": [], "hf_operator": ["acme/private", "acme/gated"]}
    with FakeHub(tokens=tokens) as hub:
        hub.add_repo("acme/base", tmp_path / "base")
        hub.add_repo("acme/private", tmp_path / "tuned", private=True)
        hub.add_repo("acme/gated", tmp_path / "tuned", gated=True)
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


def read(model: str, visitor: Visitor) -> None:
    with opening.opened(model, visitor) as checkpoint:
        assert checkpoint.tensors


def sent(hub: FakeHub) -> set[str]:
    """Tokens the hub has seen."""
    return {(request.authorization or "").removeprefix("Bearer ") for request in hub.requests} - {""}


# --- modes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "expected"), [(None, False), ("", False), ("local", False), ("hosted", True)])
def test_mode(monkeypatch, mode, expected):
    monkeypatch.delenv("RLVIZ_MODE", raising=False)
    if mode is not None:
        monkeypatch.setenv("RLVIZ_MODE", mode)
    assert hosted() is expected


@pytest.mark.parametrize("mode", ["Hosted", "host", "true", "production"])
def test_a_misspelt_mode_opens_nothing(monkeypatch, mode):
    monkeypatch.setenv("RLVIZ_MODE", mode)
    with pytest.raises(InvalidInput, match="RLVIZ_MODE"):
        opening.opened("demo:base", OWNER)


def tricks(folder: Path) -> list[str]:
    """Texts that try to make a host open its disk or ask another host."""
    return [
        str(folder), f"{folder}/", f"{folder}/model.safetensors", f"file://{folder}", f"file:{folder}", f"FILE://{folder}",
        "./base", "../base", "~", "~/base", ".", "..", "/", "/etc/passwd", "/proc/self/environ", f"hf://{folder}",
        "hf:///etc/passwd", "hf://../../etc", f"demo:../..{folder}", "demo:base/../../rl", "demo:base@../rl",
        "acme/base@../../../etc", "acme/base@main/../../x", "hf://acme/base@main/../..", "hf://acme/base/..%2f..",
        "acme/../base", "acme/..", "../acme/base", "acme%2f..%2fbase", "acme\\base", "acme/base\x00",
        "http://127.0.0.1:9/acme/base", "https://evil.example/acme/base", "https://huggingface.co@evil.example/a/b",
        "https://huggingface.co:8080/acme/base", "https://huggingface.co.evil.example/a/b", "//evil.example/a/b",
        "https://user:pw@huggingface.co/acme/base", "ftp://huggingface.co/acme/base", "s3://bucket/acme/base",
        "https://huggingface.co/datasets/acme/base", "http://[::1]/a/b", "http://huggingface.co%2f@evil.example/a",
    ]  # fmt: skip


def test_nothing_typed_opens_a_folder_or_chooses_a_host(host, tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path / "base")
    (tmp_path / "acme").symlink_to(tmp_path)  # acme/base is a folder here, too
    monkeypatch.chdir(tmp_path)
    for text in [*tricks(tmp_path / "base"), str(tmp_path / "link")]:
        with pytest.raises(RlvizError) as refused:
            read(text, NOBODY)
        assert "dtype" not in str(refused.value), text
    assert all(request.path.startswith("/api/models/") for request in host.requests)
    read("acme/base", NOBODY)  # the hub's, whatever lies here
    assert "cdn" in {request.origin for request in host.requests}


def test_a_host_says_the_same_of_a_folder_that_is_there_and_one_that_is_not(host, tmp_path):
    said = []
    for folder in (tmp_path / "base", tmp_path / "absent"):
        with pytest.raises(InvalidInput) as refused:
            opening.opened(folder, NOBODY)
        said.append(str(refused.value).replace(str(folder), "FOLDER"))
    assert said[0] == said[1]


# --- whose token --------------------------------------------------------------------------------------------------


def test_local_mode_reads_as_the_environment_says(monkeypatch):
    monkeypatch.delenv("RLVIZ_MODE", raising=False)
    assert token_for("acme/base", OWNER) is None
    assert token_for("acme/base", ALICE) == "hf_alice"


@pytest.mark.parametrize(
    ("repo_id", "allowed"),
    [
        ("meta-llama/Llama-3", True), ("org/model", True), ("org/model-2", False), ("meta-llama", False),
        ("evil/meta-llama", False), ("xmeta-llama/a", False), ("Meta-Llama/a", False),
    ],
)  # fmt: skip
def test_operator_token_is_for_its_allow_list_only(monkeypatch, repo_id, allowed):
    monkeypatch.setenv("RLVIZ_MODE", "hosted")
    monkeypatch.setenv("RLVIZ_TOKEN_REPOS", "meta-llama/*, org/model ,")
    assert token_for(repo_id, NOBODY) == (None if allowed else False)
    assert token_for(repo_id, ALICE) == "hf_alice"


def test_operator_token_never_leaves_for_other_repos(host, monkeypatch):
    with pytest.raises(NotFound):
        opening.opened("acme/private", NOBODY)
    read("acme/base", NOBODY)
    assert sent(host) == set()
    monkeypatch.setenv("RLVIZ_TOKEN_REPOS", "acme/priv*")
    read("acme/private", NOBODY)
    read("acme/base", NOBODY)
    with pytest.raises(Gated):
        opening.opened("acme/gated", NOBODY)
    assert {r.path.split("/")[4] for r in host.requests if r.authorization and r.path.startswith("/api")} == {"private"}


def test_a_visitors_token_wins_everywhere(host, monkeypatch):
    monkeypatch.setenv("RLVIZ_TOKEN_REPOS", "*")
    read("acme/private", ALICE)
    with pytest.raises(NotFound):
        opening.opened("acme/private", BOB)
    assert sent(host) == {"hf_alice", "hf_bob"}


def test_refusals_tell_a_visitor_what_a_visitor_can_do(host):
    for repo_id in ("acme/private", "acme/gated", "acme/absent"):
        with pytest.raises(RlvizError, match="sign in or paste a token") as refused:
            opening.opened(repo_id, NOBODY)
        assert "HF_TOKEN" not in str(refused.value)
    private, absent = (_sentence(name) for name in ("acme/private", "acme/absent"))
    assert private.replace("private", "X", 1) == absent.replace("absent", "X", 1)


def _sentence(repo_id: str) -> str:
    with pytest.raises(NotFound) as refused:
        opening.opened(repo_id, BOB)
    return str(refused.value)


def test_a_token_is_nowhere_to_be_read(host, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    secret = "hf_alice"
    assert secret not in repr(ALICE)
    assert secret not in digest(secret)
    assert digest(secret) == digest("hf_alice") != digest("hf_bob")
    store = Store(tmp_path / "store")
    result = api.compare("acme/base", "acme/private", probes=("coordinate",), store=store, visitor=ALICE)
    with pytest.raises(RlvizError) as refused:
        api.compare("acme/base", "acme/absent", store=store, visitor=ALICE)
    store.export_result(result.key, tmp_path / "out.rlviz.zip")
    written = [path for path in tmp_path.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    assert written == []
    assert secret not in caplog.text
    assert secret not in str(refused.value)
    assert secret not in str(refused.value.__context__)


# --- answers about tokens --------------------------------------------------------------------------------------------


def test_the_hub_answers_yes_no_or_not_at_all(host):
    commit = host.repos["acme/private"].revisions["main"]
    assert permission.may_read("acme/private", "hf_alice", commit) == "yes"
    assert permission.may_read("acme/private", "hf_alice", "0" * 40) == "no"
    assert permission.may_read("acme/private", "hf_bob", commit) == "no"
    assert permission.may_read("acme/private", "hf_wrong", commit) == "no"
    assert permission.may_read("acme/gated", "hf_bob") == "no"
    assert permission.may_read("acme/private", False) == "no"
    assert permission.may_read("acme/base", False) == "yes"
    host.inject(lambda request: True, Fault(status=503, times=1))
    assert permission.may_read("acme/base", False) == "unknown"
    host.inject(lambda request: True, Fault(status=200, body=b"<html>", times=1))
    assert permission.may_read("acme/base", False) == "unknown"
    host.stop()
    assert permission.may_read("acme/base", False) == "unknown"


def test_whose_a_token_is(host):
    assert permission.owner("hf_alice") == ("yes", "alice")
    assert permission.owner("hf_wrong") == ("no", "")
    host.stop()
    assert permission.owner("hf_alice") == ("unknown", "")


class Hub:
    """A hub for `Permissions` that counts questions and changes its mind on request; time passes by hand."""

    def __init__(self) -> None:
        self.answer: Answer = "yes"
        self.asked: list[tuple[str, object, str]] = []
        self.now = 0.0
        self.permissions = Permissions(ask=self.ask, ask_owner=self.owner, clock=lambda: self.now)

    def ask(self, repo_id: str, token: object, commit: str) -> Answer:
        self.asked.append((repo_id, token, commit))
        return self.answer

    def owner(self, token: str) -> tuple[Answer, str]:
        self.asked.append(("whoami", token, ""))
        return self.answer, "alice" if self.answer == "yes" else ""


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv("RLVIZ_MODE", "hosted")
    return Hub()


def test_an_answer_about_a_token_holds_for_a_minute(hub):
    assert hub.permissions.reads("a/b", ALICE) == "yes"
    hub.answer, hub.now = "no", ASKED_S - 1
    assert hub.permissions.reads("a/b", ALICE) == "yes"
    assert len(hub.asked) == 1
    hub.now = ASKED_S
    assert hub.permissions.reads("a/b", ALICE) == "no"
    assert not hub.permissions.once_read("a/b", ALICE)


def test_no_answer_serves_another_token_repository_or_commit(hub):
    for visitor in (ALICE, BOB, NOBODY):
        hub.permissions.reads("a/b", visitor)
    hub.permissions.reads("a/c", ALICE)
    hub.permissions.reads("a/b", ALICE, "0" * 40)
    assert len(set(hub.asked)) == len(hub.asked) == 5


def test_what_is_public_is_asked_once_an_hour(hub):
    assert hub.permissions.is_public("a/b") == "yes"
    hub.answer, hub.now = "no", PUBLIC_S - 1
    assert hub.permissions.is_public("a/b") == "yes"
    assert hub.permissions.reads("a/b", NOBODY) == "no"  # the rule of a minute, though the question is the same


def test_a_silent_hub_is_no_yes_and_is_left_alone_for_a_while(hub):
    hub.answer = "unknown"
    assert hub.permissions.reads("a/b", ALICE) == "unknown"
    assert hub.permissions.reads("a/c", ALICE) == "unknown"
    assert len(hub.asked) == 1
    hub.answer, hub.now = "yes", 11.0
    assert hub.permissions.reads("a/b", ALICE) == "yes"
    assert hub.permissions.once_read("a/b", ALICE)
    assert not hub.permissions.once_read("a/b", BOB)


def test_the_account_of_a_token_is_remembered(hub):
    assert hub.permissions.account("hf_alice") == ("yes", "alice")
    hub.answer = "unknown"
    assert hub.permissions.account("hf_alice") == ("yes", "alice")
    hub.now = 601.0
    assert hub.permissions.account("hf_alice") == ("unknown", "alice")
    hub.answer, hub.now = "no", 620.0
    assert hub.permissions.account("hf_alice") == ("no", "")


def test_permissions_keep_no_token(hub):
    hub.permissions.reads("a/b", ALICE)
    hub.permissions.account("hf_alice")
    assert "hf_alice" not in repr(hub.permissions)
