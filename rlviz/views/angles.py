"""How the leading subspaces turned, and where the update points: curves with what chance gives."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from rlviz.metrics import METRICS
from rlviz.metrics.alignment import alignment_curve, direction_table
from rlviz.metrics.isotropic_null import noise_angles, simulated_ranks
from rlviz.metrics.subspace import (
    PROBE,
    Subspace,
    angle_curve,
    chance_angles,
    field,
    max_angle_over_k,
    rank_used,
    side_dimension,
    spectral_gap,
)
from rlviz.result import PairResult
from rlviz.types import MetricParams
from rlviz.views.chosen import Chosen, chosen, not_measured
from rlviz.views.curves import Line, Mark, Panel, lines_table, plot_lines
from rlviz.views.figure import Floats, Plot
from rlviz.views.noise import noise_label, noise_note
from rlviz.views.remember import remembered
from rlviz.views.theme import ThemeName, tokens
from rlviz.views.words import angle, number, percent, sentences, times_chance

_FLOOR_DEG = 1e-5  # float64 cosines resolve about 1e-7 rad; below that a log axis would draw rounding
_SIDES: tuple[tuple[Subspace, str], ...] = (("left", "d_out"), ("right", "d_in"))


def _degrees(curve: Floats) -> Floats:
    return np.maximum(np.degrees(curve), _FLOOR_DEG)


def _angle_range(lines: Sequence[Line]) -> tuple[float, float]:
    low = min((float(np.nanmin(line.y)) for line in lines if line.y.size), default=_FLOOR_DEG)
    return float(np.log10(max(low, _FLOOR_DEG))) - 0.1, float(np.log10(90)) + 0.08


@remembered
def plot_angle_curves(results: Sequence[PairResult], name: str, k: int, theme: ThemeName) -> Plot:
    """Principal angles between the top-k subspaces of base and tuned, left and right, with the chance line."""
    members = chosen(results, name, PROBE, theme)
    members = [c for c in members if rank_used(c.measured, k) >= 1]
    if not members:
        return not_measured(results, name, "principal angles", theme)
    panels: list[Panel] = []
    parts: list[str] = []
    for side, dimension in _SIDES:
        lines: list[Line] = []
        for c in members:
            curve = angle_curve(c.measured, side, k)
            lines.append(Line(c.label, np.arange(1.0, len(curve) + 1), _degrees(curve), c.colour))
            noise = noise_angles(c.measured, side, k)
            beside = ("", "") if noise is None else (f" (noise {_text(noise[-1])})", f" (noise {_text(noise.mean())})")
            parts.append(
                f"{c.label} {side} largest {_text(curve[-1])}{beside[0]}, mean {_text(curve.mean())}{beside[1]}"
            )
            if noise is not None:
                x = np.arange(1.0, len(noise) + 1)
                lines.append(Line(noise_label(c.label, members), x, _degrees(noise), tokens(theme).chance, "chance"))
        first = members[0].measured
        random = chance_angles(first, side, k)
        lines.append(Line("chance", np.arange(1.0, len(random) + 1), _degrees(random), tokens(theme).chance, "chance"))
        title = f"{side.capitalize()} subspace ({dimension} = {side_dimension(first, side)})"
        panels.append(
            Panel(
                tuple(lines),
                "angle i, ascending",
                "principal angle, degrees",
                title,
                log_y=True,
                y_range=_angle_range(lines),
                x_word="i =",
                y_unit="°",
            )
        )
    used, gap = rank_used(members[0].measured, k), spectral_gap(members[0].measured, rank_used(members[0].measured, k))
    caption = sentences(
        f"Angles between the top-{used} subspaces of base and tuned",
        *parts,
        "Uppermost, chance: two random subspaces of the same dimensions (simulated, 32 draws)",
        noise_note(members),
        f"The largest angle follows the gap at k: γ_k = {number(gap)} here",
    )
    return Plot(
        plot_lines(panels, theme), sentences(f"Principal angles of {name} at k = {used}. {'; '.join(parts)}"), caption,
        lines_table(panels, "i", "angle_deg"),
    )  # fmt: skip


def _text(radians: float) -> str:
    return angle(float(radians))


def _noise_over_k(c: Chosen, ranks: NDArray[np.int64], members: Sequence[Chosen], theme: ThemeName) -> list[Line]:
    """Largest angle that noise of the update's norm gives at the ranks of the observed line."""
    kept = simulated_ranks(c.measured)
    at = kept[(kept >= ranks.min()) & (kept <= ranks.max())]
    if not at.size:
        return []
    sides = [METRICS[f"max_principal_angle_{side}_isotropic"] for side, _ in _SIDES]
    largest = [max(metric.of(c.measured, MetricParams(k=k)) for metric in sides) for k in at.tolist()]
    x, y = at.astype(np.float64), _degrees(np.array(largest))
    return [Line(noise_label(c.label, members), x, y, tokens(theme).chance, "chance")]


@remembered
def plot_max_angle_over_k(results: Sequence[PairResult], name: str, k: int, theme: ThemeName) -> Plot:
    """Largest angle at every preset k, left and right together, beside the gap of the base that limits it."""
    members = [c for c in chosen(results, name, PROBE, theme) if len(max_angle_over_k(c.measured)[0])]
    if not members:
        return not_measured(results, name, "the largest angle over k", theme)
    lines: list[Line] = []
    parts: list[str] = []
    for c in members:
        ranks, left, right, _ = max_angle_over_k(c.measured)
        largest = np.maximum(left, right)
        lines.append(Line(c.label, ranks.astype(np.float64), _degrees(largest), c.colour, mode="lines+markers"))
        lines += _noise_over_k(c, ranks, members, theme)
        parts.append(f"{c.label} between {angle(float(largest.min()))} and {angle(float(largest.max()))}")
    ranks, _, _, gap = max_angle_over_k(members[0].measured)
    x = ranks.astype(np.float64)
    gaps = Line("base", x, np.where(gap > 0, gap, np.nan), tokens(theme).base, "base", mode="lines+markers")
    mark = (Mark(float(k), f"k = {k}", tokens(theme).quiet),) if x.min() <= k <= x.max() else ()
    panels = [
        Panel(
            tuple(lines),
            "k",
            "largest principal angle, degrees",
            "Largest angle",
            log_x=True,
            log_y=True,
            x_word="k =",
            y_unit="°",
            marks=mark,
        ),
        Panel(
            (gaps,),
            "k",
            "γₖ / σ₁ of the base, dimensionless",
            "Gap of the base",
            log_x=True,
            log_y=True,
            x_word="k =",
            marks=mark,
        ),
    ]
    caption = sentences(
        "Largest angle of the two sides at each preset k",
        "Where the gap of the base is small, a small update turns the subspace far",
        noise_note(members),
    )
    return Plot(
        plot_lines(panels, theme), sentences(f"Largest principal angle of {name} over k. {'; '.join(parts)}"), caption,
        lines_table(panels, "k", "value"),
    )  # fmt: skip


@remembered
def plot_alignment_curve(results: Sequence[PairResult], name: str, k: int, theme: ThemeName) -> Plot:
    """Share of the update's energy in the top-k principal block for k = 1 … K, with the isotropic curve."""
    members = chosen(results, name, PROBE, theme)
    curves = [(c, *alignment_curve(c.measured)) for c in members]
    curves = [(c, ranks, seen, even) for c, ranks, seen, even in curves if np.isfinite(seen).any()]
    if not curves:
        return not_measured(results, name, "the alignment of a non-zero update", theme)
    parts: list[str] = []
    lines: list[Line] = []
    for c, ranks, seen, even in curves:
        lines.append(Line(c.label, ranks.astype(np.float64), seen * 100, c.colour))
        at = min(rank_used(c.measured, k), len(ranks)) - 1
        ratio = float(seen[at] / even[at])
        parts.append(
            f"{c.label} has {percent(float(seen[at]))} there, {times_chance(ratio)} ({percent(float(even[at]))})"
        )
    _, ranks, _, even = curves[0]
    used = rank_used(curves[0][0].measured, k)
    lines.append(Line("isotropic", ranks.astype(np.float64), even * 100, tokens(theme).chance, "chance"))
    panel = Panel(
        tuple(lines),
        "k, size of the principal block",
        "update energy in the block, %",
        log_x=True,
        log_y=True,
        x_word="k =",
        y_unit=" %",
        marks=(Mark(float(used), f"k = {used}", tokens(theme).quiet),),
    )
    caption = sentences(
        "Cumulative energy of ΔW in the block spanned by the k leading left and right directions of the base",
        "Dashed: an isotropic update, k²/(d_out·d_in)",
    )
    alt = sentences(f"Update energy of {name} in the top-{used} principal block. {'; '.join(parts)}")
    return Plot(plot_lines([panel], theme), alt, caption, lines_table([panel], "k", "energy_percent"))


@remembered
def plot_update_vs_components(results: Sequence[PairResult], name: str, theme: ThemeName) -> Plot:
    """Update against each leading component of the base: the angle of ΔW v_i to u_i, and u_iᵀ ΔW v_i / σ_i."""
    members = [c for c in chosen(results, name, PROBE, theme) if field(c.measured, "update_energy") > 0]
    if not members:
        return not_measured(results, name, "the direction of a non-zero update", theme)
    turned: list[Line] = []
    grown: list[Line] = []
    parts: list[str] = []
    for c in members:
        table = direction_table(c.measured)
        x = table.component.astype(np.float64)
        turned.append(Line(c.label, x, np.degrees(table.angle), c.colour, mode="markers"))
        grown.append(Line(c.label, x, table.relative_projection * 100, c.colour, mode="markers"))
        isotropic = sqrt(float(field(c.measured, "update_energy")) / np.prod(c.measured.shape)) / table.singular_value
        grown.append(Line("", x, np.zeros(len(x)), c.colour, "chance", band=(-200 * isotropic, 200 * isotropic)))
        closest = int(np.nanargmin(table.angle))
        parts.append(f"{c.label} comes closest at component {closest + 1} ({angle(float(table.angle[closest]))})")
    lowest = min(float(np.nanmin(line.y)) for line in turned)
    turned.append(_chance_directions(members[0], theme))
    panels = [
        Panel(
            tuple(turned),
            "component i of the base",
            "angle of ΔW vᵢ to uᵢ, degrees",
            "Direction",
            y_range=(min(70.0, lowest - 5), 91.5),
            x_word="i =",
            y_unit="°",
        ),
        Panel(
            tuple(grown),
            "component i of the base",
            "uᵢᵀ ΔW vᵢ / σᵢ, %",
            "Size along the component",
            x_word="i =",
            y_unit=" %",
        ),
    ]
    caption = sentences(
        "90° means the update leaves component i alone. Grey band: 90 % of random directions",
        "Right: first-order relative change of σᵢ; bands: ± 2 SD of an isotropic update of each model's size",
    )
    alt = sentences(f"Update of {name} against the base's leading components. {'; '.join(parts)}")
    return Plot(plot_lines(panels, theme), alt, caption, lines_table(panels, "component", "value"))


def _random_direction_angle(d: int, share: float) -> float:
    """Quantile of the angle (degrees) between a fixed and a random direction of R^d: cos² is Beta(1/2, (d-1)/2)."""
    return float(np.degrees(np.arccos(sqrt(float(betaincinv(0.5, (d - 1) / 2, 1 - share))))))


def _chance_directions(c: Chosen, theme: ThemeName) -> Line:
    low, middle, high = (_random_direction_angle(side_dimension(c.measured, "left"), q) for q in (0.05, 0.5, 0.95))
    x = direction_table(c.measured).component.astype(np.float64)
    edges = np.full(len(x), low), np.full(len(x), high)
    return Line("chance", x, np.full(len(x), middle), tokens(theme).chance, "chance", band=edges)
