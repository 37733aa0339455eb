"""What a dialect sees of a request: the registry's view of it, and what was on the wire."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from imgtools.frozen import dataclass
from imgtools.serve.message import BytesBody, Request, Response

Handler = Callable[[Request], Response]
Kind = Literal["manifest", "blob", "uploads", "session", "tags", "referrers", "other"]

_ROUTES: tuple[tuple[Kind, str], ...] = (
    ("manifest", r"/v2/(.+)/manifests/([^/]+)"),
    ("uploads", r"/v2/(.+)/blobs/uploads/?()"),
    ("session", r"/v2/(.+)/blobs/uploads/([^/]+)"),
    ("blob", r"/v2/(.+)/blobs/([^/]+)"),
    ("tags", r"/v2/(.+)/tags/list()"),
    ("referrers", r"/v2/(.+)/referrers/([^/]+)"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WireRequest(Request):
    """A request with its target (path and query as sent) and its header lines, unjoined."""

    target: str = ""
    lines: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Endpoint:
    """What a path means: kind of endpoint, repository, and tag, digest or session."""

    kind: Kind
    name: str = ""
    reference: str = ""

    @property
    def by_tag(self) -> bool:
        """Whether the reference is a tag."""
        return ":" not in self.reference


def endpoint(request: Request) -> Endpoint:
    """The endpoint that a request is for."""
    for kind, pattern in _ROUTES:
        match = re.fullmatch(pattern, request.path)
        if match is not None:
            return Endpoint(kind, match[1], match[2])
    return Endpoint("other")


class Nothing:
    """The body of a request that has none."""

    def read(self, size: int, /) -> bytes:
        """No bytes."""
        return b""


def bare(request: Request, method: str) -> Request:
    """Another method for the same path, without query, headers and body."""
    return Request(method=method, path=request.path, query={}, headers={}, body=Nothing())


def text_response(status: int, text: str, content_type: str = "") -> Response:
    """A status with text, HTML when it begins with "<" and nobody says otherwise."""
    kind = content_type or ("text/html" if text.startswith("<") else "text/plain; charset=utf-8")
    return Response(status=status, headers={"Content-Type": kind}, body=BytesBody(text.encode()))


class Part:
    """One subject of a dialect: what it refuses, and what it changes on the way in and out."""

    def refusal(self, request: Request, asked: Endpoint) -> Response | None:
        """The answer that is given instead of the registry's, if any."""
        return None

    def changed_request(self, request: Request, asked: Endpoint) -> Request:
        """What the registry gets to see."""
        return request

    def changed_response(self, request: Request, asked: Endpoint, response: Response) -> Response:
        """What is sent; `request` is the client's own."""
        return response
