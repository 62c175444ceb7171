"""Arrays to records. One module (or package) is one probe; `PROBES` is the registry the engine runs.

A new probe is one package with a ``PROBE`` object (see `base.Probe`) and one name here.
"""

from __future__ import annotations

from importlib import import_module

from rlviz.probes.base import Probe

# cheapest first: the order pictures appear in
PROBE_NAMES: tuple[str, ...] = ("coordinate", "spectrum", "masks", "nulls")
# those that need the results of other pairs first, and so are never asked for by name
AFTERWARDS: tuple[str, ...] = ("matched",)


def probe_called(name: str) -> Probe:
    """The probe of that name; imports its module, which must stay cheap until it runs."""
    return import_module(f"{__name__}.{name}").PROBE


__all__ = ["AFTERWARDS", "PROBE_NAMES", "Probe", "probe_called"]
