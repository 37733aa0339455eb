"""Dialects of uploads: sessions and where they are, mounts, chunks, statuses, lengths.

The switches are data; `UploadPart` does what they say and keeps what it has to know of each
session.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection
from dataclasses import replace
from io import BytesIO
from typing import Literal

from imgtools.frozen import dataclass
from imgtools.serve.message import Request, Response, error_response
from imgtools.spec.digest import Digest
from imgtools.testing.wire_request import Endpoint, Handler, Part, WireRequest, bare

_OPAQUE = "sig=a%2Bb%2fc%3D%7e&x=%7C"


@dataclass(frozen=True, kw_only=True)
class UploadSwitches:
    """How uploads deviate.

    Beginning: `post_status` is that of a new session. `monolithic_post` False throws the body
    of a POST away and starts a session, a number refuses with that status; `octet_stream`
    refuses it with that status unless its Content-Type is application/octet-stream.
    `mount` "no" starts a session instead, a number refuses with that status; `from_required`
    is the status for a mount without `from`, which `mount_anonymous` looks for in every
    repository; `mount_digest` is what the answer's Docker-Content-Digest says.

    `location` is the form of an upload's Location: "absolute", "scheme-relative" (//host/),
    "path-relative" (the last segment alone), "http" (absolute, without TLS whatever the
    registry has), "state" (absolute, with a query that changes with every answer and must be
    sent back), "encoded" (as state, with a query that must come back byte for byte).
    `created_location` False leaves it out once something is stored, manifests too.

    Chunks: `chunked` False answers 411 to a body without length, a number answers that.
    `content_range` False ignores Content-Range. `patch_status` and `close_status` are the
    statuses of success. `range_form` is what Range says after a PATCH: "bytes" prefixes
    "bytes=", "stuck" stays at 0-0, "none" leaves it out. `dropped_chunks` are the PATCHes of a
    session (from 1) whose body is thrown away. `chunk_min` in bytes refuses to go on after a
    shorter chunk, and is announced by OCI-Chunk-Min-Length if `chunk_min_header`.
    `resume` False ends a session whose PATCH was cut. `upload_status` False answers 400 to its
    GET. `cancel` is the status of its DELETE when that is not allowed.

    Digests: `other_algorithms` "renamed" keeps a blob under its sha256 digest alone, which only
    the answer's Docker-Content-Digest tells; "refused" answers 400 to any other than sha256.

    Lengths: `empty_blobs` False refuses blobs without a byte; `empty_needs_length` answers 411
    to a POST, PUT or PATCH without any length.
    """

    post_status: int = 202
    monolithic_post: bool | int = True
    octet_stream: int | None = None
    mount: Literal["yes", "no"] | int = "yes"
    mount_anonymous: bool = False
    from_required: int | None = None
    mount_digest: Literal["own", "other", "none"] = "own"
    location: Literal[
        "relative", "absolute", "scheme-relative", "path-relative", "http", "state", "encoded"
    ] = "relative"
    created_location: bool = True
    chunked: bool | int = True
    content_range: bool = True
    patch_status: int = 202
    close_status: int = 201
    range_form: Literal["0-N", "bytes", "stuck", "none"] = "0-N"
    dropped_chunks: Collection[int] = ()
    chunk_min: int | None = None
    chunk_min_header: bool = True
    resume: bool = True
    upload_status: bool = True
    cancel: int | None = None
    other_algorithms: Literal["kept", "renamed", "refused"] = "kept"
    empty_blobs: bool = True
    empty_needs_length: bool = False


@dataclass(slots=True)
class _Session:
    """What is known of a session: its answers so far, its PATCHes, whether one was short."""

    answers: int = 0
    chunks: int = 0
    short: bool = False


class UploadPart(Part):
    """Does to uploads what the switches say."""

    def __init__(
        self, switches: UploadSwitches, handler: Handler, base_url: Callable[[], str]
    ) -> None:
        self._switches = switches
        self._handler = handler
        self._base_url = base_url
        self._lock = threading.Lock()
        self._sessions: dict[str, _Session] = {}

    # --- refusals ---------------------------------------------------------------------------

    def refusal(self, request: Request, asked: Endpoint) -> Response | None:
        """Lengths first, as proxies look at nothing else; then what the endpoint allows."""
        refused = self._length_refusal(request, asked) or self._digest_refusal(request, asked)
        if refused is None and asked.kind == "uploads":
            refused = self._post_refusal(request)
        if refused is None and asked.kind == "session":
            refused = self._session_refusal(request, asked)
        return refused

    def _length_refusal(self, request: Request, asked: Endpoint) -> Response | None:
        s = self._switches
        if asked.kind not in ("uploads", "session", "manifest"):
            return None
        if request.length is None and s.chunked is not True:
            status = 411 if s.chunked is False else s.chunked
            return error_response(status, "SIZE_INVALID", "a length is required")
        framed = "content-length" in request.headers or request.length is None
        if s.empty_needs_length and not framed and request.method in ("POST", "PUT", "PATCH"):
            return error_response(411, "SIZE_INVALID", "a length is required, even of nothing")
        return None

    def _digest_refusal(self, request: Request, asked: Endpoint) -> Response | None:
        if asked.kind not in ("uploads", "session") or not self._is_odd(request):
            return None
        if self._switches.other_algorithms != "refused":
            return None
        return error_response(400, "DIGEST_INVALID", "digests are sha256 here")

    def _is_odd(self, request: Request) -> bool:
        """Whether a blob is named by another algorithm than sha256."""
        digest = request.parameter("digest")
        return digest is not None and not digest.startswith("sha256:")

    def _post_refusal(self, request: Request) -> Response | None:
        s = self._switches
        mount, monolithic = request.parameter("mount"), request.parameter("digest")
        if mount and isinstance(s.mount, int):
            return error_response(s.mount, "UNSUPPORTED", "mounting is not supported")
        if mount and s.from_required is not None and not request.parameter("from"):
            return error_response(s.from_required, "BLOB_UPLOAD_INVALID", "from is missing")
        if not monolithic:
            return None
        if type(s.monolithic_post) is int:
            return error_response(s.monolithic_post, "UNSUPPORTED", "begin with an empty POST")
        stream = request.header("content-type") == "application/octet-stream"
        if s.octet_stream is not None and not stream:
            return error_response(s.octet_stream, "UNSUPPORTED", "not application/octet-stream")
        return self._empty_refusal(request, size=request.length or 0)

    def _session_refusal(self, request: Request, asked: Endpoint) -> Response | None:
        s = self._switches
        if request.method == "DELETE" and s.cancel is not None:
            return error_response(s.cancel, "DENIED", "uploads cannot be cancelled")
        if request.method == "GET" and not s.upload_status:
            return error_response(400, "UNSUPPORTED", "no status of uploads")
        session = self._session(asked.reference)
        if s.location in ("state", "encoded") and not self._is_current(request, asked):
            return error_response(404, "BLOB_UPLOAD_INVALID", "stale upload state")
        if request.method == "PATCH" and session.short:
            text = f"a chunk before the last was shorter than {s.chunk_min} bytes"
            return error_response(400, "BLOB_UPLOAD_INVALID", text)
        if request.method == "PUT" and not s.empty_blobs and request.length == 0:
            status = self._handler(bare(request, "GET"))
            empty = str(Digest.of(b""))
            nothing = status.headers.get("Range") == "0-0"
            if nothing and request.parameter("digest") == empty:
                return self._empty_refusal(request, size=0)
        return None

    def _empty_refusal(self, request: Request, *, size: int) -> Response | None:
        if self._switches.empty_blobs or size or request.length is None:
            return None
        return error_response(400, "SIZE_INVALID", "a blob needs at least one byte")

    # --- what the registry sees --------------------------------------------------------------

    def changed_request(self, request: Request, asked: Endpoint) -> Request:
        """Parameters and chunks that the registry does not know of."""
        s = self._switches
        query, headers = dict(request.query), dict(request.headers)
        if s.mount == "no":
            query.pop("mount", None)
        if not s.content_range:
            headers.pop("content-range", None)
        changed = replace(request, query=query, headers=headers)
        if asked.kind == "uploads" and "digest" in query and s.monolithic_post is False:
            del query["digest"]
            return replace(_without_body(changed), query=query)
        if asked.kind == "uploads" and s.mount_anonymous and "from" not in query:
            return self._with_source(changed)
        if asked.kind == "session" and request.method == "PATCH":
            session = self._session(asked.reference)
            session.chunks += 1
            if s.chunk_min is not None and request.length is not None:
                session.short = request.length < s.chunk_min
            if session.chunks in s.dropped_chunks:
                headers.pop("content-range", None)
                return _without_body(changed)
        return changed

    def _with_source(self, request: Request) -> Request:
        """A mount with the first repository that has the blob."""
        mount = request.parameter("mount")
        listed = self._handler(replace(bare(request, "GET"), path="/v2/_catalog"))
        names = json.loads(b"".join(listed.body or ()))["repositories"] if mount else []
        for name in names:
            path = f"/v2/{name}/blobs/{mount}"
            if self._handler(replace(bare(request, "HEAD"), path=path)).status == 200:
                return replace(request, query={**request.query, "from": (name,)})
        return request

    # --- what is sent -----------------------------------------------------------------------

    def changed_response(self, request: Request, asked: Endpoint, response: Response) -> Response:
        """Statuses, Range and Location."""
        s = self._switches
        if response.status == 201 and self._is_odd(request) and s.other_algorithms == "renamed":
            self._rename(request, asked, response)
        if asked.kind == "uploads" and request.method == "POST":
            if response.status == 202:
                response.status = s.post_status
                if s.chunk_min is not None and s.chunk_min_header:
                    response.headers["OCI-Chunk-Min-Length"] = str(s.chunk_min)
            elif response.status == 201 and request.parameter("mount"):
                _change_digest(response, s.mount_digest)
        if asked.kind == "session" and request.method == "PATCH" and response.status == 202:
            response.status = s.patch_status
            _change_range(response, s.range_form)
        if asked.kind == "session" and request.method == "PUT" and response.status == 201:
            response.status = s.close_status
        stored = request.method == "PUT" or request.parameter("digest") is not None
        if not s.created_location and stored and response.status < 300 and response.status != 202:
            response.headers.pop("Location", None)
        location = response.headers.get("Location", "")
        if location.startswith("/") and s.location != "relative":
            response.headers["Location"] = self._written(location)
        return response

    def _rename(self, request: Request, asked: Endpoint, response: Response) -> None:
        """Keep what was stored under its sha256 digest, and under that alone."""
        base = f"/v2/{asked.name}/blobs"
        odd = f"{base}/{request.parameter('digest')}"
        found = self._handler(replace(bare(request, "GET"), path=odd))
        content = b"".join(found.body or ())
        digest = str(Digest.of(content))
        post = replace(bare(request, "POST"), path=f"{base}/uploads/", query={"digest": (digest,)})
        self._handler(replace(post, body=BytesIO(content), length=len(content)))
        self._handler(replace(bare(request, "DELETE"), path=odd))
        response.headers["Docker-Content-Digest"] = digest
        response.headers["Location"] = f"{base}/{digest}"

    def _written(self, location: str) -> str:
        """A Location in the dialect's form; only sessions have more than the host added."""
        form, base = self._switches.location, self._base_url()
        session = "/blobs/uploads/" in location
        if form == "http":
            return "http://" + base.partition("//")[2] + location
        if form == "scheme-relative":
            return "//" + base.partition("//")[2] + location
        if form == "path-relative":
            return location.rpartition("/")[2] if session else location
        if form in ("state", "encoded") and session:
            name = location.rpartition("/")[2]
            known = self._session(name)
            known.answers += 1
            location += f"?{self._state(name, known)}"
        return base + location

    def _state(self, name: str, session: _Session) -> str:
        state = f"_state={name[:8]}.{session.answers}"
        return f"{state}&{_OPAQUE}" if self._switches.location == "encoded" else state

    def _is_current(self, request: Request, asked: Endpoint) -> bool:
        wanted = self._state(asked.reference, self._session(asked.reference))
        assert isinstance(request, WireRequest), "only the wire knows how a query was written"
        sent = request.target.partition("?")[2]
        return sent == wanted or sent.startswith(wanted + "&")

    def _session(self, name: str) -> _Session:
        with self._lock:
            return self._sessions.setdefault(name, _Session())


def _without_body(request: Request) -> Request:
    """The same request after its body was read for nothing."""
    while request.body.read(65536):
        continue
    return replace(request, body=bare(request, "GET").body, length=0)


def _change_digest(response: Response, said: str) -> None:
    if said == "none":
        response.headers.pop("Docker-Content-Digest", None)
    elif said == "other":
        response.headers["Docker-Content-Digest"] = str(Digest.of(b"another blob"))


def _change_range(response: Response, form: str) -> None:
    if form == "none":
        response.headers.pop("Range", None)
    elif form == "stuck":
        response.headers["Range"] = "0-0"
    elif form == "bytes":
        response.headers["Range"] = f"bytes={response.headers['Range']}"
