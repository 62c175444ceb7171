"""Compare: the answer in a sentence, where it falls among published values, and the layer × module heat map."""

from rlviz import ui, views
from rlviz.metrics import METRICS

ui.require_router()
results, theme = ui.results(), ui.theme()
ui.render_answer(results, ui.params())
ui.render_plot(
    views.plot_published_strip(results, ui.params().lens, theme), "published", results, METRICS["update_sparsity"]
)
metric = ui.chosen_metric()
ui.render_heatmap(results, metric, ui.params())
ui.render_tensor_card(results, ui.picked_tensor(results), ui.params())
