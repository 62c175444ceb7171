"""`python -m rlviz preview`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest

from rlviz.cli import main
from tests.checkpoints import tiny_pair
from tests.fakehub import FakeHub


def test_it_prints_every_lens_with_its_interval(tmp_path, capsys):
    assert main(["preview", *tiny_pair(tmp_path), "--budget", "64KiB", "--store", str(tmp_path / "s")]) == 0
    out = capsys.readouterr().out
    assert "fp8_e5m2" in out
    assert "gate_proj" in out
    assert "requests" in out


def test_what_was_read_whole_is_exact_to_the_last_digit(capsys, tmp_path):
    assert main(["preview", "demo:base", "demo:rl", "--store", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert " to " not in out, "no interval, not even one of zero width"
    assert "1 round," in out


def test_a_bad_target_is_named_in_the_unit_of_the_option(capsys):
    assert main(["preview", "demo:base", "demo:rl", "--target", "-1"]) == 2
    assert "--target -1: is not a half width in points" in capsys.readouterr().err


def test_json_goes_to_stdout_alone(tmp_path, capsys):
    assert main(["preview", *tiny_pair(tmp_path), "--json", "-", "--store", str(tmp_path / "s")]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["summary"]["update_sparsity"]["bf16"]["low"] <= content["summary"]["update_sparsity"]["bf16"]["high"]


@pytest.mark.parametrize("option", [("--budget", "many"), ("--budget", "1KiB"), ("--target", "200"), ("--seed", "-1")])
def test_bad_options_are_refused_before_anything_is_read(tmp_path, capsys, option):
    assert main(["preview", *tiny_pair(tmp_path), *option, "--store", str(tmp_path / "s")]) == 2
    assert capsys.readouterr().err.startswith("rlviz: ")


def test_ctrl_c_after_a_round_prints_what_is_known(tmp_path):
    folders = tiny_pair(tmp_path)
    with FakeHub(latency_s=0.3) as hub:
        for name, folder in zip(("acme/base", "acme/tuned"), folders, strict=True):
            hub.add_repo(name, folder)
        command = [sys.executable, "-m", "rlviz", "preview", "acme/base", "acme/tuned", "--target", "0"]
        run = subprocess.Popen(
            [*command, "--budget", "64KiB", "--store", str(tmp_path / "s")],
            env={**os.environ, "HF_ENDPOINT": hub.endpoint, "RLVIZ_CONNECTIONS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert run.stderr is not None
            assert "round 1" in run.stderr.readline()
            run.send_signal(signal.SIGINT)
            out, _ = run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode == 0
    assert "unchanged" in out
    assert "stopped on request" in out or "budget" in out or "everything was read" in out
