"""Which entries changed: principal or not, small or not, stratum by stratum of equal rounding."""

from __future__ import annotations

from rlviz.probes.masks.probe import PROBE, MasksProbe

__all__ = ["PROBE", "MasksProbe"]
