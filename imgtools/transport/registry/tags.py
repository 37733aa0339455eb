"""Lists the tags of a repository (distribution-spec "Listing Tags")."""

from __future__ import annotations

from imgtools.errors import ImageNotFound, RegistryError
from imgtools.spec import strict_json
from imgtools.transport.registry.api import Repository
from imgtools.transport.registry.failure import read_error
from imgtools.transport.registry.pages import PAGE_LIMIT, pages
from imgtools.transport.registry.session import Session
from imgtools.transport.registry.url import redact

_PAGE = 1000
"""Tags per page: some registries refuse more, others send 100 when not asked."""


def list_tags(session: Session, repository: str, limit: int | None = None) -> list[str]:
    """The tags of `repository` in the registry's order, each once, at most `limit`.

    Raises ImageNotFound for a repository that does not exist, Denied, ConnectionFailed,
    RegistryError, InvalidJSON, LimitExceeded.
    """
    return tags_of(Repository(session, repository), limit)


def tags_of(api: Repository, limit: int | None = None) -> list[str]:
    """`list_tags` of a repository that is at hand; raises as that does."""
    first = api.tags(_PAGE if limit is None else max(1, min(limit, _PAGE)))
    if first.status == 404:
        code, detail = read_error(first)
        said = " ".join(part for part in (code, detail) if part)
        raise ImageNotFound(
            f"repository {api.session.host}/{api.name} does not exist"
            + (f": {said}" if said else "")
        )
    tags: dict[str, None] = {}
    for response, content in pages(api, first):
        value = strict_json.loads_object(content, "list of tags", limit=PAGE_LIMIT)
        found = value.get("tags")
        if found is not None and not isinstance(found, list):
            raise RegistryError(
                method="GET", url=redact(response.url), status=200, detail="tags is not a list"
            )
        # Null and empty names are what some registries have instead of an empty list.
        tags.update((tag, None) for tag in found or () if isinstance(tag, str) and tag)
        if limit is not None and len(tags) >= limit:
            break
    return list(tags)[:limit]
