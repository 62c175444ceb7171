"""Spectra: singular values before and after, those of the update, and how far they moved."""

import streamlit as st

from rlviz import ui, views
from rlviz.metrics import METRICS

results, theme, params = ui.results(), ui.theme(), ui.params()
name = ui.picked_matrix(results)
st.markdown(f"#### `{name}`")
left, right = st.columns(2)
with left:
    ui.render_plot(views.plot_singular_values(results, name, theme), "singular_values", results)
with right:
    ui.render_plot(views.plot_update_singular_values(results, name, theme), "update_values", results)
st.markdown("#### All matrices")
ui.render_heatmap(results, METRICS["nss"], params, "nss_heatmap")
left, right = st.columns(2)
with left:
    plot = views.plot_by_layer(results, METRICS["stable_rank_update"], params, theme)
    ui.render_plot(plot, "stable_rank", results, METRICS["stable_rank_update"])
with right:
    plot = views.plot_by_layer(results, METRICS["effective_rank_update"], params, theme)
    ui.render_plot(plot, "effective_rank", results, METRICS["effective_rank_update"])
