"""Bytes of a hub model's files by parallel range requests, at one commit.

A file is located once (a HEAD to the hub, which answers with a signed link to its storage) and read in parts
through the process's connection pool. An answer is checked before its body is read: a server that ignores the
range would otherwise send a whole shard.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_EXCEPTION, wait
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import quote

import httpx2

from rlviz.errors import Cancelled, RlvizError, Unavailable, UnsupportedCheckpoint
from rlviz.sources.refusals import TRANSIENT_STATUS, HubModel, busy, raise_for_hub, unreachable
from rlviz.sources.transport import Patience, Setback, persist, pool

PART_BYTES = 8 * 2**20  # measured best for one tensor over a far CDN, with 8 to 16 in flight
_POLL_S = 0.05  # how soon a waiting reader notices that it was cancelled
_MAX_HOPS = 5
_EXPIRED_STATUS = frozenset({401, 403, 404, 410})


@dataclass(frozen=True, slots=True, eq=False)
class _Link:
    """Where a file's bytes are. `headers` carry the token only where the link is the hub's own."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    signed: bool = False


@dataclass(slots=True, eq=False)
class _Part:
    """A stretch of a file being read: `done` bytes of `view` are in place, and a retry asks for the rest."""

    path: str
    offset: int
    view: memoryview
    done: int = 0

    @property
    def first(self) -> int:
        return self.offset + self.done

    @property
    def last(self) -> int:
        """The last byte asked for, inclusive as in a Range header."""
        return self.offset + len(self.view) - 1


class _Landing:
    """The door to the caller's buffer: once `shut`, a late answer cannot write into it any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.is_shut = False

    def write(self, part: _Part, chunk: bytes) -> None:
        with self._lock:
            if not self.is_shut:
                part.view[part.done : part.done + len(chunk)] = chunk
                part.done += len(chunk)

    def shut(self) -> None:
        with self._lock:
            self.is_shut = True


class HubReader:
    """Reads files of one model at one commit; the `ByteReader` of a hub checkpoint. Thread-safe.

    Every read ends in the exact bytes or in an `RlvizError`, within the bounds of `patience`. Setting `cancel`,
    or `close`, ends reads under way with `Cancelled`.

    Parameters
    ----------
    model : HubModel
        Which model, on which endpoint, with which token.
    commit : str
        40 hexadecimal digits; an answer for any other commit is refused.
    sizes : mapping of file path to size in bytes
        The files that may be read, as the hub listed them at this commit.
    """

    def __init__(
        self,
        model: HubModel,
        commit: str,
        sizes: Mapping[str, int],
        *,
        cancel: threading.Event | None = None,
        patience: Patience | None = None,
        part_bytes: int = PART_BYTES,
    ) -> None:
        self._model = model
        self._commit = commit
        self._sizes = dict(sizes)
        self._cancel = cancel or threading.Event()
        self._closed = threading.Event()
        self._patience = patience or Patience()
        self._part_bytes = part_bytes
        self._lock = threading.Lock()
        self._links: dict[str, _Link] = {}
        self._link_locks: dict[str, threading.Lock] = {}
        self._bytes_read = 0

    @property
    def bytes_read(self) -> int:
        """Body bytes received so far, those of retried parts included."""
        return self._bytes_read

    def read_into(self, shard: str, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from byte `offset` of the file `shard`."""
        view = buffer.cast("B")
        size = self._sizes.get(shard)
        if size is None:
            raise UnsupportedCheckpoint(self._model.ref, f"{shard} is not a file of this model")
        if offset < 0 or offset + len(view) > size:
            problem = f"{shard}: bytes {offset} to {offset + len(view)} lie outside the file of {size} bytes"
            raise UnsupportedCheckpoint(self._model.ref, problem)
        step = self._part_bytes
        self._read_parts([_Part(shard, offset + i, view[i : i + step]) for i in range(0, len(view), step)])

    def read_file(self, path: str) -> bytes:
        """A whole small file."""
        content = bytearray(self._sizes.get(path, 0))
        self.read_into(path, 0, memoryview(content))
        return bytes(content)

    def __reduce__(self) -> tuple[partial[HubReader], tuple[Any, ...]]:
        """For worker processes: the token goes along, the cancel event, links and counts do not."""
        rebuild = partial(HubReader, patience=self._patience, part_bytes=self._part_bytes)
        return rebuild, (self._model, self._commit, self._sizes)

    def close(self) -> None:
        """End the reads under way; the shared connections stay open for other readers."""
        self._closed.set()
        self._links.clear()

    # --- parts ------------------------------------------------------------------------------------------------

    def _read_parts(self, parts: list[_Part]) -> None:
        self._raise_if_cancelled()
        landing = _Landing()
        pending = {pool().workers.submit(self._read_part, part, landing) for part in parts}
        try:
            while pending:
                done, pending = wait(pending, timeout=_POLL_S, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
                self._raise_if_cancelled()
        finally:
            landing.shut()
            for future in pending:
                future.cancel()

    def _read_part(self, part: _Part, landing: _Landing) -> None:
        persist(lambda: self._attempt(part, landing), self._patience, lambda seconds: self._pause(seconds, landing))

    def _pause(self, seconds: float, landing: _Landing) -> None:
        """Wait, and notice soon when nobody waits for the bytes any more."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._raise_if_cancelled(landing)
            self._closed.wait(min(left, _POLL_S))

    def _attempt(self, part: _Part, landing: _Landing) -> None:
        """One request for what is left of the part."""
        self._raise_if_cancelled(landing)
        link = self._link(part.path)
        headers = {**link.headers, "Range": f"bytes={part.first}-{part.last}"}
        failed: httpx2.TransportError | None = None
        try:
            timeout = self._patience.timeout
            with pool().client.stream("GET", link.url, headers=headers, timeout=timeout) as response:
                self._check(response, link, part)
                self._receive(response, part, landing)
        except httpx2.TransportError as error:
            failed = error
        if failed is not None:
            raise unreachable(self._model, link.url, failed)
        if part.done < len(part.view):
            raise Setback(self._refusal(part, f"the answer ended {len(part.view) - part.done} bytes too early"))

    def _receive(self, response: httpx2.Response, part: _Part, landing: _Landing) -> None:
        started, received = time.monotonic(), 0
        for chunk in response.iter_raw():
            self._raise_if_cancelled(landing)
            with self._lock:
                self._bytes_read += len(chunk)
            if len(chunk) > len(part.view) - part.done:
                raise Setback(self._refusal(part, "the answer is longer than the range asked for"))
            landing.write(part, chunk)
            received += len(chunk)
            allowed_s = self._patience.read_s + received / self._patience.slowest_bytes_per_s
            if time.monotonic() - started > allowed_s:
                raise Setback(self._refusal(part, "the answer stalled"))

    def _check(self, response: httpx2.Response, link: _Link, part: _Part) -> None:
        """Refuse anything but exactly the bytes asked for, before the body is read."""
        status = response.status_code
        if status in TRANSIENT_STATUS:
            raise busy(self._model, status, response.headers)
        if link.signed and status in _EXPIRED_STATUS:
            self._forget(part.path, link)
            raise Setback(self._refusal(part, f"the hub's storage refuses its own link ({status})"))
        if not link.signed:
            raise_for_hub(self._model, response)
        size, length = self._sizes[part.path], part.last + 1 - part.first
        whole = status == 200 and length == size  # the file in one go: a range is not needed
        if not whole and status == 200:
            raise Setback(self._refusal(part, "the server ignores range requests"))
        if not whole and status != 206:
            raise Setback(self._refusal(part, f"the server answers {status} to a range request"))
        expected = f"bytes {part.first}-{part.last}/{size}"
        told = response.headers.get("Content-Range")
        if not whole and told != expected:
            raise Setback(self._refusal(part, f"asked for {expected}, the server answers {told}"))
        if response.headers.get("Content-Length", str(length)) != str(length):
            problem = f"{response.headers['Content-Length']} bytes announced where {length} were asked for"
            raise Setback(self._refusal(part, problem))
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise Setback(self._refusal(part, "the answer is compressed"))

    def _refusal(self, part: _Part, problem: str) -> RlvizError:
        step = f"Try again, or fetch it with 'hf download {self._model.repo_id}' and give the folder."
        return Unavailable(self._model.ref, f"{part.path}: {problem}", step)

    def _raise_if_cancelled(self, landing: _Landing | None = None) -> None:
        if self._closed.is_set() or self._cancel.is_set() or (landing is not None and landing.is_shut):
            raise Cancelled(self._model.ref, "reading was cancelled")

    # --- links ------------------------------------------------------------------------------------------------

    def _link(self, path: str) -> _Link:
        """Where the file is; asks the hub once, also when many parts need it at the same time."""
        with self._lock:
            lock = self._link_locks.setdefault(path, threading.Lock())
        with lock:
            if path not in self._links:
                self._links[path] = self._locate(path)
            return self._links[path]

    def _forget(self, path: str, link: _Link) -> None:
        """Drop an expired link, unless another part has already replaced it."""
        with self._link_locks[path]:
            if self._links.get(path) is link:
                del self._links[path]

    def _locate(self, path: str) -> _Link:
        model = self._model
        url = httpx2.URL(f"{model.endpoint}/{model.repo_id}/resolve/{self._commit}/{quote(path)}")
        commit: str | None = None
        for _ in range(_MAX_HOPS):
            response = self._head(url)
            commit = response.headers.get("X-Repo-Commit", commit)
            location = response.headers.get("Location")
            if not (response.is_redirect and location):
                self._check_identity(path, commit, response.headers.get("X-Linked-Size"))
                return _Link(str(url), model.authorization)
            target = url.join(location)
            if (target.scheme, target.host, target.port) != (url.scheme, url.host, url.port):
                self._check_identity(path, commit, response.headers.get("X-Linked-Size"))
                return self._foreign(path, target, url)
            url = target  # renamed on the hub, or its own cache: still the hub's origin
        raise Unavailable(model.ref, f"{path}: the hub redirects in a circle", "Check HF_ENDPOINT.")

    def _head(self, url: httpx2.URL) -> httpx2.Response:
        headers, timeout = self._model.authorization, self._patience.timeout
        try:
            response = pool().client.head(url, headers=headers, timeout=timeout)
        except httpx2.TransportError as error:
            failed = unreachable(self._model, str(url), error)
        else:
            raise_for_hub(self._model, response)
            return response
        raise failed

    def _check_identity(self, path: str, commit: str | None, size: str | None) -> None:
        if commit != self._commit:
            problem = f"{path}: asked for commit {self._commit[:12]}, the hub answers with {commit or 'none'}"
            raise Unavailable(self._model.ref, problem, "Try again; check HF_ENDPOINT.")
        if size is not None and size != str(self._sizes[path]):
            problem = f"{path}: the hub lists {self._sizes[path]} bytes and offers {size}"
            raise UnsupportedCheckpoint(self._model.ref, problem, "The upload may be broken; tell its author.")

    def _foreign(self, path: str, target: httpx2.URL, source: httpx2.URL) -> _Link:
        """A link to another origin: signed, so no token goes with it."""
        if target.scheme not in {"http", "https"} or (source.scheme == "https" and target.scheme != "https"):
            problem = f"{path}: the hub redirects to an unencrypted or unknown address"
            raise Unavailable(self._model.ref, problem, "Check HF_ENDPOINT.")
        return _Link(str(target), {}, signed=True)
