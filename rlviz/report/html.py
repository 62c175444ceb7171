"""A comparison as one HTML file: every figure interactive, nothing fetched, nothing sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

from rlviz.citation import cite
from rlviz.metrics import METRICS, Metric
from rlviz.report.sections import Figure, sections
from rlviz.result import PairResult
from rlviz.types import MetricParams
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
    provenance_line,
    tuned_labels,
)

THEMES: tuple[ThemeName, ...] = ("light", "dark")
MAX_ROWS = 200  # of any table; a note under it says how many there are in all


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

    said, drawn = _drawn(sections(results, params, metric, tensor or default_tensor(results[0])))
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
        sections=said,
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


def _drawn(sections: Iterator[tuple[str, list[Figure]]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
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
            "note": f"k = {params.k}, α = {params.alpha:g}, η = {params.eta:.3g}, τ = {params.tau:.3g}.",
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
