"""Sparsity: which layers, modules, rows and columns the update touched."""

import streamlit as st

from rlviz import ui, views

results, theme = ui.results(), ui.theme()
lens_row = st.container()
with lens_row:
    ui.choose_lens()
params = ui.params()
ui.render_plot(views.plot_sparsity_by_layer(results, params, theme), "by_layer", results)
ui.render_plot(views.plot_sparsity_by_module(results, params, theme), "by_module", results)
name = ui.picked_tensor(results)
st.markdown(f"#### `{name}`")
for i, result in enumerate(results):
    measured = result.by_name(name)
    left, right = st.columns(2)
    with left:
        ui.render_plot(views.plot_block_map(result, measured, theme), f"block_map_{i}", [result])
    with right:
        ui.render_plot(views.plot_row_column_profiles(result, measured, theme), f"profiles_{i}", [result])
ui.render_plot(views.plot_dispersion(results, params, theme), "dispersion", results)
