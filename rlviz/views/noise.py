"""Spectra and angles beside isotropic noise of the update's own norm, on the sample of matrices it was simulated on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite
from typing import Any

import numpy as np
import plotly.graph_objects as go

from rlviz.metrics import METRICS, Metric
from rlviz.metrics.isotropic_null import PROBE, simulated_draws, simulated_ranks
from rlviz.metrics.spectrum import PROBE as SPECTRUM
from rlviz.result import PairResult
from rlviz.sources.naming import module_order
from rlviz.types import Measured, MetricParams
from rlviz.views.cells import shown
from rlviz.views.chosen import Chosen
from rlviz.views.figure import Floats, Plot, Row, blank, finite, log_axis, log_range, power
from rlviz.views.remember import remembered
from rlviz.views.rows import null_strokes, row_axes, row_dots, row_places
from rlviz.views.theme import ThemeName, figure_layout, tuned_colour
from rlviz.views.words import listed, said, sentences, tuned_labels, unit_of, value_text

SPECTRA = ("nss", "kappa_iso", "stable_rank_update", "effective_rank_update")
ANGLES = tuple(f"{size}_principal_angle_{side}" for size in ("max", "mean") for side in ("left", "right"))
ENERGIES = ("energy_principal", "energy_left", "energy_right")
_SHORT = {  # where a metric's own name is too long under a narrow panel
    "kappa_iso": "κ_iso",
    "stable_rank_update": "stable rank of ΔW",
    "effective_rank_update": "effective rank of ΔW",
    **{f"max_principal_angle_{side}": f"largest angle, {side}" for side in ("left", "right")},
    **{f"mean_principal_angle_{side}": f"mean angle, {side}" for side in ("left", "right")},
    "energy_principal": "energy in the principal block",
    "energy_left": "energy in the left subspace",
    "energy_right": "energy in the right subspace",
}
NOISE = "isotropic noise"
_TICKS = 4  # on the axis of a narrow panel
_HOW = "Of every module and shape the matrix in the middle layer, up to 64 Mi entries"


@dataclass(frozen=True, slots=True, eq=False)
class _Sampled:
    """One tuned model's matrices on which noise was drawn, by module."""

    label: str
    colour: str
    result: PairResult
    group: tuple[Measured, ...]
    params: MetricParams

    def values(self, metric: Metric) -> Floats:
        """A metric of each as it is drawn: percent, degrees or plain; NaN where undefined."""
        scale = 100 if metric.scale == "fraction" else 1
        return np.array([scale * shown(metric, metric.of(m, self.params)) for m in self.group], dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Pair:
    """A metric, what noise gives for it, and the panel that shows both."""

    panel: int
    metric: Metric
    noise: Metric

    @property
    def title(self) -> str:
        """Under the panel."""
        unit = unit_of(self.metric)
        return f"{self.name}, %" if unit == "%" else f"{self.name},<br>{unit}"

    @property
    def name(self) -> str:
        """The metric's, short."""
        return _SHORT.get(self.metric.key, said(self.metric))


def sample_of(result: PairResult) -> tuple[Measured, ...]:
    """The matrices of a result on which isotropic noise was simulated, in the order of modules."""
    found = [m for m in result.floats if simulated_draws(m) and SPECTRUM in m.records]
    modules = module_order({m.module for m in found})
    return tuple(sorted(found, key=lambda m: (modules.index(m.module), m.name)))


def noise_missing(results: Sequence[PairResult]) -> str:
    """Why nothing stands beside noise, and what to do about it."""
    if any(not r.complete for r in results):
        return "Isotropic noise has not been simulated yet: it comes last."
    left_out = [s.detail for r in results for s in r.skipped if s.detail.startswith(f"{PROBE}:")]
    if left_out:
        return f"Isotropic noise was not simulated in this comparison ({left_out[0]})."
    if not any(PROBE in m.records for r in results for m in r.floats):
        return (
            "Isotropic noise was not simulated in this comparison. Measure it anew on the Compare page, or from a "
            "shell with --probes coordinate,spectrum,masks,nulls."
        )
    return "Isotropic noise was not simulated: no matrix of the sample changed, or none was decomposed in full."


def noise_note(members: Sequence[Chosen]) -> str:
    """What a caption says of the noise of the chosen matrix: how often it was drawn, or where it was drawn instead."""
    draws = max((simulated_draws(c.measured) for c in members), default=0)
    if draws:
        return f"Dashed: isotropic noise of each update's own norm on this base, mean of {draws} seeded draws"
    like = [m for m in sample_of(members[0].result) if m.module == members[0].measured.module] if members else []
    return f"Isotropic noise was not simulated on this matrix, but on {like[0].name} of the same module" if like else ""


def noise_label(label: str, members: Sequence[Chosen]) -> str:
    """Name of a model's noise line: the model matters only where there are several."""
    return NOISE if len(members) == 1 else f"noise, {label}"


@remembered
def plot_beside_noise(
    results: Sequence[PairResult], keys: Sequence[str], params: MetricParams, theme: ThemeName
) -> Plot:
    """Metrics (those with an ``_isotropic`` companion) of every sampled matrix, beside noise of the update's norm."""
    models = [
        _Sampled(label, tuned_colour(i, theme), r, group, params)
        for i, (label, r) in enumerate(zip(tuned_labels(results), results, strict=True))
        if (group := sample_of(r))
    ]
    pairs = [_Pair(i, METRICS[key], METRICS[f"{key}_isotropic"]) for i, key in enumerate(keys)]
    if not models:
        return blank(theme, noise_missing(results))
    if not any(np.isfinite(model.values(pair.noise)).any() for model in models for pair in pairs):
        ranks = ", ".join(str(k) for k in simulated_ranks(models[0].group[0]).tolist())
        return blank(theme, f"Isotropic noise was not kept at k = {params.k}. Choose one of {ranks}.")
    names = _row_names(models)
    figure = go.Figure(layout=figure_layout(theme, height=max(420, 140 + 36 * len(names))))
    drawn = [_draw_panel(figure, pair, models, names, theme) for pair in pairs]
    spans = _shared([pair.metric for pair in pairs], [span for _, span in drawn])
    axes = [_sparse_axis(log_range(x, pad=0.08)) for x in spans]
    row_axes(figure, list(names.values()), [pair.title for pair in pairs], axes)
    summary = [_summary(model, pairs) for model in models]
    caption = sentences(
        f"{_HOW}: {len(names)} matrices, a dot each",
        "Dashed: noise with the norm of this very update on this very base, mean of "
        f"{simulated_draws(models[0].group[0])} seeded draws",
        f"At k = {params.k}" if any("k" in pair.metric.uses for pair in pairs) else "",
        *summary,
        "NSS and energies are pooled over these matrices, the others medians",
    )
    alt = sentences(f"Beside isotropic noise of the same norm. {' '.join(summary)}")
    return Plot(figure, alt, caption, tuple(row for rows, _ in drawn for row in rows))


def _draw_panel(
    figure: go.Figure, pair: _Pair, models: Sequence[_Sampled], names: Mapping[str, str], theme: ThemeName
) -> tuple[list[Row], Floats]:
    """Dots and strokes of one metric and its noise; their table, and the values that the axis must hold."""
    unit = {"%": " %", "degrees": "°"}.get(unit_of(pair.metric), "")
    places, table, drawn = list(names), list[Row](), list[Floats]()
    for i, model in enumerate(models):
        y = row_places(len(names), i, len(models))[[places.index(m.name) for m in model.group]]
        seen, chance = model.values(pair.metric), model.values(pair.noise)
        positive = np.where(seen > 0, seen, np.nan)  # a log axis has no place for zero
        strokes = null_strokes((chance, y), NOISE, pair.panel, unit, theme)
        figure.add_trace(go.Scatter(strokes | {"showlegend": i + pair.panel == 0}))
        rows = [names[m.name] for m in model.group]
        figure.add_trace(go.Scatter(row_dots((model.label, model.colour), (positive, y), rows, pair.panel, unit)))
        table += _rows(model, pair.metric, seen, chance)
        drawn += [positive, chance]
    return table, np.concatenate(drawn)


def _row_names(models: Sequence[_Sampled]) -> dict[str, str]:
    """Tensor names in order, and what their rows are called: the module, and the layer where there is one."""
    members = {m.name: m for model in models for m in model.group}
    named = {name: m.module if m.layer is None else f"{m.module}, layer {m.layer}" for name, m in members.items()}
    texts = list(named.values())
    return {name: text if texts.count(text) == 1 else name for name, text in named.items()}


def _shared(metrics: Sequence[Metric], spans: Sequence[Floats]) -> list[Floats]:
    """Values that an axis must hold: panels of one unit and kind share theirs, left and right can be compared."""
    kinds = [(m.unit, m.scale, m.key.rsplit("_", 1)[0] if m.unit == "rad" else m.key) for m in metrics]
    return [np.concatenate([x for k, x in zip(kinds, spans, strict=True) if k == kind]) for kind in kinds]


def _sparse_axis(span: tuple[float, float]) -> dict[str, Any]:
    """A log axis for a narrow panel: whole decades where there are two, else a few of the usual ticks."""
    whole = list(range(ceil(span[0]), floor(span[1]) + 1))
    if len(whole) >= 2:
        kept = whole[:: ceil(len(whole) / _TICKS)]
        return log_axis(span) | {"tickvals": np.array([10.0**e for e in kept]), "ticktext": [power(e) for e in kept]}
    axis = log_axis(span)
    step = ceil(len(axis["ticktext"]) / _TICKS)
    return axis | {"tickvals": axis["tickvals"][::step], "ticktext": axis["ticktext"][::step]}


def _rows(model: _Sampled, metric: Metric, seen: Floats, chance: Floats) -> list[Row]:
    return [
        {
            "model": model.result.tuned.pinned_ref,
            "tensor": m.name,
            "metric": metric.column,
            "unit": unit_of(metric),
            "value": finite(float(a)),
            "isotropic_noise": finite(float(b)),
            "draws": simulated_draws(m),
        }
        for m, a, b in zip(model.group, seen, chance, strict=True)
    ]


def _summary(model: _Sampled, pairs: Sequence[_Pair]) -> str:
    """Over the sample, value and noise side by side."""
    parts: list[str] = []
    for pair in pairs:
        value, noise = (metric.pooled(model.group, model.params) for metric in (pair.metric, pair.noise))
        if isfinite(value) and isfinite(noise):
            parts.append(f"{pair.name} {value_text(pair.metric, value)} (noise {value_text(pair.noise, noise)})")
    return sentences(f"{model.label}: {listed(parts)}") if parts else sentences(f"{model.label}: undefined")
