"""Records to numbers. Every module here with a ``METRICS`` tuple is discovered; a new metric is one entry there."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from rlviz.metrics.base import Metric


def _discover() -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    for module in sorted(info.name for info in iter_modules(__path__)):
        for metric in getattr(import_module(f"{__name__}.{module}"), "METRICS", ()):
            if metric.key in found:
                raise ValueError(f"two metrics are called {metric.key}")
            found[metric.key] = metric
    return found


METRICS: dict[str, Metric] = _discover()

__all__ = ["METRICS", "Metric"]
