"""The README says what is true: its commands run, its metric table is the registry's."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from bench.readme import README, metric_table, section
from rlviz import cli

ROOT = Path(__file__).parents[1]


def section_titled(title: str) -> str:
    """Text of one section; commands of others need a hub or the key of a result."""
    return README.read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]


SHELL = re.findall(r"^\.venv/bin/python (-m rlviz .+)$", section_titled("From a shell"), re.M)
PYTHON = re.findall(r"```python\n(.+?)```", README.read_text(), re.S)


def test_metric_table_is_the_registrys():
    assert section("metrics") == metric_table(), "run `make docs`"


def test_there_are_commands_to_test():
    assert len(SHELL) >= 5
    assert PYTHON


@pytest.mark.parametrize("command", SHELL)
def test_shell_command_runs(command, tmp_path):
    folder = str(ROOT)
    done = subprocess.run(
        [sys.executable, *shlex.split(command, comments=True)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": folder},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("code", PYTHON)
def test_python_example_runs(code):
    exec(compile(code, "README", "exec"), {})


def test_every_option_of_compare_is_documented(capsys):
    with pytest.raises(SystemExit):
        cli.main(["compare", "--help"])
    text = README.read_text()
    for option in re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out):
        assert option == "--help" or option in text, option


def test_first_two_commands_come_first():
    first = re.search(r"```sh\n(.+?)```", README.read_text(), re.S)
    assert first is not None
    assert [line.split("#")[0].strip() for line in first.group(1).strip().splitlines()] == ["make app", "make test"]


def test_ci_calls_exactly_the_readmes_commands():
    script = (ROOT / ".ci" / "run").read_text()
    assert "\nmake test" in script
    assert "\nmake check" in script


def test_every_environment_variable_is_documented():
    text = README.read_text()
    found = {
        name for file in (ROOT / "rlviz").rglob("*.py") for name in re.findall(r"\"(RLVIZ_[A-Z_]+)\"", file.read_text())
    }
    assert found
    for name in found:
        assert name in text, name
