"""Gates: the three-gates argument from top to bottom, with the verdict that two checkpoints allow first."""

from rlviz import ui, views
from rlviz.metrics import METRICS
from rlviz.types import Lens

ui.require_router()
results, theme, params = ui.results(), ui.theme(), ui.params()
verdicts = ui.verdicts_of(results, params)
ui.render_verdict(verdicts)
ui.render_unmeasured(results)

ui.render_gate("I")
ui.render_evidence("budget", views.plot_update_budget(results, theme), results, verdicts, METRICS["kl_budget"])

ui.render_gate("II")
plot = views.plot_published_orders(results, params, theme)
ui.render_evidence("orders", plot, results, verdicts, METRICS["max_principal_angle_left"])
plot = views.plot_against_isotropic(results, params, theme)
ui.render_evidence("isotropic", plot, results, verdicts, METRICS["update_edge_ratio"])
plot = views.plot_wedin_matrices(results, params, theme)
ui.render_evidence("wedin", plot, results, verdicts, METRICS["wedin_rigorous"])
name = ui.picked_matrix(results)
plot = views.plot_wedin(results, name, params.k, theme)
ui.render_evidence("ranks", plot, results, verdicts, METRICS["wedin_rigorous"])
plot = views.plot_tightness(results, theme)
ui.render_evidence("tightness", plot, results, verdicts, METRICS["weyl_ratio"])

ui.render_gate("III")
plot = views.plot_published_strip(results, Lens.BF16, theme)
ui.render_evidence("published", plot, results, verdicts, METRICS["update_sparsity"])
ui.render_evidence("ulp", views.plot_ulp_histogram(results, theme), results, verdicts, METRICS["one_ulp_share"])
plot = views.plot_flip_rate_by_exponent(results, theme)
ui.render_evidence("flips", plot, results, verdicts, METRICS["density"])
plot = views.plot_mask_overlaps(results, params, theme)
ui.render_evidence("overlaps", plot, results, verdicts, METRICS["overlap_principal"])
plot = views.plot_mask_odds(results, params, theme)
ui.render_evidence("odds", plot, results, verdicts, METRICS["log_odds_principal_mh"])

ui.render_limits(verdicts)
