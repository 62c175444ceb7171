"""The fake hub is a hub: the real client works against it, so what we prove with it means something."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    DisabledRepoError,
    GatedRepoError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors.numpy import save_file

from tests.fakehub import FakeHub, Fault

TOKEN = "hf_alice"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "repo"
    (path / "inner").mkdir(parents=True)
    (path / "config.json").write_text('{"model_type": "llama"}')
    (path / "inner" / "notes.txt").write_text("hello")
    save_file({"a": np.arange(6, dtype=np.float16)}, path / "model.safetensors")
    return path


@pytest.fixture
def hub(folder: Path) -> Iterator[FakeHub]:
    with FakeHub(tokens={TOKEN: ["org/private", "org/gated"]}, page_rows=2) as hub:
        hub.add_repo("org/name", folder, card={"base_model": "org/base"})
        hub.add_repo("org/gated", folder, gated=True)
        hub.add_repo("org/private", folder, private=True)
        hub.add_repo("org/disabled", folder, disabled=True)
        yield hub


def test_the_client_reads_models(hub: FakeHub, folder: Path, tmp_path: Path) -> None:
    api = HfApi(endpoint=hub.endpoint, token=False)
    info = api.model_info("org/name", files_metadata=True)
    commit = hub.repos["org/name"].revisions["main"]
    assert info.sha == commit
    assert {s.rfilename: s.size for s in info.siblings or []} == {
        p.relative_to(folder).as_posix(): p.stat().st_size for p in folder.rglob("*") if p.is_file()
    }
    assert info.safetensors is not None
    assert info.safetensors.parameters == {"F16": 6}
    assert {row.path for row in api.list_repo_tree("org/name", recursive=True)} == {
        "config.json",
        "inner",
        "inner/notes.txt",
        "model.safetensors",
    }
    assert [row.path for row in api.list_repo_tree("org/name", "inner")] == ["inner/notes.txt"]
    assert [row.path for row in api.get_paths_info("org/name", ["config.json"])] == ["config.json"]
    assert api.list_repo_refs("org/name").branches[0].target_commit == commit
    assert api.model_info("org/name", expand=["baseModels", "gated"]).base_models == "org/base"
    assert api.get_safetensors_metadata("org/name").parameter_count == {"F16": 6}
    assert [model.id for model in api.list_models(search="nam")] == ["org/name"]


def test_the_client_downloads_files(hub: FakeHub, folder: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        path = hf_hub_download("org/name", name, endpoint=hub.endpoint, cache_dir=tmp_path / "cache", token=False)
        assert Path(path).read_bytes() == (folder / name).read_bytes()
    kept = snapshot_download(
        "org/gated", endpoint=hub.endpoint, cache_dir=tmp_path / "cache", token=TOKEN, library_name="test"
    )
    assert (Path(kept) / "model.safetensors").read_bytes() == (folder / "model.safetensors").read_bytes()
    assert all(request.authorization is None for request in hub.requests if request.origin == "cdn")


def test_the_client_tells_the_refusals_apart(hub: FakeHub, tmp_path: Path) -> None:
    api = HfApi(endpoint=hub.endpoint, token=False)
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("org/none")
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("org/private")
    with pytest.raises(RevisionNotFoundError):
        api.model_info("org/name", revision="v9")
    with pytest.raises(DisabledRepoError):
        api.model_info("org/disabled")
    with pytest.raises(GatedRepoError):
        api.auth_check("org/gated")
    for repo_id, name, expected in (
        ("org/gated", "config.json", GatedRepoError),
        ("org/name", "none.json", RemoteEntryNotFoundError),
    ):
        with pytest.raises(expected):
            hf_hub_download(repo_id, name, endpoint=hub.endpoint, cache_dir=tmp_path / "cache", token=False)
    assert api.model_info("org/private", token=TOKEN).private
    assert api.whoami(token=TOKEN)["name"] == "alice"


def test_the_storage_is_another_origin_that_refuses_a_token_and_serves_ranges(hub: FakeHub, folder: Path) -> None:
    blob = hub.repos["org/name"].commits[hub.repos["org/name"].revisions["main"]]["model.safetensors"]
    link, content = hub.signed_link(blob), (folder / "model.safetensors").read_bytes()
    assert httpx2.URL(link).host != httpx2.URL(hub.endpoint).host
    assert httpx2.get(link, headers={"Authorization": f"Bearer {TOKEN}"}).status_code == 400
    answer = httpx2.get(link, headers={"Range": "bytes=3-9"})
    assert (answer.status_code, answer.content) == (206, content[3:10])
    assert answer.headers["Content-Range"] == f"bytes 3-9/{len(content)}"
    assert httpx2.get(link, headers={"Range": "bytes=99999-"}).status_code == 416
    hub.expire_links()
    assert httpx2.get(link).status_code == 403


def test_faults_hit_as_often_as_told_and_down_means_down(hub: FakeHub) -> None:
    hub.inject(lambda request: request.path == "/api/whoami-v2", Fault(status=503, times=1))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with httpx2.Client() as client:
        url = f"{hub.endpoint}/api/whoami-v2"
        assert [client.get(url, headers=headers).status_code for _ in range(2)] == [503, 200]
        hub.stop()
        with pytest.raises(httpx2.TransportError):  # the kept-alive connection is gone as well
            client.get(url, headers=headers)
        hub.resume()
        assert client.get(url, headers=headers).status_code == 200


def test_it_runs_as_a_process_of_its_own(folder: Path) -> None:
    command = [sys.executable, "-m", "tests.fakehub", f"org/name={folder}"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        try:
            assert process.stdout is not None
            endpoint = process.stdout.readline().strip()
            assert HfApi(endpoint=endpoint, token=False).model_info("org/name").id == "org/name"
        finally:
            process.terminate()
