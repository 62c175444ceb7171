"""Sparsity: which layers, modules, rows and columns the update touched."""

import streamlit as st

from rlviz import ui, views
from rlviz.metrics import METRICS

ui.require_router()
results, theme = ui.results(), ui.theme()
params = ui.params()
ui.render_plot(views.plot_sparsity_by_layer(results, params, theme), "by_layer", results, METRICS["update_sparsity"])
ui.render_plot(views.plot_sparsity_by_module(results, params, theme), "by_module", results, METRICS["update_sparsity"])
name = ui.picked_matrix(results)
st.markdown(f"#### `{name}`")
ui.render_plot(views.plot_block_map(results, name, theme), "block_map", results, METRICS["density"])
ui.render_plot(views.plot_row_column_profiles(results, name, theme), "profiles", results, METRICS["density"])
st.markdown("#### All matrices")
ui.render_plot(views.plot_dispersion(results, params, theme), "dispersion", results, METRICS["row_dispersion"])
