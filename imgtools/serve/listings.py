"""Lists: tags (end-8), the catalog, and referrers (end-12), with pages and Link headers."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from imgtools.serve.message import Refusal, Request, Response, json_response
from imgtools.serve.storage import RegistryStore
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest

if TYPE_CHECKING:
    from imgtools.serve.app import AppOptions

_REFERRERS_LIMIT = 3 * 1024 * 1024
"""Bytes of descriptors in one page: clients read at most 4 MiB of a manifest."""


def tags(store: RegistryStore, options: AppOptions, name: str, request: Request) -> Response:
    """GET of a repository's tags, in ASCII order."""
    if not store.has_repository(name):
        raise Refusal(404, "NAME_UNKNOWN", f"there is no repository {name}")
    page, following = _page(store.tags(name), options, request)
    response = json_response({"name": name, "tags": page})
    _link(response, f"/v2/{name}/tags/list", following)
    return response


def catalog(store: RegistryStore, options: AppOptions, request: Request) -> Response:
    """GET of all repositories, as docker's registry has it (no part of distribution-spec)."""
    page, following = _page(store.repositories(), options, request)
    response = json_response({"repositories": page})
    _link(response, "/v2/_catalog", following)
    return response


def referrers(
    store: RegistryStore, options: AppOptions, name: str, text: str, request: Request
) -> Response:
    """GET of the manifests whose subject is `text`: an index, empty when there are none.

    Never 404: that would tell clients that there is no referrers API (end-12a).
    """
    found = store.referrers(name, Digest.parse(text))
    wanted = request.parameter("artifactType")
    if wanted is not None:
        found = [d for d in found if d.artifact_type == wanted]
    last = request.parameter("last") or ""
    found = [d for d in found if str(d.digest) > last]
    page = _referrers_page(found, options.page_size)
    index = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_INDEX,
        "manifests": [descriptor.to_json() for descriptor in page],
    }
    response = json_response(index, content_type=mt.OCI_INDEX)
    if wanted is not None:
        response.headers["OCI-Filters-Applied"] = "artifactType"
    if len(page) < len(found):
        following = f"last={quote(str(page[-1].digest), safe='')}"
        if wanted is not None:
            following += f"&artifactType={quote(wanted, safe='')}"
        _link(response, f"/v2/{name}/referrers/{text}", following)
    return response


def _page(
    items: Sequence[str], options: AppOptions, request: Request
) -> tuple[Sequence[str], str | None]:
    """The part of `items` that is asked for, and the query of the next page if any."""
    last = request.parameter("last")
    start = bisect_right(items, last) if last is not None else 0
    count = _count(request.parameter("n"))
    limits = [n for n in (count, options.page_size) if n is not None]
    if not limits:
        return items[start:], None
    size = min(limits)
    page = items[start : start + size]
    if not page or start + size >= len(items):
        return page, None
    return page, f"n={count if count is not None else size}&last={quote(page[-1], safe='')}"


def _count(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise Refusal(400, "UNSUPPORTED", "the parameter n is not a number")
    return int(text)


def _referrers_page(found: Sequence[Descriptor], limit: int | None) -> Sequence[Descriptor]:
    page: list[Descriptor] = []
    total = 0
    for descriptor in found[:limit]:
        total += len(json.dumps(descriptor.to_json()))
        if page and total > _REFERRERS_LIMIT:
            break
        page.append(descriptor)
    return page


def _link(response: Response, path: str, following: str | None) -> None:
    if following is not None:
        response.headers["Link"] = f'<{path}?{following}>; rel="next"'
