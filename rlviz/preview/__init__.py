"""Estimates from a small random sample of both files, each with its 95 % interval."""

from rlviz.preview.result import Estimate, LinkSpeed, Preview, Sampled, TensorPreview

__all__ = ["Estimate", "LinkSpeed", "Preview", "Sampled", "TensorPreview"]
