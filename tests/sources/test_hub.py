"""Opening a model on the hub: headers only, one commit, and a sentence with the next step for everything else."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from rlviz.errors import (
    Cancelled,
    Gated,
    InvalidInput,
    NotFound,
    Offline,
    RlvizError,
    Unavailable,
    UnsupportedCheckpoint,
)
from rlviz.sources import resolve
from rlviz.sources.checkpoint import Checkpoint
from rlviz.sources.hub import HubInfo, open_hub, peek
from rlviz.sources.local import open_local
from rlviz.sources.refs import ModelRef
from rlviz.sources.transport import Patience
from tests.fakehub import FakeHub, Fault

QUICK = Patience(attempts=3, first_wait_s=0.002, longest_wait_s=0.01, connect_s=2.0, read_s=2.0)
TOKEN = "hf_alice"


def weights(seed: int, *names: str, shape: tuple[int, ...] = (64, 32)) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.standard_normal(shape).astype(np.float32) for name in names}


def single(folder: Path, seed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    names = (
        "model.embed_tokens.weight",
        "model.layers.0.self_attn.q_proj.weight",
        "model.layers.1.mlp.down_proj.weight",
    )
    save_file(weights(seed, *names), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "num_hidden_layers": 2}))
    return folder


def sharded(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    weight_map: dict[str, str] = {}
    for shard in (1, 2, 3):
        tensors = weights(
            shard, *(f"model.layers.{layer}.mlp.up_proj.weight" for layer in range(4 * shard, 4 * shard + 4))
        )
        name = f"model-0000{shard}-of-00003.safetensors"
        save_file(tensors, folder / name)
        weight_map |= dict.fromkeys(tensors, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


@pytest.fixture(autouse=True)
def _no_token_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with FakeHub(tokens={TOKEN: ["org/private", "org/gated"], "hf_bob": []}) as hub:
        yield hub


def opened(hub: FakeHub, text: str, **options) -> Checkpoint:
    return open_hub(ModelRef.parse(text), endpoint=hub.endpoint, **{"patience": QUICK, **options})


def sentence(hub: FakeHub, text: str, kind: type[RlvizError], **options) -> str:
    with pytest.raises(kind) as error:
        opened(hub, text, **options)
    assert type(error.value) is kind
    return str(error.value)


# --- what is opened ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [single, sharded])
def test_a_hub_model_is_its_folder_byte_for_byte(hub: FakeHub, tmp_path: Path, make: Callable[[Path], Path]) -> None:
    folder = make(tmp_path / "m")
    hub.add_repo("org/name", folder, card={"base_model": "org/base"})
    there, here = opened(hub, "org/name"), open_local(ModelRef.parse(str(folder)))
    assert dict(there.tensors) == dict(here.tensors)
    assert there.config == here.config
    assert there.card["base_model"] == "org/base"
    for meta in there.tensors.values():
        np.testing.assert_array_equal(there.read(meta, 0, meta.n), here.read(meta, 0, meta.n))


def test_the_identity_is_pinned_to_the_commit(hub: FakeHub, tmp_path: Path) -> None:
    folder = single(tmp_path / "m")
    commit = hub.add_repo("org/name", folder).revisions["main"]
    model = opened(hub, "https://huggingface.co/org/name")
    assert model.identity.ref == "org/name"
    assert model.identity.pinned_ref == f"org/name@{commit}"
    assert model.identity.commit == commit
    assert model.identity.nbytes == (folder / "model.safetensors").stat().st_size
    assert model.identity.shareable
    assert model.shard_ids == {"model.safetensors": hub.repos["org/name"].commits[commit]["model.safetensors"].sha256}


def test_a_moved_branch_does_not_move_an_open_model(hub: FakeHub, tmp_path: Path) -> None:
    old = single(tmp_path / "old", seed=1)
    first = hub.add_repo("org/name", old).revisions["main"]
    model = opened(hub, "org/name")
    new = hub.push("org/name", single(tmp_path / "new", seed=2))
    meta = model.tensors["model.embed_tokens.weight"]
    np.testing.assert_array_equal(
        model.read(meta, 0, meta.n), open_local(ModelRef.parse(str(old))).read(meta, 0, meta.n)
    )
    assert {r.path.split("/")[4] for r in hub.requests if "/resolve/" in r.path} == {first}
    assert opened(hub, "org/name").identity.commit == new
    assert opened(hub, f"org/name@{first}").identity.commit == first
    assert opened(hub, f"org/name@{first}").shard_ids == model.shard_ids


def test_a_revision_and_a_subfolder(hub: FakeHub, tmp_path: Path) -> None:
    single(tmp_path / "m" / "inner" / "deep")
    repo = hub.add_repo("org/name", tmp_path / "m", revision="v1.0")
    model = opened(hub, "hf://org/name@v1.0/inner/deep")
    assert model.identity.pinned_ref == f"hf://org/name@{repo.revisions['v1.0']}/inner/deep"
    assert set(model.shard_ids) == {"inner/deep/model.safetensors"}
    assert model.config["model_type"] == "llama"
    again = opened(hub, model.identity.pinned_ref)
    meta = again.tensors["model.embed_tokens.weight"]
    np.testing.assert_array_equal(again.read(meta, 3, 99), model.read(meta, 3, 99))


def test_a_revision_with_slashes(hub: FakeHub, tmp_path: Path) -> None:
    hub.add_repo("org/name", single(tmp_path / "m"), revision="refs/pr/3")
    assert len(opened(hub, "org/name@refs/pr/3").tensors) == 3


def test_a_renamed_model_is_pinned_under_its_new_name(hub: FakeHub, tmp_path: Path) -> None:
    hub.add_repo("name", single(tmp_path / "m"))
    hub.rename("name", "org/name")
    assert opened(hub, "name").identity.pinned_ref.startswith("org/name@")


def test_opening_costs_headers_only(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    names = [f"model.layers.{layer}.mlp.{part}_proj.weight" for layer in range(24) for part in ("gate", "up", "down")]
    save_file(weights(0, *names, shape=(96, 128)), folder / "model.safetensors")
    hub.add_repo("org/name", folder)
    model = opened(hub, "org/name")
    assert model.identity.nbytes > 3_500_000
    assert sum(request.nbytes for request in hub.requests) < 100_000
    assert [request.method for request in hub.requests] == ["GET", "HEAD", "GET"]


def test_shards_cost_the_header_the_index_foretells(hub: FakeHub, tmp_path: Path) -> None:
    hub.add_repo("org/name", sharded(tmp_path / "m"))
    opened(hub, "org/name")
    ranges = [request for request in hub.requests if request.origin == "cdn"]
    assert len(ranges) == 3
    assert sum(request.nbytes for request in ranges) < 3 * 6000


def test_a_header_longer_than_the_guess_takes_a_second_request(hub: FakeHub, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    tensors = {f"model.layers.{i}.{'x' * 200}.weight": np.full(2, i, np.float32) for i in range(1000)}
    save_file(tensors, folder / "model.safetensors")
    hub.add_repo("org/name", folder)
    model = opened(hub, "org/name")
    assert len(model.tensors) == 1000
    assert sum(request.origin == "cdn" for request in hub.requests) == 2


def test_the_endpoint_and_the_token_are_read_when_asked(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add_repo("org/private", single(tmp_path / "m"), private=True)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint + "/")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert len(resolve("org/private").tensors) == 3
    assert {r.authorization for r in hub.requests if r.origin == "hub"} == {f"Bearer {TOKEN}"}
    assert {r.authorization for r in hub.requests if r.origin == "cdn"} == {None}
    hub.requests.clear()
    assert "does not exist on the hub" in sentence(hub, "org/private", NotFound, token=False)
    assert {r.authorization for r in hub.requests} == {None}


# --- sentences --------------------------------------------------------------------------------------------------


def test_a_missing_model(hub: FakeHub) -> None:
    assert sentence(hub, "org/none", NotFound) == (
        "org/none: this model does not exist on the hub, or is private, or needs a token. "
        "Check the spelling; for a private model set HF_TOKEN."
    )


def test_a_private_model_looks_missing_without_a_token_that_may_read_it(hub: FakeHub, tmp_path: Path) -> None:
    hub.add_repo("org/private", single(tmp_path / "m"), private=True)
    assert "for a private model set HF_TOKEN" in sentence(hub, "org/private", NotFound)
    assert "check that the token may read it" in sentence(hub, "org/private", NotFound, token="hf_bob")
    assert len(opened(hub, "org/private", token=TOKEN).tensors) == 3


@pytest.mark.parametrize("token", [None, "hf_bob"])
def test_a_gated_model(hub: FakeHub, tmp_path: Path, token: str | None) -> None:
    hub.add_repo("org/gated", single(tmp_path / "m"), gated=True)
    assert sentence(hub, "org/gated", Gated, token=token) == (
        "org/gated: the model is gated: its licence must be accepted first. "
        f"Accept the licence at {hub.endpoint}/org/gated and set HF_TOKEN, both with the same account."
    )
    assert len(opened(hub, "org/gated", token=TOKEN).tensors) == 3


def test_a_missing_revision(hub: FakeHub, tmp_path: Path) -> None:
    hub.add_repo("org/name", single(tmp_path / "m"))
    assert sentence(hub, "org/name@v9", NotFound) == (
        f"org/name@v9: the model has no revision 'v9'. Use a branch, tag or commit listed at {hub.endpoint}/org/name."
    )


def test_a_missing_subfolder(hub: FakeHub, tmp_path: Path) -> None:
    hub.add_repo("org/name", single(tmp_path / "m"))
    assert "the model has no folder 'inner'" in sentence(hub, "hf://org/name/inner", NotFound)


def test_a_disabled_model(hub: FakeHub, tmp_path: Path) -> None:
    hub.add_repo("org/name", single(tmp_path / "m"), disabled=True)
    assert "the hub has disabled access to this model" in sentence(hub, "org/name", Unavailable)


def test_a_token_the_hub_does_not_know(hub: FakeHub, tmp_path: Path) -> None:
    hub.add_repo("org/name", single(tmp_path / "m"))
    text = sentence(hub, "org/name", Unavailable, token="hf_wrong")
    assert text == "org/name: the hub refuses access (401). Check HF_TOKEN, or unset it to read public models."


def test_offline_mode_asks_nobody(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert sentence(hub, "org/name", Offline) == (
        "org/name: the hub is not asked while HF_HUB_OFFLINE is set. Unset it, or give a local folder."
    )
    assert hub.requests == []


def test_a_hub_that_is_down(hub: FakeHub) -> None:
    with FakeHub() as gone:
        pass
    assert sentence(gone, "org/name", Offline) == (
        "org/name: 127.0.0.1 cannot be reached (ConnectError). "
        "Check the connection and try again, or give a local folder."
    )


def test_a_server_that_is_no_hub(hub: FakeHub) -> None:
    hub.inject(lambda request: True, Fault(status=200, body=b"<html>Sign in to the network</html>"))
    text = sentence(hub, "org/name", Unavailable)
    assert text.startswith(f"org/name: {hub.endpoint} does not answer like a Hugging Face hub (")
    assert text.endswith("Check the connection and HF_ENDPOINT.")


def test_an_answer_without_a_commit(hub: FakeHub) -> None:
    hub.inject(lambda request: True, Fault(status=200, body=b'{"id": "org/name", "siblings": []}'))
    assert "does not answer like a Hugging Face hub" in sentence(hub, "org/name", Unavailable)


def test_a_hub_that_answers_another_commit_than_asked(hub: FakeHub, tmp_path: Path) -> None:
    hub.add_repo("org/name", single(tmp_path / "m"), revision="a" * 40)
    assert "asked for commit aaaaaaaaaaaa, the hub answers with" in sentence(hub, f"org/name@{'a' * 40}", Unavailable)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_refusal_costs_a_retry(hub: FakeHub, tmp_path: Path, status: int) -> None:
    hub.add_repo("org/name", single(tmp_path / "m"))
    hub.inject(lambda request: request.path.startswith("/api"), Fault(status=status, times=2))
    assert len(opened(hub, "org/name").tensors) == 3


def test_a_rate_limit(hub: FakeHub) -> None:
    hub.inject(lambda request: True, Fault(status=429, headers={"RateLimit": '"api";r=0;t=900'}))
    assert sentence(hub, "org/name", Unavailable) == (
        "org/name: the hub limits the rate of requests (429). "
        "Try again in 900 s, or set HF_TOKEN: with a token the limit is higher."
    )


def test_a_token_that_cannot_be_one_is_not_shown(hub: FakeHub) -> None:
    assert sentence(hub, "org/name", InvalidInput, token="hf_\u200bsecret") == (
        "HF_TOKEN: this is not a token. Copy it again from huggingface.co/settings/tokens."
    )


def test_opening_can_be_cancelled_while_it_waits(hub: FakeHub) -> None:
    cancel = threading.Event()
    cancel.set()
    hub.inject(lambda request: True, Fault(status=503))
    assert sentence(hub, "org/name", Cancelled, cancel=cancel) == "org/name: opening was cancelled."


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (
            ["pytorch_model.bin", "config.json"],
            "org/name: there are no safetensors weights, only pytorch_model.bin. Load it with transformers, save it "
            "with save_pretrained (which writes safetensors) and give the folder.",
        ),
        (
            ["a-Q4.gguf", "a-Q8.gguf", "README.md"],
            "org/name: there are no safetensors weights, only a-Q4.gguf, a-Q8.gguf. "
            "Give the model that the GGUF files were made from.",
        ),
        (
            ["adapter_model.safetensors", "adapter_config.json"],
            "org/name: this is an adapter, not a whole checkpoint. "
            "Merge it into its base org/base (merge_and_unload), save that and give the folder.",
        ),
        (
            ["README.md", "epoch1/model.safetensors", "epoch2/model.safetensors"],
            "org/name: there are no safetensors weights here, but in epoch1, epoch2. Write hf://org/name/epoch1.",
        ),
        (["README.md"], "org/name: there are no safetensors weights, only README.md. See {endpoint}/org/name."),
    ],
)
def test_a_model_without_weights_we_read(hub: FakeHub, tmp_path: Path, files: list[str], expected: str) -> None:
    for name in files:
        (tmp_path / "m" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / name).write_bytes(b"{}")
    hub.add_repo("org/name", tmp_path / "m", card={"base_model": "org/base"})
    assert sentence(hub, "org/name", UnsupportedCheckpoint) == expected.format(endpoint=hub.endpoint)


def test_an_index_that_names_a_file_that_was_not_uploaded(hub: FakeHub, tmp_path: Path) -> None:
    folder = sharded(tmp_path / "m")
    (folder / "model-00002-of-00003.safetensors").unlink()
    hub.add_repo("org/name", folder)
    assert "model.safetensors.index.json names model-00002-of-00003.safetensors, which is not there" in sentence(
        hub, "org/name", UnsupportedCheckpoint
    )


def test_a_broken_file_is_named_with_its_model(hub: FakeHub, tmp_path: Path) -> None:
    folder = single(tmp_path / "m")
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    hub.add_repo("org/name", folder)
    assert sentence(hub, "org/name", UnsupportedCheckpoint).startswith("org/name model.safetensors: is truncated")


def test_a_broken_config_is_named(hub: FakeHub, tmp_path: Path) -> None:
    folder = single(tmp_path / "m")
    (folder / "config.json").write_text("[1, 2]")
    hub.add_repo("org/name", folder)
    assert sentence(hub, "org/name", UnsupportedCheckpoint).startswith("org/name config.json: is not a JSON table")


# --- a look while someone types ---------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [single, sharded])
def test_peek_is_one_request(hub: FakeHub, tmp_path: Path, make: Callable[[Path], Path]) -> None:
    folder = make(tmp_path / "m")
    save_file(weights(0, "lora"), folder / "adapter_model.safetensors")
    repo = hub.add_repo("org/name", folder, card={"base_model": ["org/base", "org/other"]})
    seen = peek(ModelRef.parse("org/name"), endpoint=hub.endpoint)
    nbytes = sum(path.stat().st_size for path in folder.glob("model*.safetensors"))
    assert seen == HubInfo("org/name", repo.revisions["main"], False, False, nbytes, "F32", "org/base")
    assert len(hub.requests) == 1


def test_peek_tells_of_a_gate_and_of_nothing_to_read(hub: FakeHub, tmp_path: Path) -> None:
    hub.add_repo("org/gated", single(tmp_path / "m"), gated=True)
    assert peek(ModelRef.parse("org/gated"), endpoint=hub.endpoint).gated
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "pytorch_model.bin").write_bytes(b"x")
    hub.add_repo("org/bin", tmp_path / "none")
    seen = peek(ModelRef.parse("org/bin"), endpoint=hub.endpoint)
    assert (seen.nbytes, seen.dtype, seen.base_model) == (0, None, None)


def test_peek_at_nothing(hub: FakeHub) -> None:
    with pytest.raises(NotFound, match="org/none: this model does not exist on the hub"):
        peek(ModelRef.parse("org/none"), endpoint=hub.endpoint)
