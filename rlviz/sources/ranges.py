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
from functools import partial
from typing import Any

import urllib3

from rlviz.errors import Cancelled, RlvizError, Unavailable, UnsupportedCheckpoint
from rlviz.sources.links import Link, Links
from rlviz.sources.parts import Landing, Part, Ranges, parts_of
from rlviz.sources.refusals import TRANSIENT_STATUS, HubModel, busy, raise_for_hub, unreachable
from rlviz.sources.transport import Patience, Setback, Traffic, persist, pool

PART_BYTES = 8 * 2**20  # measured best for one tensor over a far CDN, with 8 to 16 in flight
GAP_BYTES = 64 * 2**10  # a request costs a round trip, in which a connection carries ten times this
_CHUNK_BYTES = 256 * 2**10  # at most what one call of the socket gives: cancelling waits for no more
_POLL_S = 0.05  # how soon a waiting reader notices that it was cancelled
_EXPIRED_STATUS = frozenset({401, 403, 404, 410})


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
    patience : Patience
        May be replaced at any time: who opens a model waits for an answer, an unattended run can sit out an outage.
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
        self.patience = patience or Patience()
        self._part_bytes = part_bytes
        self._traffic = Traffic()
        self._links = Links(model, commit, self._sizes, self._traffic)

    @property
    def bytes_read(self) -> int:
        """Body bytes received so far, those of retried parts included."""
        return self._traffic.bytes_read

    @property
    def requests(self) -> int:
        """Requests sent so far, those that locate a file and retries included."""
        return self._traffic.requests

    @property
    def timings(self) -> tuple[tuple[int, float], ...]:
        """``(bytes, seconds)`` of the latest ranges that were answered completely."""
        return self._traffic.timings

    def read_into(self, shard: str, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` from byte `offset` of the file `shard`."""
        self.read_ranges(shard, [(offset, buffer)])

    def read_ranges(self, shard: str, ranges: Ranges) -> None:
        """Fill each buffer from its byte offset of the file `shard`, all at once; neighbours share a request."""
        size = self._sizes.get(shard)
        if size is None:
            raise UnsupportedCheckpoint(self._model.ref, f"{shard} is not a file of this model")
        for offset, buffer in ranges:
            if offset < 0 or offset + buffer.nbytes > size:
                problem = f"{shard}: bytes {offset} to {offset + buffer.nbytes} lie outside the file of {size} bytes"
                raise UnsupportedCheckpoint(self._model.ref, problem)
        self._read_parts(parts_of(shard, ranges, self._part_bytes, GAP_BYTES))

    def read_file(self, path: str) -> bytes:
        """A whole small file."""
        content = bytearray(self._sizes.get(path, 0))
        self.read_into(path, 0, memoryview(content))
        return bytes(content)

    def __reduce__(self) -> tuple[partial[HubReader], tuple[Any, ...]]:
        """For worker processes: the token goes along, the cancel event, links and counts do not."""
        rebuild = partial(HubReader, patience=self.patience, part_bytes=self._part_bytes)
        return rebuild, (self._model, self._commit, self._sizes)

    def close(self) -> None:
        """End the reads under way; the shared connections stay open for other readers."""
        self._closed.set()
        self._links.clear()

    # --- parts ------------------------------------------------------------------------------------------------

    def _read_parts(self, parts: list[Part]) -> None:
        self._raise_if_cancelled()
        landing = Landing()
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

    def _read_part(self, part: Part, landing: Landing) -> None:
        persist(lambda: self._attempt(part, landing), self.patience, lambda seconds: self._pause(seconds, landing))

    def _pause(self, seconds: float, landing: Landing) -> None:
        """Wait, and notice soon when nobody waits for the bytes any more."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._raise_if_cancelled(landing)
            self._closed.wait(min(left, _POLL_S))

    def _attempt(self, part: Part, landing: Landing) -> None:
        """One request for what is left of the part."""
        self._raise_if_cancelled(landing)
        link = self._links.get(part.path, self.patience)
        headers = {**link.headers, "Range": f"bytes={part.first}-{part.last}"}
        failed: urllib3.exceptions.HTTPError | None = None
        asked, started = part.missing, time.monotonic()
        self._traffic.asked()
        try:
            with pool().stream(link.url, headers, self.patience) as response:
                self._check(response, link, part)
                self._receive(response, part, landing)
        except urllib3.exceptions.HTTPError as error:
            failed = error
        if failed is not None:
            raise unreachable(self._model, link.url, failed)
        if part.missing:
            raise Setback(self._refusal(part, f"the answer ended {part.missing} bytes too early"))
        self._traffic.answered(asked, time.monotonic() - started)

    def _receive(self, response: urllib3.BaseHTTPResponse, part: Part, landing: Landing) -> None:
        started, received = time.monotonic(), 0
        while chunk := response.read1(_CHUNK_BYTES):
            self._raise_if_cancelled(landing)
            self._traffic.received(len(chunk))
            if len(chunk) > part.missing:
                raise Setback(self._refusal(part, "the answer is longer than the range asked for"))
            landing.write(part, chunk)
            received += len(chunk)
            allowed_s = self.patience.read_s + received / self.patience.slowest_bytes_per_s
            if time.monotonic() - started > allowed_s:
                raise Setback(self._refusal(part, "the answer stalled"))

    def _check(self, response: urllib3.BaseHTTPResponse, link: Link, part: Part) -> None:
        """Refuse anything but exactly the bytes asked for, before the body is read."""
        status = response.status
        if status in TRANSIENT_STATUS:
            raise busy(self._model, status, response.headers)
        if link.signed and status in _EXPIRED_STATUS:
            self._links.forget(part.path, link)
            raise Setback(self._refusal(part, f"the hub's storage refuses its own link ({status})"))
        if not link.signed:
            raise_for_hub(self._model, link.url, response)
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

    def _refusal(self, part: Part, problem: str) -> RlvizError:
        step = f"Try again, or fetch it with 'hf download {self._model.repo_id}' and give the folder."
        return Unavailable(self._model.ref, f"{part.path}: {problem}", step)

    def _raise_if_cancelled(self, landing: Landing | None = None) -> None:
        if self._closed.is_set() or self._cancel.is_set() or (landing is not None and landing.is_shut):
            raise Cancelled(self._model.ref, "reading was cancelled")
