"""The registry protocol of OCI distribution-spec 1.1 over a `RegistryStore`.

`RegistryApp.handle` is a function from request to response: it finds the endpoint, checks
names and rights, and turns every typed error into the specification's error document.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

from imgtools.errors import (
    BlobNotFound,
    Conflict,
    ConnectionFailed,
    Error,
    InvalidDigest,
    InvalidInput,
    InvalidReference,
    LimitExceeded,
    NotFound,
)
from imgtools.frozen import dataclass
from imgtools.serve import blobs, listings, manifests, uploads
from imgtools.serve.message import BytesBody, Refusal, Request, Response, error_response
from imgtools.serve.storage import RegistryStore
from imgtools.spec.reference import check_repository
from imgtools.spec.strict_json import MANIFEST_LIMIT

log = logging.getLogger(__name__)

_NAME_LIMIT = 255
# Names are matched greedily, so that what follows the last keyword is the reference.
_ROUTE = re.compile(
    r"/v2/(?P<name>.+)/(?:"
    r"manifests/(?P<manifest>[^/]+)"
    r"|blobs/uploads(?:/(?P<session>[^/]*))?"
    r"|blobs/(?P<blob>[^/]+)"
    r"|(?P<tags>tags/list)"
    r"|referrers/(?P<subject>[^/]+)"
    r")"
)
_READS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AppOptions:
    """What a registry allows.

    `manifest_limit` is in bytes. `sparse_indexes` accepts an index some of whose children
    are absent, `sparse_images` an image some of whose blobs are. `page_size` is the most
    tags, repositories or referrers in one response, None for as many as are asked for.
    `deletes` allows DELETE of content.
    """

    manifest_limit: int = MANIFEST_LIMIT
    sparse_indexes: bool = False
    sparse_images: bool = False
    page_size: int | None = None
    deletes: bool = True


class RegistryApp:
    """Answers requests; holds no state of its own beside the store."""

    def __init__(self, store: RegistryStore, options: AppOptions | None = None) -> None:
        self.store = store
        self.options = options or AppOptions()

    def handle(self, request: Request) -> Response:
        """The response to a request; never raises for anything a client can send.

        The request's body may be left unread; the caller must close the response.
        """
        try:
            response = self._dispatch(request)
        except Refusal as e:
            response = e.response()
        except ConnectionFailed as e:
            response = error_response(400, "BLOB_UPLOAD_INVALID", e.message)
            response.headers["Connection"] = "close"
        except InvalidDigest as e:
            response = error_response(400, "DIGEST_INVALID", e.message)
        except InvalidReference as e:
            response = error_response(400, "NAME_INVALID", e.message)
        except LimitExceeded as e:
            response = error_response(429, "TOOMANYREQUESTS", e.message)
            response.headers["Retry-After"] = "10"
        except Conflict as e:
            response = error_response(409, "DENIED", e.message)
        except BlobNotFound as e:
            response = error_response(404, "BLOB_UNKNOWN", e.message)
        except NotFound as e:
            response = error_response(404, "NAME_UNKNOWN", e.message)
        except InvalidInput as e:
            response = error_response(400, "UNSUPPORTED", e.message)
        except Error as e:
            # The message may name files of this machine, so it stays in our log.
            log.error("%s %s: %s", request.method, request.path, e.message)
            response = error_response(500, "UNSUPPORTED", "the registry's storage failed")
        response.headers.setdefault("Docker-Distribution-API-Version", "registry/2.0")
        if request.method == "HEAD" and response.body is not None:
            response.headers.setdefault("Content-Length", str(response.body.length))
            response.close()
            response.body = None
        return response

    def _dispatch(self, request: Request) -> Response:
        if request.path in ("/v2/", "/v2"):
            return _by_method(request, GET=_version)
        if request.path == "/v2/_catalog":
            return _by_method(
                request, GET=lambda: listings.catalog(self.store, self.options, request)
            )
        match = _ROUTE.fullmatch(request.path)
        if match is None:
            raise Refusal(404, "UNSUPPORTED", "there is no such endpoint")
        name = match["name"]
        check_name(name)
        if request.method not in _READS:
            self._check_writable(request, name)
        return self._endpoint(match, name)(request)

    def _endpoint(self, match: re.Match[str], name: str) -> Callable[[Request], Response]:
        store, options = self.store, self.options
        if (reference := match["manifest"]) is not None:
            return lambda request: _by_method(
                request,
                GET=lambda: manifests.get(store, name, reference, request),
                PUT=lambda: manifests.put(store, options, name, reference, request),
                DELETE=lambda: manifests.delete(store, name, reference),
            )
        if (digest := match["blob"]) is not None and digest != "uploads":
            return lambda request: _by_method(
                request,
                GET=lambda: blobs.get(store, name, digest, request),
                DELETE=lambda: blobs.delete(store, name, digest),
            )
        if match["tags"] is not None:
            return lambda request: _by_method(
                request, GET=lambda: listings.tags(store, options, name, request)
            )
        if (subject := match["subject"]) is not None:
            return lambda request: _by_method(
                request, GET=lambda: listings.referrers(store, options, name, subject, request)
            )
        session = match["session"] or ""
        if not session:
            return lambda request: _by_method(
                request, POST=lambda: uploads.start(store, name, request)
            )
        return lambda request: _by_method(
            request,
            GET=lambda: uploads.status(store, name, session),
            PATCH=lambda: uploads.patch(store, name, session, request),
            PUT=lambda: uploads.close(store, name, session, request),
            DELETE=lambda: uploads.cancel(store, name, session),
        )

    def _check_writable(self, request: Request, name: str) -> None:
        if not self.store.writable:
            raise Refusal(
                405, "UNSUPPORTED", "this registry is read-only", headers={"Allow": "GET, HEAD"}
            )
        is_upload = "/blobs/uploads/" in request.path
        if request.method == "DELETE" and not self.options.deletes and not is_upload:
            raise Refusal(405, "UNSUPPORTED", "this registry does not delete")
        if not self.store.may_create(name):
            raise Refusal(400, "NAME_INVALID", f"{name!r} cannot be a repository here")


def check_name(name: str) -> None:
    """Raise Refusal (NAME_INVALID) unless `name` is a valid repository name.

    distribution-spec "Pulling manifests" has the grammar; the length is what clients take.
    """
    if len(name) > _NAME_LIMIT:
        raise Refusal(400, "NAME_INVALID", f"the name is longer than {_NAME_LIMIT} characters")
    try:
        check_repository(name, name)
    except InvalidReference as e:
        raise Refusal(400, "NAME_INVALID", e.message) from e


def _version() -> Response:
    headers = {"Content-Type": "application/json"}
    return Response(status=200, headers=headers, body=BytesBody(b"{}"))


def _by_method(request: Request, **endpoints: Callable[[], Response]) -> Response:
    method = "GET" if request.method == "HEAD" else request.method
    endpoint = endpoints.get(method)
    if endpoint is None:
        raise _no_method(*endpoints, *(["HEAD"] if "GET" in endpoints else []))
    return endpoint()


def _no_method(*allowed: str) -> Refusal:
    headers = {"Allow": ", ".join(allowed)}
    return Refusal(405, "UNSUPPORTED", "this endpoint does not have the method", headers=headers)
