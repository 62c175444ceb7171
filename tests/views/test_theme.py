from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from rlviz.views.theme import (
    DARK,
    LIGHT,
    PLOTLY_CONFIG,
    ThemeName,
    figure_layout,
    streamlit_theme,
    tokens,
    tuned_colour,
)

CONFIG = Path(__file__).parents[2] / ".streamlit" / "config.toml"


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_streamlit_config_has_exactly_these_tokens() -> None:
    assert tomllib.loads(CONFIG.read_text(encoding="utf-8"))["theme"] == tomllib.loads(streamlit_theme())["theme"]


def test_config_keeps_to_itself() -> None:
    config = tomllib.loads(CONFIG.read_text(encoding="utf-8"))
    assert config["browser"]["gatherUsageStats"] is False
    assert config["client"]["showErrorDetails"] == "none"
    assert config["server"]["address"] == "127.0.0.1"
    assert config["server"]["enableStaticServing"] is False


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_readable_on_every_surface(theme: ThemeName) -> None:
    t = tokens(theme)
    for surface in (t.background, t.panel):
        assert contrast(t.text, surface) > 12
        assert contrast(t.quiet, surface) > 4.5
        assert contrast(t.accent, surface) > 4.5


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_layout_sets_its_own_template(theme: ThemeName) -> None:
    layout = figure_layout(theme)
    assert layout["template"].layout.paper_bgcolor == tokens(theme).background
    assert layout["height"] >= 420


def test_tuned_colours_follow_the_theme_and_wrap() -> None:
    assert tuned_colour(0, "light") == "#0072B2"
    assert tuned_colour(6, "light") == tuned_colour(0, "light")
    assert all(luminance(d) > luminance(b) for b, d in zip(LIGHT.tuned, DARK.tuned, strict=True))


def test_charts_are_never_offered_for_upload() -> None:
    assert PLOTLY_CONFIG["showSendToCloud"] is False
