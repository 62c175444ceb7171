"""Where the panels of a layer × module map go, in pixels from the top and fractions of the width."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from rlviz.views.cells import Frame

PLOT_PX = 1040  # assumed width of the drawing area: the page is fluid, only proportions follow from it
_CELL_MAX_PX = 150
GROUP_GAP = 0.35  # of a row's height, between attention, MLP and norm
_TITLE_PX = 30
_TICKS_PX = 62  # below the layered map: tick labels and axis title


@dataclass(frozen=True, slots=True)
class Layout:
    """Where panels go, in pixels from the top and in fractions of the width."""

    columns: int
    width: float
    step: float
    main_px: float
    strip_px: float
    row_px: float
    panel_px: float
    plot_px: float

    def main(self, panel: int) -> tuple[tuple[float, float], tuple[float, float]]:
        """x and y domain of a panel's layered map."""
        return self._x(panel), self._y(self._top(panel), self.main_px)

    def strip(self, panel: int, share: float) -> tuple[tuple[float, float], tuple[float, float]]:
        """x and y domain of a panel's strip of tensors outside layers; `share` of the panel's width."""
        top = self._top(panel) + (self.main_px + _TICKS_PX if self.main_px else 0)
        left, _ = self._x(panel)
        return (left, left + self.width * share), self._y(top, self.strip_px)

    def _top(self, panel: int) -> float:
        return (panel // self.columns) * self.panel_px + _TITLE_PX

    def _x(self, panel: int) -> tuple[float, float]:
        left = (panel % self.columns) * self.step
        return left, min(1.0, left + self.width)

    def _y(self, top: float, height: float) -> tuple[float, float]:
        return max(0.0, 1 - (top + height) / self.plot_px), 1 - top / self.plot_px

    @property
    def right(self) -> float:
        """Right end of the last column of panels."""
        return min(1.0, (self.columns - 1) * self.step + self.width)


def layout_of(panels: int, frame: Frame) -> Layout:
    """Side by side up to four panels and about 170 columns of cells; then further rows of panels."""
    across = max(1, len(frame.layers))
    fitting = max(1, min(panels, 4, 170 // across))
    columns = ceil(panels / ceil(panels / fitting))  # five panels as three and two, not four and one
    gap = 0.03 if columns > 1 else 0.0
    widest = (1 - gap * (columns - 1)) / columns
    width = min(widest, across * _CELL_MAX_PX / PLOT_PX) if frame.layers else widest
    height = len(frame.modules) + GROUP_GAP * sum(a != b for a, b in pairwise(frame.groups))
    row_px = min(44.0, max(24.0, 300 / max(height, 1)))
    main_px = row_px * height
    strip_px = 30.0 if frame.outside else 0.0
    panel_px = _TITLE_PX + main_px + _TICKS_PX + (strip_px + 40 if strip_px else 0)
    return Layout(columns, width, width + gap, main_px, strip_px, row_px, panel_px, ceil(panels / columns) * panel_px)
