"""The Gates page, run by Streamlit's own test harness: verdict first, every answer linked to a figure that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import rlviz
from rlviz.verdict import FIGURES
from tests.checkpoints import tiny_base, tuned_from, write_checkpoint

DEADLINE_S = 120


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("gates")
    base = tiny_base(layers=2, width=32)
    write_checkpoint(folder / "base", base)
    write_checkpoint(folder / "a_*run*", tuned_from(base, std=1e-4))
    write_checkpoint(folder / "long", tuned_from(base, std=1e-2, seed=2))
    for name in ("a_*run*", "long", "base"):
        rlviz.compare(str(folder / "base"), str(folder / name), store=folder / "store")
    return folder


@pytest.fixture
def page(store, monkeypatch):
    monkeypatch.setenv("RLVIZ_STORE", str(store / "store"))
    st.cache_resource.clear()
    st.cache_data.clear()

    def opened(*tuned: str, **more: str) -> AppTest:
        app = AppTest.from_file(str(Path(__file__).parents[2] / "app.py"), default_timeout=DEADLINE_S)
        app.query_params["base"] = str(store / "base")
        app.query_params["tuned"] = [str(store / name) for name in tuned]
        app.query_params["k"] = "16"
        for name, value in more.items():
            app.query_params[name] = value
        return app.run().switch_page("pages/gates.py").run()

    yield opened
    st.cache_resource.clear()
    st.cache_data.clear()


def texts(app: AppTest) -> list[str]:
    return [element.value for element in app.markdown]


def test_every_answer_is_linked_to_a_figure_on_the_page(page):
    app = page("a_*run*", "long")
    assert not app.exception
    assert len(app.get("plotly_chart")) == len(FIGURES)
    table = next(text for text in texts(app) if text.startswith("| Gate |"))
    linked = re.findall(r"\]\(#(\w+)\)", table)
    assert len(linked) == 13
    anchors = {element.proto.anchor for element in app.subheader}
    assert anchors == set(FIGURES)
    assert set(linked) == anchors - {"ranks"}, "which shows one matrix, and no answer rests on"
    in_words = [text for text in texts(app) if "[Figure](#" in text]
    assert len(in_words) == 2, "each model's verdict in full"
    assert all(re.findall(r"\]\(#(\w+)\)", text) == linked for text in in_words)
    clauses = [re.findall(r"\[↓\]\(#(\w+)\)", text) for text in texts(app) if text.startswith("#### ")]
    assert len(clauses) == 2
    assert all(found == ["published", "overlaps", "isotropic"] for found in clauses)


def test_the_verdict_comes_first_and_the_argument_follows(page):
    app = page("long")
    assert not app.exception
    headings = [element.value for element in app.header]
    assert [h.split(":")[0] for h in headings] == ["Gate I", "Gate II", "Gate III", "What cannot be concluded"]
    answer = next(text for text in texts(app) if text.startswith("#### "))
    assert "of weights are unchanged in bf16" in answer
    assert any("does not show that RL was used" in text.replace("\\", "") for text in texts(app))
    labels = [button.label for button in app.get("download_button")]
    assert labels == ["CSV", "Parquet", "JSON"] * len(FIGURES), "every figure has numbers to take away"


def test_names_are_text_not_markup(page):
    app = page("a_*run*")
    assert next(text for text in texts(app) if text.startswith("#### ")).startswith("#### a\\_\\*run\\*")


def test_a_model_against_itself(page):
    app = page("base")
    assert not app.exception
    assert any("No update" in text and "nothing to judge" in text for text in texts(app))
    assert not any(text.startswith("| Gate |") for text in texts(app))
    assert not app.get("plotly_chart"), "there is nothing to draw"


def test_beside_a_model_with_an_update_it_has_its_sentence_and_no_column(page):
    app = page("base", "long")
    assert not app.exception
    assert any("No update" in text for text in texts(app))
    table = next(text for text in texts(app) if text.startswith("| Gate |"))
    assert table.splitlines()[0] == "| Gate | Question | long |"
    assert len(app.get("plotly_chart")) == len(FIGURES)


def test_a_result_without_masks_says_what_to_run(store, page):
    folder, bare = store / "store", ("coordinate", "spectrum")
    key = rlviz.compare(str(store / "base"), str(store / "long"), store=folder, probes=bare).key
    app = page("long", result=key)
    assert not app.exception
    assert any("measured without the masks and nulls probes" in info.value for info in app.info)
    [line] = [code.value for code in app.code if "--probes" in code.value]
    assert line.startswith("python -m rlviz compare ")
    assert line.endswith("--probes coordinate,spectrum,masks,nulls")
    table = next(text for text in texts(app) if text.startswith("| Gate |"))
    assert "avoid principal weights beyond rounding?](#overlaps) | **Open** |" in table
    assert len(app.get("plotly_chart")) == len(FIGURES), "figures say themselves that they are empty"
