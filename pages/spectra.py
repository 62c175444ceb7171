"""Spectra: singular values before and after, those of the update, and how far they moved."""

import streamlit as st

from rlviz import ui, views
from rlviz.metrics import METRICS
from rlviz.views.noise import SPECTRA

ui.require_router()
results, theme, params = ui.results(), ui.theme(), ui.params()
name = ui.picked_matrix(results)
st.markdown(f"#### `{name}`")
ui.render_plot(views.plot_singular_values(results, name, theme), "singular_values", results, METRICS["nss"])
ui.render_plot(
    views.plot_update_singular_values(results, name, theme), "update_values", results, METRICS["stable_rank_update"]
)
st.markdown("#### Beside isotropic noise of the same norm")
plot = views.plot_beside_noise(results, SPECTRA, params, theme)
ui.render_plot(plot, "spectra_beside_noise", results, METRICS["nss_over_isotropic"])
ui.render_matched(results, views.MATCHED_SPECTRA, params)
st.markdown("#### All matrices")
ui.render_heatmap(results, METRICS["nss"], params, "nss_heatmap")
for key in ("stable_rank_update", "effective_rank_update"):
    plot = views.plot_by_layer(results, METRICS[key], params, theme)
    ui.render_plot(plot, key, results, METRICS[key])
