"""Spectra and subspaces of a base matrix, a tuned one and the update between them."""

from __future__ import annotations

from rlviz.probes.spectrum.probe import SpectrumProbe

PROBE = SpectrumProbe()

__all__ = ["PROBE", "SpectrumProbe"]
