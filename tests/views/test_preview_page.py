"""The preview on a page, run by Streamlit's own test harness: it obeys the lens, and shows its interval everywhere."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from rlviz.types import Lens
from rlviz.views.preview_words import HOW_ESTIMATED, plus_minus
from tests.views.previews import preview_of

DEADLINE_S = 120


def page() -> None:
    from rlviz.ui.controls import render_controls
    from rlviz.ui.preview import render_preview
    from tests.views.previews import preview_of

    render_controls("Compare")
    render_preview([preview_of("org/rl"), preview_of("org/<b>_sft_", density=0.97)])


@pytest.fixture
def app() -> AppTest:
    return AppTest.from_function(page, default_timeout=DEADLINE_S).run()


def texts(app: AppTest) -> list[str]:
    return [element.value.replace("\\", "") for element in app.markdown]


def test_every_figure_has_numbers_to_take_away(app: AppTest) -> None:
    assert not app.exception
    assert len(app.get("plotly_chart")) == 5
    labels = [button.label for button in app.get("download_button")]
    assert labels == ["CSV", "Parquet", "JSON"] * 5
    assert [tab.label for tab in app.tabs] == ["By layer", "By module", "Code distances"]
    for sentence in HOW_ESTIMATED:
        assert any(sentence in text for text in texts(app))


def test_numbers_follow_the_lens(app: AppTest) -> None:
    shares = preview_of("org/rl").pooled
    assert plus_minus(shares.sparsity(Lens.BF16)) in texts(app)[0]
    assert app.metric[0].label == "Unchanged in bf16"
    app.session_state["lens"] = Lens.FP16.value
    app.run()
    assert not app.exception
    assert plus_minus(shares.sparsity(Lens.FP16)) in texts(app)[0]
    assert app.metric[0].label == "Unchanged in fp16"


def test_names_are_text_not_markup(app: AppTest) -> None:
    assert "\\<b\\>\\_sft\\_" in app.markdown[0].value
