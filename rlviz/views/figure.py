"""`Plot`: a figure with its message, caption and numbers; and what several figures share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, log10
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from rlviz.views.theme import PLOTLY_CONFIG, ThemeName, figure_layout, tokens
from rlviz.views.words import safe, setting

Floats = NDArray[np.float64]
Row = dict[str, str | int | float | bool | None]
_GAP_PX = 17  # between two line-end labels: one line of 13 px text


@dataclass(frozen=True, slots=True, eq=False)
class Plot:
    """One figure as a page or an export needs it.

    Attributes
    ----------
    figure : Figure
        With an explicit template; never relies on Plotly's default.
    alt : str
        Its message in one computed sentence.
    caption : str
        What it shows and what chance gives.
    table : tuple of dict
        The numbers on screen, one dict per row with the same keys; NaN and undefined are None.
    """

    figure: go.Figure
    alt: str
    caption: str
    table: tuple[Row, ...] = ()

    def html(self) -> str:
        """A self-contained page (4.7 MB of plotly.js included) that sends nothing anywhere."""
        return str(self.figure.to_html(config=PLOTLY_CONFIG, include_plotlyjs=True, full_html=True))


def blank(theme: ThemeName, sentence: str) -> Plot:
    """A figure that says why there is nothing to draw; its alt text is the same sentence."""
    figure = go.Figure(layout=figure_layout(theme))
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.add_annotation(
        text=safe(sentence), x=0.5, y=0.5, xref="paper", yref="paper", font={"color": tokens(theme).quiet, "size": 15}
    )
    return Plot(figure, sentence, sentence)


def finite(x: float) -> float | None:
    """The number, or None where it is undefined: how tables and JSON hold it."""
    return float(x) if isfinite(x) else None


_STEPS = ((1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0))  # within a decade


def decades(low: float, high: float) -> tuple[list[float], list[str]]:
    """Ticks of a log10 axis drawn on linear coordinates: exponents, and 10ⁿ as text.

    Whole decades; over a shorter range 1-2-5 steps with plain numbers, finer ones where those are too few.
    """
    if high - low >= 2.8:
        whole = list(range(ceil(low - 1e-9), floor(high + 1e-9) + 1))
        step = max(1, ceil(len(whole) / 8))
        return [float(e) for e in whole[::-step][::-1]], [power(e) for e in whole[::-step][::-1]]
    for steps in _STEPS:
        exponents = [e + log10(m) for e in range(floor(low), ceil(high) + 1) for m in steps]
        inside = [e for e in exponents if low - 1e-9 <= e <= high + 1e-9]
        if len(inside) >= 3:
            return inside, [setting(10**e) for e in inside]
    return [low, (low + high) / 2, high], [setting(10**e) for e in (low, (low + high) / 2, high)]


def log_axis(span: tuple[float, float]) -> dict[str, Any]:
    """Axis settings of a log10 axis over the exponents `span`, ticks as 10ⁿ."""
    exponents, texts = decades(*span)
    return {"type": "log", "range": span, "tickvals": np.array([10.0**e for e in exponents]), "ticktext": texts}


def power(exponent: int) -> str:
    """``10ⁿ`` in Plotly's markup; 1 to 1000 as plain numbers."""
    if 0 <= exponent <= 3:
        return str(10**exponent)
    return f"10<sup>{'−' if exponent < 0 else ''}{abs(exponent)}</sup>"


def spread(positions: Sequence[float], gap: float) -> list[float]:
    """Positions moved apart to at least `gap`, order kept, moving as little as a single pass allows.

    Examples
    --------
    >>> spread([0.0, 1.0, 30.0], 10.0)
    [-4.5, 5.5, 30.0]
    """
    order = sorted(range(len(positions)), key=lambda i: positions[i])
    clusters: list[list[int]] = []
    placed: dict[int, float] = {}
    for i in order:
        clusters.append([i])
        while True:
            members = clusters[-1]
            middle = sum(positions[j] for j in members) / len(members)
            for rank, j in enumerate(members):
                placed[j] = middle + (rank - (len(members) - 1) / 2) * gap
            if len(clusters) < 2 or placed[clusters[-2][-1]] + gap <= placed[members[0]] + 1e-9:
                break
            clusters[-2:] = [clusters[-2] + members]
    return [placed[i] for i in range(len(positions))]


@dataclass(frozen=True, slots=True)
class LineEnd:
    """A direct label at the end of a line, in data coordinates (log axes: the value itself)."""

    text: str
    colour: str
    x: float
    y: float


def label_line_ends(
    figure: go.Figure,
    ends: Sequence[LineEnd],
    y_range: tuple[float, float],
    height_px: float,
    *,
    log: tuple[bool, bool] = (False, False),
    axis: str = "",
) -> None:
    """Write labels right of the line ends, moved apart where they would overlap.

    `y_range` is the drawn range (exponents on a log axis) over `height_px` pixels, `log` says whether x and y are
    log axes, `axis` is the subplot suffix (``"2"``).
    """
    low, high = y_range
    log_x, log_y = log
    shown = [e for e in ends if isfinite(e.y) and (not log_y or e.y > 0)]
    drawn = [log10(e.y) if log_y else e.y for e in shown]
    pixels = [(min(max(y, low), high) - low) / ((high - low) or 1.0) * height_px for y in drawn]
    for end, y, at, moved in zip(shown, drawn, pixels, spread(pixels, _GAP_PX), strict=True):
        figure.add_annotation(
            text=safe(end.text),
            x=log10(end.x) if log_x else end.x,
            y=min(max(y, low), high),
            xref=f"x{axis}",
            yref=f"y{axis}",
            xanchor="left",
            yanchor="middle",
            xshift=8,
            yshift=moved - at,
            font={"color": end.colour, "size": 12},
        )


def label_margin(texts: Sequence[str]) -> int:
    """Right margin in pixels that line-end labels of 12 px need."""
    return 24 + max((round(6.8 * len(t)) for t in texts), default=0)


def log_range(values: Floats, pad: float = 0.06) -> tuple[float, float]:
    """Exponents of the range of the positive finite `values`, padded; (-1, 1) when there are none."""
    positive = values[np.isfinite(values) & (values > 0)]
    if positive.size == 0:
        return -1.0, 1.0
    low, high = float(np.log10(positive.min())), float(np.log10(positive.max()))
    extra = max((high - low) * pad, 0.05)
    return low - extra, high + extra


def padded_range(values: Floats, pad: float = 0.05) -> tuple[float, float]:
    """Range of the finite `values` with a margin, from zero where they are all positive."""
    known = values[np.isfinite(values)]
    if known.size == 0:
        return 0.0, 1.0
    low, high = min(0.0, float(known.min())), float(known.max())
    return low - (high - low) * pad * (low < 0), high + ((high - low) or 1.0) * pad


def rows_of(columns: Mapping[str, Sequence[Any] | NDArray[np.generic]]) -> tuple[Row, ...]:
    """Columns of equal length as table rows; NaN becomes None."""
    names, lists = list(columns), [list(np.asarray(c).tolist()) for c in columns.values()]
    return tuple(
        {n: (finite(v) if isinstance(v, float) else v) for n, v in zip(names, values, strict=True)}
        for values in zip(*lists, strict=True)
    )
