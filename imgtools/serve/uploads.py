"""Upload endpoints: distribution-spec end-4a to end-6, end-11, end-13 and end-14.

A session keeps what arrived even when the connection broke, so that a client can ask for
its offset and go on; it ends with PUT, DELETE, a wrong digest, or after a long silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from imgtools.blob.reader import CHUNK
from imgtools.errors import DigestMismatch, InvalidInput, InvalidReference
from imgtools.serve.message import Refusal, Request, Response
from imgtools.serve.ranges import chunk_range
from imgtools.serve.storage import RegistryStore, Upload
from imgtools.spec.digest import Digest, new_hasher
from imgtools.spec.reference import check_repository

_PATIENCE = 2.0
"""Seconds: whoever was cut off is back before the request that broke has come to its end."""


def start(store: RegistryStore, name: str, request: Request) -> Response:
    """POST: a new session (202), a mount (201) or a whole blob in one request (201)."""
    if (mount := request.parameter("mount")) is not None:
        digest = Digest.parse(mount)
        if _mounted(store, name, digest, request.parameter("from")):
            return _created(name, digest)
    text = request.parameter("digest")
    digest_of_body = Digest.parse(text) if text is not None else None
    algorithm = request.parameter("digest-algorithm")
    if algorithm is not None:
        new_hasher(algorithm)
    upload = store.start_upload(name)
    with _held(upload):
        if digest_of_body is None:
            if algorithm is not None:
                upload.expect(algorithm)
            return _accepted(name, upload)
        try:
            upload.expect(digest_of_body.algorithm)
            _receive(upload, request, request.length)
            _finish(upload, digest_of_body)
        except BaseException:
            # The client never learns this session's name, so nobody can go on with it.
            upload.cancel()
            raise
    return _created(name, digest_of_body)


def patch(store: RegistryStore, name: str, session: str, request: Request) -> Response:
    """PATCH: a chunk in order, or a stream when no Content-Range says where it belongs."""
    upload = _session(store, name, session)
    with _held(upload):
        _receive(upload, request, _chunk_length(name, upload, request))
        return _accepted(name, upload)


def close(store: RegistryStore, name: str, session: str, request: Request) -> Response:
    """PUT: the last chunk, if any, and the digest of everything."""
    upload = _session(store, name, session)
    text = request.parameter("digest")
    if text is None:
        raise Refusal(400, "DIGEST_INVALID", "the digest parameter is missing")
    digest = Digest.parse(text)
    with _held(upload):
        length = _chunk_length(name, upload, request)
        if not upload.size:
            upload.expect(digest.algorithm)
        _receive(upload, request, length)
        _finish(upload, digest)
    return _created(name, digest)


def status(store: RegistryStore, name: str, session: str) -> Response:
    """GET: how much has arrived."""
    upload = _session(store, name, session)
    return Response(status=204, headers=_progress(name, upload))


def cancel(store: RegistryStore, name: str, session: str) -> Response:
    """DELETE: forget the session."""
    upload = _session(store, name, session)
    with _held(upload):
        upload.cancel()
    return Response(status=204)


def _mounted(store: RegistryStore, name: str, digest: Digest, source: str | None) -> bool:
    """Whether the blob is in `name` now. A mount that cannot be is no error (end-11)."""
    if store.blob_size(name, digest) is not None:
        return True
    if not source:
        return False
    try:
        check_repository(source, source)
    except InvalidReference:
        return False
    return store.mount_blob(name, digest, source)


def _session(store: RegistryStore, name: str, session: str) -> Upload:
    upload = store.upload(name, session)
    if upload is None:
        raise Refusal(404, "BLOB_UPLOAD_UNKNOWN", "there is no such upload")
    return upload


@contextmanager
def _held(upload: Upload) -> Iterator[None]:
    if not upload.acquire(_PATIENCE):
        raise Refusal(409, "BLOB_UPLOAD_INVALID", "another request is writing to this upload")
    try:
        yield
    finally:
        upload.release()


def _chunk_length(name: str, upload: Upload, request: Request) -> int | None:
    """The bytes this request must bring, None when nobody said; checks that they fit."""
    text = request.header("content-range")
    if not text:
        return request.length
    try:
        first, length = chunk_range(text)
    except InvalidInput as e:
        raise Refusal(400, "BLOB_UPLOAD_INVALID", e.message) from e
    if first != upload.size:
        raise Refusal(
            416,
            "BLOB_UPLOAD_INVALID",
            f"the chunk begins at {first}, but the upload has {upload.size} bytes",
            headers=_progress(name, upload),
        )
    if request.length is not None and request.length != length:
        raise Refusal(400, "SIZE_INVALID", "Content-Range and Content-Length disagree")
    return length


def _receive(upload: Upload, request: Request, length: int | None) -> None:
    """Append the body. A body that is cut leaves what arrived, and raises ConnectionFailed."""
    left = length
    while data := request.body.read(CHUNK):
        if left is not None:
            left -= len(data)
            if left < 0:
                upload.cancel()
                raise Refusal(400, "SIZE_INVALID", "the body is longer than its range")
        upload.append(data)
    if left:
        upload.cancel()
        raise Refusal(400, "SIZE_INVALID", "the body is shorter than its range")


def _finish(upload: Upload, digest: Digest) -> None:
    try:
        upload.finish(digest)
    except DigestMismatch as e:
        raise Refusal(400, "DIGEST_INVALID", e.message) from e


def _progress(name: str, upload: Upload) -> dict[str, str]:
    # There is no range for "nothing yet"; 0-0 is what other registries say.
    return {
        "Location": f"/v2/{name}/blobs/uploads/{upload.id}",
        "Range": f"0-{max(upload.size - 1, 0)}",
        "Docker-Upload-UUID": upload.id,
    }


def _accepted(name: str, upload: Upload) -> Response:
    return Response(status=202, headers=_progress(name, upload))


def _created(name: str, digest: Digest) -> Response:
    return Response(
        status=201,
        headers={
            "Location": f"/v2/{name}/blobs/{digest}",
            "Docker-Content-Digest": str(digest),
        },
    )
