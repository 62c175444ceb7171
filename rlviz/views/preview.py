"""What a sample says by layer, by module and by code distance: estimates as curves inside their 95 % bands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TypeVar

import numpy as np

from rlviz.bins import signed_ulp_labels
from rlviz.sampling.result import Estimate, Preview, Sampled
from rlviz.sources.naming import module_order
from rlviz.types import Lens
from rlviz.views.curves import Line, Panel, plot_lines
from rlviz.views.figure import Plot, Row, blank, finite
from rlviz.views.formats import code_distance, safe, sentences, shorten
from rlviz.views.precision import ULP_SHOWN
from rlviz.views.preview_words import APPROXIMATE, plus_minus, rows_read, with_interval
from rlviz.views.strip import Ours, draw_strip_of, published_lens
from rlviz.views.theme import ThemeName, tuned_colour
from rlviz.views.words import LENS_SHORT, LENS_WORDS, tuned_labels

K = TypeVar("K", int, str)
_NOTHING = "Nothing has been sampled yet: the figure appears after the first round."
_BANDS = "Bands: 95 % intervals"


def plot_preview_by_layer(previews: Sequence[Preview], lens: Lens, theme: ThemeName) -> Plot:
    """Estimated share unchanged per layer, one line and band per tuned model, 0-100 %."""
    layers = sorted({layer for p in previews for layer, s in p.layers.items() if layer is not None and s.n_sampled})
    if not layers:
        return blank(theme, _NOTHING)
    found = [{layer: p.layers[layer] for layer in layers if layer in p.layers} for p in previews]
    lines = _share_lines(previews, found, layers, lens, theme)
    panel = Panel(lines, "layer", _y_title(lens), x_range=_around(layers), y_range=(0.0, 102.0), y_unit=" %")
    figure = plot_lines([panel], theme)
    rows = _rows(previews, found, lens, "layer")
    caption = sentences("Each point is one layer, pooled over its tensors", _BANDS, _about(lens))
    return Plot(figure, _spans(previews, found, lens, "layer"), caption, rows)


def plot_preview_by_module(previews: Sequence[Preview], lens: Lens, theme: ThemeName) -> Plot:
    """Estimated share unchanged per module over all layers, one line and band per tuned model, 0-100 %."""
    modules = module_order({module for p in previews for module, s in p.modules.items() if s.n_sampled})
    if not modules:
        return blank(theme, _NOTHING)
    found = [{module: p.modules[module] for module in modules if module in p.modules} for p in previews]
    lines = _share_lines(previews, found, modules, lens, theme)
    span = _around(range(len(modules)))
    panel = Panel(lines, "module", _y_title(lens), x_range=span, y_range=(0.0, 102.0), y_unit=" %")
    figure = plot_lines([panel], theme)
    figure.update_xaxes(tickvals=np.arange(len(modules)), ticktext=[safe(shorten(m, 22)) for m in modules])
    rows = _rows(previews, found, lens, "module")
    caption = sentences("Each point is one module, pooled over all layers", _BANDS, _about(lens))
    return Plot(figure, _spans(previews, found, lens, "module"), caption, rows)


def plot_preview_ulp(previews: Sequence[Preview], theme: ThemeName) -> Plot:
    """Estimated share of weights by signed distance between bf16 codes, with 95 % bands."""
    known = [
        (label, p, tuned_colour(i, theme))
        for i, (label, p) in enumerate(zip(tuned_labels(previews), previews, strict=True))
        if p.pooled.n_sampled
    ]
    if not known:
        return blank(theme, _NOTHING)
    texts = [code_distance(label) for label in signed_ulp_labels()]
    middle = len(texts) // 2
    reached = [abs(i - middle) for _, p, _ in known for i, e in enumerate(p.pooled.ulp) if e.estimate > 0]
    shown = min(max(reached, default=1) or 1, ULP_SHOWN)
    drawn = range(middle - shown, middle + shown + 1)
    lines: list[Line] = []
    for label, p, colour in known:
        shares = {i - middle: p.pooled.ulp[i] for i in drawn}
        notes = [f"{texts[i]} ULP: {with_interval(p.pooled.ulp[i])}" for i in drawn]
        lines.append(_line(label, list(shares), list(shares.values()), notes, colour))
    span = (-shown - 0.6, shown + 0.6)
    panel = Panel(
        tuple(lines), "distance between bf16 codes, tuned − base, ULP", "weights, %", x_range=span, x_word="bin"
    )
    figure = plot_lines([panel], theme)
    figure.update_xaxes(tickvals=np.arange(-shown, shown + 1), ticktext=[texts[i] for i in drawn])
    rows: list[Row] = [
        {"model": p.tuned.pinned_ref, "distance_ulp": text, **_numbers(e)}
        for _, p, _ in known
        for text, e in zip(texts, p.pooled.ulp, strict=True)
    ]
    parts = [f"{label}: {plus_minus(p.pooled.ulp[middle])} did not move" for label, p, _ in known]
    caption = sentences("Both sides rounded to bf16; one ULP is the smallest step a weight can take there", _BANDS)
    return Plot(figure, sentences(f"Code distances in bf16, estimated. {'; '.join(parts)}"), caption, tuple(rows))


def _share_lines(
    previews: Sequence[Preview], found: Sequence[Mapping[K, Sampled]], keys: Sequence[K], lens: Lens, theme: ThemeName
) -> tuple[Line, ...]:
    """One line per tuned model over the keys it has: layer numbers, or positions of modules."""
    lines: list[Line] = []
    for i, (label, groups) in enumerate(zip(tuned_labels(previews), found, strict=True)):
        known = [k for k in keys if k in groups and groups[k].n_sampled]
        shares = [groups[k].sparsity(lens) for k in known]
        notes = [f"{_said(k)}: {with_interval(s)}, {rows_read(groups[k])}" for k, s in zip(known, shares, strict=True)]
        x = [k if isinstance(k, int) else keys.index(k) for k in known]
        if known:
            lines.append(_line(label, x, shares, notes, tuned_colour(i, theme)))
    return tuple(lines)


def _line(label: str, x: Sequence[int], shares: Sequence[Estimate], notes: Sequence[str], colour: str) -> Line:
    low, middle, high = 100 * np.array([(e.low, e.estimate, e.high) for e in shares]).T
    places = np.array(x, dtype=np.float64)
    return Line(label, places, middle, colour, mode="lines+markers", band=(low, high), notes=tuple(notes))


def _said(key: int | str) -> str:
    return f"layer {key}" if isinstance(key, int) else key


def _around(layers: Sequence[int]) -> tuple[float, float]:
    """Room for a single layer's marker, too."""
    low, high = min(layers), max(layers)
    extra = max(0.5, 0.015 * (high - low))
    return low - extra, high + extra


def _y_title(lens: Lens) -> str:
    return f"weights unchanged ({LENS_SHORT[lens]}), estimated, %"


def _about(lens: Lens) -> str:
    return "The fp8 scale comes from the largest magnitude sampled: approximate" if lens in APPROXIMATE else ""


def _numbers(e: Estimate) -> Row:
    return {"share": finite(e.estimate), "low": finite(e.low), "high": finite(e.high)}


def _rows(previews: Sequence[Preview], found: Sequence[Mapping[K, Sampled]], lens: Lens, key: str) -> tuple[Row, ...]:
    return tuple(
        {
            "model": p.tuned.pinned_ref,
            key: k,
            **_numbers(s.sparsity(lens)),
            "rows_read": s.n_rows_sampled,
            "rows": s.n_rows,
        }
        for p, groups in zip(previews, found, strict=True)
        for k, s in groups.items()
    )


def _spans(previews: Sequence[Preview], found: Sequence[Mapping[K, Sampled]], lens: Lens, key: str) -> str:
    parts: list[str] = []
    for label, groups in zip(tuned_labels(previews), found, strict=True):
        known = [(s.sparsity(lens), k) for k, s in groups.items() if isfinite(s.sparsity(lens).estimate)]
        if not known:
            parts.append(f"{label}: nothing sampled yet")
            continue
        low, high = min(known, key=lambda pair: pair[0].estimate), max(known, key=lambda pair: pair[0].estimate)
        parts.append(f"{label}: from {_at(*low)} to {_at(*high)}")
    return sentences(f"Estimated weights unchanged {LENS_WORDS[lens]} by {key}. {'; '.join(parts)}")


def _at(share: Estimate, key: int | str) -> str:
    return f"{plus_minus(share)} in {_said(key)}"


def plot_preview_strip(previews: Sequence[Preview], lens: Lens, theme: ThemeName) -> Plot:
    """Where each estimate falls among published values: a diamond on its interval."""
    labelled = zip(tuned_labels(previews), previews, strict=True)
    ours = [
        Ours(label, tuned_colour(i, theme), p.base.pinned_ref, p.tuned.pinned_ref, share, plus_minus(share))
        for i, (label, p) in enumerate(labelled)
        for share in [p.pooled.sparsity(published_lens(lens))]
        if isfinite(share.estimate)
    ]
    return draw_strip_of(ours, lens, theme) if ours else blank(theme, _NOTHING)
