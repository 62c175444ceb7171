"""The strip that places each comparison among published values."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np
import plotly.graph_objects as go

from rlviz.published import KINDS, PublishedValue, published_range, published_values
from rlviz.result import PairResult
from rlviz.types import Lens, MetricParams
from rlviz.views.figure import Plot, Row, blank
from rlviz.views.theme import ThemeName, figure_layout, tokens, tuned_colour
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


def _range_words(share: float, groups: dict[str, tuple[PublishedValue, ...]]) -> str:
    inside = [
        f"{kind} ({percent(low)} to {percent(high)})"
        for kind, values in groups.items()
        for low, high in [published_range(values) or (1.0, 0.0)]
        if low <= share <= high
    ]
    return f"within the published range of {' and of '.join(inside)}" if inside else "outside every published range"


def plot_published_strip(results: Sequence[PairResult], lens: Lens, theme: ThemeName) -> Plot:
    """Where each comparison's share unchanged falls among published SFT, RL and preference-tuning values.

    One axis, 0-100 % unchanged. Papers report bf16; for a lens nobody published, the bf16 shares are drawn and
    the caption says so.
    """
    drawn = lens if published_values(f"update_sparsity_{lens.value}") else Lens.BF16
    values = published_values(f"update_sparsity_{drawn.value}")
    groups = {kind: tuple(v for v in values if v.kind == kind) for kind in KINDS}
    labels = tuned_labels(results)
    shares = [r.pooled("update_sparsity", MetricParams(lens=drawn)) for r in results]
    known = [(i, label, s) for i, (label, s) in enumerate(zip(labels, shares, strict=True)) if isfinite(s)]
    if not known:
        return blank(theme, "Nothing has been counted yet: the strip appears with the first tensors.")
    t = tokens(theme)
    figure = go.Figure(layout=figure_layout(theme, height=190 + 26 * len(known)))
    rows = list(groups)
    figure.add_traces(
        [go.Scatter(_published_trace(kind, i, groups[kind], theme)) for i, kind in enumerate(rows) if groups[kind]]
    )
    top, bottom = -0.75 - 0.65 * len(known), len(rows) - 0.4
    places = [-0.65 * (len(known) - rank) - 0.2 for rank in range(len(known))]
    for (i, label, share), y in zip(known, places, strict=True):
        figure.add_trace(_our_trace(label, share, (y, bottom), tuned_colour(i, theme), drawn))
        side = "left" if share < 0.85 else "right"
        figure.add_annotation(
            text=percent(share), x=share * 100, y=y, xanchor=side, xshift=12 if side == "left" else -12,
            font={"color": tuned_colour(i, theme), "size": 13},
        )  # fmt: skip
    names = [f'<span style="color:{tuned_colour(i, theme)}">{safe(label)}</span>' for i, label, _ in known]
    figure.update_layout(margin={"l": 24, "r": 24, "t": 40, "b": 48})
    figure.update_xaxes(
        range=[-1.5, 101.5],
        title={"text": f"weights unchanged ({LENS_SHORT[drawn]}), %"},
        tickvals=np.arange(0, 101, 10),
        zeroline=False,
    )
    figure.update_yaxes(
        range=[bottom, top],
        tickvals=np.array([*places, *range(len(rows))]),
        ticktext=[*names, *(f"published {kind} ({len(groups[kind])})" for kind in rows)],
        showgrid=False,
        zeroline=False,
        ticklabelstandoff=6,
    )
    figure.add_hline(y=-0.45, line={"color": t.grid, "width": 1})
    message = "; ".join(f"{label}: {percent(s)} unchanged, {_range_words(s, groups)}" for _, label, s in known)
    switched = (
        ""
        if drawn == lens
        else f"Papers report bf16 only, so this strip stays in bf16 while the lens is {LENS_SHORT[lens]}"
    )
    caption = sentences(
        f"Grey: {len(values)} published values, each from its own paper and table (hover)",
        switched,
        f"{_CAVEAT} ({_CAVEAT_SOURCE})",
    )
    alt = sentences(f"Share of weights unchanged {LENS_WORDS[drawn]} against published values. {message}")
    return Plot(figure, alt, caption, _table(results, known, values))


def _our_trace(label: str, share: float, span: tuple[float, float], colour: str, lens: Lens) -> go.Scatter:
    """A diamond in the comparison's own row, and a line from it down through the published values."""
    return go.Scatter(
        x=np.array([share * 100, share * 100]),
        y=np.array(span),
        mode="lines+markers",
        name=safe(label),
        line={"color": colour, "width": 1.5},
        marker={"symbol": "diamond", "color": colour, "size": np.array([13, 0]), "opacity": 1},
        hovertemplate=f"<b>{safe(label)}</b><br>%{{x:.4g}} % unchanged {LENS_WORDS[lens]}<extra></extra>",
        showlegend=False,
    )


def _table(
    results: Sequence[PairResult], known: Sequence[tuple[int, str, float]], values: Sequence[PublishedValue]
) -> tuple[Row, ...]:
    ours: list[Row] = [
        {
            "kind": "this comparison",
            "tuned": results[i].tuned.pinned_ref,
            "base": results[i].base.pinned_ref,
            "method": None,
            "data": None,
            "unchanged": share,
            "source": "rlviz",
            "note": None,
        }
        for i, _, share in known
    ]
    theirs: list[Row] = [
        {
            "kind": v.kind,
            "tuned": v.tuned,
            "base": v.base,
            "method": v.method,
            "data": v.data,
            "unchanged": v.value,
            "source": v.source,
            "note": v.note,
        }
        for v in values
    ]
    return (*ours, *theirs)
