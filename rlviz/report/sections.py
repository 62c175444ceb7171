"""What stands in a report: the pages of the dashboard, shortened."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rlviz import views
from rlviz.metrics import METRICS, Metric
from rlviz.result import PairResult
from rlviz.types import LENSES, MetricParams
from rlviz.views import Plot, noise
from rlviz.views.masks_words import measured_masks
from rlviz.views.theme import ThemeName
from rlviz.views.words import param_words, title_of, tuned_labels

Draw = Callable[[ThemeName], Plot]


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: its title, how it is drawn in a theme, and the metric that explains it."""

    title: str
    draw: Draw
    metric: Metric


def sections(
    results: Sequence[PairResult], params: MetricParams, metric: Metric, name: str
) -> Iterator[tuple[str, list[Figure]]]:
    """The pages of the dashboard, shortened: titles and the figures under them."""
    sparsity = METRICS["update_sparsity"]

    def heatmap(shown: Metric) -> Figure:
        words = param_words(shown, params)
        title = f"{title_of(shown)} by layer and module{f' ({words})' if words else ''}"
        return Figure(title, lambda theme: views.plot_layer_heatmap(results, shown, params, theme), shown)

    yield (
        "Overview",
        [
            Figure("Among published values", lambda t: views.plot_published_strip(results, params.lens, t), sparsity),
            heatmap(metric),
            Figure("By layer", lambda t: views.plot_sparsity_by_layer(results, params, t), sparsity),
            Figure("By module", lambda t: views.plot_sparsity_by_module(results, params, t), sparsity),
        ],
    )

    def beside_noise(what: str, keys: Sequence[str]) -> Figure:
        title = f"{what} beside isotropic noise of the same norm"
        return Figure(title, lambda t: views.plot_beside_noise(results, keys, params, t), METRICS[keys[0]])

    def matched(what: str, keys: tuple[str, ...]) -> list[Figure]:
        if not any("matched" in m.records for r in results for m in r.measured):
            return []
        draw = lambda t: views.plot_matched_norm(results, keys, params, t)  # noqa: E731
        return [Figure(f"{what} at matched norm", draw, METRICS[f"{keys[0]}_matched"])]

    yield "Precision", _precision(results, params)
    if any("spectrum" in m.records for r in results for m in r.measured):
        yield (
            "Spectra",
            [
                heatmap(METRICS["nss"]),
                beside_noise("Spectra", noise.SPECTRA),
                *matched("Spectra", views.MATCHED_SPECTRA),
                Figure(
                    "Stable rank of the update, by layer",
                    lambda t: views.plot_by_layer(results, METRICS["stable_rank_update"], params, t),
                    METRICS["stable_rank_update"],
                ),
                Figure(
                    f"Singular values of {name}", lambda t: views.plot_singular_values(results, name, t), METRICS["nss"]
                ),
            ],
        )
        yield (
            "Angles",
            [
                heatmap(METRICS["energy_principal_enrichment"]),
                heatmap(METRICS["max_principal_angle_left"]),
                beside_noise("Angles", noise.ANGLES),
                beside_noise("Energies", noise.ENERGIES),
                *matched("Angles", views.MATCHED_ANGLES),
                Figure(
                    f"Principal angles of {name}",
                    lambda t: views.plot_angle_curves(results, name, params.k, t),
                    METRICS["max_principal_angle_left"],
                ),
                Figure(
                    f"Where the update of {name} lies",
                    lambda t: views.plot_alignment_curve(results, name, params.k, t),
                    METRICS["energy_principal"],
                ),
            ],
        )
    if any(map(measured_masks, results)):
        yield "Masks", _masks(results, params)
    if any("spectrum" in m.records for r in results for m in r.measured):
        yield "Gates", _gates(results, params)


def _gates(results: Sequence[PairResult], params: MetricParams) -> list[Figure]:
    return [
        Figure("Length of the update", lambda t: views.plot_update_budget(results, t), METRICS["kl_budget"]),
        Figure(
            "Every matrix against isotropic noise of its length",
            lambda t: views.plot_against_isotropic(results, params, t),
            METRICS["update_edge_ratio"],
        ),
        Figure(
            "Largest angle against Wedin's bounds",
            lambda t: views.plot_wedin_matrices(results, params, t),
            METRICS["wedin_rigorous"],
        ),
        Figure("How tight the bounds are", lambda t: views.plot_tightness(results, t), METRICS["weyl_ratio"]),
    ]


def _masks(results: Sequence[PairResult], params: MetricParams) -> list[Figure]:
    figures = (
        ("Where changes fall", views.plot_mask_overlaps, "overlap_principal"),
        ("Odds of change in principal weights", views.plot_mask_odds, "log_odds_principal_mh"),
        ("Stripes of change", views.plot_mask_dispersion, "row_dispersion"),
    )
    return [Figure(title, lambda t, plot=plot: plot(results, params, t), METRICS[key]) for title, plot, key in figures]


def _precision(results: Sequence[PairResult], params: MetricParams) -> list[Figure]:
    def lenses(result: PairResult) -> Draw:
        return lambda theme: views.plot_lens_heatmaps(result, LENSES, params, theme)

    return [
        Figure(
            "Updates that rounding hides",
            lambda t: views.plot_hidden_updates(results, params, t),
            METRICS["hidden_fraction"],
        ),
        *(
            Figure(f"{label} under every lens", lenses(result), METRICS["update_sparsity"])
            for result, label in zip(results, tuned_labels(results), strict=True)
        ),
        Figure(
            "Relative tolerance",
            lambda t: views.plot_threshold_curve(results, "eta", params, t),
            METRICS["changed_rel_share"],
        ),
        Figure(
            "Absolute tolerance",
            lambda t: views.plot_threshold_curve(results, "tau", params, t),
            METRICS["changed_abs_share"],
        ),
        Figure("Steps in bf16", lambda t: views.plot_ulp_histogram(results, t), METRICS["one_ulp_share"]),
        Figure(
            "Changed share by size of the weight",
            lambda t: views.plot_flip_rate_by_exponent(results, t),
            METRICS["density"],
        ),
    ]
