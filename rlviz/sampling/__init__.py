"""Estimates from a small random sample of both files, each with its 95 % interval."""

from rlviz.sampling.result import Estimate, Preview, Sampled, TensorPreview
from rlviz.types import LinkSpeed

__all__ = ["Estimate", "LinkSpeed", "Preview", "Sampled", "TensorPreview"]
