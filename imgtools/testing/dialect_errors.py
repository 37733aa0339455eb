"""Dialects of everything around the protocol: errors, limits, warnings, proxies in front.

The switches are data; `ErrorPart` does what they say.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from imgtools.frozen import dataclass
from imgtools.serve.message import BytesBody, Request, Response, error_response
from imgtools.testing.faults import retry_after
from imgtools.testing.wire_request import Endpoint, Handler, Part, bare, text_response

NotFoundKind = Literal[
    "spec", "name", "harbor", "html", "text", "message", "empty", "denied", "unauthorized"
]

_NOT_FOUND: Mapping[str, tuple[int, str, str]] = {
    "name": (404, "application/json", '{"errors":[{"code":"NAME_UNKNOWN","message":"not known"}]}'),
    "harbor": (404, "application/json", '{"errors":[{"code":"NOT_FOUND","message":"not found"}]}'),
    "html": (404, "text/html", "<html><head><title>404 Not Found</title></head></html>"),
    "text": (404, "text/plain; charset=utf-8", "404 page not found\n"),
    "message": (404, "application/json", '{"message":"Not Found"}'),
    "empty": (404, "", ""),
    "denied": (403, "application/json", '{"errors":[{"code":"DENIED","message":"no access"}]}'),
    "unauthorized": (
        401,
        "application/json",
        '{"errors":[{"code":"UNAUTHORIZED","message":"access is not authorized"}]}',
    ),
}
"""What "there is no such thing" looks like: status, Content-Type, body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A limit on requests, counted and never timed.

    After `allowed` requests that match `methods`, the next `refused` get `status`, with
    Retry-After (seconds, or "+N" for a date) and the RateLimit headers if `headers`; then all
    are answered. None for `refused` is for ever.
    """

    allowed: int
    refused: int | None = 1
    methods: tuple[str, ...] = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    status: int = 429
    retry_after: int | str | None = None
    headers: bool = False
    body: str = '{"errors":[{"code":"TOOMANYREQUESTS","message":"rate limit exceeded"}]}'


@dataclass(frozen=True, kw_only=True)
class ErrorSwitches:
    """How everything else deviates.

    `errors` is the form of error bodies. `not_found` is what an absent manifest or repository
    of tags gets, in place of 404 with the specification's codes. `name_unknown` False says of
    a repository that is not there that what is asked for is not. `warnings` are sent with
    every answer, as `Warning: 299`. `version_header` False leaves
    Docker-Distribution-API-Version out. `rate` limits requests.

    `auto_create` False answers 404 NAME_UNKNOWN to a push into a repository that is not there,
    a number answers that. `needs_namespace` hides everything from a GET without the `ns`
    parameter, as a mirror of several registries does. `body_limit` in bytes refuses longer
    request bodies with 413 and an HTML page, as proxies do.

    `http_on_tls` is what plain HTTP on a TLS port gets. `keep_alive` closes a connection,
    without notice, after that many answers. `expect` is what `Expect: 100-continue` gets.
    """

    errors: Literal["spec", "details", "html", "text", "empty"] = "spec"
    not_found: NotFoundKind = "spec"
    name_unknown: bool = True
    warnings: tuple[str, ...] = ()
    version_header: bool = True
    rate: Rate | None = None
    auto_create: bool | int = True
    needs_namespace: bool = False
    body_limit: int | None = None
    http_on_tls: Literal["400", "close", "hang"] = "400"
    keep_alive: int | None = None
    expect: Literal["100", "417", "ignored"] = "100"


class ErrorPart(Part):
    """Does to every request what the switches say."""

    def __init__(self, switches: ErrorSwitches, handler: Handler) -> None:
        self._switches = switches
        self._handler = handler
        self._lock = threading.Lock()
        self._counted = 0

    def refusal(self, request: Request, asked: Endpoint) -> Response | None:
        """Limits, then what has to be there."""
        s = self._switches
        if s.rate is not None and request.method in s.rate.methods:
            refused = self._limited(s.rate)
            if refused is not None:
                return refused
        if s.body_limit is not None and (request.length or 0) > s.body_limit:
            return too_large()
        read = asked.kind != "other" and request.method in ("GET", "HEAD")
        if s.needs_namespace and read and not request.parameter("ns"):
            return error_response(404, "NAME_UNKNOWN", "which registry?")
        if s.auto_create is not True and request.method in ("POST", "PUT"):
            return self._creation_refusal(request, asked)
        return None

    def _limited(self, rate: Rate) -> Response | None:
        with self._lock:
            self._counted += 1
            over = self._counted - rate.allowed
        if over <= 0 or (rate.refused is not None and over > rate.refused):
            return None
        response = text_response(rate.status, rate.body, "application/json")
        if rate.retry_after is not None:
            response.headers["Retry-After"] = retry_after(rate.retry_after)
        return response

    def _creation_refusal(self, request: Request, asked: Endpoint) -> Response | None:
        if asked.kind not in ("uploads", "manifest"):
            return None
        listed = self._handler(_at(request, f"/v2/{asked.name}/tags/list"))
        if listed.status == 200:
            return None
        if self._switches.auto_create is False:
            return error_response(404, "NAME_UNKNOWN", f"there is no repository {asked.name}")
        status = int(self._switches.auto_create)
        code = "UNAUTHORIZED" if status == 401 else "DENIED"
        return error_response(status, code, f"the project of {asked.name} does not exist")

    def changed_response(self, request: Request, asked: Endpoint, response: Response) -> Response:
        """Errors in the dialect's form, and headers on everything."""
        s = self._switches
        if response.status == 404 and not s.name_unknown:
            response = _with_code(response, asked)
        absent = response.status == 404 and asked.kind in ("manifest", "tags")
        if absent and request.method in ("GET", "HEAD") and s.not_found != "spec":
            status, kind, text = _NOT_FOUND[s.not_found]
            response = text_response(status, text, kind)
            if not text:
                del response.headers["Content-Type"]
        elif response.status >= 400 and s.errors != "spec":
            response = _rewritten(response, s.errors)
        if s.warnings:
            response.headers["Warning"] = "\n".join(f'299 - "{text}"' for text in s.warnings)
        if s.rate is not None and s.rate.headers:
            left = max(s.rate.allowed - self._counted, 0)
            response.headers["RateLimit-Limit"] = f"{s.rate.allowed};w=21600"
            response.headers["RateLimit-Remaining"] = f"{left};w=21600"
        if s.version_header:
            response.headers.setdefault("Docker-Distribution-API-Version", "registry/2.0")
        else:
            response.headers.pop("Docker-Distribution-API-Version", None)
        return response


def too_large() -> Response:
    """What a proxy says of a body that is too long."""
    response = text_response(
        413, "<html><head><title>413 Request Entity Too Large</title></head></html>"
    )
    response.headers["Connection"] = "close"
    response.headers["Docker-Distribution-API-Version"] = ""
    return response


def _at(request: Request, path: str) -> Request:

    return replace(bare(request, "GET"), path=path)


def _with_code(response: Response, asked: Endpoint) -> Response:
    """NAME_UNKNOWN as what is said of a blob or a manifest that is not there."""
    code = {"blob": b"BLOB_UNKNOWN", "manifest": b"MANIFEST_UNKNOWN"}.get(asked.kind)
    if code is not None and response.body is not None:
        content = b"".join(response.body)
        response.headers.pop("Content-Length", None)
        response.body = BytesBody(content.replace(b'"NAME_UNKNOWN"', b'"%b"' % code))
    return response


def _rewritten(response: Response, form: str) -> Response:
    """The same error with a body of another form; headers of the error stay."""
    message = "error"
    if response.body is not None:
        try:
            errors = json.loads(b"".join(response.body))["errors"]
            message = f"{errors[0]['code']}: {errors[0]['message']}"
        except (ValueError, KeyError):
            # It was no JSON of ours, a proxy's page for example.
            return response
    response.close()
    if form == "empty":
        response.body = None
        response.headers.pop("Content-Type", None)
        return response
    bodies = {
        "details": ("application/json", json.dumps({"details": message})),
        "html": ("text/html", f"<html><body><h1>{response.status}</h1>{message}</body></html>"),
        "text": ("text/plain; charset=utf-8", f"{message}\n"),
    }
    kind, text = bodies[form]
    response.headers["Content-Type"] = kind
    response.headers.pop("Content-Length", None)
    response.body = BytesBody(text.encode())
    return response
