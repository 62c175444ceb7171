"""Figures on a page: caption, numbers to take away, provenance; and what a click on a cell does."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import streamlit as st

from rlviz import views
from rlviz.metrics import Metric
from rlviz.result import PairResult
from rlviz.types import MetricParams
from rlviz.ui.text import escaped
from rlviz.views import Plot
from rlviz.views.masks_remarks import masks_remarks
from rlviz.views.masks_words import mask_numbers, masks_answer, overlap_table
from rlviz.views.tables import companions, main_metrics, tensor_card
from rlviz.views.theme import PLOTLY_CONFIG, ThemeName
from rlviz.views.words import Headline, headline, headline_numbers, provenance_line, sentences, tuned_labels

if TYPE_CHECKING:
    import pandas as pd


def theme() -> ThemeName:
    """The theme the reader's browser shows."""
    return "dark" if st.context.theme.type == "dark" else "light"


def render_answer(results: Sequence[PairResult], params: MetricParams) -> None:
    """The computed sentence, then headline numbers per tuned model with their null beside them."""
    _answer([headline(results, params)], results, [headline_numbers(r, params) for r in results])


def render_mask_answer(results: Sequence[PairResult], params: MetricParams) -> None:
    """The same of the masks, and under it what else the reader must know."""
    _answer(masks_answer(results, params), results, [mask_numbers(r, params) for r in results])
    for remark in masks_remarks(results, params):
        st.markdown(escaped(remark))


def render_overlap_table(results: Sequence[PairResult], params: MetricParams) -> None:
    """Overlaps with everything they must be read against; their numbers are taken away under the figure."""
    rows = overlap_table(results, params)
    if rows:
        st.dataframe(rows, hide_index=True)


def _answer(said: Sequence[str], results: Sequence[PairResult], numbers_of: Sequence[Sequence[Headline]]) -> None:
    for sentence in said:
        st.markdown(f"#### {escaped(sentence)}")
    for label, numbers in zip(tuned_labels(results), numbers_of, strict=True):
        if not numbers:
            continue
        columns = st.columns([1.2, *[1] * len(numbers)], vertical_alignment="center")
        columns[0].markdown(f"**{escaped(label)}**")
        for column, number in zip(columns[1:], numbers, strict=True):
            column.metric(number.label, number.value, help=number.help)
            column.caption(escaped(number.null))


def render_plot(plot: Plot, key: str, results: Sequence[PairResult], metric: Metric | None = None) -> None:
    """One figure with everything that belongs under it."""
    render_figure(plot, key)
    _under(plot, key, results, metric)


def render_figure(plot: Plot, key: str) -> None:
    """The figure alone."""
    st.plotly_chart(plot.figure, theme=None, key=key, config=PLOTLY_CONFIG, alt=plot.alt)


def render_heatmap(results: Sequence[PairResult], metric: Metric, params: MetricParams, key: str = "heatmap") -> None:
    """The layer × module heat map; a click on a cell makes its tensor the chosen one, everywhere."""
    render_map(views.plot_layer_heatmap(results, metric, params, theme()), key, results, metric)


def render_map(plot: Plot, key: str, results: Sequence[PairResult], metric: Metric) -> None:
    """Any layer × module map with everything that belongs under it."""
    render_clickable(plot, key)
    _under(plot, key, results, metric)


def render_clickable(plot: Plot, key: str) -> None:
    """A map alone; a click on one of its cells makes the cell's tensor the chosen one."""
    st.plotly_chart(
        plot.figure,
        theme=None,
        key=key,
        config=PLOTLY_CONFIG,
        alt=plot.alt,
        selection_mode="points",
        on_select=lambda: _clicked(key),
    )


def render_tensor_card(results: Sequence[PairResult], name: str, params: MetricParams) -> None:
    """The chosen tensor's numbers, one column per tuned model."""
    measured = [m for r in results for m in r.measured if m.name == name]
    if not measured:
        return
    shape = " × ".join(map(str, measured[0].shape))
    st.markdown(
        f"**Chosen tensor** `{name}` · {shape} · {measured[0].match.base.dtype} / {measured[0].match.tuned.dtype}"
    )
    with st.expander("All numbers of this tensor"):
        st.dataframe(tensor_card(results, name, params), hide_index=True)


def _clicked(key: str) -> None:
    points: list[Any] = st.session_state[key].selection.points
    if points:
        data = points[0].get("customdata") or {}
        name = data.get("0") if isinstance(data, dict) else data[0] if data else None
        if name:  # the first entry is the cell's tensor, empty where nothing was compared
            st.session_state["tensor"] = name


def _under(plot: Plot, key: str, results: Sequence[PairResult], metric: Metric | None) -> None:
    explain = ("How this is computed", lambda: render_definition(metric)) if metric is not None else None
    render_under(plot, key, [provenance_line(r) for r in results], explain)


def render_under(
    plot: Plot, key: str, provenance: Sequence[str], explain: tuple[str, Callable[[], None]] | None = None
) -> None:
    """Caption, how it came about (a title, and what to write), numbers to take away, provenance."""
    st.caption(escaped(plot.caption))
    with st.container(horizontal=True, gap="small"):
        if explain is not None:
            title, render = explain
            with st.popover(title, type="tertiary"):
                render()
        if plot.table:
            with st.popover("Data", type="tertiary"):
                st.dataframe(_frame(plot), hide_index=True)
                _downloads(plot, key)
    st.caption("  \n".join(escaped(line) for line in provenance))


def render_definition(metric: Metric) -> None:
    """Formula, meaning, chance, caveat and source of one metric."""
    st.markdown(f"**{metric.title}** (`{metric.column}`)")
    st.latex(metric.formula)
    st.markdown(metric.meaning)
    facts = {
        "Unit": metric.unit or "dimensionless",
        "Groups": metric.pooling,
        "Chance": metric.chance_text,
        "Caveat": metric.caveat,
        "Source": metric.source,
    }
    st.caption("  \n".join(f"{name}: {text}" for name, text in facts.items() if text))


@lru_cache(256)
def _frame(plot: Plot) -> pd.DataFrame:
    """A figure's numbers, which are the same for everyone who sees it."""
    import pandas as pd

    return pd.DataFrame(list(plot.table))


def _downloads(plot: Plot, key: str) -> None:
    """Files are written when somebody clicks, not at every drawing of the page."""
    with st.container(horizontal=True):
        st.download_button(
            "CSV",
            lambda: _frame(plot).to_csv(index=False),
            f"{key}.csv",
            "text/csv",
            key=f"{key}_csv",
            on_click="ignore",
        )
        st.download_button(
            "Parquet",
            lambda: _frame(plot).to_parquet(index=False),
            f"{key}.parquet",
            key=f"{key}_parquet",
            on_click="ignore",
        )
        st.download_button(
            "JSON",
            lambda: json.dumps(list(plot.table), indent=1),
            f"{key}.json",
            "application/json",
            key=f"{key}_json",
            on_click="ignore",
        )


def render_masters_note(results: Sequence[PairResult]) -> None:
    """Say so where a finer lens can reveal nothing because nothing finer was published."""
    from rlviz.views.words import masters_published

    for result, label in zip(results, tuned_labels(results), strict=True):
        if not masters_published(result):
            st.info(f"{label}: fp32 masters were not published, so the fp32 lens equals bf16 and reveals nothing.")


def render_methods() -> None:
    """Every metric of the registry, by family."""
    families: dict[str, list[Metric]] = {}
    for metric in main_metrics():
        families.setdefault(metric.probe, []).append(metric)
    for probe, metrics in families.items():
        st.header(f"{probe.capitalize()} probe")
        for metric in metrics:
            render_definition(metric)
            if beside := companions(metric):
                lines = (f"- `{m.column}` ${m.formula}$: {sentences(m.meaning, m.caveat)}" for m in beside)
                st.markdown("\n".join(["Beside it:", "", *lines]))
            st.divider()
