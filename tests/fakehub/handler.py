"""What each path answers, with the headers the real client relies on."""

from __future__ import annotations

import json
import re
import time
from http.server import BaseHTTPRequestHandler
from io import BufferedReader, BytesIO
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import parse_qs, unquote, urlsplit

from tests.fakehub.faults import Fault, Request
from tests.fakehub.repos import CREATED, Blob, Repo, tree_row

if TYPE_CHECKING:
    from tests.fakehub.server import FakeHub

CHUNK = 256 * 1024
_RESOLVE = re.compile(r"/(?P<repo>[^/]+(?:/[^/]+)?)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
_API = re.compile(
    r"/api/models/(?P<repo>[^/]+(?:/[^/]+)??)"
    r"(?:/(?P<verb>revision|tree|refs|commits|paths-info|auth-check)(?:/(?P<revision>[^/]+)(?:/(?P<path>.+))?)?)?"
)


class Refusal(Exception):
    """An error answer: status, X-Error-Code, X-Error-Message."""

    def __init__(self, status: int, code: str, message: str, commit: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        headers = {"X-Error-Code": code, "X-Error-Message": message, "X-Repo-Commit": commit}
        self.headers = {key: value for key, value in headers.items() if value}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or every answer waits 40 ms for the client's delayed ACK
    fault = Fault()
    request_seen: Request

    @property
    def hub(self) -> FakeHub:
        return self.server.hub  # pyright: ignore[reportAttributeAccessIssue]

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: `FakeHub.requests` is the log."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        origin: str = self.server.origin  # pyright: ignore[reportAttributeAccessIssue]
        request = Request(self.command, origin, parts.path, parts.query, self.headers)  # pyright: ignore[reportArgumentType]
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.request_seen = request
        self.fault = self.hub.faults.take(request)
        self.hub.requests.append(request)
        time.sleep(self.hub.latency_s + self.fault.delay_s)
        self.fault.then()
        if self.fault.reset:
            self.close_connection = True
            return
        try:
            if self.fault.status is not None:
                self.answer(self.fault.status, dict(self.fault.headers), self.fault.body)
            elif origin == "cdn":
                self.storage(request)
            else:
                self.route(request)
        except Refusal as refusal:
            self.answer(refusal.status, refusal.headers, json.dumps({"error": str(refusal)}).encode())

    do_HEAD = do_POST = do_GET

    # --- routes ---------------------------------------------------------------------------------------------

    def route(self, request: Request) -> None:
        if request.path == "/api/whoami-v2":
            self.whoami()
        elif signing_in := self.hub.oauth.answer(
            request.method, request.path, request.query, self.body, request.authorization
        ):
            self.answer(*signing_in)
        elif request.path == "/api/models":
            wanted = parse_qs(request.query).get("search", [""])[0]
            self.json([{"id": name} for name, repo in self.hub.repos.items() if wanted in name and not repo.private])
        elif match := _RESOLVE.fullmatch(request.path):
            self.resolve(**match.groupdict())
        elif match := _API.fullmatch(request.path):
            self.api(**match.groupdict())
        else:
            raise Refusal(404, "", "Sorry, we can't find the page you are looking for.")

    def whoami(self) -> None:
        token = self.token()
        if token is None:
            raise Refusal(401, "", "Invalid username or password.")
        self.json({"type": "user", "name": token.removeprefix("hf_"), "orgs": [], "auth": {"type": "access_token"}})

    def api(self, repo: str, verb: str | None, revision: str | None, path: str | None) -> None:
        found = self.repo(repo)
        if found is None:
            return
        query = parse_qs(self.request_seen.query)
        if verb == "auth-check":
            self.allow_content(found)
            self.json({})
            return
        if verb == "refs":
            branches = [
                {"name": n, "ref": f"refs/heads/{n}", "targetCommit": c}
                for n, c in found.revisions.items()
                if not n.startswith("refs/")
            ]
            self.json({"branches": branches, "converts": [], "tags": []})
            return
        commit = self.commit(found, unquote(revision or "main"))
        if verb in {None, "revision"}:
            flags = {"blobs": "blobs" in query, "expand": query.get("expand", [])}
            self.json(found.info(commit, **flags))
        elif verb == "tree":
            self.tree(found, commit, unquote(path or ""), query)
        elif verb == "paths-info":
            wanted = parse_qs(self.body.decode()).get("paths", [])
            self.json([tree_row(name, blob) for name, blob in found.commits[commit].items() if name in wanted])
        else:
            self.json([{"id": commit, "title": "commit", "message": "", "date": CREATED, "authors": []}])

    def tree(self, repo: Repo, commit: str, folder: str, query: dict[str, list[str]]) -> None:
        rows = repo.tree(commit, folder, recursive=query.get("recursive", ["false"])[0].lower() == "true")
        if rows is None:
            raise Refusal(404, "EntryNotFound", f"{folder} does not exist on this revision", commit)
        first = int(query.get("cursor", ["0"])[0])
        last = first + self.hub.page_rows
        headers = {}
        if last < len(rows):
            recursive = query.get("recursive", ["false"])[0]
            url = f"{self.hub.endpoint}{self.request_seen.path}?recursive={recursive}&cursor={last}"
            headers["Link"] = f'<{url}>; rel="next"'
        self.json(rows[first:last], headers)

    def resolve(self, repo: str, revision: str, path: str) -> None:
        found = self.repo(repo)
        if found is None:
            return
        self.allow_content(found)
        commit = self.commit(found, unquote(revision))
        blob = found.commits[commit].get(unquote(path))
        if blob is None:
            raise Refusal(404, "EntryNotFound", "Entry not found", commit)
        headers = {"X-Repo-Commit": commit, "Accept-Ranges": "bytes"}
        if not blob.lfs:
            self.file(blob, headers | {"ETag": f'"{blob.etag}"'})
            return
        location = self.hub.signed_link(blob)
        linked = {"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(blob.size), "ETag": f'"{blob.etag}"'}
        self.answer(302, headers | linked | {"Location": location}, f"Found. Redirecting to {location}".encode())

    def storage(self, request: Request) -> None:
        if request.authorization is not None:
            raise Refusal(400, "", "Only one auth mechanism allowed")
        blob = self.hub.linked(parse_qs(request.query).get("X-Amz-Signature", [""])[0])
        if blob is None:
            raise Refusal(403, "", "Request has expired")
        self.file(blob, {"ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes"})

    # --- who may see what ------------------------------------------------------------------------------------

    def token(self) -> str | None:
        authorization = self.request_seen.authorization
        if authorization is None:
            return None
        token = authorization.removeprefix("Bearer ")
        if token not in self.hub.tokens:
            raise Refusal(401, "", "Invalid credentials in Authorization header")
        return token

    def repo(self, repo_id: str) -> Repo | None:
        """The repository, if it may be seen; None when the answer was a redirect to its new name."""
        token = self.token()
        if repo_id in self.hub.renamed:
            target = self.path.replace(f"/{repo_id}", f"/{self.hub.renamed[repo_id]}", 1)
            self.answer(307, {"Location": target}, b"")
            return None
        repo = self.hub.repos.get(repo_id)
        if repo is None or (repo.private and repo_id not in self.granted(token)):
            raise Refusal(401 if token is None else 404, "RepoNotFound", "Repository not found")
        if repo.disabled:
            raise Refusal(403, "", "Access to this resource is disabled.")
        return repo

    def allow_content(self, repo: Repo) -> None:
        token = self.token()
        if repo.gated and repo.repo_id not in self.granted(token):
            message = f"Access to model {repo.repo_id} is restricted and you are not in the authorized list."
            raise Refusal(401 if token is None else 403, "GatedRepo", message)

    def granted(self, token: str | None) -> set[str]:
        return set(self.hub.tokens[token]) if token else set()

    def commit(self, repo: Repo, revision: str) -> str:
        commit = repo.resolve(revision)
        if commit is None:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    # --- answers ---------------------------------------------------------------------------------------------

    def json(self, value: Any, headers: dict[str, str] | None = None) -> None:
        self.answer(200, {"Content-Type": "application/json", **(headers or {})}, json.dumps(value).encode())

    def file(self, blob: Blob, headers: dict[str, str]) -> None:
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.request_seen.range or "")
        status, first, last = 200, 0, blob.size
        if asked and not self.fault.ignore_range:
            first, last = int(asked[1]), min(int(asked[2]) + 1 if asked[2] else blob.size, blob.size)
            if first >= blob.size:
                self.answer(416, headers | {"Content-Range": f"bytes */{blob.size}"}, b"")
                return
            status = 206
            last = max(first, last - self.fault.shorten)
            shown = f"bytes {first}-{last - 1}/{blob.size}"
            headers["Content-Range"] = self.fault.content_range or shown
        self.start(status, headers, last - first)
        if self.command == "HEAD":
            return
        with blob.source.open("rb") as source:
            source.seek(first)
            self.send(source, self.cut(last - first))

    def answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.start(status, headers, len(body))
        if self.command != "HEAD" and body:
            self.send(BytesIO(body), self.cut(len(body)))

    def cut(self, nbytes: int) -> int:
        """How much of a body is sent before the connection breaks."""
        if self.fault.truncate is None:
            return nbytes
        self.close_connection = True
        return min(nbytes, self.fault.truncate)

    def start(self, status: int, headers: dict[str, str], length: int) -> None:
        self.request_seen.status = status
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()

    def send(self, source: BinaryIO, nbytes: int) -> None:
        """The next bytes of a source; a file's go from the kernel's cache to the socket without passing here."""
        pace, sent = self.hub.pace(self.fault.bytes_per_s), 0
        while sent < nbytes:
            wanted = min(nbytes - sent, CHUNK)
            if isinstance(source, BufferedReader):
                self.connection.sendfile(source, source.tell(), wanted)
            else:
                self.connection.sendall(source.read(wanted))
            sent += wanted
            self.request_seen.nbytes += wanted
            pace.wait(sent)
