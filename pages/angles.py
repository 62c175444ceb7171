"""Angles: how far the principal subspaces turned, and where the update lies against the principal components."""

import streamlit as st

from rlviz import ui, views
from rlviz.metrics import METRICS

results, theme = ui.results(), ui.theme()
name = ui.picked_matrix(results)
k = ui.choose_k()
params = ui.params()
st.markdown(f"#### `{name}`")
left, right = st.columns(2)
with left:
    ui.render_plot(views.plot_angle_curves(results, name, "left", k, theme), "angles_left", results)
with right:
    ui.render_plot(views.plot_angle_curves(results, name, "right", k, theme), "angles_right", results)
left, right = st.columns(2)
with left:
    ui.render_plot(views.plot_alignment_curve(results, name, theme), "alignment", results)
with right:
    ui.render_plot(views.plot_update_vs_components(results, name, theme), "components", results)
st.markdown("#### All matrices")
ui.render_heatmap(results, METRICS["energy_principal_enrichment"], params, "enrichment_heatmap")
