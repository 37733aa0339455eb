"""Dialects of manifests: what is accepted, what is answered, which tags move, what is deleted.

The switches are data; `ManifestPart` does what they say.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from imgtools.errors import InvalidInput, LimitExceeded
from imgtools.frozen import dataclass
from imgtools.serve.message import Request, Response, error_response
from imgtools.spec import media_type as mt
from imgtools.spec import strict_json
from imgtools.spec.digest import Digest
from imgtools.testing.wire_request import (
    Endpoint,
    Handler,
    Nothing,
    Part,
    WireRequest,
    bare,
    endpoint,
)

_GENERIC = frozenset(("", "application/json", "text/plain", "application/octet-stream"))
_REFUSED_MOVES: Mapping[int, tuple[str, str]] = {
    400: ("TAG_INVALID", "The image tag already exists and cannot be overwritten: it is immutable"),
    405: ("UNSUPPORTED", "The operation is disallowed on this tag, its write is disabled"),
    409: ("TAG_INVALID", "The tag is immutable and cannot be updated"),
    412: ("PRECONDITION", "The tag is matched by an immutability rule and cannot be updated"),
}


@dataclass(frozen=True, kw_only=True)
class ManifestSwitches:
    """How manifests deviate.

    Reading: `head` False answers 405 to HEAD, a number answers that, "no-length" and
    "no-digest" leave a header out. `accept` True hides what the request does not accept, a
    number does so with that status; `accept_lines` says which of several Accept lines count.
    `content_type` replaces that of manifests, "{}" in it being the true one. `digest_header`
    False leaves Docker-Content-Digest out (of blobs too), "sha512" names another algorithm's
    digest, "wrong" a wrong one. `stale_reads` is how many reads of a tag after its PUT find
    nothing. `bare_304` leaves the digest out of "not modified".

    Writing: `content_type_needed` refuses a PUT without a precise Content-Type with that
    status. `manifest_limit` in bytes is refused with `manifest_limit_status`. `sparse` accepts
    manifests without what they name, `nested_indexes` False refuses indexes in indexes.
    `refused_types` are media types that get MANIFEST_INVALID with `refused_text`.
    `manifest_put` is the status of success; `put_digest` is what its Docker-Content-Digest
    says; `blob_unknown` is the status for a manifest that names what is not there.
    `immutable_tags` refuses to move a tag, with that status; `immutable_equal` accepts
    the manifest that the tag has already. `tag_parameters` and `subject` False ignore `tag`
    parameters and `subject`.

    Deleting: `deletes` False answers 405 to it (blobs too), `delete_status` is the status of
    success. `delete_tag` False answers 400 to tags, a number answers that, "manifest" deletes
    the tag's manifest with all of its tags. `delete_tagged` refuses, with that status, to
    delete a digest that has tags.
    """

    head: bool | int | Literal["no-length", "no-digest"] = True
    accept: bool | int = False
    accept_lines: Literal["all", "first", "last"] = "all"
    content_type: str | None = None
    digest_header: bool | Literal["sha512", "wrong"] = True
    stale_reads: int = 0
    bare_304: bool = False

    content_type_needed: int | None = None
    manifest_limit: int | None = None
    manifest_limit_status: int = 413
    sparse: bool = False
    nested_indexes: bool = True
    refused_types: tuple[str, ...] = ()
    refused_text: str = "manifest invalid"
    manifest_put: int = 201
    put_digest: Literal["own", "other", "none"] = "own"
    blob_unknown: int = 404
    immutable_tags: int | None = None
    immutable_equal: bool = False
    tag_parameters: bool = True
    subject: bool = True

    deletes: bool = True
    delete_status: int = 202
    delete_tag: bool | int | Literal["manifest"] = True
    delete_tagged: int | None = None


class ManifestPart(Part):
    """Does to manifests what the switches say."""

    def __init__(self, switches: ManifestSwitches, handler: Handler) -> None:
        self._switches = switches
        self._handler = handler
        self._lock = threading.Lock()
        self._hidden: dict[str, int] = {}

    def refusal(self, request: Request, asked: Endpoint) -> Response | None:
        """Deletes, HEAD, hidden tags; what a PUT must be is checked once its body is read."""
        s = self._switches
        if request.method == "DELETE" and not s.deletes and asked.kind in ("manifest", "blob"):
            return error_response(405, "UNSUPPORTED", "deletion is disabled")
        if asked.kind != "manifest":
            return None
        if request.method == "HEAD" and (s.head is False or type(s.head) is int):
            return error_response(_status(s.head, 405), "UNSUPPORTED", "no HEAD")
        if request.method in ("GET", "HEAD") and self._is_hidden(request.path):
            return error_response(404, "MANIFEST_UNKNOWN", "manifest unknown")
        if request.method == "DELETE":
            return self._delete_refusal(asked, request)
        if request.method == "PUT":
            return self._put_refusal(request, asked)
        return None

    def changed_request(self, request: Request, asked: Endpoint) -> Request:
        """The body of a PUT is looked at here, and handed on from memory."""
        s = self._switches
        if asked.kind != "manifest":
            return request
        if request.method == "DELETE" and asked.by_tag and s.delete_tag == "manifest":
            digest = self._current(request)
            if digest is not None:
                path = f"/v2/{asked.name}/manifests/{digest}"
                return replace(request, path=path)
        if request.method == "PUT" and not s.tag_parameters:
            query = {name: values for name, values in request.query.items() if name != "tag"}
            return replace(request, query=query)
        return request

    def changed_response(self, request: Request, asked: Endpoint, response: Response) -> Response:
        """Headers of reads and the answers to PUT and DELETE."""
        s = self._switches
        headers = response.headers
        if asked.kind == "manifest" and response.status == 200:
            response = self._changed_read(request, response)
            headers = response.headers
        if not s.subject:
            headers.pop("OCI-Subject", None)
        if asked.kind == "manifest" and response.status == 304 and s.bare_304:
            headers.pop("Docker-Content-Digest", None)
        if asked.kind == "manifest" and request.method == "PUT" and response.status == 404:
            response.status = s.blob_unknown
        if asked.kind in ("manifest", "blob") and response.status < 300:
            self._change_digest_header(request, response)
        if asked.kind == "manifest" and request.method == "PUT" and response.status == 201:
            response.status = s.manifest_put
            if s.put_digest == "none":
                headers.pop("Docker-Content-Digest", None)
            elif s.put_digest == "other":
                headers["Docker-Content-Digest"] = str(Digest.of(b"another manifest"))
            if asked.by_tag and s.stale_reads:
                with self._lock:
                    self._hidden[request.path] = s.stale_reads
        if request.method == "DELETE" and response.status == 202 and asked.kind != "session":
            response.status = s.delete_status
        return response

    # --- reading ----------------------------------------------------------------------------

    def _is_hidden(self, path: str) -> bool:
        with self._lock:
            left = self._hidden.get(path, 0)
            self._hidden[path] = max(left - 1, 0)
            return left > 0

    def _changed_read(self, request: Request, response: Response) -> Response:
        s = self._switches
        media_type = response.headers.get("Content-Type", "")
        accepted = _accepted(request, s.accept_lines)
        wanted = not mt.is_docker(media_type) or s.accept is not True
        if s.accept and wanted and media_type not in accepted:
            response.close()
            status = _status(s.accept, 404)
            return error_response(status, "MANIFEST_UNKNOWN", "accept header does not support it")
        if s.content_type is not None:
            response.headers["Content-Type"] = s.content_type.replace("{}", media_type)
        if request.method == "HEAD" and s.head == "no-length":
            response.headers["Content-Length"] = ""
        if request.method == "HEAD" and s.head == "no-digest":
            response.headers.pop("Docker-Content-Digest", None)
            response.headers.pop("ETag", None)
        return response

    def _change_digest_header(self, request: Request, response: Response) -> None:
        said = self._switches.digest_header
        if said is True or "Docker-Content-Digest" not in response.headers:
            return
        if said is False:
            del response.headers["Docker-Content-Digest"]
        elif said == "wrong":
            response.headers["Docker-Content-Digest"] = str(Digest.of(b"another content"))
        elif request.method in ("GET", "HEAD") and response.status == 200:
            whole = self._handler(bare(request, "GET"))
            content = b"".join(whole.body or ())
            whole.close()
            response.headers["Docker-Content-Digest"] = str(Digest.of(content, "sha512"))

    # --- writing ----------------------------------------------------------------------------

    def _put_refusal(self, request: Request, asked: Endpoint) -> Response | None:
        s = self._switches
        said = mt.normalise(request.header("content-type"))
        if s.content_type_needed is not None and said in _GENERIC:
            text = "a manifest needs its media type as Content-Type"
            return error_response(s.content_type_needed, "MANIFEST_INVALID", text)
        if said in s.refused_types:
            return error_response(400, "MANIFEST_INVALID", s.refused_text)
        length = request.length
        if s.manifest_limit is not None and (length is None or length > s.manifest_limit):
            status = s.manifest_limit_status
            code = "SIZE_INVALID" if status == 413 else "MANIFEST_INVALID"
            return error_response(status, code, "the manifest is too large")
        if asked.by_tag and s.immutable_tags is not None and not s.immutable_equal:
            return self._move_refusal(request, s.immutable_tags)
        return None

    def _move_refusal(self, request: Request, status: int) -> Response | None:
        if self._current(request) is None:
            return None
        code, text = _REFUSED_MOVES.get(status, ("DENIED", "the tag cannot be moved"))
        return error_response(status, code, text)

    def put(self, request: Request, handler: Handler) -> Response:
        """A PUT whose content decides: indexes in indexes, equal manifests of immutable tags."""
        s = self._switches
        content = _read_all(request)
        asked = endpoint(request)
        if not s.nested_indexes and self._is_nested(content, asked.name):
            return error_response(400, "MANIFEST_INVALID", "an index may not hold indexes")
        if s.immutable_tags is not None and asked.by_tag:
            current = self._current(request)
            if current is not None and current != str(Digest.of(content)):
                refused = self._move_refusal(request, s.immutable_tags)
                assert refused is not None, "the tag is there"
                return refused
        return handler(replace(request, body=_Bytes(content), length=len(content)))

    @property
    def reads_puts(self) -> bool:
        """Whether a PUT must go through `put`."""
        s = self._switches
        return not s.nested_indexes or (s.immutable_tags is not None and s.immutable_equal)

    def _is_nested(self, content: bytes, name: str) -> bool:
        try:
            entries = strict_json.loads_object(content, "manifest").get("manifests")
        except (InvalidInput, LimitExceeded):
            return False
        types = [e.get("mediaType") for e in entries or () if isinstance(e, dict)]
        return any(isinstance(t, str) and mt.kind(t) == "index" for t in types)

    def _delete_refusal(self, asked: Endpoint, request: Request) -> Response | None:
        s = self._switches
        if asked.by_tag and (s.delete_tag is False or type(s.delete_tag) is int):
            status = _status(s.delete_tag, 400)
            code = "DIGEST_INVALID" if status == 400 else "UNSUPPORTED"
            return error_response(status, code, "only digests can be deleted")
        if s.delete_tagged is not None and not asked.by_tag:
            listed = self._handler(
                replace(bare(request, "GET"), path=f"/v2/{asked.name}/tags/list")
            )
            tags = strict_json.loads_object(b"".join(listed.body or ()), "tags").get("tags")
            for tag in tags if isinstance(tags, list) else ():
                path = f"/v2/{asked.name}/manifests/{tag}"
                if self._current(replace(request, path=path)) == asked.reference:
                    return error_response(s.delete_tagged, "DENIED", f"the tag {tag} points at it")
        return None

    def _current(self, request: Request) -> str | None:
        """The digest that a tag has now."""
        found = self._handler(bare(request, "HEAD"))
        return found.headers.get("Docker-Content-Digest") if found.status == 200 else None


class _Bytes(Nothing):
    """A body in memory."""

    def __init__(self, content: bytes) -> None:
        self._rest = memoryview(content)

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        data, self._rest = bytes(self._rest[:size]), self._rest[size:]
        return data


def _status(value: object, default: int) -> int:
    """A switch's own status; True and False stand for the usual one."""
    return value if isinstance(value, int) and not isinstance(value, bool) else default


def _accepted(request: Request, lines: str) -> str:
    """What the registry makes of the Accept headers."""
    if lines == "all" or not isinstance(request, WireRequest):
        return request.header("accept")
    said = [value for name, value in request.lines if name == "accept"] or [""]
    return said[0] if lines == "first" else said[-1]


def _read_all(request: Request) -> bytes:
    content = bytearray()
    while data := request.body.read(65536):
        content += data
    return bytes(content)
