"""Masks: do changes avoid principal weights and seek small ones, and how much of that is rounding."""

import streamlit as st

from rlviz import ui, views
from rlviz.metrics import METRICS

ui.require_router()
results, theme, params = ui.results(), ui.theme(), ui.params()
ui.render_mask_answer(results, params)
ui.render_plot(views.plot_mask_overlaps(results, params, theme), "mask_overlaps", results, METRICS["overlap_principal"])
ui.render_overlap_table(results, params)
st.markdown("#### Matrix by matrix")
ui.render_map(views.plot_mask_excess(results, params, theme), "mask_excess", results, METRICS["overlap_principal_z"])
st.markdown("#### Odds of change in principal weights")
ui.render_plot(views.plot_mask_odds(results, params, theme), "mask_odds", results, METRICS["log_odds_principal_mh"])
st.markdown("#### Stripes")
ui.render_plot(
    views.plot_mask_dispersion(results, params, theme), "mask_dispersion", results, METRICS["row_dispersion"]
)
