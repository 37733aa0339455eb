"""Refused tags: a registry that does not let a tag be moved, and what that means for a copy.

Registries say it in many ways: ECR 400 TAG_INVALID or ImageTagAlreadyExists, ACR 405, Quay
409, Harbor 412. A tag that points at the same manifest already is as good as put.
"""

from __future__ import annotations

import logging
import re

from imgtools.errors import Error, TagImmutable
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.transport.registry.api import Repository
from imgtools.transport.registry.http import Response
from imgtools.transport.registry.manifests import get_manifest, head_manifest

log = logging.getLogger(__name__)

_TAKEN = frozenset({405, 409, 412})
# Statuses that mean other things more often, unless the text says this.
_PERHAPS = frozenset({400, 403})
_SAYS_SO = re.compile(r"immutable|already\s*exists|overwrit|TAG_INVALID", re.IGNORECASE)


def settle_refusal(
    repository: Repository, target: str, raw: RawManifest, refused: Response
) -> None:
    """Return when `target` holds the manifest although the registry refused to put it there.

    Raises TagImmutable when it is a tag of another manifest that may not be moved, else the
    error that the refusal stands for.
    """
    status = refused.status
    error = repository.failure(refused)
    by_tag = ":" not in target
    taken = status in _TAKEN or (status in _PERHAPS and _SAYS_SO.search(error.message))
    present = _digest_at(repository, target) if by_tag and taken else None
    if present is None:
        raise error
    if present == raw.digest:
        log.debug("%s cannot be put, and need not be: %s", target, error.message)
        return
    raise TagImmutable(
        f"{repository.session.host}/{repository.name}:{target}",
        present=str(present),
        wanted=str(raw.digest),
        said=error.message,
    ) from error


def _digest_at(repository: Repository, tag: str) -> Digest | None:
    try:
        found = head_manifest(repository, tag, None)
        return found.digest if found is not None else get_manifest(repository, tag, None).digest
    except Error as e:
        log.debug("tag %s: %s", tag, e.message)
        return None
