"""Where a model's files are: the hub is asked once per file, and again when the link it gave has expired."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urljoin, urlsplit

import urllib3

from rlviz.errors import Unavailable, UnsupportedCheckpoint
from rlviz.sources.refusals import HubModel, raise_for_hub, unreachable
from rlviz.sources.transport import Patience, Traffic, pool

_MAX_HOPS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Link:
    """Where a file's bytes are. `headers` carry the token only where the link is the hub's own."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    signed: bool = False


class Links:
    """The links of one model's files at one commit. Thread-safe.

    Parameters
    ----------
    model : HubModel
    commit : str
        An answer for any other commit is refused.
    sizes : mapping of file path to size in bytes
    traffic : Traffic
        Counts the requests made here.
    """

    def __init__(self, model: HubModel, commit: str, sizes: Mapping[str, int], traffic: Traffic) -> None:
        self._model = model
        self._commit = commit
        self._sizes = sizes
        self._traffic = traffic
        self._lock = threading.Lock()
        self._known: dict[str, Link] = {}
        self._asking: dict[str, threading.Lock] = {}

    def get(self, path: str, patience: Patience) -> Link:
        """Where the file is; asks the hub once, also when many parts need it at the same time."""
        with self._lock:
            asking = self._asking.setdefault(path, threading.Lock())
        with asking:
            if path not in self._known:
                self._known[path] = self._locate(path, patience)
            return self._known[path]

    def forget(self, path: str, link: Link) -> None:
        """Drop an expired link, unless another part has already replaced it."""
        with self._asking[path]:
            if self._known.get(path) is link:
                del self._known[path]

    def clear(self) -> None:
        """Drop them all."""
        self._known.clear()

    def _locate(self, path: str, patience: Patience) -> Link:
        model = self._model
        url = f"{model.endpoint}/{model.repo_id}/resolve/{self._commit}/{quote(path)}"
        commit: str | None = None
        for _ in range(_MAX_HOPS):
            response = self._head(url, patience)
            commit = response.headers.get("X-Repo-Commit", commit)
            location = response.headers.get("Location")
            if not (300 <= response.status < 400 and location):
                self._check_identity(path, commit, response.headers.get("X-Linked-Size"))
                return Link(url, model.authorization)
            target = urljoin(url, location)
            if _origin(target) != _origin(url):
                self._check_identity(path, commit, response.headers.get("X-Linked-Size"))
                return self._foreign(path, target, url)
            url = target  # renamed on the hub, or its own cache: still the hub's origin
        raise Unavailable(model.ref, f"{path}: the hub redirects in a circle", "Check HF_ENDPOINT.")

    def _head(self, url: str, patience: Patience) -> urllib3.BaseHTTPResponse:
        self._traffic.asked()
        try:
            response = pool().head(url, self._model.authorization, patience)
        except urllib3.exceptions.HTTPError as error:
            failed = unreachable(self._model, url, error)
        else:
            raise_for_hub(self._model, url, response)
            return response
        raise failed

    def _check_identity(self, path: str, commit: str | None, size: str | None) -> None:
        if commit != self._commit:
            problem = f"{path}: asked for commit {self._commit[:12]}, the hub answers with {commit or 'none'}"
            raise Unavailable(self._model.ref, problem, "Try again; check HF_ENDPOINT.")
        if size is not None and size != str(self._sizes[path]):
            problem = f"{path}: the hub lists {self._sizes[path]} bytes and offers {size}"
            raise UnsupportedCheckpoint(self._model.ref, problem, "The upload may be broken; tell its author.")

    def _foreign(self, path: str, target: str, source: str) -> Link:
        """A link to another origin: signed, so no token goes with it."""
        schemes = {"https"} if source.startswith("https:") else {"http", "https"}
        if urlsplit(target).scheme not in schemes:
            problem = f"{path}: the hub redirects to an unencrypted or unknown address"
            raise Unavailable(self._model.ref, problem, "Check HF_ENDPOINT.")
        return Link(target, {}, signed=True)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
