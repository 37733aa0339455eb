"""Walks answers that come in pages, by their Link headers.

Pages stay on the registry's own origin, a page that was seen before ends the walk with an
error, and the number of pages is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator

from imgtools.errors import ConnectionFailed, LimitExceeded, RegistryError
from imgtools.transport.registry.api import Repository
from imgtools.transport.registry.link import next_link
from imgtools.transport.registry.wire.http import Response
from imgtools.transport.registry.wire.url import Origin, redact, resolve

PAGE_LIMIT = 32 * 1024 * 1024
"""Bytes of one page."""
_MOST_PAGES = 10_000
_ALL_PAGES_LIMIT = 256 * 1024 * 1024
"""Bytes of all pages together; a million tags are 20 MiB."""


def pages(
    repository: Repository, first: Response, *, accept: str = "application/json"
) -> Iterator[tuple[Response, bytes]]:
    """`first` and the answers its Links lead to, with their bodies.

    Raises RegistryError for a loop or an unexpected status, ConnectionFailed for a Link
    that leaves the registry, LimitExceeded, and what a request raises.
    """
    seen: set[str] = set()
    left = _ALL_PAGES_LIMIT
    response = first
    while True:
        with response:
            if response.status != 200:
                raise repository.failure(response)
            seen.add(response.url)
            following = next_link(response.header_list("Link"))
            content = response.body(PAGE_LIMIT, f"page {redact(response.url)}")
        left -= len(content)
        if left < 0:
            raise LimitExceeded(f"list from {redact(first.url)}", _ALL_PAGES_LIMIT)
        yield response, content
        if following is None:
            return
        url = resolve(response.url, following)
        if Origin.of(url) != response.origin:
            raise ConnectionFailed(
                f"the next page of {redact(response.url)} is on another host: {redact(url)}",
                host=repository.session.host,
            )
        if url in seen or len(seen) >= _MOST_PAGES:
            raise RegistryError(
                method="GET", url=redact(url), status=200, detail="the pages have no end"
            )
        response = repository.get(url, accept)
