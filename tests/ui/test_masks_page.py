"""The Masks page in Streamlit's own test harness: k and α ask no weight, follow the reader, and say what is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import rlviz
from rlviz.sources.local import LocalReader
from rlviz.types import MetricParams
from rlviz.views.formats import percent
from tests.checkpoints import tiny_base, tuned_from, write_checkpoint

DEADLINE_S = 120
ALPHAS = ("0.01", "0.1", "0.5")  # of the slider's


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("masks")
    base = tiny_base(layers=2, width=48)
    write_checkpoint(made / "base", base)
    write_checkpoint(made / "tuned", tuned_from(base, std=1e-4))
    return made


@pytest.fixture(scope="module")
def reads(folder) -> list[str]:
    """The shards read while the pair was measured, and every one read from then on."""
    seen: list[str] = []
    read = LocalReader.read_into

    def counted(self, shard, offset, buffer) -> None:
        seen.append(shard)
        read(self, shard, offset, buffer)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalReader, "read_into", counted)
        rlviz.compare(str(folder / "base"), str(folder / "tuned"), store=folder / "store", workers=1)
        yield seen


@pytest.fixture
def page(folder, reads, monkeypatch):
    monkeypatch.setenv("RLVIZ_STORE", str(folder / "store"))
    st.cache_resource.clear()
    st.cache_data.clear()

    def opened(**query: str) -> AppTest:
        app = AppTest.from_file(str(Path(__file__).parents[2] / "app.py"), default_timeout=DEADLINE_S)
        app.query_params["base"], app.query_params["tuned"] = str(folder / "base"), str(folder / "tuned")
        for key, value in query.items():
            app.query_params[key] = value
        return app.run().switch_page("pages/masks.py").run()

    yield opened
    st.cache_resource.clear()
    st.cache_data.clear()


def texts(elements) -> list[str]:
    """What is written, without the escapes that keep it text."""
    return [element.value.replace("\\", "") for element in elements]


def shares(app: AppTest) -> list[str]:
    """The three overlaps in the answer."""
    return [m.value for m in app.metric if m.label.startswith("In ")]


def expected(folder: Path, k: int, alpha: float) -> list[str]:
    result = rlviz.compare(str(folder / "base"), str(folder / "tuned"), store=folder / "store")
    masks = ("principal", "low_magnitude", "principal_not_low")
    return [percent(result.pooled(f"overlap_{mask}", MetricParams(k=k, alpha=alpha))) for mask in masks]


def test_k_and_alpha_answer_without_a_weight(page, folder, reads):
    app = page(k="16")
    assert not app.exception
    assert reads, "the control: measuring did read"
    reads.clear()
    seen: set[tuple[str, ...]] = set()
    for k in ("16", "32"):
        app.select_slider(key="k").set_value(k).run()
        for alpha in ALPHAS:
            app.select_slider(key="alpha").set_value(alpha).run()
            assert not app.exception
            assert shares(app) == expected(folder, int(k), float(alpha))
            seen.add(tuple(shares(app)))
    assert len(seen) == 2 * len(ALPHAS), "every setting has an answer of its own"
    assert reads == []


def test_k_and_alpha_follow_the_reader_from_page_to_page(page):
    app = page(k="32", alpha="0.05")
    for other in ("gates", "angles", "masks"):
        app.switch_page(f"pages/{other}.py").run()
        assert not app.exception
        assert (app.select_slider(key="k").value, app.select_slider(key="alpha").value) == ("32", "0.05"), other
    assert any("k = 32" in text and "α = 0.05" in text for text in texts(app.caption))


def test_a_change_on_one_page_is_a_change_on_all(page):
    app = page()
    assert app.select_slider(key="alpha").value == "0.3"
    app.select_slider(key="alpha").set_value("0.1").run()
    app.switch_page("pages/gates.py").run()
    assert app.select_slider(key="alpha").value == "0.1"
    assert app.session_state["alpha"] == "0.1"


def test_the_page_says_what_shuffling_gives(page):
    said = " ".join(texts(page().markdown))
    assert "with its own entries shuffled within each matrix" in said
    assert "Shuffling reproduces the raw overlaps" in said, "noise is the same wherever it lies"
    assert "(Jaccard)" in said


def test_the_nulls_of_spectra_and_angles_are_on_their_pages(page):
    app = page(k="16")
    for other, figures in (("spectra", 1), ("angles", 2)):
        app.switch_page(f"pages/{other}.py").run()
        assert not app.exception
        beside = [text for text in texts(app.caption) if "Dashed: noise with the norm of this very update" in text]
        assert len(beside) == figures
        assert all("mean of 3 seeded draws" in text for text in beside)


def test_methods_has_every_null_with_its_sample(page):
    app = page().switch_page("pages/methods.py").run()
    text = " ".join(texts(app.markdown))
    for key in ("nss_isotropic", "max_principal_angle_left_isotropic_deg", "overlap_principal_shuffle",
                "row_dispersion_null", "jaccard_principal_low_null"):  # fmt: skip
        assert f"`{key}`" in text, key
    assert "of every module and shape the matrix in the middle layer" in text
