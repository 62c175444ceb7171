"""A comparison as one HTML file: every figure interactive, nothing fetched, nothing sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from rlviz import views
from rlviz.citation import cite
from rlviz.metrics import METRICS, Metric
from rlviz.result import PairResult
from rlviz.types import LENSES, MetricParams
from rlviz.version import __version__
from rlviz.views import Plot
from rlviz.views.chosen import default_tensor
from rlviz.views.tables import headline_table, lens_table, measure_table, skipped_table
from rlviz.views.theme import FONT, MONOSPACE, PLOTLY_CONFIG, ThemeName, template, tokens
from rlviz.views.words import (
    count,
    headline,
    headline_numbers,
    number,
    param_words,
    provenance_line,
    title_of,
    tuned_labels,
)

THEMES: tuple[ThemeName, ...] = ("light", "dark")
MAX_ROWS = 200  # of any table; a note under it says how many there are in all

Draw = Callable[[ThemeName], Plot]


@dataclass(frozen=True, slots=True)
class _Figure:
    title: str
    draw: Draw
    metric: Metric


def report_html(
    results: Sequence[PairResult],
    params: MetricParams,
    *,
    metric: Metric = METRICS["update_sparsity"],
    tensor: str = "",
    link: str = "",
    remarks: Sequence[str] = (),
) -> str:
    """The report as text of one HTML file.

    Parameters
    ----------
    results : one per tuned model, all of one base, in the order of their colours
    metric : what the heat map shows
    tensor : the matrix whose spectra and angles are drawn; by default one of the middle layer
    link : where the live view is, if anywhere
    remarks : sentences the reader must see first, such as what was left out
    """
    from jinja2 import Environment
    from markupsafe import Markup
    from plotly.offline import get_plotlyjs

    sections, drawn = _drawn(_sections(results, params, metric, tensor or default_tensor(results[0])))
    labels = tuned_labels(results)
    page = Environment(autoescape=True, trim_blocks=True).from_string(_asset("report.html"))
    return page.render(
        title=f"{results[0].base.label} → {', '.join(r.tuned.label for r in results)}",
        extent=[_extent(r, label) for r, label in zip(results, labels, strict=True)],
        link=link if link.startswith(("https://", "http://")) else "",
        headline=headline(results, params),
        models=[
            {"label": label, "numbers": headline_numbers(r, params)} for r, label in zip(results, labels, strict=True)
        ],
        remarks=[*remarks, *dict.fromkeys(n.detail for r in results for n in r.notices)],
        sections=sections,
        tables=_tables(results, params),
        citation=cite(results, link),
        provenance=[provenance_line(r) for r in results],
        version=__version__,
        cell=_cell,
        variables=lambda theme: Markup(_variables(theme)),
        css=Markup(_asset("report.css")),
        plotly=Markup(get_plotlyjs()),
        plots=Markup(_json({"figures": drawn, "templates": _templates(), "config": PLOTLY_CONFIG})),
        script=Markup(_asset("report.js")),
    )


def _sections(
    results: Sequence[PairResult], params: MetricParams, metric: Metric, name: str
) -> Iterator[tuple[str, list[_Figure]]]:
    """The pages of the dashboard, shortened: titles and the figures under them."""
    sparsity = METRICS["update_sparsity"]

    def heatmap(shown: Metric) -> _Figure:
        words = param_words(shown, params)
        title = f"{title_of(shown)} by layer and module{f' ({words})' if words else ''}"
        return _Figure(title, lambda theme: views.plot_layer_heatmap(results, shown, params, theme), shown)

    yield (
        "Overview",
        [
            _Figure("Among published values", lambda t: views.plot_published_strip(results, params.lens, t), sparsity),
            heatmap(metric),
            _Figure("By layer", lambda t: views.plot_sparsity_by_layer(results, params, t), sparsity),
            _Figure("By module", lambda t: views.plot_sparsity_by_module(results, params, t), sparsity),
        ],
    )
    yield "Precision", _precision(results, params)
    if any("spectrum" in m.records for r in results for m in r.measured):
        yield (
            "Spectra",
            [
                heatmap(METRICS["nss"]),
                _Figure(
                    "Stable rank of the update, by layer",
                    lambda t: views.plot_by_layer(results, METRICS["stable_rank_update"], params, t),
                    METRICS["stable_rank_update"],
                ),
                _Figure(
                    f"Singular values of {name}", lambda t: views.plot_singular_values(results, name, t), METRICS["nss"]
                ),
            ],
        )
        yield (
            "Angles",
            [
                heatmap(METRICS["energy_principal_enrichment"]),
                heatmap(METRICS["max_principal_angle_left"]),
                _Figure(
                    f"Principal angles of {name}",
                    lambda t: views.plot_angle_curves(results, name, params.k, t),
                    METRICS["max_principal_angle_left"],
                ),
                _Figure(
                    f"Where the update of {name} lies",
                    lambda t: views.plot_alignment_curve(results, name, params.k, t),
                    METRICS["energy_principal"],
                ),
            ],
        )


def _precision(results: Sequence[PairResult], params: MetricParams) -> list[_Figure]:
    def lenses(result: PairResult) -> Draw:
        return lambda theme: views.plot_lens_heatmaps(result, LENSES, params, theme)

    return [
        _Figure(
            "Updates that rounding hides",
            lambda t: views.plot_hidden_updates(results, params, t),
            METRICS["hidden_fraction"],
        ),
        *(
            _Figure(f"{label} under every lens", lenses(result), METRICS["update_sparsity"])
            for result, label in zip(results, tuned_labels(results), strict=True)
        ),
        _Figure(
            "Relative tolerance",
            lambda t: views.plot_threshold_curve(results, "eta", params, t),
            METRICS["changed_rel_share"],
        ),
        _Figure(
            "Absolute tolerance",
            lambda t: views.plot_threshold_curve(results, "tau", params, t),
            METRICS["changed_abs_share"],
        ),
        _Figure("Steps in bf16", lambda t: views.plot_ulp_histogram(results, t), METRICS["one_ulp_share"]),
        _Figure(
            "Changed share by size of the weight",
            lambda t: views.plot_flip_rate_by_exponent(results, t),
            METRICS["density"],
        ),
    ]


def _drawn(sections: Iterator[tuple[str, list[_Figure]]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the page says of each figure, and each figure's data and layout per theme, in the same order."""
    said: list[dict[str, Any]] = []
    drawn: list[dict[str, Any]] = []
    for title, figures in sections:
        entries: list[dict[str, Any]] = []
        for figure in figures:
            plots = {theme: figure.draw(theme) for theme in THEMES}
            plot = plots["light"]
            drawn.append({theme: _without_template(plots[theme]) for theme in THEMES})
            entries.append(
                {
                    "index": len(drawn) - 1,
                    "title": figure.title,
                    "metric": figure.metric,
                    "alt": plot.alt,
                    "caption": plot.caption,
                    "height": drawn[-1]["light"]["layout"]["height"],
                    "rows": plot.table[:MAX_ROWS],
                    "n_rows": len(plot.table),
                }
            )
        said.append({"title": title, "figures": entries})
    return said, drawn


def _without_template(plot: Plot) -> dict[str, Any]:
    """Data and layout; the template, the same for all figures of a theme, is kept once."""
    spec: dict[str, Any] = dict(plot.figure.to_dict())
    spec["layout"].pop("template")
    return spec


def _templates() -> dict[str, Any]:
    return {theme: template(theme).to_plotly_json() for theme in THEMES}


def _tables(results: Sequence[PairResult], params: MetricParams) -> list[dict[str, Any]]:
    skipped = skipped_table(results)
    reasons = ", ".join(f"{n} {reason}" for reason, n in Counter(row["reason"] for row in skipped).items())
    tensors = headline_table(results, params)
    return [
        {
            "title": "Unchanged under every lens",
            "note": "Share of weights whose value did not change, pooled over all tensors compared.",
            "rows": (rows := lens_table(results, params)),
            "n_rows": len(rows),
        },
        {
            "title": "Every measure",
            "note": f"k = {params.k}, η = {params.eta:.3g}, τ = {params.tau:.3g}.",
            "rows": (rows := measure_table(results, params)),
            "n_rows": len(rows),
        },
        {
            "title": "Tensors",
            "note": "Headline measures of each tensor.",
            "rows": tensors[:MAX_ROWS],
            "n_rows": len(tensors),
        },
        {
            "title": "Skipped",
            "note": reasons or "Nothing was skipped.",
            "rows": skipped[:MAX_ROWS],
            "n_rows": len(skipped),
        },
    ]


def _extent(result: PairResult, label: str) -> str:
    landed = [m for m in result.measured if m.records]
    weights = count(sum(m.match.n for m in landed))
    state = "" if result.complete else ", unfinished"
    return f"{label}: {len(landed)} of {result.total} tensors compared, {weights} weights{state}"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return number(value, 4) if isinstance(value, float) else str(value)


def _variables(theme: ThemeName) -> str:
    """The theme's colours as CSS variables."""
    t = tokens(theme)
    values: Mapping[str, str] = {
        "background": t.background, "panel": t.panel, "text": t.text, "quiet": t.quiet, "accent": t.accent,
        "grid": t.grid, "font": FONT, "monospace": MONOSPACE,
    }  # fmt: skip
    return " ".join(f"--{name}: {value};" for name, value in values.items())


def _json(content: Any) -> str:
    """JSON that may stand inside a script element: no character in it can end one."""
    from plotly.io.json import to_json_plotly

    return str(to_json_plotly(content)).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _asset(name: str) -> str:
    return files("rlviz.data").joinpath(name).read_text(encoding="utf-8")
