"""What chance does with an update: its own entries shuffled, and isotropic noise of its norm."""

from __future__ import annotations

from rlviz.probes.nulls.probe import PROBE, NullsProbe

__all__ = ["PROBE", "NullsProbe"]
