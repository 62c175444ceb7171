"""One connection pool per process, and how long it keeps trying.

Signed links are kept out of logs here: whoever holds one may read the file.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TypeVar

import httpx2

from rlviz.errors import InvalidInput, RlvizError

T = TypeVar("T")

_DEFAULT_CONNECTIONS = 16  # 8 to 16 parallel ranges saturate a far CDN; more only meets its rate limit


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long to try: every read ends within the product of these.

    A wait grows from `first_wait_s` by doubling up to `longest_wait_s`, with jitter; a rate limit's own wait is
    honoured up to `longest_rate_limit_s` (the hub's window is five minutes). An answer that trickles in slower
    than `slowest_bytes_per_s` counts as stalled.
    """

    attempts: int = 5
    first_wait_s: float = 0.5
    longest_wait_s: float = 8.0
    longest_rate_limit_s: float = 330.0
    connect_s: float = 10.0
    read_s: float = 20.0
    slowest_bytes_per_s: float = 1024.0

    def wait_s(self, failures: int) -> float:
        """Seconds to wait after this many failures, at least half of the nominal wait."""
        nominal = min(self.longest_wait_s, self.first_wait_s * 2 ** (failures - 1))
        return nominal * random.uniform(0.5, 1.0)

    @property
    def timeout(self) -> httpx2.Timeout:
        """No pool timeout: the worker threads, one per connection, are the queue."""
        return httpx2.Timeout(self.read_s, connect=self.connect_s, pool=None)


class Setback(Exception):
    """One attempt failed in a way that another may not; `final` is the error once patience is spent."""

    def __init__(self, final: RlvizError, wait_s: float | None = None) -> None:
        super().__init__(str(final))
        self.final = final
        self.wait_s = wait_s


def persist(attempt: Callable[[], T], patience: Patience, pause: Callable[[float], None] = time.sleep) -> T:
    """The result of `attempt`, repeated after each `Setback` until patience is spent; then its final error."""
    failures = 0
    while True:
        try:
            return attempt()
        except Setback as setback:
            failures += 1
            asked_s = setback.wait_s or 0.0
            given_up = failures >= patience.attempts or asked_s > patience.longest_rate_limit_s
            final = setback.final
        # outside the handler: the caught exception may hold a signed link, and must not become the context
        if given_up:
            raise final
        pause(max(asked_s, patience.wait_s(failures)))


# --- the pool ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The client every ranged read of this process goes through, and the threads that use it.

    There are as many threads as connections, so the number of requests in flight has one ceiling whatever the
    number of models and readers.
    """

    client: httpx2.Client
    workers: ThreadPoolExecutor


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
            ceiling = connection_ceiling()
            client = httpx2.Client(
                limits=httpx2.Limits(max_connections=ceiling, max_keepalive_connections=ceiling),
                follow_redirects=False,  # by hand: a token must not follow to another origin
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # nothing carries over between users
                headers={"User-Agent": "rlviz", "Accept-Encoding": "identity"},
            )
            _keep_links_out_of_logs()
            _pool = Pool(client, ThreadPoolExecutor(ceiling, thread_name_prefix="rlviz-range"))
        return _pool


def _forget_pool() -> None:
    global _pool, _pool_lock
    _pool, _pool_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_pool)  # sockets and threads do not survive a fork


def _keep_links_out_of_logs() -> None:
    """The HTTP libraries log whole URLs (info) and Location headers (debug)."""
    for name in ("httpx2", "httpcore2.http11", "httpcore2.http2"):
        logger = logging.getLogger(name)
        if _without_query not in logger.filters:
            logger.addFilter(_without_query)


def _without_query(record: logging.LogRecord) -> bool:
    if isinstance(record.args, tuple):
        record.args = tuple(a.copy_with(query=None) if isinstance(a, httpx2.URL) else a for a in record.args)
    return "receive_response_headers" not in str(record.msg)
