"""The two origins: the hub (API and resolve) and the storage its signed links lead to."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Collection, Mapping
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from tests.fakehub.faults import Fault, FaultList, Match, Request
from tests.fakehub.handler import Handler
from tests.fakehub.oauth import Provider
from tests.fakehub.repos import Blob, Repo


class Server(ThreadingHTTPServer):
    """A listening socket that knows its hub and can cut the connections it accepted."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, hub: FakeHub, origin: str, port: int) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.hub = hub
        self.origin = origin
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients of these tests hang up on purpose; their broken pipes are no news."""

    def cut(self) -> None:
        """Stop listening and break every kept-alive connection, so that "down" means down."""
        self.shutdown()
        self.server_close()
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class Pace:
    """Holds a body back to a rate from its first byte on, so that late wake-ups do not add up."""

    def __init__(self, bytes_per_s: float | None) -> None:
        self.bytes_per_s = bytes_per_s
        self.started = time.monotonic()

    def wait(self, sent: int) -> None:
        if self.bytes_per_s:
            time.sleep(max(0.0, self.started + sent / self.bytes_per_s - time.monotonic()))


class FakeHub:
    """A hub on 127.0.0.1 whose weight files live on a second origin (localhost, another port).

    Parameters
    ----------
    tokens : mapping of token to the gated or private repo ids it may read
    latency_s, bytes_per_s : imitate a far server: delay per request, speed per connection
    page_rows : rows per page of a tree listing
    """

    def __init__(
        self,
        *,
        tokens: Mapping[str, Collection[str]] | None = None,
        latency_s: float = 0.0,
        bytes_per_s: float | None = None,
        page_rows: int = 1000,
        port: int = 0,
    ) -> None:
        self.tokens = dict(tokens or {})
        self.latency_s = latency_s
        self.bytes_per_s = bytes_per_s
        self.page_rows = page_rows
        self.repos: dict[str, Repo] = {}
        self.renamed: dict[str, str] = {}
        self.requests: list[Request] = []
        self.faults = FaultList()
        self._links: dict[str, Blob] = {}
        self._servers = [Server(self, "hub", port), Server(self, "cdn", 0)]
        self._ports = [server.server_port for server in self._servers]
        self.endpoint = f"http://127.0.0.1:{self._servers[0].server_port}"
        self.cdn = f"http://localhost:{self._servers[1].server_port}"
        self.oauth = Provider(self.endpoint)

    def __enter__(self) -> Self:
        self._serve()
        return self

    def _serve(self) -> None:
        for server in self._servers:
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Go down: connections are refused from now on, and those that are open break."""
        servers, self._servers = self._servers, []
        for server in servers:
            server.cut()

    def resume(self) -> None:
        """Come up again where it went down, with all repositories, links and faults as they were."""
        self._servers = [Server(self, origin, port) for origin, port in zip(("hub", "cdn"), self._ports, strict=True)]
        self._serve()

    def add_repo(
        self,
        repo_id: str,
        folder: str | Path,
        *,
        gated: bool = False,
        private: bool = False,
        disabled: bool = False,
        card: Mapping[str, Any] | None = None,
        revision: str = "main",
    ) -> Repo:
        """Serve a folder as a model repository."""
        repo = Repo(repo_id, gated, private, disabled, dict(card or {}))
        repo.commit(Path(folder), revision)
        self.repos[repo_id] = repo
        return repo

    def push(self, repo_id: str, folder: str | Path, revision: str = "main") -> str:
        """A new commit with the folder's content; moves (or makes) the revision and returns the commit."""
        return self.repos[repo_id].commit(Path(folder), revision)

    def rename(self, old: str, new: str) -> None:
        """The old id redirects to the new one, as after a rename on the hub."""
        self.repos[new] = self.repos.pop(old)
        self.repos[new].repo_id = new
        self.renamed[old] = new

    def inject(self, match: Match, fault: Fault) -> None:
        """Let requests that match meet a fault."""
        self.faults.add(match, fault)

    def signed_link(self, blob: Blob) -> str:
        """A new link to a blob on the second origin, good until `expire_links`."""
        signature = secrets.token_hex(16)
        self._links[signature] = blob
        return f"{self.cdn}/blobs/{blob.sha256}?X-Amz-Expires=3600&X-Amz-Signature={signature}"

    def linked(self, signature: str) -> Blob | None:
        return self._links.get(signature)

    def expire_links(self) -> None:
        """Signed links handed out so far answer 403 from now on."""
        self._links.clear()

    def pace(self, bytes_per_s: float | None = None) -> Pace:
        """The clock of one body, at the given rate or the hub's own."""
        return Pace(bytes_per_s or self.bytes_per_s)
