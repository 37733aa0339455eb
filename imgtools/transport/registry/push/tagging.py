"""Refused manifests: a tag that may not be moved, others who put the same at once, and what
that means for a copy.

Registries say it in many ways: ECR 400 TAG_INVALID or ImageTagAlreadyExists, ACR 405, Quay
409, Harbor 412; distribution finds a digest invalid while another client writes it. A target
that leads to the same manifest already is as good as put.
"""

from __future__ import annotations

import logging
import random
import re

from imgtools.errors import Cancelled, Error, RegistryError, TagImmutable
from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.transport.registry.api import Repository
from imgtools.transport.registry.manifests import get_manifest, head_manifest
from imgtools.transport.registry.wire.http import Response

log = logging.getLogger(__name__)

STORED = (201, 200, 202)
"""Statuses of a manifest that was put."""

_TAKEN = frozenset({405, 409, 412})
# Statuses that mean other things more often, unless the text says this.
_PERHAPS = frozenset({400, 403})
_SAYS_SO = re.compile(r"immutable|already\s*exists|overwrit|TAG_INVALID", re.IGNORECASE)

# Codes of 400 and 404 that a manifest may get because of others, with the tries it is worth.
# Our bytes have the digest we say, so where that is called wrong a file was being written.
_RACES = {"DIGEST_INVALID": 5, "MANIFEST_UNKNOWN": 2, "MANIFEST_INVALID": 1}
_APART = 0.1
"""Seconds that two who met once are at most apart at the first try after."""


def settle_refusal(
    repository: Repository, target: str, raw: RawManifest, refused: Response
) -> Response | None:
    """Find out whether a refused manifest is at `target` all the same, or can be put there.

    The answer of a later try that was accepted; None when `target` holds the manifest.
    Raises TagImmutable when it is a tag of another manifest that may not be moved, else the
    error that the refusal stands for, and Cancelled.
    """
    tried = 1
    while True:
        status = refused.status
        error = repository.failure(refused)
        again = tried < _tries(error, target, raw)
        # Whether a subject is taken note of is told only by the answer that accepts it.
        if not (again and b'"subject"' in raw.content) and _holds(
            repository, target, raw, status, error
        ):
            log.debug("%s cannot be put, and need not be: %s", target, error.message)
            return None
        if not again:
            raise error
        log.debug("%s is put once more after others: %s", target, error.message)
        repository.session.wait(random.uniform(0, _APART * 2**tried))
        tried += 1
        refused = repository.put_manifest(target, raw)
        if refused.status in STORED:
            return refused


def _holds(
    repository: Repository, target: str, raw: RawManifest, status: int, error: Error
) -> bool:
    """Whether `target` leads to the manifest, where `error` may mean that; raises TagImmutable."""
    by_tag = ":" not in target
    taken = by_tag and (
        status in _TAKEN or (status in _PERHAPS and bool(_SAYS_SO.search(error.message)))
    )
    if not taken and not _tries(error, target, raw):
        return False
    present = _digest_at(repository, target)
    if present is None:
        return False
    if present == raw.digest or str(present) == target:
        return True
    if not taken:
        return False
    raise TagImmutable(
        f"{repository.session.host}/{repository.name}:{target}",
        present=str(present),
        wanted=str(raw.digest),
        said=error.message,
    ) from error


def _tries(error: Error, target: str, raw: RawManifest) -> int:
    """How often a manifest is put in all that got `error`; 0 when others are no cause of it."""
    if not isinstance(error, RegistryError) or error.status not in (400, 404):
        return 0
    tries = _RACES.get(error.code, 0)
    unusual = raw.digest.algorithm != "sha256" or target.startswith("sha512:")
    if unusual or mt.kind(raw.media_type) == "schema1":
        # Whose digests a registry may really not know, or make of other bytes than we.
        tries = min(tries, 2)
    return tries


def _digest_at(repository: Repository, target: str) -> Digest | None:
    """What `target`, a tag or a digest, leads to now; None for nothing or what is not told."""
    pinned = Digest.parse(target) if ":" in target else None
    try:
        found = head_manifest(repository, target, pinned)
        if found is None:
            found = get_manifest(repository, target, pinned).descriptor()
    except Cancelled:
        raise
    except Error as e:
        log.debug("%s: %s", target, e.message)
        return None
    return found.digest
