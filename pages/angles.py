"""Angles: how far the principal subspaces turned, and where the update lies against the principal components."""

import streamlit as st

from rlviz import ui, views
from rlviz.metrics import METRICS
from rlviz.views.noise import ANGLES, ENERGIES

ui.require_router()
results, theme = ui.results(), ui.theme()
name = ui.picked_matrix(results)
params = ui.params()
k = params.k
st.markdown(f"#### `{name}`")
ui.render_plot(
    views.plot_angle_curves(results, name, k, theme), "angle_curves", results, METRICS["max_principal_angle_left"]
)
ui.render_plot(views.plot_alignment_curve(results, name, k, theme), "alignment", results, METRICS["energy_principal"])
ui.render_plot(views.plot_update_vs_components(results, name, theme), "components", results, METRICS["energy_left"])
ui.render_plot(views.plot_max_angle_over_k(results, name, k, theme), "angle_over_k", results, METRICS["relative_gap"])
st.markdown("#### Beside isotropic noise of the same norm")
plot = views.plot_beside_noise(results, ANGLES, params, theme)
ui.render_plot(plot, "angles_beside_noise", results, METRICS["max_principal_angle_left_isotropic"])
plot = views.plot_beside_noise(results, ENERGIES, params, theme)
ui.render_plot(plot, "energies_beside_noise", results, METRICS["energy_principal_isotropic"])
ui.render_matched(results, views.MATCHED_ANGLES, params)
st.markdown("#### All matrices")
ui.render_heatmap(results, METRICS["energy_principal_enrichment"], params, "enrichment_heatmap")
ui.render_heatmap(results, METRICS["max_principal_angle_left"], params, "angle_heatmap")
