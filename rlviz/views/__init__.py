"""Results to figures and tables: pure functions, no streamlit. Every figure is a `Plot`.

Figures over several results take ``results`` (one per tuned model); figures about one tensor take its ``name`` too.
Colours and type are in `theme`, numbers and sentences in `words`, published values in `published`.
"""

from __future__ import annotations

from rlviz.views.angles import (
    plot_alignment_curve,
    plot_angle_curves,
    plot_max_angle_over_k,
    plot_update_vs_components,
)
from rlviz.views.breakdown import (
    linear_layers,
    plot_by_layer,
    plot_by_module,
    plot_sparsity_by_layer,
    plot_sparsity_by_module,
)
from rlviz.views.figure import Plot
from rlviz.views.gates import (
    plot_against_isotropic,
    plot_published_orders,
    plot_tightness,
    plot_update_budget,
    plot_wedin,
    plot_wedin_matrices,
)
from rlviz.views.heatmap import plot_layer_heatmap, plot_lens_heatmaps
from rlviz.views.mask_modules import plot_mask_dispersion, plot_mask_odds
from rlviz.views.masks import plot_mask_excess, plot_mask_overlaps
from rlviz.views.matched import ANGLES as MATCHED_ANGLES
from rlviz.views.matched import SPECTRA as MATCHED_SPECTRA
from rlviz.views.matched import plot_matched_norm
from rlviz.views.noise import plot_beside_noise
from rlviz.views.precision import (
    plot_flip_rate_by_exponent,
    plot_hidden_updates,
    plot_threshold_curve,
    plot_ulp_histogram,
)
from rlviz.views.preview import plot_preview_by_layer, plot_preview_by_module, plot_preview_strip, plot_preview_ulp
from rlviz.views.preview_heatmap import plot_preview_heatmap
from rlviz.views.sparsity import plot_block_map, plot_dispersion, plot_row_column_profiles
from rlviz.views.spectra import plot_singular_values, plot_update_singular_values
from rlviz.views.strip import plot_published_strip
from rlviz.views.tables import column_help, skipped_table, tensor_card, tensor_table

__all__ = [
    "MATCHED_ANGLES",
    "MATCHED_SPECTRA",
    "Plot",
    "column_help",
    "linear_layers",
    "plot_against_isotropic",
    "plot_alignment_curve",
    "plot_angle_curves",
    "plot_beside_noise",
    "plot_block_map",
    "plot_by_layer",
    "plot_by_module",
    "plot_dispersion",
    "plot_flip_rate_by_exponent",
    "plot_hidden_updates",
    "plot_layer_heatmap",
    "plot_lens_heatmaps",
    "plot_mask_dispersion",
    "plot_mask_excess",
    "plot_mask_odds",
    "plot_mask_overlaps",
    "plot_matched_norm",
    "plot_max_angle_over_k",
    "plot_preview_by_layer",
    "plot_preview_by_module",
    "plot_preview_heatmap",
    "plot_preview_strip",
    "plot_preview_ulp",
    "plot_published_orders",
    "plot_published_strip",
    "plot_row_column_profiles",
    "plot_singular_values",
    "plot_sparsity_by_layer",
    "plot_sparsity_by_module",
    "plot_threshold_curve",
    "plot_tightness",
    "plot_ulp_histogram",
    "plot_update_budget",
    "plot_update_singular_values",
    "plot_update_vs_components",
    "plot_wedin",
    "plot_wedin_matrices",
    "skipped_table",
    "tensor_card",
    "tensor_table",
]
