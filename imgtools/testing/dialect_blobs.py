"""Dialects of blob downloads: ranges, lengths, codings, redirects to storage that signs URLs.

`Storage` is the other host: its URLs work without credentials, only with their signature, a
limited number of times and for a limited time.
"""

from __future__ import annotations

import gzip
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Literal
from urllib.parse import quote

from imgtools.frozen import dataclass
from imgtools.serve.message import BytesBody, Request, Response, error_response
from imgtools.testing.wire_request import Endpoint, Handler, Part, bare, text_response

_BOUNDARY = "3d6b6a416f9b5"


@dataclass(frozen=True, kw_only=True)
class BlobSwitches:
    """How downloads deviate.

    `ranges` False ignores Range, "shifted" begins ten bytes late, "shortened" sends one byte
    less than asked for, "unlabelled" leaves Content-Range out, "multipart" wraps the range as
    multipart/byteranges, 416 refuses every range. `range_refusal` "cut" announces the whole
    blob with a 416, sends its error and hangs up. `etags` False knows no entity tags.

    `lengths` says how long a blob is: "none" ends the body with the connection, "chunked" with
    a last chunk; "head-none" and "head-wrong" are about HEAD alone. `content_encoding` "gzip"
    compresses what nobody asked to have compressed, "label" only says that it did.

    `presigned` redirects GET of blobs to a storage server: on the same host ("port"), or on
    another ("host"). `presigned_head` redirects HEAD too. Its URLs answer 400 to a request
    with Authorization, and 403 when used more than `presigned_uses` times or `presigned_seconds`
    after they were made. `redirect_status` is that of the redirect.
    """

    ranges: bool | Literal["shifted", "shortened", "unlabelled", "multipart", 416] = True
    range_refusal: Literal["spec", "cut"] = "spec"
    etags: bool = True
    lengths: Literal["yes", "none", "chunked", "head-none", "head-wrong"] = "yes"
    content_encoding: Literal["identity", "gzip", "label"] = "identity"
    presigned: Literal["no", "port", "host"] = "no"
    presigned_head: bool = False
    presigned_uses: int | None = None
    presigned_seconds: float = 300.0
    redirect_status: int = 307


class BlobPart(Part):
    """Does to downloads what the switches say."""

    def __init__(self, switches: BlobSwitches, handler: Handler, storage: Storage) -> None:
        self._switches = switches
        self._handler = handler
        self._storage = storage

    def refusal(self, request: Request, asked: Endpoint) -> Response | None:
        """The redirect of a blob that is there."""
        s = self._switches
        redirected = ("GET", "HEAD") if s.presigned_head else ("GET",)
        if asked.kind != "blob" or request.method not in redirected or s.presigned == "no":
            return None
        if self._handler(bare(request, "HEAD")).status != 200:
            return None
        url = self._storage.sign(asked.name, asked.reference)
        headers = {"Location": url, "Docker-Content-Digest": asked.reference}
        return Response(status=s.redirect_status, headers=headers)

    def changed_request(self, request: Request, asked: Endpoint) -> Request:
        """Ranges and entity tags that are not understood."""
        s = self._switches
        headers = dict(request.headers)
        if not s.etags:
            headers.pop("if-none-match", None)
        if asked.kind == "blob":
            if s.ranges is False:
                headers.pop("range", None)
            elif "range" in headers and s.ranges in ("shifted", "shortened"):
                headers["range"] = _moved(headers["range"], first=s.ranges == "shifted")
        return replace(request, headers=headers)

    def changed_response(self, request: Request, asked: Endpoint, response: Response) -> Response:
        """Ranges, codings and lengths."""
        s = self._switches
        if not s.etags:
            response.headers.pop("ETag", None)
        if asked.kind != "blob":
            return response
        if s.ranges is False:
            response.headers.pop("Accept-Ranges", None)
        if response.status == 206:
            response = _changed_range(response, s.ranges)
        if response.status == 416 and s.range_refusal == "cut":
            size = response.headers["Content-Range"].rpartition("/")[2]
            response.headers["Content-Length"] = size
        if response.status == 200:
            _encode(request, response, s.content_encoding)
        if response.status in (200, 206):
            _measure(request, response, s.lengths)
        return response


class Storage:
    """A server of blobs by signed URL, as object stores are behind registries."""

    def __init__(self, switches: BlobSwitches, handler: Handler, url: Callable[[], str]) -> None:
        """`handler` is the registry's own; `url` gives scheme and host of the storage."""
        self._switches = switches
        self._handler = handler
        self._url = url
        self._lock = threading.Lock()
        self._uses: dict[str, int] = {}
        self._expires: dict[str, float] = {}

    def sign(self, name: str, digest: str) -> str:
        """A URL for a blob."""
        signature = secrets.token_hex(16)
        with self._lock:
            self._uses[signature] = 0
            self._expires[signature] = time.monotonic() + self._switches.presigned_seconds
        seconds = int(self._switches.presigned_seconds)
        return (
            f"{self._url()}/storage/{quote(name)}/{digest}"
            f"?X-Amz-Expires={seconds}&X-Amz-SignedHeaders=host&X-Amz-Signature={signature}"
        )

    def handle(self, request: Request) -> Response:
        """The answer to a request for a signed URL."""
        if request.header("authorization"):
            return _xml(400, "InvalidArgument", "Only one auth mechanism allowed")
        if not request.path.startswith("/storage/") or request.method not in ("GET", "HEAD"):
            return _xml(403, "AccessDenied", "Access Denied")
        if not self._use(request.parameter("X-Amz-Signature") or ""):
            return _xml(403, "AccessDenied", "Request has expired")
        name, _, digest = request.path.removeprefix("/storage/").rpartition("/")
        response = self._handler(replace(request, path=f"/v2/{name}/blobs/{digest}", query={}))
        for header in ("Docker-Content-Digest", "Docker-Distribution-API-Version"):
            response.headers.pop(header, None)
        return response

    def _use(self, signature: str) -> bool:
        """Count a use; whether the signature is good for it."""
        with self._lock:
            if self._expires.get(signature, 0.0) <= time.monotonic():
                return False
            self._uses[signature] += 1
            limit = self._switches.presigned_uses
            return limit is None or self._uses[signature] <= limit


def _xml(status: int, code: str, message: str) -> Response:
    text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return text_response(status, text, "application/xml")


def _moved(text: str, *, first: bool) -> str:
    """A Range that begins ten bytes later, or one that ends a byte earlier."""
    start, _, end = text.removeprefix("bytes=").partition("-")
    if first:
        return f"bytes={int(start) + 10}-{end}"
    return f"bytes={start}-{int(end) - 1}" if end else text


def _changed_range(response: Response, ranges: object) -> Response:
    if ranges == 416:
        response.close()
        return error_response(416, "SIZE_INVALID", "ranges are not served")
    if ranges == "unlabelled":
        response.headers.pop("Content-Range", None)
    if ranges == "multipart":
        said = response.headers.pop("Content-Range")
        head = (
            f"--{_BOUNDARY}\r\nContent-Type: application/octet-stream\r\n"
            f"Content-Range: {said}\r\n\r\n"
        )
        content = head.encode() + b"".join(response.body or ())
        response.close()
        response.body = BytesBody(content + f"\r\n--{_BOUNDARY}--\r\n".encode())
        response.headers["Content-Type"] = f"multipart/byteranges; boundary={_BOUNDARY}"
    return response


def _encode(request: Request, response: Response, coding: str) -> None:
    if coding == "identity":
        return
    response.headers["Content-Encoding"] = "gzip"
    if coding == "gzip" and response.body is not None and request.method == "GET":
        content = gzip.compress(b"".join(response.body), 1, mtime=0)
        response.close()
        response.body = BytesBody(content)


def _measure(request: Request, response: Response, lengths: str) -> None:
    if request.method == "HEAD":
        if lengths in ("none", "chunked", "head-none"):
            response.headers["Content-Length"] = ""
        elif lengths == "head-wrong":
            response.headers["Content-Length"] = str(int(response.headers["Content-Length"]) + 7)
    elif lengths == "none":
        response.headers["Content-Length"] = ""
    elif lengths == "chunked":
        response.headers["Transfer-Encoding"] = "chunked"
