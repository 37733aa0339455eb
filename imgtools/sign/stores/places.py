"""Asks the places that an image is read from for what is kept beside it.

Mirrors come first, as for the image itself. Nothing is "not there" because somebody could not
be asked: that is an error, unless the primary location says so itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from imgtools.blob.reader import BlobReader
from imgtools.errors import (
    ConnectionFailed,
    Error,
    ImageNotFound,
    LimitExceeded,
    RegistryError,
)
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.manifest import RawManifest
from imgtools.transport.registry.api import Repository
from imgtools.transport.registry.endpoints import ENDPOINT_FAILURES, Failures, Members
from imgtools.transport.registry.manifests import get_with_etag

T = TypeVar("T")

_TOLD_OTHERWISE = frozenset({401, 403, 408, 425, 429})


def ask(members: Members, what: str, read: Callable[[Repository], T | None]) -> T | None:
    """What the first place has, None when there is nothing; `read` gives None for nothing.

    The primary has the last word, whatever mirrors failed with. Where it cannot be reached (a
    site that has only mirrors), a mirror that answered has it. Raises the primary's error,
    and InvalidSignature of any place.
    """
    failures = Failures(members.health)
    answered = False
    failed: Error | None = None
    for member in members.order(failures):
        try:
            there = member.endpoint.reference.repository
            found = read(Repository(member.reached, there))
        except ENDPOINT_FAILURES as e:
            failures.add(member, e, what)
            if not member.is_mirror:
                failed = e
            continue
        if found is not None:
            return found
        answered = True
        if not member.is_mirror:
            return None
    if answered and (failed is None or isinstance(failed, ConnectionFailed)):
        return None
    raise failures.error(members.primary)


def read_tag(repository: Repository, tag: str) -> tuple[RawManifest, str] | None:
    """What is at a tag, with its entity tag; None when the registry says that there is
    nothing, in any of the ways in which registries do. Raises what reading raises."""
    try:
        return get_with_etag(repository, tag, None)
    except ImageNotFound:
        return None
    except RegistryError as e:
        if says_absent(e):
            return None
        raise


def says_absent(error: RegistryError) -> bool:
    """Whether an answer means that a manifest does not exist.

    Any 404 does (distribution-spec "Pulling manifests"). Other refusals do with the code
    MANIFEST_UNKNOWN, or where they say "not found" under a code that says nothing, as
    registry.redhat.io and Harbor have done. Forbidden or throttled is never absent.
    """
    if error.status == 404:
        return True
    if not 400 <= error.status < 500 or error.status in _TOLD_OTHERWISE:
        return False
    said = error.detail.lower()
    return error.code == "MANIFEST_UNKNOWN" or (
        error.code in ("UNKNOWN", "NOT_FOUND") and "not found" in said
    )


def read_blob(repository: Repository, descriptor: Descriptor, limit: int) -> bytes:
    """A blob of at most `limit` bytes, its size and digest verified.

    Never from the URLs of a descriptor. Raises LimitExceeded, BlobNotFound, DigestMismatch,
    SizeMismatch and what a request raises.
    """
    from imgtools.transport.registry.pull.download import ResumingBody

    if descriptor.size > limit:
        raise LimitExceeded(f"blob {descriptor.digest}", limit)
    if descriptor.data is not None:
        return descriptor.data
    body = ResumingBody(repository, descriptor.digest, descriptor.size, 0, deferred=False)
    with BlobReader(body, descriptor.digest, descriptor.size, close=body.close) as reader:
        return reader.read()
