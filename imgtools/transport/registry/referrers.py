"""Referrers: what is attached to a manifest (distribution-spec "Listing Referrers").

Registries without the API keep an index under a tag made of the digest; it is read when the
API is not there, and written when a pushed manifest's subject was not acknowledged.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Collection, Iterator
from dataclasses import replace

from imgtools.errors import (
    Conflict,
    Error,
    ImageNotFound,
    InvalidJSON,
    InvalidManifest,
    LimitExceeded,
)
from imgtools.spec import media_type as mt
from imgtools.spec import strict_json
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Index, Manifest, RawManifest, parse, parse_index
from imgtools.spec.schema1 import Schema1
from imgtools.transport.registry.api import Repository
from imgtools.transport.registry.failure import Forbidden
from imgtools.transport.registry.manifests import get_manifest, is_there
from imgtools.transport.registry.pages import PAGE_LIMIT, pages
from imgtools.transport.registry.wire.http import Response

log = logging.getLogger(__name__)

_API_ABSENT = frozenset({400, 404, 405, 406, 501})
_UPDATE_TRIES = 12
_LONGEST_APART = 4.0
"""Tries at an index that others write as well, and the most seconds before the next one."""


def list_referrers(
    repository: Repository,
    digest: Digest,
    artifact_type: str = "",
    *,
    tags: Collection[str] | None = None,
) -> Iterator[Descriptor]:
    """The manifests whose subject is `digest`, each once; with `artifact_type` only those.

    With `tags`, those of the repository, the fallback tag is read exactly when it is among
    them, also beside the API; without, when there is no API. Raises Denied,
    ConnectionFailed, RegistryError, InvalidManifest, InvalidJSON.
    """
    seen: set[Digest] = set()
    for descriptor, filtered in _found(repository, digest, artifact_type, tags):
        wanted = filtered or not artifact_type or descriptor.artifact_type == artifact_type
        if wanted and descriptor.digest not in seen:
            seen.add(descriptor.digest)
            yield descriptor


def fallback_tag(digest: Digest) -> str:
    """The tag of the fallback index: algorithm and hex, each cut as the spec has it."""
    return f"{digest.algorithm[:32]}-{digest.hex[:64]}"


def _found(
    repository: Repository, digest: Digest, artifact_type: str, tags: Collection[str] | None
) -> Iterator[tuple[Descriptor, bool]]:
    """Each entry, and whether the registry had filtered already."""
    features = repository.session.features
    if features.has_referrers(repository.name):
        response = repository.referrers(digest, artifact_type)
        known = response.status not in _API_ABSENT and not _is_page_for_people(response)
        if known:
            for page, content in pages(repository, response, accept=mt.OCI_INDEX):
                known = page is not response or _is_index(page, content)
                if not known:
                    break
                filters = page.header("OCI-Filters-Applied").replace(" ", "").split(",")
                raw = RawManifest.of(content, mt.OCI_INDEX)
                for descriptor in parse_index(raw).manifests:
                    yield descriptor, "artifactType" in filters
        if known and tags is None:
            return
        if not known:
            log.debug("no referrers API in %s: %d", repository.name, response.status)
            response.drain()
            features.no_referrers(repository.name)
    tag = fallback_tag(digest)
    if tags is not None and tag not in tags:
        return
    index = _fallback_index(repository, tag, digest)
    for descriptor in index.manifests if index is not None else ():
        yield descriptor, False


def _is_page_for_people(response: Response) -> bool:
    """Whether something that knows no such API answers, such as the pages of a proxy."""
    return response.status == 200 and response.header("Content-Type").lower().startswith("text/")


def _is_index(response: Response, content: bytes) -> bool:
    """Whether an answer is, or says that it is, a list of referrers: who knows no such API may
    answer 200 and any JSON as well."""
    if mt.kind(mt.normalise(response.header("Content-Type"))) == "index":
        return True
    try:
        value = strict_json.loads(content, limit=PAGE_LIMIT)
    except (InvalidJSON, LimitExceeded):
        return False
    return isinstance(value, dict) and "manifests" in value


def _fallback_index(repository: Repository, tag: str, beside: Digest) -> Index | None:
    """The index of a tag, None when there is none. Where a registry calls absence forbidden,
    it is absence if the manifest `beside` it can be read."""
    try:
        raw = get_manifest(repository, tag, None)
    except ImageNotFound:
        return None
    except Forbidden as e:
        if not is_there(repository, beside):
            raise
        log.debug("tag %s is taken for absent: %s", tag, e.message)
        return None
    return parse_index(raw)


def subject_of(raw: RawManifest) -> Digest | None:
    """The digest of a manifest's subject, None when it has none or cannot have one."""
    value = _typed(raw)
    return value.subject.digest if value is not None and value.subject is not None else None


def referrer_descriptor(raw: RawManifest) -> Descriptor:
    """How a referrer stands in an index of referrers: with artifact type and annotations."""
    value = _typed(raw)
    if value is None:
        return raw.descriptor()
    artifact_type = value.artifact_type
    if not artifact_type and isinstance(value, Manifest):
        artifact_type = value.config.media_type
    return replace(raw.descriptor(), artifact_type=artifact_type, annotations=value.annotations)


def add_to_fallback(repository: Repository, subject: Digest, referrer: Descriptor) -> None:
    """Make the fallback index of `subject` name `referrer`.

    The tag is read, changed and written, and read again, because another process may do the
    same at once; raises Conflict when the entry does not stay, and what a request raises.
    """
    tag = fallback_tag(subject)
    with repository.session.features.writing(repository.name, tag):
        _add(repository, tag, referrer)


def _add(repository: Repository, tag: str, referrer: Descriptor) -> None:
    written = seen = lost = False
    for tries in range(_UPDATE_TRIES + 1):
        try:
            index = _fallback_index(repository, tag, referrer.digest)
        except InvalidManifest as e:
            raise e.with_context(f"tag {tag} of {repository.name}") from e
        entries = index.manifests if index is not None else ()
        if any(entry.digest == referrer.digest for entry in entries):
            if seen or not lost:
                return
            # Who was written over once may be again, by somebody who had read before.
            seen = True
        elif tries == _UPDATE_TRIES:
            break
        # What was written and is not there at all is not shown yet. Whoever wrote again on the
        # strength of that would leave out the entries of others.
        elif index is not None or not written:
            base = index or Index(media_type=mt.OCI_INDEX, manifests=())
            lost, seen = written, False
            _put_index(repository, tag, replace(base, manifests=(*entries, referrer)))
            written = True
        if tries:
            # Those who lost to each other once shall not do it again in step, and the more
            # there are, the further apart they must be.
            apart = min(_LONGEST_APART, repository.session.policy.first * tries)
            repository.session.wait(random.uniform(0, apart))
    if seen:
        return
    raise Conflict(
        f"tag {tag} of {repository.session.host}/{repository.name} is being changed by others: "
        f"referrer {referrer.digest} was added and is not there"
    )


def _put_index(repository: Repository, tag: str, index: Index) -> None:
    from imgtools.transport.registry.push.tagging import STORED, settle_refusal

    raw = index.to_raw()
    response: Response | None = repository.put_manifest(tag, raw)
    if response is not None and response.status not in STORED:
        response = settle_refusal(repository, tag, raw, response)
    if response is not None:
        response.drain()


def _typed(raw: RawManifest) -> Manifest | Index | None:
    try:
        value = parse(raw)
    except Error as e:
        log.debug("subject of %s is not known: %s", raw.digest, e)
        return None
    return None if isinstance(value, Schema1) else value
