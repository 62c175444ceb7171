"""The only importer of streamlit: what the pages are written with."""

from rlviz.ui.controls import chosen_metric
from rlviz.ui.errors import sentences_for_errors
from rlviz.ui.frame import render_frame
from rlviz.ui.inputs import render_inputs
from rlviz.ui.library import render_library
from rlviz.ui.loading import comparison, results
from rlviz.ui.permalink import open_link
from rlviz.ui.picker import picked_matrix, picked_tensor
from rlviz.ui.rescaled import render_matched
from rlviz.ui.routing import require_router, routed
from rlviz.ui.show import (
    render_answer,
    render_heatmap,
    render_map,
    render_mask_answer,
    render_masters_note,
    render_methods,
    render_overlap_table,
    render_plot,
    render_tensor_card,
    theme,
)
from rlviz.ui.state import params
from rlviz.ui.verdict import (
    render_evidence,
    render_gate,
    render_limits,
    render_unmeasured,
    render_verdict,
    verdicts_of,
)

__all__ = [
    "chosen_metric",
    "comparison",
    "open_link",
    "params",
    "picked_matrix",
    "picked_tensor",
    "render_answer",
    "render_evidence",
    "render_frame",
    "render_gate",
    "render_heatmap",
    "render_inputs",
    "render_library",
    "render_limits",
    "render_map",
    "render_mask_answer",
    "render_masters_note",
    "render_matched",
    "render_methods",
    "render_overlap_table",
    "render_plot",
    "render_tensor_card",
    "render_unmeasured",
    "render_verdict",
    "require_router",
    "results",
    "routed",
    "sentences_for_errors",
    "theme",
    "verdicts_of",
]
