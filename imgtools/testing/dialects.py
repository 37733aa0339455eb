"""Dialects: what real registries do differently, as switches of the test registry.

`Dialect` collects the switches of every subject, `Speaker` applies them. `DISTRIBUTION_2` and
`GGCR` are what docker's registry 2.8 and go-containerregistry's in-memory registry 0.20 were
observed to do; `imgtools.testing.presets` has what is reported of others. The second takes
manifests unseen, whole or not, in which it is not followed: tests would miss too much.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from imgtools.blob.reader import Readable
from imgtools.errors import ConnectionFailed
from imgtools.frozen import dataclass
from imgtools.serve.message import Refusal, Request, Response
from imgtools.testing.dialect_blobs import BlobPart, BlobSwitches, Storage
from imgtools.testing.dialect_errors import ErrorPart, ErrorSwitches, too_large
from imgtools.testing.dialect_lists import ListPart, ListSwitches
from imgtools.testing.dialect_manifests import ManifestPart, ManifestSwitches
from imgtools.testing.dialect_uploads import UploadPart, UploadSwitches
from imgtools.testing.wire_request import Handler, bare, endpoint


@dataclass(frozen=True, kw_only=True)
class Dialect(ManifestSwitches, BlobSwitches, UploadSwitches, ListSwitches, ErrorSwitches):
    """How the registry deviates; the defaults are distribution-spec 1.1 in full.

    Every switch is explained where it is declared, by subject: in `ManifestSwitches`,
    `BlobSwitches`, `UploadSwitches`, `ListSwitches` and `ErrorSwitches`. How credentials are
    asked for is in `imgtools.testing.authority.AuthOptions`.
    """


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
    pages=False,
    tags="unsorted",
    manifest_limit=4 * 1024 * 1024,
    manifest_limit_status=400,
    range_refusal="cut",
    name_unknown=False,
    blob_unknown=400,
    bare_304=True,
    other_algorithms="renamed",
)
GGCR = Dialect(
    mount="no",
    referrers="404-json",
    subject=False,
    tag_parameters=False,
    upload_status=False,
    resume=False,
    etags=False,
    cancel=400,
    patch_status=204,
    created_location=False,
    other_algorithms="refused",
    version_header=False,
)


class Speaker:
    """Wraps an application so that it speaks a dialect."""

    def __init__(
        self,
        dialect: Dialect,
        handler: Handler,
        base_url: Callable[[], str],
        storage: Storage,
    ) -> None:
        """`base_url` gives scheme and host for absolute Locations."""
        self.dialect = dialect
        self._handler = handler
        self._manifests = ManifestPart(dialect, handler)
        # What stands in front of a registry speaks first, and last.
        self._parts = (
            ErrorPart(dialect, handler),
            UploadPart(dialect, handler, base_url),
            self._manifests,
            BlobPart(dialect, handler, storage),
            ListPart(dialect, handler, base_url),
        )

    def handle(self, request: Request) -> Response:
        """The dialect's response."""
        asked = endpoint(request)
        for part in self._parts:
            response = part.refusal(request, asked)
            if response is not None:
                break
        else:
            response = self._answer(request)
        for part in reversed(self._parts):
            response = part.changed_response(request, asked, response)
        return response

    def _answer(self, request: Request) -> Response:
        """The application's answer to what the dialect lets it see."""
        asked = endpoint(request)
        changed = request
        for part in self._parts:
            changed = part.changed_request(changed, asked)
        body = _Watched(changed, self.dialect.body_limit)
        changed = replace(changed, body=body)
        if asked.kind == "manifest" and request.method == "PUT" and self._manifests.reads_puts:
            return self._manifests.put(changed, self._handler)
        response = self._handler(changed)
        if body.cut and not self.dialect.resume and asked.kind == "session":
            self._handler(bare(request, "DELETE"))
        if body.over:
            response.close()
            return too_large()
        return response


class _Watched:
    """A request body that remembers that it was cut or that it went over the limit."""

    def __init__(self, request: Request, limit: int | None) -> None:
        self._body: Readable = request.body
        self._empty = request.length == 0
        self._limit = limit
        self._read = 0
        self.cut = False
        self.over = False

    def read(self, size: int, /) -> bytes:
        if self._empty:
            return b""
        try:
            data = self._body.read(size)
        except ConnectionFailed:
            self.cut = True
            raise
        self._read += len(data)
        if self._limit is not None and self._read > self._limit:
            self.over = True
            raise Refusal(413, "SIZE_INVALID", "the body is too long")
        return data
