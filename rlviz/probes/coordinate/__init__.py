"""The coordinate probe: what changed entry by entry, under every lens, in one pass over both sides."""

from __future__ import annotations

from rlviz.probes.coordinate.probe import PROBE, CoordinateProbe, warm

__all__ = ["PROBE", "CoordinateProbe", "warm"]
