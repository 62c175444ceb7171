"""A shared location in memory that is far away and fails when told to: ``faulty://…`` for fsspec."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class Faulty(MemoryFileSystem):
    """`asked` notes each request; `fault` may raise for one; each takes `latency_s`."""

    protocol = "faulty"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    asked: ClassVar[list[tuple[str, str]]] = []
    latency_s: ClassVar[float] = 0.0
    fault: ClassVar[Callable[[str, str], None] | None] = None

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.replace("faulty://", "memory://"))

    def _ask(self, verb: str, path: str) -> None:
        Faulty.asked.append((verb, path.rsplit("/", 1)[-1]))
        time.sleep(Faulty.latency_s)
        if Faulty.fault is not None:
            Faulty.fault(verb, path)

    def cat_file(self, path: str, *args: Any, **kwargs: Any) -> bytes:
        self._ask("read", path)
        return super().cat_file(path, *args, **kwargs)

    def get_file(self, rpath: str, lpath: Any, **kwargs: Any) -> None:
        self._ask("read", rpath)
        super().get_file(rpath, lpath, **kwargs)

    def pipe_file(self, path: str, value: bytes, *args: Any, **kwargs: Any) -> None:
        self._ask("write", path)
        super().pipe_file(path, value, *args, **kwargs)

    def put_file(self, lpath: str, rpath: str, *args: Any, **kwargs: Any) -> None:
        self._ask("write", rpath)
        super().put_file(lpath, rpath, *args, **kwargs)

    def rm_file(self, path: str) -> None:
        self._ask("delete", path)
        super()._rm(path)

    def ls(self, path: str, *args: Any, **kwargs: Any) -> list[Any]:
        self._ask("list", path)
        return super().ls(path, *args, **kwargs)


@contextmanager
def faulty() -> Iterator[type[Faulty]]:
    """An empty location for the length of a test."""
    fsspec.register_implementation("faulty", Faulty, clobber=True)
    Faulty.store.clear()
    Faulty.pseudo_dirs[:] = [""]
    Faulty.asked.clear()
    Faulty.latency_s, Faulty.fault = 0.0, None
    yield Faulty
    Faulty.latency_s, Faulty.fault = 0.0, None
