"""Permalinks: what a page shows, kept as a small document in the store under a short name made from its content.

A document names choices by stable keys (a metric's key, never its title) and models by commits. It outlives the
release that wrote it: what a later one no longer knows is for the reader of the link to be told, not for the
document to change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from rlviz.errors import InvalidInput
from rlviz.probes import PROBE_NAMES, probe_called
from rlviz.store.documents import content_key
from rlviz.types import ModelIdentity
from rlviz.version import __version__

SCHEMA = 1
SHORTEST = 10  # hex digits of a link's name: 40 bits, and one more digit each time two documents meet
_NAME = re.compile(r"[0-9a-f]{10,64}")


class LinkStore(Protocol):
    """Where the documents are: `rlviz.store.Store`."""

    def read_link(self, link_id: str) -> dict[str, Any] | None: ...
    def write_link(self, link_id: str, document: Mapping[str, Any]) -> None: ...


def versions() -> dict[str, int]:
    """Version of every probe of this release."""
    return {name: probe_called(name).version for name in PROBE_NAMES}


@dataclass(frozen=True, slots=True)
class View:
    """What a page shows.

    Attributes
    ----------
    page : the page's path (``"angles"``)
    results : store keys, one per tuned model, in the same order; empty for a model not measured yet
    choices : by stable key: ``metric`` (a metric's key), ``lens``, ``k``, ``eta``, ``tau``, ``coverage``, ``tensor``
    rlviz, probes : the release that made the link, and its probes' versions
    """

    page: str
    base: ModelIdentity
    tuned: tuple[ModelIdentity, ...]
    results: tuple[str, ...]
    choices: Mapping[str, str]
    rlviz: str = __version__
    probes: Mapping[str, int] = field(default_factory=versions)

    @property
    def identities(self) -> tuple[ModelIdentity, ...]:
        """Every model the view names."""
        return (self.base, *self.tuned)


def keep(store: LinkStore, view: View) -> str:
    """Keep a view; returns the name it is found by. The same view gives the same name, on any host."""
    document = {"schema": SCHEMA, **asdict(view)}
    key = content_key(document)
    for length in range(SHORTEST, len(key) + 1):
        there = store.read_link(key[:length])
        if there is None:
            store.write_link(key[:length], document)
        if there is None or content_key(there) == key:
            return key[:length]
    raise AssertionError("two documents with one sha256")


def find(store: LinkStore, name: str) -> View | None:
    """The view kept under that name; None where there is none.

    Raises
    ------
    InvalidInput
        Where a document is there that this release cannot read.
    """
    document = store.read_link(name) if _NAME.fullmatch(name) else None
    return None if document is None else _view(name, document)


def _view(name: str, document: Mapping[str, Any]) -> View:
    try:
        if document["schema"] > SCHEMA:
            problem = f"was made by rlviz {document['rlviz']}, whose links this release ({__version__}) cannot read"
            raise InvalidInput(f"Link {name}", problem, "Update rlviz, or ask for the long link.")
        return View(
            page=str(document["page"]),
            base=ModelIdentity.kept(document["base"]),
            tuned=tuple(ModelIdentity.kept(tuned) for tuned in document["tuned"]),
            results=tuple(map(str, document["results"])),
            choices={str(key): str(value) for key, value in document["choices"].items()},
            rlviz=str(document["rlviz"]),
            probes={str(probe): int(version) for probe, version in document["probes"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = "is damaged in the store"
        raise InvalidInput(f"Link {name}", problem, "Ask for the long link, which holds everything itself.") from error
