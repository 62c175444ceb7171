"""The store as one visitor may see it: the only way the dashboard reads results.

On a host, what rests on a model that is not public is there for those whose token can read both models now, and for
nobody else: a key that may not be seen answers as one that does not exist. In local mode whoever runs the process owns
the disk, and sees everything on it.

A result has a rule, a record has none: records are found through a manifest only, and two pairs share one where the
weights are the same byte for byte, which whoever asks for either pair has been able to read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from rlviz import api
from rlviz.access import PERMISSIONS, Permissions, Visitor
from rlviz.errors import InvalidInput, NotFound, Offline, UnsupportedCheckpoint
from rlviz.mode import hosted
from rlviz.result import PairResult, load
from rlviz.sampling import Preview
from rlviz.sources import ModelRef
from rlviz.sources.permission import Answer
from rlviz.store import Store
from rlviz.store.listing import Kept as Entry
from rlviz.types import ModelIdentity

__all__ = ["Entry", "Shelf"]

_QUESTIONS_AT_ONCE = 16


class Shelf:
    """What one visitor may see of a store."""

    def __init__(self, store: Store, visitor: Visitor, permissions: Permissions = PERMISSIONS) -> None:
        self._store = store
        self._visitor = visitor
        self._permissions = permissions

    def result(self, key: str) -> PairResult | None:
        """The result of exactly that key, complete or partial; None where there is none for this visitor.

        Raises
        ------
        Offline
            Where the hub cannot say whether someone who has read both models before still may.
        """
        manifest = self._store.read_json(key, "manifest")
        if manifest is None or not self._shown(manifest):
            return None
        return api.load_result(key, self._store) if manifest["complete"] else load(self._store, key)

    def stamp(self, key: str) -> int | None:
        """Changes whenever the result of that key does (a time, in ns); None and errors as for `result`.

        For caches that sessions share: ask this first, then look under key and stamp.
        """
        manifest = self._store.read_json(key, "manifest")
        if manifest is None or not self._shown(manifest):
            return None
        with suppress(FileNotFoundError):  # evicted meanwhile
            return (self._store.result_path(key) / "manifest.json").stat().st_mtime_ns
        return None

    def preview(self, key: str) -> Preview | None:
        """The preview of that key, finished or not; None and errors as for `result`."""
        found = self._store.read_json(key, "preview")
        try:
            return Preview.from_dict(found) if found is not None and self._shown(found) else None
        except (UnsupportedCheckpoint, KeyError, TypeError, ValueError):  # of another release: it is made again
            return None

    def entries(self) -> tuple[Entry, ...]:
        """All results this visitor may see, newest first."""
        kept = self._store.kept()
        self._ask_ahead([identity for one in kept for identity in (one.base, one.tuned)])
        return tuple(one for one in kept if self.visible(one.base, one.tuned))

    def find(self, prefix: str) -> tuple[str, ...]:
        """Keys of results that begin so; takes as long whatever it finds."""
        return tuple(entry.key for entry in self.entries() if entry.key.startswith(prefix))

    def export(self, key: str, path: Path) -> None:
        """Write one result as a ``.rlviz.zip`` file; raises `NotFound` where there is none for this visitor."""
        if self.result(key) is None:
            raise NotFound(key, "the store holds no such result", "The library shows what it holds.")
        self._store.export_result(key, path)

    def visible(self, *identities: ModelIdentity) -> bool:
        """Whether what rests on these models exists for this visitor; False while the hub cannot say."""
        return all(self._reads(identity) == "yes" for identity in identities)

    def refused(self, *refs: ModelRef) -> bool:
        """Whether the hub keeps one of these from this visitor: nothing that rests on it is then worth looking for."""
        return hosted() and any(self._refused(ref) for ref in refs)

    def _refused(self, ref: ModelRef) -> bool:
        if ref.kind != "hub" or self._permissions.is_public(ref.repo_id) == "yes":
            return False
        return self._permissions.reads(ref.repo_id, self._visitor) == "no"

    def may_ask(self, *refs: str | ModelRef) -> bool:
        """Whether this visitor may hear of anything about these models: jobs, plans, progress, links.

        Asks the hub whatever the store holds, so that neither the answer nor the time it takes tells.
        """
        return not hosted() or all(self._may_ask(ref) for ref in refs)

    def _may_ask(self, ref: str | ModelRef) -> bool:
        try:
            parsed = ModelRef.parse(ref, look_here=False) if isinstance(ref, str) else ref
        except InvalidInput:
            return False
        if parsed.kind != "hub":
            return parsed.kind == "demo"
        answer = self._permissions.reads(parsed.repo_id, self._visitor)
        return answer == "yes" or (answer == "unknown" and self._permissions.is_public(parsed.repo_id) == "yes")

    def _shown(self, document: Mapping[str, Any]) -> bool:
        """Whether a manifest or preview may be shown; raises where only someone who could know asks."""
        identities = _identities(document)
        answers = {identity.pinned_ref: self._reads(identity) for identity in identities}
        silent = [ref for ref, answer in answers.items() if answer == "unknown"]
        if silent and "no" not in answers.values() and all(self._once_read(ref) for ref in silent):
            problem = "the hub cannot be asked whether you may still read this model"
            raise Offline(silent[0], problem, "Try again in a minute.")
        return set(answers.values()) <= {"yes"}

    def _once_read(self, ref: str) -> bool:
        return self._permissions.once_read(ModelRef.parse(ref, look_here=False).repo_id, self._visitor)

    def _reads(self, identity: ModelIdentity) -> Answer:
        """The rule for one model.

        A public one is looked at again once an hour, since it may have been withdrawn; while the hub is silent it
        stays. Any other needs the visitor's token, and the very commit that was measured.
        """
        if not hosted():
            return "yes"
        try:
            ref = ModelRef.parse(identity.pinned_ref, look_here=False)
        except InvalidInput:
            return "no"
        if ref.kind != "hub":
            return "yes" if ref.kind == "demo" else "no"  # a folder of the host's is nobody's business
        if (ref.revision or "") != identity.commit:
            return "no"
        if identity.access == "public" and self._permissions.is_public(ref.repo_id) != "no":
            return "yes"
        return self._permissions.reads(ref.repo_id, self._visitor, identity.commit if ref.is_pinned else "")

    def _ask_ahead(self, identities: list[ModelIdentity]) -> None:
        """Put the questions to the hub side by side; the answers are remembered."""
        distinct = {(i.pinned_ref, i.access): i for i in identities}
        if hosted() and distinct:
            with ThreadPoolExecutor(_QUESTIONS_AT_ONCE, thread_name_prefix="rlviz-ask") as threads:
                list(threads.map(self._reads, distinct.values()))


def _identities(document: Mapping[str, Any]) -> Iterator[ModelIdentity]:
    """Base and tuned of a manifest or preview."""
    for side in ("base", "tuned"):
        yield ModelIdentity.kept(document[side])
