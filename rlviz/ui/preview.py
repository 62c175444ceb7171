"""What a page shows of a comparison before its exact result is there: estimates, each with its interval."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from rlviz import views
from rlviz.sampling import Preview
from rlviz.ui.show import render_clickable, render_figure, render_under, theme
from rlviz.ui.state import params
from rlviz.ui.text import escaped
from rlviz.views import Plot
from rlviz.views.preview_words import HOW_ESTIMATED, preview_headline, preview_numbers, preview_provenance
from rlviz.views.words import tuned_labels


def render_preview(previews: Sequence[Preview]) -> None:
    """The sentence, headline numbers, strip, map and bands, all under the chosen lens; nothing where there is none."""
    if not previews:
        return
    lens, shown = params().lens, theme()
    st.markdown(f"#### {escaped(preview_headline(previews, lens))}")
    _render_numbers(previews)
    _render_plot(views.plot_preview_strip(previews, lens, shown), "preview_strip", previews)
    heatmap = views.plot_preview_heatmap(previews, lens, shown)
    render_clickable(heatmap, "preview_heatmap")
    _render_below(heatmap, "preview_heatmap", previews)
    layers, modules, ulp = st.tabs(["By layer", "By module", "Code distances"])
    with layers:
        _render_plot(views.plot_preview_by_layer(previews, lens, shown), "preview_layers", previews)
    with modules:
        _render_plot(views.plot_preview_by_module(previews, lens, shown), "preview_modules", previews)
    with ulp:
        _render_plot(views.plot_preview_ulp(previews, shown), "preview_ulp", previews)


def _render_numbers(previews: Sequence[Preview]) -> None:
    lens = params().lens
    for preview, label in zip(previews, tuned_labels(previews), strict=True):
        if len(previews) > 1:
            st.markdown(f"**{escaped(label)}**")
        numbers = preview_numbers(preview, lens)
        for column, number in zip(st.columns([1.6, *[1] * (len(numbers) - 1)]), numbers, strict=True):
            column.metric(number.label, number.value, help=number.help)
            column.caption(escaped(number.null))


def _render_plot(plot: Plot, key: str, previews: Sequence[Preview]) -> None:
    render_figure(plot, key)
    _render_below(plot, key, previews)


def _render_below(plot: Plot, key: str, previews: Sequence[Preview]) -> None:
    provenance = [preview_provenance(p) for p in previews]
    render_under(plot, key, provenance, ("How this is estimated", _render_how))


def _render_how() -> None:
    for sentence in HOW_ESTIMATED:
        st.markdown(f"- {escaped(sentence)}")
