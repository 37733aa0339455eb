"""The requests about an upload session: opening one, asking it how far it is, believing it.

distribution-spec "Pushing blobs": every answer names the place for the next request, and what
a registry says of its own state is held against what was sent.
"""

from __future__ import annotations

import logging

from imgtools.errors import DigestMismatch, Error, RegistryError
from imgtools.frozen import dataclass
from imgtools.spec.digest import Digest
from imgtools.task import Task
from imgtools.transport.registry.api import Repository, content_digest
from imgtools.transport.registry.push.upload_plan import acknowledged
from imgtools.transport.registry.wire.http import Response
from imgtools.transport.registry.wire.url import redact

log = logging.getLogger(__name__)

_OPENED = (202, 201, 200)
ACCEPTED = (202, 201, 204, 200)
"""What registries say of a chunk, and of a session that they are asked about."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An open upload session: where its bytes go, how many it has, and the least bytes of a
    chunk but the last (OCI-Chunk-Min-Length, 0 when it does not say)."""

    location: str
    offset: int = 0
    least: int = 0


def open_session(repository: Repository, task: Task) -> Upload:
    """A new session; raises Denied, ConnectionFailed, RegistryError."""
    response = repository.start_upload(cancel=task.cancel)
    if response.status not in _OPENED:
        raise _missing(repository.failure(response), repository)
    return session_of(repository, response)


def is_mounted(response: Response, digest: Digest) -> bool:
    """Whether the answer to a mount says that the blob is there; raises DigestMismatch."""
    if response.status not in (200, 201):
        return False
    said = check_digest(response, digest)
    # Some say 201 or 200 of a session as well, which has the place of one.
    return said == digest or (response.status == 201 and not is_session(response))


def is_session(response: Response) -> bool:
    """Whether an answer to POST leads to an upload session."""
    location = response.header("Location").partition("?")[0]
    if response.status == 202:
        return True
    return response.status in _OPENED and "/uploads/" in location


def session_of(repository: Repository, response: Response) -> Upload:
    """The session that an answer opened; raises RegistryError when it does not say where."""
    location = response.header("Location")
    response.drain()
    if not location:
        raise RegistryError(
            method=response.method,
            url=redact(response.url),
            status=response.status,
            detail="the answer has no Location",
        )
    return Upload(repository.session.resolve(response, location), 0, least_chunk_of(response))


def ask_status(repository: Repository, location: str, sent: int, task: Task) -> Upload | None:
    """What a session of which at most `sent` bytes can be there says it has; None when it
    does not say, or what cannot be. Raises Denied, ConnectionFailed."""
    response = repository.upload_status(location, cancel=task.cancel)
    offset = acknowledged(response.header("Range"), sent)
    response.drain()
    if response.status not in ACCEPTED or offset is None:
        log.debug("status of an upload: %d %s", response.status, response.header("Range"))
        return None
    return Upload(next_location(repository, response, location), offset, least_chunk_of(response))


def is_stored(repository: Repository, digest: Digest, *, certainly: bool = False) -> bool:
    """Whether the repository has the blob, by HEAD; `certainly` means that the answer has to
    name the blob as we do. Raises what a request raises."""
    response = repository.head_blob(digest)
    with response:
        if response.status == 200:
            return not certainly or content_digest(response) == digest
        if response.status == 404:
            return False
    raise repository.failure(response)


def check_digest(response: Response, digest: Digest) -> Digest | None:
    """What the registry says it stored, None when it does not say; raises DigestMismatch when
    that is something else under the same algorithm."""
    said = content_digest(response)
    if said is not None and said.algorithm == digest.algorithm and said != digest:
        response.close()
        raise DigestMismatch(
            f"blob stored by {response.origin.authority}", expected=str(digest), actual=str(said)
        )
    return said


def least_chunk_of(response: Response) -> int:
    """OCI-Chunk-Min-Length in bytes, 0 when the answer does not say."""
    text = response.header("OCI-Chunk-Min-Length")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0


def next_location(repository: Repository, response: Response, before: str) -> str:
    """Where the upload goes on: every answer may name another place, the last one counts."""
    location = response.header("Location")
    return repository.session.resolve(response, location) if location else before


def _missing(error: Error, repository: Repository) -> Error:
    """`error`, with a hint when it says that there is nowhere to push to."""
    if isinstance(error, RegistryError) and error.status == 404:
        error.hint = (
            f"{repository.session.host} does not make {repository.name} by a push: "
            "the repository, or the project it is in, must exist before"
        )
    return error
