"""What the number format hides and shows: lenses, tolerances, code distances, flips by exponent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import plotly.graph_objects as go

from rlviz.bins import ETA_EDGES, TAU_EDGES, ulp_bin_labels
from rlviz.metrics import METRICS
from rlviz.metrics.coordinate import PROBE, field
from rlviz.result import PairResult
from rlviz.types import LENSES, Lens, Measured, MetricParams
from rlviz.views.curves import Line, Mark, Panel, lines_table, plot_lines
from rlviz.views.figure import Floats, Plot, Row, blank
from rlviz.views.theme import ThemeName, faded, figure_layout, tokens, tuned_colour
from rlviz.views.words import LENS_SHORT, masters_published, percent, safe, sentences, setting, tuned_labels

Tolerance = Literal["eta", "tau"]
_NOT_PUBLISHED = "fp32 masters were not published"


def _counted(result: PairResult, name: str | None) -> list[Measured]:
    """Tensors with counts: all of them, or the one called `name`."""
    return [m for m in result.floats if PROBE in m.records and (name is None or m.name == name)]


def _summed(group: Iterable[Measured], name: str) -> Floats:
    """A count field pooled over tensors (exact in float64 up to 2^53 entries)."""
    return np.sum([np.asarray(field(m, name), dtype=np.float64) for m in group], axis=0)


def plot_hidden_updates(
    results: Sequence[PairResult], params: MetricParams, theme: ThemeName, name: str | None = None
) -> Plot:
    """Share changed under each lens: the part a lens still shows (solid), and what it hides (pale)."""
    metric = METRICS["update_sparsity"]
    labels = tuned_labels(results)
    figure = go.Figure(layout=figure_layout(theme))
    rows: list[Row] = []
    parts: list[str] = []
    names = [LENS_SHORT[lens] for lens in LENSES]
    for i, (label, result) in enumerate(zip(labels, results, strict=True)):
        where = None if name is None else (lambda m: m.name == name)
        changed = {lens: 1 - result.pooled(metric.key, replace(params, lens=lens), where) for lens in LENSES}
        seen = np.array([changed[lens] for lens in LENSES]) * 100
        hidden = np.maximum(changed[Lens.STORED] * 100 - seen, 0)
        colour = tuned_colour(i, theme)
        common = {"type": "bar", "x": np.array(names, dtype=object), "offsetgroup": str(i), "legendgroup": label}
        figure.add_trace(
            go.Bar(
                **common, y=seen, name=safe(label), marker={"color": colour}, text=[percent(s / 100) for s in seen],
                textposition="auto", textfont={"size": 11}, insidetextanchor="end",
                hovertemplate=f"<b>{safe(label)}</b><br>%{{x}}: %{{y:.4~g}} % changed<extra></extra>",
            )
        )  # fmt: skip
        figure.add_trace(
            go.Bar(
                **common, y=hidden, base=seen, name=f"{safe(label)}, hidden", marker={"color": faded(colour, 0.25)},
                hovertemplate=f"<b>{safe(label)}</b><br>%{{x}} hides %{{y:.4~g}} % of all weights<extra></extra>",
            )
        )  # fmt: skip
        total = changed[Lens.STORED]
        share = (total - changed[Lens.BF16]) / total if total else float("nan")
        parts.append(f"{label}: {percent(total)} changed as stored, bf16 hides {percent(share)} of those")
        rows += [
            {"model": result.tuned.pinned_ref, "lens": lens.value, "changed": float(s) / 100, "hidden": float(h) / 100}
            for lens, s, h in zip(LENSES, seen, hidden, strict=True)
        ]
    figure.update_layout(barmode="group", bargap=0.25, bargroupgap=0.06)
    figure.update_xaxes(title={"text": "lens: both sides rounded to this format before comparing"}, showgrid=False)
    figure.update_yaxes(range=[0, 105], title={"text": "weights changed, %"}, tickvals=np.arange(0, 101, 20))
    silent = [label for label, result in zip(labels, results, strict=True) if not masters_published(result)]
    caption = sentences(
        "Solid: changes the lens still shows. Pale: changed as stored, but equal after rounding",
        f"{_NOT_PUBLISHED} for {', '.join(silent)}: the fp32 lens reveals nothing there" if silent else "",
    )
    return Plot(figure, sentences(f"Hidden updates. {'; '.join(parts)}"), caption, tuple(rows))


def plot_threshold_curve(
    results: Sequence[PairResult], kind: Tolerance, params: MetricParams, theme: ThemeName, name: str | None = None
) -> Plot:
    """Share of weights that moved by more than a tolerance, with the slider's present value marked."""
    edges, counted = (ETA_EDGES, "eta_counts") if kind == "eta" else (TAU_EDGES, "tau_counts")
    value, letter = (params.eta, "η") if kind == "eta" else (params.tau, "τ")
    lines: list[Line] = []
    parts: list[str] = []
    for i, (label, result) in enumerate(zip(tuned_labels(results), results, strict=True)):
        group = _counted(result, name)
        if not group:
            continue
        counts, n = _summed(group, counted), float(_summed(group, "n"))
        above = np.cumsum(counts[::-1])[::-1][1:] / n  # above[i]: |ΔW| > edges[i], exactly
        lines.append(Line(label, edges, above * 100, tuned_colour(i, theme)))
        at = int(np.argmin(np.abs(np.log(edges / value))))
        parts.append(f"{label}: {percent(float(above[at]))} moved by more than {letter} = {setting(float(edges[at]))}")
    if not lines:
        return blank(theme, "Nothing has been counted yet: the tolerance curve appears with the first tensors.")
    span = _moving_part(lines, value)
    x_title = (
        "η, tolerance relative to the larger weight, dimensionless"
        if kind == "eta"
        else "τ, absolute tolerance, weight units"
    )
    panel = Panel(
        tuple(_within(line, span) for line in lines), x_title, "weights changed by more, %", log_x=True, y_range=(0.0, 102.0), x_word=f"{letter} =", y_unit=" %",
        x_range=span, marks=(Mark(value, f"{letter} = {setting(value)}", tokens(theme).quiet),),
    )  # fmt: skip
    caption = sentences(
        "As stored, exact at every point drawn; no weight is read again",
        "On bf16 values any η below 2⁻⁸ counts bit changes; η = 10⁻³ is the definition of arXiv:2511.08567"
        if kind == "eta"
        else "τ = 10⁻⁵ is the tolerance of arXiv:2505.11711; a one-ULP bf16 step is below it for every |w| < 2⁻⁹",
    )
    return Plot(
        plot_lines([panel], theme), sentences(f"Share changed against {letter}. {'; '.join(parts)}"), caption,
        lines_table([panel], kind, "changed_percent"),
    )  # fmt: skip


def _moving_part(lines: Sequence[Line], value: float) -> tuple[float, float]:
    """Exponents between which any curve still moves, with the slider inside."""
    bounds = [float(np.log10(value)) - 0.5, float(np.log10(value)) + 0.5]
    for line in lines:
        moving = np.flatnonzero((line.y > 0.05) & (line.y < line.y[0] - 0.05))
        if moving.size:
            bounds += [float(np.log10(line.x[max(0, moving[0] - 20)])), float(np.log10(line.x[moving[-1]]))]
    return min(bounds), max(bounds)


def _within(line: Line, span: tuple[float, float]) -> Line:
    """The part of a line that is drawn, so that its label stands at the visible end."""
    inside = (line.x >= 0.999 * 10 ** span[0]) & (line.x <= 1.001 * 10 ** span[1])
    return replace(line, x=line.x[inside], y=line.y[inside])


def plot_ulp_histogram(results: Sequence[PairResult], theme: ThemeName, name: str | None = None) -> Plot:
    """How far codes moved in bf16: share of weights by signed code distance."""
    words = ulp_bin_labels()
    figure = go.Figure(layout=figure_layout(theme))
    rows: list[Row] = []
    parts: list[str] = []
    used = 0
    for i, (label, result) in enumerate(zip(tuned_labels(results), results, strict=True)):
        group = _counted(result, name)
        if not group:
            continue
        counts = _summed(group, "ulp_counts")
        shares = counts / counts.sum()
        half = len(words) - 1
        nonzero = np.flatnonzero(counts) - half
        used = max(used, int(np.abs(nonzero).max(initial=1)))
        figure.add_trace(
            go.Bar(
                x=np.arange(-half, half + 1), y=shares * 100, name=safe(label), marker={"color": tuned_colour(i, theme)},
                customdata=np.array([_signed(words, d) for d in range(-half, half + 1)], dtype=object),
                hovertemplate=f"<b>{safe(label)}</b><br>%{{customdata}} ULP: %{{y:.4~g}} % of weights<extra></extra>",
            )
        )  # fmt: skip
        one = float(shares[half - 1] + shares[half + 1])
        moved = 1 - float(shares[half])
        parts.append(
            f"{label}: {percent(1 - moved)} did not move, {percent(one / moved if moved else float('nan'))} of those that did moved one ULP"
        )
        rows += [
            {
                "model": result.tuned.pinned_ref,
                "distance_ulp": _signed(words, d),
                "count": int(counts[d + half]),
                "share": float(shares[d + half]),
            }
            for d in range(-half, half + 1)
        ]
    if not parts:
        return blank(theme, "Nothing has been counted yet: the histogram appears with the first tensors.")
    shown = min(used, 10)
    used, beyond = shown, used > shown
    ticks = np.arange(-used, used + 1)
    figure.update_layout(barmode="group", bargap=0.2)
    figure.update_xaxes(
        range=[-used - 0.6, used + 0.6], tickvals=ticks, ticktext=[_signed(words, int(d)) for d in ticks], showgrid=False,
        title={"text": "distance between bf16 codes, tuned − base, ULP"},
    )  # fmt: skip
    figure.update_yaxes(title={"text": "weights, %"}, rangemode="tozero")
    caption = sentences(
        "Both sides rounded to bf16; one ULP is the smallest step a weight can take",
        "An entry flips when the accumulated step crosses a rounding boundary, about half a ULP",
    )
    return Plot(figure, sentences(f"Code distances in bf16. {'; '.join(parts)}"), caption, tuple(rows))


def _signed(words: Sequence[str], distance: int) -> str:
    if distance == 0:
        return "0"
    text = words[abs(distance)].replace("-", "…")
    return f"−{text}" if distance < 0 else f"+{text}"


def plot_flip_rate_by_exponent(results: Sequence[PairResult], theme: ThemeName, name: str | None = None) -> Plot:
    """Share of weights whose bf16 code changed, by binade of the base weight, and how many weights each holds."""
    rates: list[Line] = []
    parts: list[str] = []
    held: Line | None = None
    for i, (label, result) in enumerate(zip(tuned_labels(results), results, strict=True)):
        group = _counted(result, name)
        if not group:
            continue
        n, changed = _summed(group, "exponent_n")[1:255], _summed(group, "exponent_changed")[1:255]
        exponent = np.arange(1, 255, dtype=np.float64) - 127
        enough = n >= max(1.0, n.sum() * 1e-5)  # binades with a handful of weights draw noise
        rate = np.where(enough, changed / np.maximum(n, 1), np.nan)
        rates.append(Line(label, exponent[enough], rate[enough] * 100, tuned_colour(i, theme), mode="lines+markers"))
        held = held or Line(
            "weights", exponent[enough], n[enough] / n.sum() * 100, tokens(theme).base, "base", mode="lines+markers"
        )
        first, last = np.flatnonzero(enough)[[0, -1]]
        parts.append(
            f"{label}: from {percent(float(rate[first]))} at |w| ≈ 2^{int(exponent[first])} to {percent(float(rate[last]))} at 2^{int(exponent[last])}"
        )
    if held is None:
        return blank(theme, "Nothing has been counted yet: the flip rate appears with the first tensors.")
    x = "exponent of the base weight, log₂|w₀|"
    panels = [
        Panel(tuple(rates), x, "changed (bf16), %", "Flip rate", y_range=(0.0, 102.0), x_word="binade 2^", y_unit=" %"),
        Panel((held,), x, "weights, %", "Where the weights are", x_word="binade 2^", y_unit=" %"),
    ]
    caption = sentences(
        "One ULP is constant within a binade, so a step of given size flips small weights and leaves large ones",
        "Binades with fewer than one weight in 100 000 are left out",
    )
    return Plot(
        plot_lines(panels, theme), sentences(f"Flip rate by exponent. {'; '.join(parts)}"), caption,
        lines_table(panels, "exponent", "percent"),
    )  # fmt: skip
