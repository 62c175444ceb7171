"""Precision: what each number format shows of the same update, and what rounding hides."""

import streamlit as st

from rlviz import ui, views
from rlviz.metrics import METRICS
from rlviz.types import LENSES

ui.require_router()
results, theme = ui.results(), ui.theme()
ui.render_masters_note(results)
params = ui.params()
ui.render_plot(views.plot_hidden_updates(results, params, theme), "hidden", results, METRICS["hidden_fraction"])
left, right = st.columns(2)
with left:
    ui.render_plot(
        views.plot_threshold_curve(results, "eta", params, theme), "eta_curve", results, METRICS["changed_rel_share"]
    )
with right:
    ui.render_plot(
        views.plot_threshold_curve(results, "tau", params, theme), "tau_curve", results, METRICS["changed_abs_share"]
    )
for i, result in enumerate(results):
    plot = views.plot_lens_heatmaps(result, LENSES, params, theme)
    ui.render_plot(plot, f"lens_heatmaps_{i}", [result], METRICS["update_sparsity"])
ui.render_plot(views.plot_ulp_histogram(results, theme), "ulp", results, METRICS["one_ulp_share"])
ui.render_plot(views.plot_flip_rate_by_exponent(results, theme), "flip_rate", results, METRICS["density"])
