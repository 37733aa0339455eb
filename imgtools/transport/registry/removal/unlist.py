"""Takes a deleted manifest out of the list of its subject's referrers.

Only registries without the referrers API leave that list, an index under a tag made of the
subject's digest, to their clients (distribution-spec "Deleting Manifests").
"""

from __future__ import annotations

from dataclasses import replace

from imgtools.errors import Conflict, ImageNotFound, InvalidManifest
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Index, RawManifest, parse_index
from imgtools.transport.registry.api import Repository
from imgtools.transport.registry.failure import Forbidden
from imgtools.transport.registry.manifests import get_manifest
from imgtools.transport.registry.referrers import fallback_tag, list_referrers
from imgtools.transport.registry.removal.deleting import Deleting

_TRIES = 4


def unlist_referrer(
    repository: Repository, deleting: Deleting, subject: Digest, referrer: Digest
) -> None:
    """Make the fallback index of `subject` not name `referrer`; a list that becomes empty
    goes itself. Does nothing where the registry has the referrers API.

    `repository` can be written to. The tag is read again after it was written, because
    somebody else may write it at once: raises Conflict when the entry does not go, and
    Denied, ConnectionFailed, RegistryError, InvalidManifest.
    """
    # The first request for the list tells whether there is an API.
    for _ in list_referrers(repository, subject):
        break
    if repository.session.features.has_referrers(repository.name):
        return
    tag = fallback_tag(subject)
    for _ in range(_TRIES):
        found = _list(repository, tag)
        if found is None:
            return
        raw, index = found
        left = tuple(entry for entry in index.manifests if entry.digest != referrer)
        if len(left) == len(index.manifests):
            return
        if left:
            response = repository.put_manifest(tag, replace(index, manifests=left).to_raw())
            if response.status not in (200, 201, 202):
                raise repository.failure(response)
            response.drain()
        elif not deleting.tag(tag):
            deleting.manifest(raw.digest)
    raise Conflict(
        f"tag {tag} of {deleting.where} is being changed by others: "
        f"referrer {referrer} was taken out {_TRIES} times and is still there"
    )


def _list(repository: Repository, tag: str) -> tuple[RawManifest, Index] | None:
    try:
        raw = get_manifest(repository, tag, None)
        return raw, parse_index(raw)
    except (ImageNotFound, Forbidden):
        # It was found out just before that other manifests can be read: then this is absence.
        return None
    except InvalidManifest as e:
        raise e.with_context(f"tag {tag} of {repository.session.host}/{repository.name}") from e
