"""Singular values of base, tuned and update of one matrix."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np

from rlviz.metrics import METRICS
from rlviz.metrics.isotropic_null import noise_spectral_shift, noise_update_values, simulated_draws
from rlviz.metrics.spectrum import PROBE, spectra
from rlviz.metrics.subspace import leading_values
from rlviz.result import PairResult
from rlviz.types import MetricParams
from rlviz.views.chosen import Chosen, chosen, not_measured
from rlviz.views.curves import Line, Panel, lines_table, plot_lines
from rlviz.views.figure import Floats, Plot
from rlviz.views.noise import NOISE, noise_label, noise_note
from rlviz.views.remember import remembered
from rlviz.views.theme import ThemeName, tokens
from rlviz.views.words import number, percent, sentences


def _index(values: Floats) -> Floats:
    return np.arange(1, len(values) + 1, dtype=np.float64)


def _both(c: Chosen) -> tuple[Floats, Floats]:
    """Base and tuned singular values over the indices both have."""
    base, tuned = leading_values(c.measured, "base"), leading_values(c.measured, "tuned")
    n = min(len(base), len(tuned))
    return base[:n], tuned[:n]


@remembered
def plot_singular_values(results: Sequence[PairResult], name: str, theme: ThemeName) -> Plot:
    """σ of base and tuned overlaid (log scale), and beside it how far each value moved, relative to the base."""
    members = chosen(results, name, PROBE, theme)
    if not members:
        return not_measured(results, name, "the spectrum", theme)
    base = leading_values(members[0].measured, "base")
    grey = tokens(theme).base
    overlay = [Line("base", _index(base), base, grey, "base", width=5)]
    shift: list[Line] = []
    parts: list[str] = []
    for c in members:
        before, after = _both(c)
        x = _index(before)
        with np.errstate(divide="ignore", invalid="ignore"):
            moved = np.where(before > 0, np.abs(after - before) / before, np.nan)
        overlay.append(Line(c.label, x, after, c.colour, width=1.5))
        shift.append(Line(c.label, x, moved * 100, c.colour, width=1.5))
        shift += _noise_shift(c, before, members, theme)
        nss = float(np.linalg.norm(after - before) / np.linalg.norm(before)) if before.any() else float("nan")
        median = float(np.nanmedian(moved)) if np.isfinite(moved).any() else float("nan")
        parts.append(
            f"{c.label} moves the spectrum by {number(nss)} of its norm{_of_noise(c)}, the median value by "
            f"{percent(median)}"
        )
    panels = [
        Panel(
            tuple(overlay), "index i", "singular value σᵢ, weight units", "Singular values", log_y=True, x_word="i ="
        ),
        Panel(
            tuple(shift),
            "index i",
            "|σᵢ tuned − σᵢ base| / σᵢ base, %",
            "Relative shift",
            log_y=True,
            x_word="i =",
            y_unit=" %",
        ),
    ]
    partial = spectra(members[0].measured) is None
    caption = sentences(
        "Singular values of base (wide grey) and tuned (thin) in descending order; right, the shift of each value",
        "Only the leading values were computed for this matrix" if partial else "",
        noise_note(members),
        *parts,
    )
    return Plot(
        plot_lines(panels, theme), sentences(f"Singular values of {name}. {'; '.join(parts)}"), caption,
        lines_table(panels, "index", "value"),
    )  # fmt: skip


def _noise_shift(c: Chosen, base: Floats, members: Sequence[Chosen], theme: ThemeName) -> list[Line]:
    """How far noise of the update's norm moves each value, relative to the base; none where it was not simulated."""
    moved = noise_spectral_shift(c.measured, base) if simulated_draws(c.measured) else None
    if moved is None:
        return []
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(base > 0, moved / base, np.nan)
    return [Line(noise_label(c.label, members), _index(base), share * 100, tokens(theme).chance, "chance")]


def _of_noise(c: Chosen) -> str:
    """The spectral shift of noise in brackets."""
    value = METRICS["nss_isotropic"].of(c.measured, MetricParams())
    return f" (noise of its norm by {number(value)})" if isfinite(value) else ""


@remembered
def plot_update_singular_values(results: Sequence[PairResult], name: str, theme: ThemeName) -> Plot:
    """σ of the update (log scale), and the share of its energy in the leading k of them."""
    members = [(c, s[2]) for c in chosen(results, name, PROBE, theme) if (s := spectra(c.measured)) is not None]
    members = [(c, update) for c, update in members if update.any()]
    if not members:
        return not_measured(results, name, "the spectrum of the update (a full one, of a matrix that changed)", theme)
    values = [Line(c.label, _index(u), u, c.colour) for c, u in members]
    drawn = [c for c, _ in members]
    noise = [(c, v) for c in drawn if (v := noise_update_values(c.measured)) is not None]
    values += [Line(noise_label(c.label, drawn), _index(v), v, tokens(theme).chance, "chance") for c, v in noise]
    energy = [Line(c.label, _index(u), np.cumsum(u**2) / np.sum(u**2) * 100, c.colour) for c, u in members]
    even = _chance_energy(members[0][1], [v for _, v in noise], theme)
    panels = [
        Panel(tuple(values), "index i", "σᵢ of ΔW, weight units", "Update", log_y=True, x_word="i ="),
        Panel(
            (*energy, even),
            "k",
            "energy in the leading k, %",
            "Cumulative energy",
            log_x=True,
            y_range=(0.0, 102.0),
            x_word="k =",
            y_unit=" %",
        ),
    ]
    parts = [
        f"{c.label}: stable rank {_beside('stable_rank_update', c)}, effective rank "
        f"{_beside('effective_rank_update', c)} of {len(u)}"
        for c, u in members
    ]
    note = noise_note(drawn)
    caption = sentences(
        "Singular values of the update ΔW = tuned − base", *parts, note, "" if noise else "Dashed: all values equal"
    )
    return Plot(
        plot_lines(panels, theme), sentences(f"Singular values of the update of {name}. {'; '.join(parts)}"), caption,
        lines_table(panels, "index", "value"),
    )  # fmt: skip


def _beside(key: str, c: Chosen) -> str:
    """A metric of the chosen matrix, noise in brackets where it was simulated."""
    value, noise = (METRICS[k].of(c.measured, MetricParams()) for k in (key, f"{key}_isotropic"))
    return number(value) + (f" (noise {number(noise)})" if isfinite(noise) else "")


def _chance_energy(update: Floats, noise: Sequence[Floats], theme: ThemeName) -> Line:
    """Energy in the leading k values of noise, whose share depends on the shape alone; else of values all equal."""
    label, values = (NOISE, noise[0]) if noise else ("equal values", np.ones_like(update))
    share = np.cumsum(values**2) / np.sum(values**2)
    return Line(label, _index(values), share * 100, tokens(theme).chance, "chance")
