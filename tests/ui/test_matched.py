"""Matched norm on the pages: drawn where the store has it, measured on a click where not, absent for a single run."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import rlviz
from tests.checkpoints import tiny_base, tuned_from, write_checkpoint

DEADLINE_S = 120


@pytest.fixture
def runs(tmp_path: Path, monkeypatch) -> Path:
    base = tiny_base(width=16, layers=1)
    write_checkpoint(tmp_path / "base", base)
    write_checkpoint(tmp_path / "near", tuned_from(base, std=1e-4))
    write_checkpoint(tmp_path / "far", tuned_from(base, std=1e-3, seed=2))
    monkeypatch.setenv("RLVIZ_STORE", str(tmp_path / "store"))
    st.cache_resource.clear()
    st.cache_data.clear()
    yield tmp_path
    st.cache_resource.clear()
    st.cache_data.clear()


def page(runs: Path, name: str, *tuned: str) -> AppTest:
    app = AppTest.from_file(str(Path(__file__).parents[2] / "app.py"), default_timeout=DEADLINE_S)
    app.query_params["base"] = str(runs / "base")
    app.query_params["tuned"] = [str(runs / one) for one in tuned]
    app.query_params["k"] = "8"
    return app.run().switch_page(f"pages/{name}.py").run()


def headings(app: AppTest) -> list[str]:
    return [m.value for m in app.markdown if m.value.startswith("####")]


def captions(app: AppTest) -> str:
    return "\n".join(c.value for c in app.caption)


@pytest.mark.parametrize("name", ["spectra", "angles"])
def test_what_the_command_line_measured_is_drawn(runs, name):
    rlviz.compare(str(runs / "base"), [str(runs / "near"), str(runs / "far")], store=runs / "store")
    app = page(runs, name, "near", "far")
    assert not app.exception
    assert "#### At matched norm" in headings(app)
    assert "every update rescaled" in captions(app)
    assert not [b for b in app.button if b.label == "Measure at matched norm"]


def test_a_single_run_has_no_such_part(runs):
    rlviz.compare(str(runs / "base"), str(runs / "near"), store=runs / "store")
    app = page(runs, "spectra", "near")
    assert not app.exception
    assert "#### At matched norm" not in headings(app)


def test_runs_compared_one_by_one_are_rescaled_on_a_click(runs):
    for tuned in ("near", "far"):
        rlviz.compare(str(runs / "base"), str(runs / tuned), store=runs / "store")
    app = page(runs, "spectra", "near", "far")
    assert not app.exception
    (button,) = [b for b in app.button if b.label == "Measure at matched norm"]
    button.click().run()
    deadline = time.monotonic() + DEADLINE_S
    while "every update rescaled" not in captions(app):
        assert not app.exception
        assert time.monotonic() < deadline
        time.sleep(0.5)
        app.run()
    assert not [b for b in app.button if b.label == "Measure at matched norm"]
