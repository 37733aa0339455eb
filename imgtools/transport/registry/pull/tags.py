"""Lists the tags of a repository (distribution-spec "Listing Tags")."""

from __future__ import annotations

import logging

from imgtools.errors import ImageNotFound, RegistryError
from imgtools.spec import strict_json
from imgtools.transport.registry.api import Repository
from imgtools.transport.registry.failure import read_error
from imgtools.transport.registry.pages import PAGE_LIMIT, pages
from imgtools.transport.registry.session import Session
from imgtools.transport.registry.wire.http import Response
from imgtools.transport.registry.wire.url import redact

log = logging.getLogger(__name__)

_PAGE = 1000
"""Tags per page: some registries refuse more, others send 100 when not asked."""
_MOST_REQUESTS = 10_000


def list_tags(session: Session, repository: str, limit: int | None = None) -> list[str]:
    """The tags of `repository` in the registry's order, each once, at most `limit`.

    Raises ImageNotFound for a repository that does not exist, Denied, ConnectionFailed,
    RegistryError, InvalidJSON, LimitExceeded.
    """
    return tags_of(Repository(session, repository), limit)


def tags_of(api: Repository, limit: int | None = None) -> list[str]:
    """`list_tags` of a repository that is at hand; raises as that does."""
    size = _PAGE if limit is None else max(1, min(limit, _PAGE))
    answer = api.tags(size)
    if answer.status == 404:
        code, detail = read_error(answer)
        said = " ".join(part for part in (code, detail) if part)
        raise ImageNotFound(
            f"repository {api.session.host}/{api.name} does not exist"
            + (f": {said}" if said else "")
        )
    tags: dict[str, None] = {}
    for _ in range(_MOST_REQUESTS):
        before, count, last = len(tags), 0, []
        for response, content in pages(api, answer):
            last = _names(response, content)
            count += 1
            # Null and empty names are what some registries have instead of an empty list.
            tags.update((tag, None) for tag in last if tag)
            if limit is not None and len(tags) >= limit:
                return list(tags)[:limit]
        # Some registries cut the list where they were asked to and have no Link to the rest.
        full = count == 1 and len(last) == size and last == sorted(last)
        if not full or len(tags) == before:
            break
        log.debug("the list of tags ends at just %d, so more are asked for", size)
        answer = api.tags(size, after=last[-1])
        if answer.status == 404:
            answer.drain()
            break
    return list(tags)


def _names(response: Response, content: bytes) -> list[str]:
    """What a page lists, without what is no text; raises RegistryError, InvalidJSON."""
    value = strict_json.loads_object(content, "list of tags", limit=PAGE_LIMIT)
    found = value.get("tags")
    if found is not None and not isinstance(found, list):
        raise RegistryError(
            method="GET", url=redact(response.url), status=200, detail="tags is not a list"
        )
    return [tag for tag in found or () if isinstance(tag, str)]
