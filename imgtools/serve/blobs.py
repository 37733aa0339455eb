"""Blob endpoints: distribution-spec end-2 (with RFC 9110 ranges) and end-10."""

from __future__ import annotations

from imgtools.serve import conditional
from imgtools.serve.message import Refusal, Request, Response
from imgtools.serve.ranges import Unsatisfiable, requested_range
from imgtools.serve.storage import RegistryStore
from imgtools.spec.digest import Digest


def get(store: RegistryStore, name: str, text: str, request: Request) -> Response:
    """GET and HEAD of a blob: 200, 206 for a range, 304, 404 or 416."""
    digest = Digest.parse(text)
    headers = {
        "Docker-Content-Digest": str(digest),
        "ETag": conditional.etag(digest),
    }
    body = store.open_blob(name, digest)
    if body is None:
        raise _unknown(store, name, digest)
    if conditional.not_modified(request, digest):
        body.close()
        return Response(status=304, headers=headers)
    headers["Content-Type"] = "application/octet-stream"
    headers["Accept-Ranges"] = "bytes"
    if request.method == "HEAD":
        return Response(status=200, headers=headers, body=body)
    size = body.length
    try:
        wanted = requested_range(request.headers, size, headers["ETag"])
    except Unsatisfiable as e:
        body.close()
        raise Refusal(
            416, "SIZE_INVALID", e.message, headers={"Content-Range": f"bytes */{size}"}
        ) from e
    if wanted is None:
        return Response(status=200, headers=headers, body=body)
    offset, length = wanted
    headers["Content-Range"] = f"bytes {offset}-{offset + length - 1}/{size}"
    return Response(status=206, headers=headers, body=body.narrow(offset, length))


def delete(store: RegistryStore, name: str, text: str) -> Response:
    """DELETE of a blob."""
    digest = Digest.parse(text)
    if not store.delete_blob(name, digest):
        raise _unknown(store, name, digest)
    return Response(status=202)


def _unknown(store: RegistryStore, name: str, digest: Digest) -> Refusal:
    if not store.has_repository(name):
        return Refusal(404, "NAME_UNKNOWN", f"there is no repository {name}")
    return Refusal(404, "BLOB_UNKNOWN", f"{name} has no blob {digest}")
