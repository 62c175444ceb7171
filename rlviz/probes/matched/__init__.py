"""Spectra, subspaces and masks with the update rescaled, so that several runs are compared at the same distance."""

from __future__ import annotations

from rlviz.probes.matched.probe import PROBE, MatchedProbe

__all__ = ["PROBE", "MatchedProbe"]
