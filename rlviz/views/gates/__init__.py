"""Figures of the Gates page: length of the update, its geometry against bounds and nulls."""

from __future__ import annotations

from rlviz.views.gates.budget import plot_update_budget
from rlviz.views.gates.gap import plot_wedin_matrices
from rlviz.views.gates.isotropic import plot_against_isotropic
from rlviz.views.gates.orders import plot_published_orders
from rlviz.views.gates.tightness import plot_tightness
from rlviz.views.gates.wedin import plot_wedin

__all__ = [
    "plot_against_isotropic",
    "plot_published_orders",
    "plot_tightness",
    "plot_update_budget",
    "plot_wedin",
    "plot_wedin_matrices",
]
