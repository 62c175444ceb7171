"""Colours, type and chart defaults, in one place: the Plotly template and the Streamlit theme are both built here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import plotly.graph_objects as go
from plotly.colors import cmocean, label_rgb, sequential, unlabel_rgb

ThemeName = Literal["light", "dark"]
Colorscale = tuple[tuple[float, str], ...]

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"
MONOSPACE = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
FIGURE_HEIGHT = 440  # px, of a main figure; none is lower than 420

# Okabe and Ito's palette: tells six models apart under the common colour-vision deficiencies
_TUNED = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_CHANCE = "#8A93A0"


def _lighten(colour: str, share: float = 0.1) -> str:
    channels = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(c + (255 - c) * share):02X}" for c in channels)


@dataclass(frozen=True, slots=True)
class Tokens:
    """One theme's colours, as hex strings."""

    name: ThemeName
    background: str
    panel: str
    text: str
    quiet: str
    accent: str
    base: str
    chance: str
    grid: str
    missing: str
    tuned: tuple[str, ...]


LIGHT = Tokens(
    name="light",
    background="#FFFFFF",
    panel="#F6F7F9",
    text="#1B1F24",
    quiet="#5B6470",
    accent="#0B6BCB",
    base="#3C4450",
    chance=_CHANCE,
    grid="#E3E6EA",
    missing="#D5D9DE",
    tuned=_TUNED,
)
DARK = Tokens(
    name="dark",
    background="#0F1216",
    panel="#171B21",
    text="#E7EAEE",
    quiet="#9AA4B0",
    accent="#5AA9F5",
    base="#C3CAD3",
    chance=_CHANCE,
    grid="#262C34",
    missing="#4A525C",
    tuned=tuple(_lighten(c) for c in _TUNED),
)

# Perceptually uniform, readable with colour-vision deficiencies; balance has its neutral tone at the middle.
SEQUENTIAL: Colorscale = tuple((i / (len(sequential.Cividis) - 1), c) for i, c in enumerate(sequential.Cividis))
DIVERGING: Colorscale = tuple((i / (len(cmocean.balance) - 1), c) for i, c in enumerate(cmocean.balance))

# For every figure on a page and in an HTML export. plotly.js offers to upload the chart to a third party by
# default; comparisons of unpublished models must not be one click away from that.
PLOTLY_CONFIG: dict[str, Any] = {
    "showSendToCloud": False,
    "displaylogo": False,
    "responsive": True,
    "modeBarButtonsToRemove": ["lasso2d", "select2d", "autoScale2d"],
}


def tokens(theme: ThemeName) -> Tokens:
    """The colours of a theme."""
    return DARK if theme == "dark" else LIGHT


def tuned_colour(index: int, theme: ThemeName) -> str:
    """Colour of the tuned model at position `index`; repeats after six."""
    palette = tokens(theme).tuned
    return palette[index % len(palette)]


def chance_line(theme: ThemeName, width: float = 1.5) -> dict[str, Any]:
    """Line style of everything that chance or a null gives: dashed mid-grey."""
    return {"color": tokens(theme).chance, "dash": "dash", "width": width}


def faded(colour: str, alpha: float) -> str:
    """A hex colour as ``rgba()`` with opacity `alpha`, for bands."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha:g})"


def blended(colour: str, share: float, theme: ThemeName) -> str:
    """An ``rgb()`` colour with `share` of it replaced by the panel's."""
    panel = tokens(theme).panel
    there = (int(panel[i : i + 2], 16) for i in (1, 3, 5))
    return label_rgb([(1 - share) * c + share * b for c, b in zip(unlabel_rgb(colour), there, strict=True)])


def readable_on(colour: str) -> str:
    """Dark or light text, whichever stands out more from an ``rgb()`` colour (relative luminance, WCAG 2.1)."""
    linear = [(c / 255 + 0.055) ** 2.4 / 1.055**2.4 if c > 10.3 else c / 255 / 12.92 for c in unlabel_rgb(colour)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    # black and white differ equally from a luminance of √(1.05 · 0.05) - 0.05
    return LIGHT.text if luminance > 0.179 else DARK.text


def template(theme: ThemeName) -> go.layout.Template:
    """The Plotly template of a theme. Always set explicitly: importing streamlit changes Plotly's default."""
    t = tokens(theme)
    axis: dict[str, Any] = {
        "gridcolor": t.grid,
        "linecolor": t.chance,
        "zerolinecolor": t.grid,
        "tickcolor": t.chance,
        "tickfont": {"size": 12, "color": t.quiet},
        "title": {"font": {"size": 13, "color": t.quiet}, "standoff": 8},
        "automargin": True,
        "showline": False,
        "ticks": "",
    }
    bar = {
        "outlinewidth": 0,
        "tickfont": {"size": 12, "color": t.quiet},
        "title": {"font": {"size": 12, "color": t.quiet}, "side": "right"},
    }
    layout: dict[str, Any] = {
        "font": {"family": FONT, "size": 13, "color": t.text},
        "paper_bgcolor": t.background,
        "plot_bgcolor": t.background,
        "colorway": list(t.tuned),
        "xaxis": axis,
        "yaxis": axis,
        "coloraxis": {"colorbar": bar},
        "hoverlabel": {
            "bgcolor": t.panel,
            "bordercolor": t.grid,
            "font": {"color": t.text, "size": 13, "family": FONT},
        },
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "font": {"size": 12, "color": t.quiet}},
        "annotationdefaults": {"font": {"size": 13, "color": t.text}, "showarrow": False},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": t.chance, "activecolor": t.accent},
    }
    return go.layout.Template(layout=layout)


def figure_layout(theme: ThemeName, *, height: int = FIGURE_HEIGHT) -> dict[str, Any]:
    """Layout that every figure starts from: explicit template, margins, closest-point hover."""
    return {
        "template": template(theme),
        "height": height,
        "margin": {"l": 64, "r": 24, "t": 48, "b": 56},
        "hovermode": "closest",
        "separators": ". ",
    }


def _theme_section(t: Tokens) -> list[str]:
    return [
        f"[theme.{t.name}]",
        f'primaryColor = "{t.accent}"',
        f'backgroundColor = "{t.background}"',
        f'secondaryBackgroundColor = "{t.panel}"',
        f'textColor = "{t.text}"',
        f'linkColor = "{t.accent}"',
        f'borderColor = "{t.grid}"',
        f'codeBackgroundColor = "{t.panel}"',
        f"chartCategoricalColors = {json.dumps(t.tuned)}",
        "",
        f"[theme.{t.name}.sidebar]",
        f'backgroundColor = "{t.panel}"',
        f'secondaryBackgroundColor = "{t.background}"',
    ]


def streamlit_theme() -> str:
    """The theme sections of ``.streamlit/config.toml``; a test holds the file to this text.

    Having both a light and a dark section makes the page follow the reader's system.
    """
    lines = [
        "[theme]",
        f'font = "{FONT}"',
        f'headingFont = "{FONT}"',
        f'codeFont = "{MONOSPACE}"',
        "baseFontSize = 16",
        'headingFontSizes = ["28px", "22px", "18px"]',
        "headingFontWeights = 600",
        'metricValueFontSize = "28px"',
        'baseRadius = "6px"',
        'paddingTop = "1rem"',
        'paddingBottom = "4rem"',
        "",
        *_theme_section(LIGHT),
        "",
        *_theme_section(DARK),
    ]
    return "\n".join(lines) + "\n"
