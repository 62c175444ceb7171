"""What the number format hides and shows: lenses, tolerances, code distances, flips by exponent."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any, Literal

import numpy as np
import plotly.graph_objects as go

from rlviz.metrics import METRICS
from rlviz.metrics.coordinate import PROBE
from rlviz.metrics.coordinate_series import (
    FlipRate,
    ToleranceCurve,
    eta_curve,
    flip_rate_by_exponent,
    tau_curve,
    ulp_histogram,
)
from rlviz.metrics.noise_flips import NoiseFlipRate, misplaced_flips, noise_flip_rate
from rlviz.result import PairResult
from rlviz.types import LENSES, Lens, Measured, MetricParams
from rlviz.views.curves import Line, Mark, Panel, lines_table, plot_lines
from rlviz.views.figure import Floats, Plot, Row, blank
from rlviz.views.formats import code_distance
from rlviz.views.remember import remembered
from rlviz.views.theme import ThemeName, faded, figure_layout, tokens, tuned_colour
from rlviz.views.words import LENS_SHORT, masters_published, percent, safe, sentences, setting, tuned_labels

Tolerance = Literal["eta", "tau"]
ULP_SHOWN = 10  # bins either side of 0 on screen; the table has all
_NOTHING = "Nothing has been counted yet: the figure appears with the first tensors."


@dataclass(frozen=True, slots=True, eq=False)
class _Counted:
    """One tuned model's tensors with counts: all of them, or the chosen one."""

    label: str
    colour: str
    result: PairResult
    group: tuple[Measured, ...]

    def changed(self, lens: Lens) -> float:
        """Share of entries that differ under the lens."""
        return METRICS["density"].pooled(self.group, MetricParams(lens=lens))


def _counted(results: Sequence[PairResult], name: str | None, theme: ThemeName) -> Iterator[_Counted]:
    for i, (label, result) in enumerate(zip(tuned_labels(results), results, strict=True)):
        group = tuple(m for m in result.floats if PROBE in m.records and (name is None or m.name == name))
        if isfinite(METRICS["density"].pooled(group, MetricParams())):
            yield _Counted(label, tuned_colour(i, theme), result, group)


@remembered
def plot_hidden_updates(
    results: Sequence[PairResult], params: MetricParams, theme: ThemeName, name: str | None = None
) -> Plot:
    """Share changed under each lens: the part a lens still shows (solid), and what it hides (pale).

    The sentence speaks of the chosen lens (of bf16 where `stored` is chosen). `name` restricts the counts to one
    tensor, here and in the other functions of this module.
    """
    models = list(_counted(results, name, theme))
    if not models:
        return blank(theme, _NOTHING)
    lens = Lens.BF16 if params.lens is Lens.STORED else params.lens
    figure = go.Figure(layout=figure_layout(theme))
    rows: list[Row] = []
    parts: list[str] = []
    for i, c in enumerate(models):
        seen = np.array([c.changed(lens) for lens in LENSES])
        hidden = np.maximum(c.changed(Lens.STORED) - seen, 0)
        figure.add_traces([go.Bar(trace) for trace in _lens_bars(c, i, seen * 100, hidden * 100)])
        stored = c.changed(Lens.STORED)
        share = percent(float(hidden[LENSES.index(lens)]) / stored) if stored else "none"
        parts.append(f"{c.label}: {percent(stored)} changed as stored, {LENS_SHORT[lens]} hides {share} of those")
        for each, s, h in zip(LENSES, seen, hidden, strict=True):
            model = c.result.tuned.pinned_ref
            rows.append({"model": model, "lens": each.value, "changed": float(s), "hidden": float(h)})
    figure.update_layout(barmode="group", bargap=0.25, bargroupgap=0.06)
    figure.update_xaxes(title={"text": "lens: both sides rounded to this format before comparing"}, showgrid=False)
    figure.update_yaxes(range=[0, 105], title={"text": "weights changed, %"}, tickvals=np.arange(0, 101, 20))
    silent = [c.label for c in models if not masters_published(c.result)]
    caption = sentences(
        "Solid: changes the lens still shows. Pale: changed as stored, but equal after rounding",
        f"fp32 masters were not published for {', '.join(silent)}: the fp32 lens reveals nothing" if silent else "",
    )
    return Plot(figure, sentences(f"Hidden updates. {'; '.join(parts)}"), caption, tuple(rows))


def _lens_bars(c: _Counted, i: int, seen: Floats, hidden: Floats) -> Iterator[dict[str, Any]]:
    shared = {
        "type": "bar",
        "x": np.array([LENS_SHORT[lens] for lens in LENSES], dtype=object),
        "offsetgroup": str(i),
        "legendgroup": safe(c.label),
    }
    yield shared | {
        "y": seen,
        "name": safe(c.label),
        "marker": {"color": c.colour},
        "text": [percent(s / 100) for s in seen],
        "textposition": "auto",
        "textfont": {"size": 11},
        "insidetextanchor": "end",
        "hovertemplate": f"<b>{safe(c.label)}</b><br>%{{x}}: %{{y:.4~g}} % changed<extra></extra>",
    }
    yield shared | {
        "y": hidden,
        "base": seen,
        "name": f"{safe(c.label)}, hidden",
        "marker": {"color": faded(c.colour, 0.25)},
        "customdata": hidden,
        "hovertemplate": f"<b>{safe(c.label)}</b><br>%{{x}} hides %{{customdata:.4~g}} % of all weights<extra></extra>",
    }


_Curve = Callable[[Iterable[Measured]], ToleranceCurve | None]
_TOLERANCES: dict[Tolerance, tuple[_Curve, str, str, str]] = {
    "eta": (
        eta_curve,
        "η",
        "η, tolerance relative to the larger weight, dimensionless",
        "Between bf16 values any η below 2⁻⁸ counts bit changes; 0.001 is the definition of arXiv:2511.08567",
    ),
    "tau": (
        tau_curve,
        "τ",
        "τ, absolute tolerance, weight units",
        "10⁻⁵ is the tolerance of arXiv:2505.11711; a one-ULP bf16 step is below it for every |w| < 2⁻⁹",
    ),
}


@remembered
def plot_threshold_curve(
    results: Sequence[PairResult], kind: Tolerance, params: MetricParams, theme: ThemeName, name: str | None = None
) -> Plot:
    """Share of weights that moved by more than a tolerance (as stored), the slider's present value marked."""
    curve_of, letter, x_title, remark = _TOLERANCES[kind]
    value = params.eta if kind == "eta" else params.tau
    lines: list[Line] = []
    parts: list[str] = []
    for c in _counted(results, name, theme):
        if (curve := curve_of(c.group)) is None:
            continue
        lines.append(Line(c.label, curve.edges, curve.share * 100, c.colour))
        at = int(np.argmin(np.abs(np.log(curve.edges / value))))
        moved, edge = percent(float(curve.share[at])), setting(float(curve.edges[at]))
        parts.append(f"{c.label}: {moved} moved by more than {letter} = {edge}")
    if not lines:
        return blank(theme, _NOTHING)
    span = _moving_part(lines, value)
    panel = Panel(
        tuple(_within(line, span) for line in lines),
        x_title,
        "weights changed by more, %",
        log_x=True,
        x_range=span,
        y_range=(0.0, 102.0),
        x_word=f"{letter} =",
        y_unit=" %",
        marks=(Mark(value, f"{letter} = {setting(value)}", tokens(theme).quiet),),
    )
    caption = sentences("As stored, exact at every point of the curve; no weight is read again", remark)
    alt = sentences(f"Share changed against {letter}. {'; '.join(parts)}")
    everything = replace(panel, lines=tuple(lines))
    return Plot(plot_lines([panel], theme), alt, caption, lines_table([everything], kind, "changed_percent"))


def _moving_part(lines: Sequence[Line], value: float) -> tuple[float, float]:
    """Exponents between which any curve still moves, with the slider inside."""
    bounds = [float(np.log10(value)) - 0.5, float(np.log10(value)) + 0.5]
    for line in lines:
        moving = np.flatnonzero((line.y > 0.05) & (line.y < line.y[0] - 0.05))
        if moving.size:
            bounds += [float(np.log10(line.x[max(0, moving[0] - 10)])), float(np.log10(line.x[moving[-1]]))]
    return min(bounds), max(bounds)


def _within(line: Line, span: tuple[float, float]) -> Line:
    """The part of a line that is drawn, so that its label stands at the visible end."""
    inside = (line.x >= 0.999 * 10 ** span[0]) & (line.x <= 1.001 * 10 ** span[1])
    return replace(line, x=line.x[inside], y=line.y[inside])


@remembered
def plot_ulp_histogram(results: Sequence[PairResult], theme: ThemeName, name: str | None = None) -> Plot:
    """How far weights moved in bf16: share of weights by signed distance between codes."""
    figure = go.Figure(layout=figure_layout(theme))
    rows: list[Row] = []
    parts: list[str] = []
    texts: list[str] = []
    furthest = 1
    for c in _counted(results, name, theme):
        if (histogram := ulp_histogram(c.group)) is None:
            continue
        half = len(histogram.labels) // 2
        texts = [code_distance(label) for label in histogram.labels]
        steps, shares = np.arange(-half, half + 1), histogram.share
        furthest = max(furthest, int(np.abs(steps[histogram.counts > 0]).max(initial=1)))
        figure.add_trace(go.Bar(_ulp_bars(c, steps, shares * 100, texts)))
        still, one = float(shares[half]), float(shares[half - 1] + shares[half + 1])
        of_moved = f"{percent(one / (1 - still))} of the rest moved by one ULP" if still < 1 else "none moved"
        parts.append(f"{c.label}: {percent(still)} did not move, {of_moved}")
        for text, k, share in zip(texts, histogram.counts, shares, strict=True):
            model = c.result.tuned.pinned_ref
            rows.append({"model": model, "distance_ulp": text, "count": int(k), "share": float(share)})
    if not parts:
        return blank(theme, _NOTHING)
    shown = min(furthest, ULP_SHOWN)
    figure.update_layout(barmode="group", bargap=0.2)
    steps = np.arange(-shown, shown + 1)
    figure.update_xaxes(
        range=[-shown - 0.6, shown + 0.6],
        tickvals=steps,
        ticktext=[texts[len(texts) // 2 + d] for d in steps],
        showgrid=False,
        title={"text": "distance between bf16 codes, tuned − base, ULP"},
    )
    figure.update_yaxes(title={"text": "weights, %"}, rangemode="tozero")
    caption = sentences(
        "Both sides rounded to bf16; one ULP is the smallest step a weight can take there",
        "An entry flips when its accumulated step crosses a rounding boundary, about half a ULP away",
        "Longer moves are in the data" if furthest > shown else "",
    )
    return Plot(figure, sentences(f"Code distances in bf16. {'; '.join(parts)}"), caption, tuple(rows))


def _ulp_bars(c: _Counted, steps: Any, shares: Floats, texts: Sequence[str]) -> dict[str, Any]:
    return {
        "type": "bar",
        "x": steps,
        "y": shares,
        "name": safe(c.label),
        "marker": {"color": c.colour},
        "customdata": np.array(texts, dtype=object),
        "hovertemplate": f"<b>{safe(c.label)}</b><br>%{{customdata}} ULP: %{{y:.4~g}} % of weights<extra></extra>",
    }


@remembered
def plot_flip_rate_by_exponent(results: Sequence[PairResult], theme: ThemeName, name: str | None = None) -> Plot:
    """Share of weights whose bf16 code changed, by binade of the base weight, and how many weights each holds.

    Dashed is what isotropic noise gives that flips as many entries of each tensor (see `noise_flip_rate`).
    """
    rates: list[Line] = []
    of_noise: list[Line] = []
    held: list[Line] = []
    parts: list[str] = []
    for c in _counted(results, name, theme):
        flips = flip_rate_by_exponent(c.group)
        if flips is None:
            continue
        exponent, rate = _populous(flips)
        if not exponent.size:
            continue
        rates.append(Line(c.label, exponent, rate * 100, c.colour, mode="lines+markers"))
        share = flips.n[np.isin(flips.exponent, exponent)] / flips.n.sum() * 100
        held = held or [Line("weights", exponent, share, tokens(theme).base, "base", mode="lines+markers")]
        ends = [f"{percent(float(rate[i]))} at |w| ≈ 2^{int(exponent[i])}" for i in (0, -1)]
        parts.append(f"{c.label}: from {ends[0]} to {ends[1]}{_misplaced(c)}")
        if (noise := noise_flip_rate(c.group)) is not None:
            binades, expected = _populous(noise)
            of_noise.append(Line(f"noise, {c.label}", binades, expected * 100, tokens(theme).chance, "chance"))
    if not rates:
        return blank(theme, _NOTHING)
    x, drawn = "exponent of the base weight, log₂|w₀|", (*rates, *of_noise)
    panels = [
        Panel(drawn, x, "changed (bf16), %", "Flip rate", y_range=(0.0, 102.0), x_word="binade 2^", y_unit=" %"),
        Panel(tuple(held), x, "weights, %", "Where the weights are", x_word="binade 2^", y_unit=" %"),
    ]
    caption = sentences(
        "One ULP is constant within a binade, so a step of given size flips small weights and leaves large ones",
        "Dashed: isotropic noise that flips as many entries of each tensor" if of_noise else "",
        "Binades with fewer than one weight in 100 000 are left out",
    )
    alt = sentences(f"Flip rate by exponent. {'; '.join(parts)}")
    return Plot(plot_lines(panels, theme), alt, caption, lines_table(panels, "exponent", "percent"))


def _populous(flips: FlipRate | NoiseFlipRate) -> tuple[Floats, Floats]:
    """Exponents and rates worth drawing: a handful of weights draws noise; -127 holds zeros, which have no exponent."""
    enough = (flips.exponent > -127) & (flips.n >= flips.n.sum() * 1e-5)
    return flips.exponent[enough].astype(np.float64), flips.rate[enough]


def _misplaced(c: _Counted) -> str:
    share = misplaced_flips(c.group)
    return f"; {percent(share)} of its flips lie in other binades than noise would put them" if isfinite(share) else ""
