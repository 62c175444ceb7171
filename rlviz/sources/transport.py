"""One connection pool per process, and how long it keeps trying.

Signed links are kept out of logs here: whoever holds one may read the file.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx2
import urllib3

from rlviz.errors import InvalidInput, RlvizError

T = TypeVar("T")

_DEFAULT_OUTAGE_S = 300
_TIMINGS_KEPT = 4096
_HEADERS = {"User-Agent": "rlviz", "Accept-Encoding": "identity"}
_DEFAULT_CONNECTIONS = 16  # 8 to 16 parallel ranges saturate a far CDN; more only meets its rate limit


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long to try: every read ends within bounds that follow from these.

    A wait grows from `first_wait_s` by doubling up to `longest_wait_s`, with jitter; a rate limit's own wait is
    honoured up to `longest_rate_limit_s` (the hub's window is five minutes). An answer that trickles in slower
    than `slowest_bytes_per_s` counts as stalled. An outage (nobody answers, or only "busy") is tried for
    `outage_s` in spite of `attempts`: a run of hours outlives a router's restart.
    """

    attempts: int = 5
    first_wait_s: float = 0.5
    longest_wait_s: float = 8.0
    longest_rate_limit_s: float = 330.0
    connect_s: float = 10.0
    read_s: float = 20.0
    slowest_bytes_per_s: float = 1024.0
    outage_s: float = 0.0

    def wait_s(self, failures: int) -> float:
        """Seconds to wait after this many failures, at least half of the nominal wait."""
        nominal = min(self.longest_wait_s, self.first_wait_s * 2.0 ** min(failures - 1, 30))
        return nominal * random.uniform(0.5, 1.0)

    @property
    def timeout(self) -> urllib3.Timeout:
        """To connect, and between two pieces of an answer."""
        return urllib3.Timeout(connect=self.connect_s, read=self.read_s)


def lasting_patience() -> Patience:
    """The patience of an unattended run: outages of RLVIZ_PATIENCE seconds (300) are sat out."""
    text = os.environ.get("RLVIZ_PATIENCE") or str(_DEFAULT_OUTAGE_S)
    if not text.isdigit():
        raise InvalidInput("RLVIZ_PATIENCE", f"{text!r} is not a number of seconds", "Unset it, or set 0 to 3600.")
    return Patience(outage_s=float(text))


class Setback(Exception):
    """One attempt failed in a way that another may not; `final` is the error once patience is spent.

    `outage` tells a hub that is away or busy from one that answers wrongly, which waiting seldom mends.
    """

    def __init__(self, final: RlvizError, wait_s: float | None = None, *, outage: bool = False) -> None:
        super().__init__(str(final))
        self.final = final
        self.wait_s = wait_s
        self.outage = outage


def persist(attempt: Callable[[], T], patience: Patience, pause: Callable[[float], None] = time.sleep) -> T:
    """The result of `attempt`, repeated after each `Setback` until patience is spent; then its final error."""
    failures, started = 0, time.monotonic()
    while True:
        try:
            return attempt()
        except Setback as setback:
            failures += 1
            asked_s = setback.wait_s or 0.0
            sat_out = setback.outage and time.monotonic() - started < patience.outage_s
            given_up = (failures >= patience.attempts and not sat_out) or asked_s > patience.longest_rate_limit_s
            final = setback.final
        # outside the handler: the caught exception may hold a signed link, and must not become the context
        if given_up:
            raise final
        pause(max(asked_s, patience.wait_s(failures)))


class Traffic:
    """What has crossed the network so far. Thread-safe.

    Attributes
    ----------
    requests : requests sent, those that failed included
    bytes_read : body bytes received, those of failed answers included
    timings : ``(bytes, seconds)`` of the latest complete answers, from sending the request to its last byte
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._timings: deque[tuple[int, float]] = deque(maxlen=_TIMINGS_KEPT)
        self.requests = 0
        self.bytes_read = 0

    def asked(self) -> None:
        with self._lock:
            self.requests += 1

    def received(self, nbytes: int) -> None:
        with self._lock:
            self.bytes_read += nbytes

    def answered(self, nbytes: int, seconds: float) -> None:
        with self._lock:
            self._timings.append((nbytes, seconds))

    @property
    def timings(self) -> tuple[tuple[int, float], ...]:
        with self._lock:
            return tuple(self._timings)


# --- the pool ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The connections every ranged read of this process goes through, and the threads that use them.

    There are as many threads as connections, so the number of requests in flight has one ceiling whatever the
    number of models and readers. Not the client of `huggingface_hub`, which hands out bodies in pieces of 64 KiB:
    over 16 fast connections its bookkeeping alone fills a core, at half the rate of the same bytes read here.
    """

    direct: urllib3.PoolManager
    proxies: Mapping[str, urllib3.PoolManager]  # by the scheme of the address asked for
    workers: ThreadPoolExecutor

    def head(self, url: str, headers: Mapping[str, str], patience: Patience) -> urllib3.BaseHTTPResponse:
        """Headers of an answer, a redirect's too: a token must not follow to another origin."""
        return self._through(url).request(
            "HEAD", url, headers={**_HEADERS, **headers}, retries=False, redirect=False, timeout=patience.timeout
        )

    @contextmanager
    def stream(self, url: str, headers: Mapping[str, str], patience: Patience) -> Generator[urllib3.BaseHTTPResponse]:
        """An answer whose body is read inside the block; what is left of it then goes with its connection."""
        response = self._through(url).request(
            "GET",
            url,
            headers={**_HEADERS, **headers},
            retries=False,
            redirect=False,
            timeout=patience.timeout,
            preload_content=False,
            decode_content=False,
        )
        try:
            yield response
        finally:
            if response.length_remaining != 0:
                response.close()
            response.release_conn()

    def _through(self, url: str) -> urllib3.PoolManager:
        parts = urlsplit(url)
        proxy = self.proxies.get(parts.scheme)
        return self.direct if proxy is None or proxy_bypass(parts.hostname or "") else proxy


def connection_ceiling() -> int:
    """Connections this process may open: RLVIZ_CONNECTIONS, or 16."""
    text = os.environ.get("RLVIZ_CONNECTIONS") or str(_DEFAULT_CONNECTIONS)
    if not text.isdigit() or int(text) == 0:
        raise InvalidInput("RLVIZ_CONNECTIONS", f"{text!r} is not a positive number", "Unset it, or set 1 to 64.")
    return int(text)


_pool: Pool | None = None
_pool_lock = threading.Lock()


def pool() -> Pool:
    """The process's pool, opened at the first call."""
    global _pool  # noqa: PLW0603 - one per process is the point
    with _pool_lock:
        if _pool is None:
            _keep_links_out_of_logs()
            _pool = _opened(connection_ceiling())
        return _pool


def _opened(ceiling: int) -> Pool:
    """Proxies, certificates and ciphers as for every other request to the hub."""
    settings: Any = {"maxsize": ceiling, "ssl_context": httpx2.create_ssl_context()}
    proxies: dict[str, urllib3.PoolManager] = {}
    for scheme, address in getproxies().items():
        if scheme in {"http", "https"}:
            try:
                proxies[scheme] = urllib3.ProxyManager(address, **settings)
            except urllib3.exceptions.ProxySchemeUnknown:
                name, step = f"{scheme}_proxy", "Unset it, or name a proxy that begins with http://."
                raise InvalidInput(name, "this is not the address of an HTTP proxy", step) from None
    workers = ThreadPoolExecutor(ceiling, thread_name_prefix="rlviz-range")
    return Pool(urllib3.PoolManager(**settings), proxies, workers)


def _forget_pool() -> None:
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_pool)  # sockets and threads do not survive a fork


def _keep_links_out_of_logs() -> None:
    """The HTTP libraries log whole URLs (urllib3 at debug, httpx2 at info) and Location headers (httpcore2)."""
    for name in ("urllib3.connectionpool", "httpx2", "httpcore2.http11", "httpcore2.http2"):
        logger = logging.getLogger(name)
        if _without_query not in logger.filters:
            logger.addFilter(_without_query)


def _without_query(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(_told(argument) for argument in record.args)
    return "receive_response_headers" not in str(record.msg)


def _told(argument: object) -> object:
    if isinstance(argument, httpx2.URL):
        return argument.copy_with(query=None)
    return argument.partition("?")[0] if isinstance(argument, str) else argument
