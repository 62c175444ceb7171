"""Model references: the text a person pastes, parsed once, printed back without loss."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NoReturn
from urllib.parse import quote, unquote, urlsplit

from rlviz.errors import InvalidInput

RefKind = Literal["hub", "local", "demo"]

DEMO_NAMES: tuple[str, ...] = ("base", "rl", "sft", "sft_same")

_HOSTS = frozenset({"huggingface.co", "www.huggingface.co", "hf.co"})
# how a web page of a model goes on after its id; blob, resolve and raw end in a file
_FOLDER_PAGES = frozenset({"tree", "commit", "commits"})
_FILE_PAGES = frozenset({"blob", "resolve", "raw"})
_PAGES = _FOLDER_PAGES | _FILE_PAGES
# the hub never gives these out as user names, so they mean "not a model page"
_NOT_MODELS = {"datasets": "a dataset", "spaces": "a Space", "buckets": "a bucket"}
_SITE_PAGES = frozenset({"models", "docs", "papers", "collections", "organizations", "api", "blog", "settings"})
# the rules of huggingface_hub.utils.validate_repo_id (whose import costs more than planning); a test compares the two
_REPO_ID = re.compile(r"(\b[\w\-.]{1,96}\b/)?\b[\w\-.]{1,96}\b", re.ASCII)
# revisions with a slash that the hub itself makes
_HUB_REF = re.compile(r"refs/(?:pr/\d+|convert/[\w.-]+)")
# what git-check-ref-format forbids in a branch name
_NOT_IN_REVISION = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|//|@\{|^[-/.]|[/.]$|\.lock$")
_LOCAL_START = ("/", "./", "../", "~/")
_EXAMPLE = "write org/name, a huggingface.co model page, ./folder or demo:rl"


class InvalidRef(InvalidInput):
    """A text that names no checkpoint; prints as one sentence, "<text> <what is wrong>: <what to write>"."""

    def __str__(self) -> str:
        return f"{self.subject} {self.problem}: {self.next_step}."


@dataclass(frozen=True, slots=True)
class ModelRef:
    """Where a checkpoint is, as a person names it; `parse(str(ref)) == ref`.

    `location` is a hub repository id, a path as typed, or the name of a shipped demo, according to `kind`.
    `revision` is a branch, tag or commit (None: the default branch; for a demo: its fingerprint). `subfolder` is
    for the hub only: a local path already contains it.
    """

    kind: RefKind
    location: str
    revision: str | None = None
    subfolder: str = ""

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def parse(cls, text: str, *, look_here: bool = True) -> ModelRef:
        """Read one reference; raise `InvalidInput` in one sentence for anything that is none.

        With ``look_here=False`` no path of this machine is looked at: what a server tells a visitor must not
        depend on the server's folders.

        A bare ``org/name`` that is also a folder here is refused, because it could mean either: ``./org/name``
        is the folder, ``hf://org/name`` the hub.

        Examples
        --------
        >>> ModelRef.parse(" https://huggingface.co/org/name/tree/v1/sub/ ")
        ModelRef(kind='hub', location='org/name', revision='v1', subfolder='sub')
        >>> str(ModelRef.parse("hf.co/org/name/blob/refs%2Fpr%2F3/model.safetensors?download=true"))
        'org/name@refs/pr/3'
        """
        text = text.strip().lstrip("\u200b\ufeff").strip()
        if not text.startswith(_LOCAL_START):  # a file's name may end in anything
            text = text.rstrip("\u200b\ufeff").strip()
        if not text:
            _refuse("An empty text", "names no model", _EXAMPLE)
        if text in (".", "..", "~") or text.startswith(_LOCAL_START):
            return cls("local", _tidy_path(text))
        if text.startswith("demo:"):
            name, _, revision = text.removeprefix("demo:").partition("@")
            return cls("demo", name, revision or None)
        if text.startswith("hf://"):
            return _parse_hf(text)
        if "://" in text or text.split("/")[0].lower() in _HOSTS:
            return _parse_url(text)
        return _parse_short(text, look_here)

    def __str__(self) -> str:
        if self.kind == "local":
            return self.location
        if self.kind == "demo":
            return f"demo:{self.location}" + (f"@{self.revision}" if self.revision else "")
        if not self.subfolder:
            return self.location + (f"@{quote(self.revision, safe='/')}" if self.revision else "")
        # without an organisation, an empty revision keeps `name@/folder` apart from `org/name`
        at = f"@{quote(self.revision or '', safe='')}" if self.revision or "/" not in self.location else ""
        return f"hf://{self.location}{at}/{quote(self.subfolder, safe='/')}"

    @property
    def repo_id(self) -> str:
        """The hub repository; only for `kind` "hub"."""
        if self.kind != "hub":
            raise ValueError(f"{self} is not on the hub")
        return self.location

    @property
    def path(self) -> Path:
        """The local path with ``~`` expanded; only for `kind` "local"."""
        if self.kind != "local":
            raise ValueError(f"{self} is not a local path")
        return Path(self.location).expanduser()

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a full commit, which cannot move."""
        return self.kind == "hub" and bool(re.fullmatch(r"[0-9a-f]{40}", self.revision or ""))

    def pinned(self, commit: str) -> ModelRef:
        """The same checkpoint at a commit that cannot move; a local path cannot be pinned and stays as it is."""
        return self if self.kind == "local" else replace(self, revision=commit)


def _refuse(text: str, problem: str, next_step: str) -> NoReturn:
    shown = text if len(text) <= 120 else text[:117] + "..."
    raise InvalidRef(shown, problem, next_step)


def _tidy_path(text: str) -> str:
    return text.rstrip("/") or "/"


def _check(ref: ModelRef) -> None:
    """What every reference must fulfil, however it was made."""
    if ref.kind == "demo":
        _check_demo(ref)
    elif ref.kind == "local":
        _check_local(ref)
    else:
        _check_repo_id(ref.location)
        _check_subfolder(ref.location, ref.subfolder)
        if ref.revision is not None:
            _check_revision(ref.location, ref.revision)


def _check_demo(ref: ModelRef) -> None:
    text = f"demo:{ref.location}"
    if ref.location not in DEMO_NAMES:
        _refuse(text, "is not a shipped demo", "the demos are " + ", ".join(f"demo:{name}" for name in DEMO_NAMES))
    if ref.revision is not None and not re.fullmatch(r"[0-9a-f]{7,64}", ref.revision):
        _refuse(f"{text}@{ref.revision}", "is not a version of a demo", f"write {text}")
    if ref.subfolder:
        _refuse(f"{text}/{ref.subfolder}", "has no subfolders", f"write {text}")


def _check_local(ref: ModelRef) -> None:
    text = ref.location
    if any(ord(c) < 32 or ord(c) == 127 for c in text) or text != _tidy_path(text.strip()):
        _refuse(repr(text), "is not a path", "write it without control characters and surrounding spaces")
    if not (text in (".", "..", "~") or text.startswith(_LOCAL_START)):
        _refuse(text, "does not say where the folder is", f"write ./{text}")
    if ref.revision is not None or ref.subfolder:
        _refuse(text, "is a path, which has no revision or subfolder", "write the path alone")


def _check_repo_id(text: str) -> None:
    first = text.partition("/")[0]
    if "/" in text and first in _NOT_MODELS:
        _refuse(text, f"is {_NOT_MODELS[first]}, not a model", "write the id of a model, org/name")
    if "/" in text and first in _SITE_PAGES:
        _refuse(text, "is a page of the hub, not a model", "write the id of a model, org/name")
    if text.count("/") > 1 and all(text.split("/")):
        repo, rest = "/".join(text.split("/")[:2]), "/".join(text.split("/")[2:])
        _refuse(text, "has too many parts for a model id", f"write hf://{repo}/{rest} if {rest} is a subfolder")
    if not _REPO_ID.fullmatch(text) or "--" in text or ".." in text or text.endswith(".git"):
        rule = "letters, digits, '-', '_' and '.', not doubled or at either end"
        _refuse(text, f"is not a model id ({rule})", _EXAMPLE)


def _check_subfolder(repo_id: str, subfolder: str) -> None:
    parts = subfolder.split("/")
    bad = any(part in ("", ".", "..") or part != part.strip() for part in parts) or "\\" in subfolder
    if subfolder and (bad or any(ord(c) < 32 or ord(c) == 127 for c in subfolder)):
        _refuse(f"{repo_id}/{subfolder}", "has an illegal subfolder", "name a folder inside the repository, as in a/b")


def _check_revision(repo_id: str, revision: str) -> None:
    if not revision:
        _refuse(f"{repo_id}@", "has nothing after the @", f"write {repo_id} or {repo_id}@revision")
    if _NOT_IN_REVISION.search(revision) or len(revision) > 250:
        _refuse(f"{repo_id}@{revision}", "has an illegal revision", "name a branch, a tag or a commit")


def _decode(text: str, part: str) -> str:
    """Undo percent-encoding; anything that is not UTF-8 is refused rather than guessed."""
    try:
        return unquote(part, errors="strict")
    except UnicodeDecodeError:
        _refuse(text, "has broken percent-encoding", "paste the address again")


def _split_revision(text: str, rest: str) -> tuple[str | None, str]:
    """Split ``revision/subfolder``, still percent-encoded; the hub's own refs/pr/3 may be written plainly."""
    made = _HUB_REF.match(rest)
    if made and rest[made.end() : made.end() + 1] in ("", "/"):
        revision, subfolder = made.group(), rest[made.end() + 1 :]
    else:
        revision, _, subfolder = rest.partition("/")
    return _decode(text, revision) or None, _decode(text, subfolder.strip("/"))


def _parse_hf(text: str) -> ModelRef:
    """``hf://[org/]name[@revision][/subfolder]``."""
    body = text.removeprefix("hf://").strip("/")
    before, at, after = body.partition("@")
    if at:
        revision, subfolder = _split_revision(text, after)
        if not after:
            _check_revision(before, "")
        return ModelRef("hub", before, revision, subfolder)
    parts = before.split("/")
    if parts[0] in _NOT_MODELS:
        _refuse(text, f"is {_NOT_MODELS[parts[0]]}, not a model", "write the id of a model, org/name")
    return ModelRef("hub", "/".join(parts[:2]), None, _decode(text, "/".join(parts[2:])))


def _parse_url(text: str) -> ModelRef:
    """A page of huggingface.co, with or without ``https://``; query and fragment say nothing about the model."""
    try:
        url = urlsplit(text if "://" in text else f"https://{text}")
    except ValueError:
        _refuse(text, "is not a web address", _EXAMPLE)
    if url.scheme == "file":
        _refuse(text, "is a file address", f"write the path itself, {url.path or '/folder'}")
    if url.scheme not in ("http", "https") or url.netloc.lower() not in _HOSTS:
        _refuse(text, "is not on huggingface.co", "paste a model page from there or write org/name")
    parts = [part for part in url.path.split("/") if part]
    if not parts:
        _refuse(text, "names no model", "paste the page of one model, https://huggingface.co/org/name")
    if parts[0] in _NOT_MODELS:
        _refuse(text, f"is {_NOT_MODELS[parts[0]]}, not a model", "paste the page of a model")
    single = len(parts) >= 3 and parts[1] in _PAGES and not (len(parts) >= 4 and parts[2] in _PAGES)
    repo, page = (parts[:1], parts[1:]) if single else (parts[:2], parts[2:])
    return _parse_page(text, "/".join(repo), page)


def _parse_page(text: str, repo_id: str, page: list[str]) -> ModelRef:
    """What follows the model in a web address: nothing, or a kind of page and ``revision/path``."""
    if not page or page == ["tree"]:
        return ModelRef("hub", repo_id)
    if page[0] not in _PAGES or len(page) < 2:
        _refuse(text, "is not the page of a model's files", f"paste https://huggingface.co/{repo_id}")
    revision, path = _split_revision(text, "/".join(page[1:]))
    if page[0] in _FILE_PAGES:
        path = path.rpartition("/")[0]
    return ModelRef("hub", repo_id, revision, path)


def _parse_short(text: str, look_here: bool) -> ModelRef:
    """``name``, ``org/name`` or ``org/name@revision``; everything after the @ is the revision."""
    before, at, after = text.partition("@")
    name = before.rstrip("/")
    local = _local_kind(text) if look_here else None
    if local:
        hub = f" or hf://{name} for the hub" if _REPO_ID.fullmatch(name) and not at else ""
        _refuse(text, f"is a {local} here", f"write ./{text.rstrip('/')}{hub}")
    if at:
        _check_revision(before, after)
    if not at and name.endswith(".safetensors"):
        _refuse(text, "is not a file here", "write the path, as in ./folder/model.safetensors")
    return ModelRef("hub", name, _decode(text, after) if at else None)


def _local_kind(text: str) -> str | None:
    path = Path(text)
    if path.is_dir():
        return "folder"
    return "file" if path.is_file() else None
