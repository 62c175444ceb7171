"""The strip that places each comparison among published values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
import plotly.graph_objects as go

from rlviz.published import KINDS, PublishedValue, published_range, published_values
from rlviz.result import PairResult
from rlviz.sampling.result import Estimate
from rlviz.types import Lens, MetricParams
from rlviz.views.figure import Plot, Row, blank
from rlviz.views.remember import remembered
from rlviz.views.theme import ThemeName, faded, figure_layout, tokens, tuned_colour
from rlviz.views.words import LENS_SHORT, LENS_WORDS, percent, safe, sentences, tuned_labels

_CAVEAT = (
    "A share in the RL range does not prove RL was used: in-distribution SFT at a small learning rate gives 91 % too"
)
_CAVEAT_SOURCE = "arXiv:2505.11711 Table 5"


def _stacked(values: Sequence[float], near: float = 0.9, step: float = 0.16) -> list[float]:
    """Vertical offsets that keep dots within `near` per cent of each other apart."""
    offsets: dict[int, float] = {}
    order = sorted(range(len(values)), key=lambda i: values[i])
    run = 0
    for previous, i in zip([None, *order], order, strict=False):
        run = run + 1 if previous is not None and values[i] - values[previous] < near else 0
        offsets[i] = (0, 1, -1)[run % 3] * step
    return [offsets[i] for i in range(len(values))]


def _published_trace(kind: str, row: int, values: Sequence[PublishedValue], theme: ThemeName) -> dict[str, object]:
    x = np.array([v.value * 100 for v in values])
    text = np.empty((len(values), 5), dtype=object)
    for i, v in enumerate(values):
        data = f"{v.method} on {v.data}"
        text[i] = (safe(v.title), safe(v.base or "base not named"), safe(data), safe(v.source), safe(v.note))
    t = tokens(theme)
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"published {kind}",
        "x": x,
        "y": row + np.array(_stacked(x.tolist())),
        "customdata": text,
        "marker": {"size": 11, "color": t.chance, "opacity": 0.75, "line": {"width": 1, "color": t.background}},
        "hovertemplate": "<b>%{customdata[0]}</b><br>from %{customdata[1]}<br>%{x:.4g} % unchanged · %{customdata[2]}"
        "<br>%{customdata[3]}<br><i>%{customdata[4]}</i><extra></extra>",
        "showlegend": False,
    }


@dataclass(frozen=True, slots=True)
class Ours:
    """One comparison's own mark: a point where everything was read (``low == high``), else an interval."""

    label: str
    colour: str
    base: str
    tuned: str
    share: Estimate
    text: str


def _range_words(share: float, groups: dict[str, tuple[PublishedValue, ...]]) -> str:
    inside = [
        f"{kind} ({percent(low)} to {percent(high)})"
        for kind, values in groups.items()
        for low, high in [published_range(values) or (1.0, 0.0)]
        if low <= share <= high
    ]
    return f"within the published range of {' and of '.join(inside)}" if inside else "outside every published range"


def published_lens(lens: Lens) -> Lens:
    """The lens the strip is drawn under: papers report bf16 only, so it stands in for lenses nobody published."""
    return lens if published_values(f"update_sparsity_{lens.value}") else Lens.BF16


@remembered
def plot_published_strip(results: Sequence[PairResult], lens: Lens, theme: ThemeName) -> Plot:
    """Where each comparison's share unchanged falls among published SFT, RL and preference-tuning values.

    One axis, 0-100 % unchanged. Papers report bf16; for a lens nobody published, the bf16 shares are drawn and
    the caption says so.
    """
    shares = [r.pooled("update_sparsity", MetricParams(lens=published_lens(lens))) for r in results]
    ours = [
        Ours(label, tuned_colour(i, theme), r.base.pinned_ref, r.tuned.pinned_ref, Estimate(s, s, s), percent(s))
        for i, (label, r, s) in enumerate(zip(tuned_labels(results), results, shares, strict=True))
        if isfinite(s)
    ]
    if not ours:
        return blank(theme, "Nothing has been counted yet: the strip appears with the first tensors.")
    return draw_strip_of(ours, lens, theme)


def draw_strip_of(ours: Sequence[Ours], lens: Lens, theme: ThemeName) -> Plot:
    """The strip for shares that are known, exactly or by their intervals."""
    drawn = published_lens(lens)
    values = published_values(f"update_sparsity_{drawn.value}")
    groups = {kind: tuple(v for v in values if v.kind == kind) for kind in KINDS}
    figure = go.Figure(layout=figure_layout(theme, height=190 + 26 * len(ours)))
    rows = list(groups)
    figure.add_traces(
        [go.Scatter(_published_trace(kind, i, groups[kind], theme)) for i, kind in enumerate(rows) if groups[kind]]
    )
    bottom = len(rows) - 0.4
    places = [-0.65 * (len(ours) - rank) - 0.2 for rank in range(len(ours))]
    for mark, y in zip(ours, places, strict=True):
        figure.add_traces([go.Scatter(trace) for trace in _our_traces(mark, (y, bottom), drawn)])
        side = "left" if mark.share.estimate < 0.85 else "right"
        edge, away = (mark.share.high, 12) if side == "left" else (mark.share.low, -12)
        figure.add_annotation(
            text=mark.text, x=edge * 100, y=y, xanchor=side, xshift=away, font={"color": mark.colour, "size": 13}
        )
    _strip_axes(figure, ours, places, groups, drawn=drawn, theme=theme)
    message = "; ".join(f"{m.label}: {m.text} unchanged, {_range_words(m.share.estimate, groups)}" for m in ours)
    switched = (
        ""
        if drawn == lens
        else f"Papers report bf16 only, so this strip stays in bf16 while the lens is {LENS_SHORT[lens]}"
    )
    caption = sentences(
        f"Grey: {len(values)} published values, each from its own paper and table (hover)",
        "Bars: 95 % intervals of the estimates" if any(m.share.low < m.share.high for m in ours) else "",
        switched,
        f"{_CAVEAT} ({_CAVEAT_SOURCE})",
    )
    alt = sentences(f"Share of weights unchanged {LENS_WORDS[drawn]} against published values. {message}")
    return Plot(figure, alt, caption, _table(ours, values))


def _strip_axes(
    figure: go.Figure,
    ours: Sequence[Ours],
    places: Sequence[float],
    groups: Mapping[str, Sequence[PublishedValue]],
    *,
    drawn: Lens,
    theme: ThemeName,
) -> None:
    names = [f'<span style="color:{m.colour}">{safe(m.label)}</span>' for m in ours]
    figure.update_layout(margin={"l": 24, "r": 24, "t": 40, "b": 48})
    figure.update_xaxes(
        range=[-1.5, 101.5],
        title={"text": f"weights unchanged ({LENS_SHORT[drawn]}), %"},
        tickvals=np.arange(0, 101, 10),
        zeroline=False,
    )
    figure.update_yaxes(
        range=[len(groups) - 0.4, -0.75 - 0.65 * len(ours)],
        tickvals=np.array([*places, *range(len(groups))]),
        ticktext=[*names, *(f"published {kind} ({len(values)})" for kind, values in groups.items())],
        showgrid=False,
        zeroline=False,
        ticklabelstandoff=6,
    )
    figure.add_hline(y=-0.45, line={"color": tokens(theme).grid, "width": 1})


def _our_traces(mark: Ours, span: tuple[float, float], lens: Lens) -> Iterator[dict[str, object]]:
    """A diamond in the comparison's own row on its interval, and a line from it down through the published values."""
    x, (low, high) = mark.share.estimate * 100, (mark.share.low * 100, mark.share.high * 100)
    shared: dict[str, object] = {"type": "scatter", "name": safe(mark.label), "showlegend": False}
    if low < high:
        yield shared | {
            "mode": "lines",
            "x": np.array([low, high]),
            "y": np.array([span[0], span[0]]),
            "line": {"color": faded(mark.colour, 0.35), "width": 13},
            "hoverinfo": "skip",
        }
    yield shared | {
        "mode": "lines+markers",
        "x": np.array([x, x]),
        "y": np.array(span),
        "line": {"color": mark.colour, "width": 1.5},
        "marker": {"symbol": "diamond", "color": mark.colour, "size": np.array([13, 0]), "opacity": 1},
        "hovertemplate": f"<b>{safe(mark.label)}</b><br>{_on_hover(mark.share)} unchanged {LENS_WORDS[lens]}"
        "<extra></extra>",
    }


def _on_hover(share: Estimate) -> str:
    interval = f" (95 % interval {share.low * 100:.4g} to {share.high * 100:.4g})" if share.low < share.high else ""
    return f"{share.estimate * 100:.4g} %{interval}"


def _table(ours: Sequence[Ours], values: Sequence[PublishedValue]) -> tuple[Row, ...]:
    measured: list[Row] = [
        {
            "kind": "this comparison",
            "tuned": m.tuned,
            "base": m.base,
            "method": None,
            "data": None,
            "unchanged": m.share.estimate,
            "low": m.share.low,
            "high": m.share.high,
            "source": "rlviz",
            "note": None,
        }
        for m in ours
    ]
    theirs: list[Row] = [
        {
            "kind": v.kind,
            "tuned": v.tuned,
            "base": v.base,
            "method": v.method,
            "data": v.data,
            "unchanged": v.value,
            "low": None,
            "high": None,
            "source": v.source,
            "note": v.note,
        }
        for v in values
    ]
    return (*measured, *theirs)
