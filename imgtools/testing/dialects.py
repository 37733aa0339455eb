"""Dialects: what real registries do differently, as switches of the test registry.

`DISTRIBUTION_2` and `GGCR` are what docker's registry 2.8 and go-containerregistry's
in-memory registry were observed to do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from imgtools.errors import ConnectionFailed
from imgtools.serve.message import BytesBody, Request, Response, error_response
from imgtools.spec import media_type as mt


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How the registry deviates; the defaults are distribution-spec 1.1 in full.

    `mount` "no" starts a session instead, a number refuses with that status. `referrers`
    says what its endpoint answers where there is none. `subject` is whether OCI-Subject is
    sent. `location` is the form of an upload's Location: "state" adds a query that changes
    with every answer and must be sent back. `head` False answers 405 to HEAD of manifests.
    `page_size` limits lists; `link` False leaves the Link header out, `pages` False ignores
    n and last. `accept` True hides OCI manifests from requests that do not accept them.
    `resume` False ends a session whose PATCH was cut; `upload_status` False answers 400 to
    its GET. `content_type` replaces that of manifests, `digest_header` False leaves
    Docker-Content-Digest out. `immutable_tags` refuses to move a tag, with that status.
    """

    mount: Literal["yes", "no"] | int = "yes"
    monolithic_post: bool = True
    referrers: Literal["yes", "404-text", "404-json", "html"] | int = "yes"
    subject: bool = True
    tag_parameters: bool = True
    location: Literal["relative", "absolute", "state"] = "relative"
    head: bool = True
    delete_tag: bool = True
    deletes: bool = True
    ranges: bool = True
    etags: bool = True
    chunked: bool = True
    content_range: bool = True
    upload_status: bool = True
    resume: bool = True
    page_size: int | None = None
    link: bool = True
    pages: bool = True
    accept: bool = False
    content_type: str | None = None
    digest_header: bool = True
    immutable_tags: int | None = None


DISTRIBUTION_2 = Dialect(
    monolithic_post=False,
    referrers="404-text",
    subject=False,
    tag_parameters=False,
    location="state",
    delete_tag=False,
    content_range=False,
    resume=False,
    accept=True,
)
GGCR = Dialect(
    mount="no",
    referrers="404-json",
    subject=False,
    tag_parameters=False,
    upload_status=False,
    resume=False,
    etags=False,
)

Handler = Callable[[Request], Response]


class Speaker:
    """Wraps an application so that it speaks a dialect."""

    def __init__(self, dialect: Dialect, handler: Handler, base_url: Callable[[], str]) -> None:
        """`base_url` gives scheme and host for absolute Locations."""
        self.dialect = dialect
        self._handler = handler
        self._base_url = base_url
        self._lock = threading.Lock()
        self._states: dict[str, int] = {}

    def handle(self, request: Request) -> Response:
        """The dialect's response."""
        refused = self._refusal(request)
        if refused is not None:
            return refused
        changed = self._changed_request(request)
        body = _Watched(changed)
        response = self._handler(replace(changed, body=body))
        if body.cut and not self.dialect.resume and "/blobs/uploads/" in request.path:
            self._handler(replace(_bare(request), method="DELETE"))
        return self._changed_response(request, response)

    def _refusal(self, request: Request) -> Response | None:
        d, method, path = self.dialect, request.method, request.path
        session = "/blobs/uploads/" in path and not path.endswith("/uploads/")
        if "/referrers/" in path and d.referrers != "yes":
            return _no_referrers(d.referrers)
        if "/manifests/" in path:
            return self._manifest_refusal(request)
        if method == "POST" and request.parameter("mount") and isinstance(d.mount, int):
            return error_response(d.mount, "UNSUPPORTED", "mounting is not supported")
        if request.length is None and not d.chunked:
            return error_response(411, "SIZE_INVALID", "a length is required")
        if method == "DELETE" and not d.deletes and not session:
            return error_response(405, "UNSUPPORTED", "deletion is disabled")
        if session and method == "GET" and not d.upload_status:
            return error_response(400, "UNSUPPORTED", "no status of uploads")
        if session and d.location == "state" and not self._state_is_current(request):
            return error_response(404, "BLOB_UPLOAD_INVALID", "stale upload state")
        return None

    def _manifest_refusal(self, request: Request) -> Response | None:
        d = self.dialect
        reference = request.path.rpartition("/")[2]
        by_tag = ":" not in reference
        if request.method == "HEAD" and not d.head:
            return error_response(405, "UNSUPPORTED", "no HEAD")
        if request.method == "DELETE" and by_tag and not d.delete_tag:
            return error_response(400, "DIGEST_INVALID", "only digests can be deleted")
        if request.method == "DELETE" and not d.deletes:
            return error_response(405, "UNSUPPORTED", "deletion is disabled")
        if request.method == "PUT" and by_tag and d.immutable_tags is not None:
            present = self._handler(replace(_bare(request), method="HEAD"))
            if present.status == 200:
                return error_response(d.immutable_tags, "DENIED", "the tag cannot be moved")
        return None

    def _changed_request(self, request: Request) -> Request:
        d = self.dialect
        query, headers = dict(request.query), dict(request.headers)
        if d.mount == "no":
            query.pop("mount", None)
        if not d.tag_parameters:
            query.pop("tag", None)
        if not d.pages:
            query.pop("n", None)
            query.pop("last", None)
        if not d.ranges:
            headers.pop("range", None)
        if not d.etags:
            headers.pop("if-none-match", None)
        if not d.content_range:
            headers.pop("content-range", None)
        changed = replace(request, query=query, headers=headers)
        if request.method == "POST" and "digest" in query and not d.monolithic_post:
            del query["digest"]
            while request.body.read(65536):
                pass
            changed = replace(changed, query=query, length=0)
        return changed

    def _changed_response(self, request: Request, response: Response) -> Response:
        d = self.dialect
        if "/manifests/" in request.path and response.status == 200:
            response = self._changed_manifest(request, response)
        if not d.subject:
            response.headers.pop("OCI-Subject", None)
        if not d.link:
            response.headers.pop("Link", None)
        if not d.etags:
            response.headers.pop("ETag", None)
        if not d.ranges:
            response.headers.pop("Accept-Ranges", None)
        if not d.digest_header:
            response.headers.pop("Docker-Content-Digest", None)
        location = response.headers.get("Location")
        if location is not None and d.location != "relative":
            if d.location == "state" and "/blobs/uploads/" in location:
                location += f"?_state={self._next_state(location.rpartition('/')[2])}"
            response.headers["Location"] = self._base_url() + location
        return response

    def _changed_manifest(self, request: Request, response: Response) -> Response:
        d = self.dialect
        media_type = response.headers.get("Content-Type", "")
        accepted = request.header("accept")
        if d.accept and not mt.is_docker(media_type) and media_type not in accepted:
            response.close()
            return error_response(404, "MANIFEST_UNKNOWN", "accept header does not support it")
        if d.content_type is not None:
            response.headers["Content-Type"] = d.content_type
        return response

    def _state_is_current(self, request: Request) -> bool:
        session = request.path.rpartition("/")[2]
        with self._lock:
            return request.parameter("_state") == f"{session[:8]}.{self._states.get(session, 0)}"

    def _next_state(self, session: str) -> str:
        with self._lock:
            self._states[session] = self._states.get(session, 0) + 1
            return f"{session[:8]}.{self._states[session]}"


class _Watched:
    """A request body that remembers that it was cut."""

    def __init__(self, request: Request) -> None:
        self._body = request.body
        self._empty = request.length == 0
        self.cut = False

    def read(self, size: int, /) -> bytes:
        if self._empty:
            return b""
        try:
            return self._body.read(size)
        except ConnectionFailed:
            self.cut = True
            raise


class _Nothing:
    def read(self, size: int, /) -> bytes:
        return b""


def _bare(request: Request) -> Request:
    return Request(method="GET", path=request.path, query={}, headers={}, body=_Nothing())


def _no_referrers(kind: str | int) -> Response:
    if kind == "404-text":
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        return Response(status=404, headers=headers, body=BytesBody(b"404 page not found\n"))
    if kind == "html":
        headers = {"Content-Type": "text/html"}
        return Response(status=200, headers=headers, body=BytesBody(b"<!DOCTYPE html><p>Hello"))
    status = kind if isinstance(kind, int) else 404
    return error_response(status, "UNSUPPORTED", "there is no referrers API")
