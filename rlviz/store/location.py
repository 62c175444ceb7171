"""A place that several hosts share, by fsspec: a bucket, a mounted share, another machine. Whole objects only."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from rlviz.errors import InvalidInput, Offline

DRIVERS = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "az": "adlfs",
    "sftp": "paramiko",
}
BUCKETS = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "az", "hf"})


class Location:
    """Objects below one fsspec URL. Everything that goes wrong there is an `Offline` that names the URL.

    Credentials that stand in the URL, and whatever a driver says, which may quote them, are never shown.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.shown = shown(url)
        scheme = url.partition("://")[0]
        try:
            # A cached listing would hide what another host has just put there.
            fs, root = fsspec.url_to_fs(url, use_listings_cache=False)
        except ImportError:
            driver = DRIVERS.get(scheme)
            install = f"Install it: pip install {driver}" if driver else "Install its fsspec driver"
            raise InvalidInput(self.shown, f"no driver for {scheme}:// is installed", f"{install}.") from None
        except (ValueError, TypeError) as error:
            known = "Give a folder, s3://…, hf://buckets/… or another fsspec URL."
            raise InvalidInput(self.shown, "is not a store that fsspec can open", known) from error
        except Exception as error:  # some drivers connect already here
            problem = f"the shared store cannot be opened ({type(error).__name__})"
            raise Offline(self.shown, problem, "Check the network, the address and its credentials.") from error
        self._scheme = scheme
        self._fs: Any = fs
        self._root = str(root).rstrip("/")

    def read(self, name: str) -> bytes | None:
        """An object's content; None where there is none."""
        with self._asked("read"):
            try:
                return bytes(self._fs.cat_file(self._at(name)))
            except FileNotFoundError:
                return None

    def write(self, name: str, content: bytes) -> None:
        """Put a small object, replacing what is there."""
        with self._asked("written"):
            self._in_folder(name, lambda: self._fs.pipe_file(self._at(name), content))

    def upload(self, source: Path, name: str) -> None:
        """Put a file."""
        with self._asked("written"):
            self._in_folder(name, lambda: self._fs.put_file(str(source), self._at(name)))

    def download(self, name: str, target: Path) -> bool:
        """Get an object into a file; False where there is none."""
        with self._asked("read"):
            try:
                self._fs.get_file(self._at(name), str(target))
            except FileNotFoundError:
                return False
            return True

    def names(self, folder: str) -> list[str]:
        """Names of the objects directly below a folder; none where there is no such folder."""
        with self._asked("listed"):
            self._fs.invalidate_cache()
            try:
                found: list[str] = self._fs.ls(self._at(folder), detail=False)
            except FileNotFoundError:
                return []
        return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in found)

    def delete(self, name: str) -> None:
        """Remove an object; harmless where there is none."""
        with self._asked("written"):
            try:
                self._fs.rm_file(self._at(name))
            except FileNotFoundError:
                return

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _in_folder(self, name: str, put: Callable[[], Any]) -> None:
        """Put an object; where folders are real (a share, a server) and this one is missing, make it first."""
        try:
            put()
        except FileNotFoundError:
            if self._scheme in BUCKETS:
                raise
            self._fs.makedirs(self._at(name).rsplit("/", 1)[0], exist_ok=True)
            put()

    @contextmanager
    def _asked(self, verb: str) -> Generator[None]:
        try:
            yield
        except Exception as error:  # drivers share no base class: botocore, aiohttp, paramiko, httpx, OSError
            why = "permission refused" if isinstance(error, PermissionError) else type(error).__name__
            step = "Check the network, the address and its credentials; what is in the local copy stays usable."
            raise Offline(self.shown, f"the shared store cannot be {verb} ({why})", step) from error


def shown(url: str) -> str:
    """The URL without user, password and query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
