"""Compare: the answer in a sentence, where it falls among published values, and the layer × module heat map."""

import streamlit as st

from rlviz import ui, views
from rlviz.metrics import METRICS

ui.require_router()
results, theme = ui.results(), ui.theme()
ui.render_answer(results, ui.params())
ui.render_plot(views.plot_published_strip(results, ui.params().lens, theme), "published", results)
with st.container(horizontal=True, vertical_alignment="bottom"):
    metric = ui.choose_metric(list(METRICS.values()))
    if "lens" in metric.uses:
        ui.choose_lens()
    if "k" in metric.uses:
        ui.choose_k()
ui.render_heatmap(results, metric, ui.params())
ui.render_tensor_card(results, ui.picked_tensor(results), ui.params())
