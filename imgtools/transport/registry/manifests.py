"""Reads manifests from a repository: bounded, verified, and by the cheapest request.

HEAD is enough to know what a name points at when the registry answers it in full; anything
less falls back to GET, and what GET brings is checked against every digest that is known.
"""

from __future__ import annotations

import logging

from imgtools.errors import DigestMismatch, Error, ImageNotFound
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.spec.strict_json import MANIFEST_LIMIT
from imgtools.transport.registry.api import Repository, content_digest
from imgtools.transport.registry.failure import Forbidden, coding_hint, read_error
from imgtools.transport.registry.wire.http import Response
from imgtools.transport.registry.wire.retry import RETRIED_STATUSES
from imgtools.transport.registry.wire.url import clean

log = logging.getLogger(__name__)

_KNOWN_KINDS = ("manifest", "index", "schema1")
_USUAL = "sha256"


def head_manifest(repository: Repository, target: str, digest: Digest | None) -> Descriptor | None:
    """What `target` points at, by HEAD; None when HEAD does not tell.

    `digest` is what the target itself pins. Without, a digest of another algorithm than
    registries agree on is not taken on trust. Raises ImageNotFound, DigestMismatch and what
    a request raises.
    """
    response = repository.manifest("HEAD", target)
    with response:
        if response.status == 404:
            raise _not_found(repository, target, response)
        if response.status != 200:
            log.debug("HEAD of manifest %s: %d, so GET decides", target, response.status)
            return None
        said = content_digest(response)
        size = response.content_length
        media_type = mt.normalise(response.header("Content-Type"))
    found = _agreed(said, digest, f"manifest {target}") or said
    if digest is None and found is not None and found.algorithm != _USUAL:
        log.debug("HEAD of manifest %s names it by %s, so GET decides", target, found.algorithm)
        return None
    if found is None or not size or mt.kind(media_type) not in _KNOWN_KINDS:
        log.debug("HEAD of manifest %s lacks digest, size or type, so GET decides", target)
        return None
    return Descriptor(media_type=media_type, digest=found, size=size)


def is_there(repository: Repository, digest: Digest) -> bool:
    """Whether the repository has a manifest, by HEAD, or by GET where HEAD does not tell.

    False as well when reading is forbidden, see Forbidden. Raises what a request raises.
    """
    target = str(digest)
    response = repository.manifest("HEAD", target)
    with response:
        if response.status == 200:
            _agreed(content_digest(response), digest, f"manifest {target}")
            return True
        if response.status == 404:
            return False
        if response.status in RETRIED_STATUSES:
            raise repository.failure(response)
    try:
        get_manifest(repository, target, digest)
    except ImageNotFound:
        return False
    except Forbidden as e:
        log.debug("manifest %s cannot be read: %s", target, e.message)
        return False
    return True


def get_manifest(repository: Repository, target: str, digest: Digest | None) -> RawManifest:
    """The manifest of `target`, verified against `digest` or what the registry says it is.

    Raises ImageNotFound, DigestMismatch, LimitExceeded, InvalidManifest, InvalidJSON and
    what a request raises.
    """
    return get_with_etag(repository, target, digest)[0]


def get_with_etag(
    repository: Repository, target: str, digest: Digest | None
) -> tuple[RawManifest, str]:
    """Like `get_manifest`, with the strong entity tag that a change of it can be bound to
    (RFC 9110 section 13.1.1), "" for none."""
    response = repository.manifest("GET", target)
    with response:
        if response.status == 404:
            raise _not_found(repository, target, response)
        if response.status != 200:
            raise repository.failure(response)
        said = content_digest(response)
        where = f"manifest {target} of {repository.session.host}/{repository.name}"
        content = response.body(MANIFEST_LIMIT, where)
        media_type = response.header("Content-Type")
        hint = coding_hint(response)
        etag = response.header("ETag").strip()
    expected = _agreed(said, digest, f"manifest {target}") or said
    try:
        if expected is None:
            raw = RawManifest.of(content, media_type)
        else:
            raw = RawManifest.verified(content, media_type, expected)
    except Error as e:
        if media_type.partition(";")[0].strip().lower() == "text/html":
            hint = "the answer is a web page: is something else than a registry answering?"
        e.hint = hint or e.hint
        raise e.with_context(f"{repository.session.host}/{repository.name}") from e
    return raw, etag if etag.startswith('"') else ""


def _agreed(said: Digest | None, pinned: Digest | None, what: str) -> Digest | None:
    """The pinned digest; what the registry says may only differ by its algorithm."""
    if pinned is None:
        return None
    if said is not None and said.algorithm == pinned.algorithm and said != pinned:
        raise DigestMismatch(what, expected=str(pinned), actual=str(said))
    return pinned


def _not_found(repository: Repository, target: str, response: Response) -> ImageNotFound:
    code, detail = read_error(response)
    said = clean(f"{code} {detail}")
    separator = "@" if ":" in target else ":"
    name = f"{repository.session.host}/{repository.name}{separator}{target}"
    return ImageNotFound(f"{name} does not exist" + (f": {said}" if said else ""))
