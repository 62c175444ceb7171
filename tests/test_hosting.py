"""Start-up of a host: settings of the sign-in, coming back from it, and the container's own start command."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import tomllib
import urllib.request
from fnmatch import fnmatch
from pathlib import Path

import pytest
import yaml
from starlette.applications import Starlette
from starlette.responses import RedirectResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from rlviz.ui.hosting import middleware, sign_in_settings

ROOT = Path(__file__).parents[1]
CLIENT = {"OAUTH_CLIENT_ID": "id", "OAUTH_CLIENT_SECRET": "secret"}


def test_sign_in_on_a_space():
    given = {
        "SPACE_HOST": "o-rlviz.hf.space",
        "OAUTH_SCOPES": "openid profile read-repos",
        "RLVIZ_COOKIE_SECRET": "c" * 32,
    }
    auth = sign_in_settings({**CLIENT, **given})["auth"]
    assert auth["redirect_uri"] == "https://o-rlviz.hf.space/oauth2callback"
    assert auth["cookie_secret"] == "c" * 32
    provider = auth["huggingface"]
    assert provider["server_metadata_url"] == "https://huggingface.co/.well-known/openid-configuration"
    assert provider["client_kwargs"]["scope"] == "openid profile read-repos"


def test_sign_in_elsewhere_needs_an_address():
    assert sign_in_settings(CLIENT) == {}
    assert sign_in_settings({"RLVIZ_URL": "https://viz.example"}) == {}
    first, second = (sign_in_settings({**CLIENT, "RLVIZ_URL": "https://viz.example/"})["auth"] for _ in range(2))
    assert first["redirect_uri"] == "https://viz.example/oauth2callback"
    assert first["cookie_secret"] != second["cookie_secret"]
    assert len(first["cookie_secret"]) >= 32


def test_local_mode_listens_on_this_machine_only():
    config = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text())
    assert config["server"]["address"] == "127.0.0.1"
    assert config["client"]["showErrorDetails"] == "none"
    (serve,) = re.findall(r"^serve:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)
    assert "RLVIZ_MODE=hosted" in serve
    assert "asgi.py" in serve


def test_a_misspelt_mode_does_not_start(tmp_path):
    command = [sys.executable, "-m", "streamlit", "run", "asgi.py", "--server.port=0", "--server.headless=true"]
    environ = {**os.environ, "RLVIZ_STORE": str(tmp_path), "RLVIZ_MODE": "hostd"}
    ended = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode != 0
    assert "RLVIZ_MODE=hostd: is no mode" in ended.stderr + ended.stdout


@pytest.mark.parametrize("said", [None, ""])
def test_a_host_that_says_no_mode_is_hosted(tmp_path, said):
    environ = {name: value for name, value in os.environ.items() if name != "RLVIZ_MODE"} | {
        "RLVIZ_STORE": str(tmp_path)
    }
    environ |= {} if said is None else {"RLVIZ_MODE": said}
    ask = "import asgi; from rlviz.access import hosted; print(hosted())"
    ended = subprocess.run(
        [sys.executable, "-c", ask], cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.stdout.strip() == "True", ended.stderr


# --- coming back ----------------------------------------------------------------------------------------------------


@pytest.fixture
def client():
    """The dashboard's sign-in routes, reduced to their redirects."""

    def to(url: str):
        return lambda request: RedirectResponse(url, status_code=302)

    routes = [
        Route("/auth/login", to("https://provider.example/authorize")),
        Route("/auth/logout", to("/")),
        Route("/oauth2callback", to("/")),
        Route("/elsewhere", to("/")),
    ]
    app = Starlette(routes=routes, middleware=middleware())
    with TestClient(app, base_url="http://host.example", follow_redirects=False) as client:
        yield client


def location(client, path: str, referrer: str | None = None) -> str:
    return client.get(path, headers={"referer": referrer.encode()} if referrer else {}).headers["location"]


def test_signing_in_leads_back_to_the_comparison(client):
    page = "/precision?base=acme%2Fbase%40abc&tuned=acme%2Frl&tuned=b%2Fc&lens=fp32"
    assert location(client, "/auth/login", f"http://host.example{page}") == "https://provider.example/authorize"
    assert location(client, "/oauth2callback") == page
    assert location(client, "/oauth2callback") == "/"  # once


def test_signing_out_leads_back_too(client):
    assert location(client, "/auth/logout", "http://host.example/?r=0123456789") == "/?r=0123456789"


@pytest.mark.parametrize(
    "referrer",
    [None, "http://host.example", "http://host.example//evil.example/", "http://host.example/\\evil.example",
     f"http://host.example/?{'a' * 4000}", "not a url", "http://host.example/é"],
)  # fmt: skip
def test_nothing_leads_elsewhere(client, referrer):
    location(client, "/auth/login", referrer)
    assert location(client, "/oauth2callback") == "/"


@pytest.mark.parametrize("note", ["https://evil.example", "//evil.example", "%2F%2Fevil.example", "/%0d%0aX: y", "%5C"])
def test_a_forged_note_is_no_way_out(client, note):
    client.cookies.set("rlviz_back", note)
    assert location(client, "/oauth2callback") == "/"


def test_other_redirects_are_left_alone(client):
    assert location(client, "/elsewhere", "http://host.example/?base=x") == "/"


# --- the container --------------------------------------------------------------------------------------------------


def instructions(name: str) -> list[str]:
    """The JSON or text after each such instruction of the Dockerfile."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return re.findall(rf"^{name}\s+(.+)$", text, re.M)


def test_the_image_gets_the_files_it_runs():
    ignored = (ROOT / ".dockerignore").read_text().split()
    for name in ("app.py", "asgi.py", "pages", "rlviz", "requirements.txt", ".streamlit"):
        assert (ROOT / name).exists()
        assert not any(fnmatch(name, pattern) for pattern in ignored)
    for line in instructions("COPY"):
        source = line.split()[-2]
        assert (ROOT / source).exists()


def test_the_image_does_not_run_as_root():
    text = (ROOT / "Dockerfile").read_text()
    assert instructions("USER")[-1] == "user"
    assert "--uid 1000" in text  # what a Space runs it as
    assert text.index("\nUSER user") < text.index("\nCOPY")


def test_space_front_matter_fits_the_image():
    front = yaml.safe_load((ROOT / "deploy" / "README.space.md").read_text().split("---")[1])
    assert front["sdk"] == "docker"
    assert str(front["app_port"]) == instructions("EXPOSE")[0]
    assert front["hf_oauth"] is True
    assert len(front["short_description"]) <= 60


def test_the_start_command_becomes_healthy(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (command,) = (json.loads(line) for line in instructions("CMD") if line.startswith("["))
    check = json.loads("[" + re.search(r'CMD python -c ("[^"]+")', (ROOT / "Dockerfile").read_text())[1] + "]")[0]
    here = [arg.replace("8501", str(port)).replace("0.0.0.0", "127.0.0.1") for arg in command[1:]]
    environ = {**os.environ, "RLVIZ_STORE": str(tmp_path), "RLVIZ_MODE": "hosted"}
    process = subprocess.Popen([sys.executable, *here], cwd=ROOT, env=environ, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/_stcore/health", process)
        assert subprocess.run([sys.executable, "-c", check.replace("8501", str(port))], check=False).returncode == 0
        assert subprocess.run([sys.executable, "-c", check.replace("8501", "9")], check=False).returncode != 0
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def wait_for(url: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        try:
            if urllib.request.urlopen(url, timeout=2).read() == b"ok":
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("it did not become healthy")
