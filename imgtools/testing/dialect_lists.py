"""Dialects of lists: how tags are written, how pages hang together, what referrers answers.

The switches are data; `ListPart` does what they say.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from imgtools.frozen import dataclass
from imgtools.serve.message import BytesBody, Request, Response, error_response
from imgtools.serve.wsgi import parse_query
from imgtools.spec import media_type as mt
from imgtools.testing.wire_request import Endpoint, Handler, Part, WireRequest, text_response

_DIGEST_TAG = "sha256:" + "5a" * 32
_EMPTY: Mapping[str, Any] = {"null": None, "empty-string": [""]}


@dataclass(frozen=True, kw_only=True)
class ListSwitches:
    """How lists deviate.

    Tags: `no_tags` says how an empty list is written, and `empty_repository` is the status
    for a repository without tags. `tags` "duplicates" names each twice, "unsorted" turns each
    page around, "digests" puts a digest among them, and [""] and such come with `no_tags`.

    Pages: `page_size` limits lists; `page_limit` refuses an `n` above it; `pages` False ignores
    n and last. `n_zero` says what n=0 gets: nothing, everything, or nothing with a Link to
    itself. `link` False leaves the Link header out; it is "absolute", "opaque" (a cursor in
    place of n and last), "query" (the query alone), "unquoted" (rel=next), after "others" (in
    one header), or in one of "several" headers, or leads to "itself" or to another "host".

    Referrers: `referrers` is what its endpoint answers where there is none ("null" and
    "not-an-index" are documents that are no index). `filters` "no" ignores artifactType,
    "silent" heeds it without OCI-Filters-Applied, "claimed" ignores it and says it did not.
    """

    no_tags: Literal["empty", "null", "missing", "empty-string"] = "empty"
    empty_repository: int = 200
    tags: Literal["yes", "duplicates", "unsorted", "digests"] = "yes"
    page_size: int | None = None
    page_limit: int | None = None
    pages: bool = True
    n_zero: Literal["empty", "all", "itself"] = "empty"
    link: (
        bool
        | Literal["absolute", "opaque", "query", "unquoted", "others", "several", "itself", "host"]
    ) = True
    referrers: Literal["yes", "404-text", "404-json", "html", "null", "not-an-index"] | int = "yes"
    filters: Literal["yes", "no", "silent", "claimed"] = "yes"


class ListPart(Part):
    """Does to lists what the switches say."""

    def __init__(
        self, switches: ListSwitches, handler: Handler, base_url: Callable[[], str]
    ) -> None:
        self._switches = switches
        self._handler = handler
        self._base_url = base_url

    def refusal(self, request: Request, asked: Endpoint) -> Response | None:
        """No referrers, and pages that are too long."""
        s = self._switches
        if asked.kind == "referrers" and s.referrers != "yes":
            return _no_referrers(s.referrers)
        if asked.kind == "tags" and s.page_limit is not None:
            count = request.parameter("n") or "0"
            if count.isdigit() and int(count) > s.page_limit:
                text = f"n must be at most {s.page_limit}"
                return error_response(400, "PAGINATION_NUMBER_INVALID", text)
        return None

    def changed_request(self, request: Request, asked: Endpoint) -> Request:
        """Cursors and parameters that the registry does not know of."""
        s = self._switches
        query = dict(request.query)
        if cursor := query.pop("cursor", None):
            query.update(parse_query(_decoded(cursor[0])))
        if not s.pages or (s.n_zero == "all" and query.get("n") == ("0",)):
            query.pop("n", None)
        if not s.pages:
            query.pop("last", None)
        if s.filters in ("no", "claimed"):
            query.pop("artifactType", None)
        return replace(request, query=query)

    def changed_response(self, request: Request, asked: Endpoint, response: Response) -> Response:
        """The list itself, then how the next page is found."""
        s = self._switches
        if response.status != 200:
            return response
        if asked.kind == "tags":
            response = self._changed_tags(request, response)
        if asked.kind == "referrers":
            self._change_filters(request, response)
        if s.n_zero == "itself" and request.parameter("n") == "0":
            response.headers["Link"] = f'<{_target(request)}>; rel="next"'
        if "Link" in response.headers and s.link is not True:
            response.headers["Link"] = self._written(response.headers["Link"], request)
        return response

    def _changed_tags(self, request: Request, response: Response) -> Response:
        s = self._switches
        value = json.loads(b"".join(response.body or ()))
        tags = value["tags"]
        if not tags and request.parameter("last") is None and request.parameter("n") != "0":
            if s.empty_repository != 200:
                return error_response(s.empty_repository, "NAME_UNKNOWN", "there are no tags")
            if s.no_tags == "missing":
                del value["tags"]
            else:
                value["tags"] = _EMPTY.get(s.no_tags, [])
        elif s.tags == "duplicates":
            value["tags"] = [tag for tag in tags for _ in range(2)]
        elif s.tags == "unsorted":
            value["tags"] = tags[::-1]
        elif s.tags == "digests":
            value["tags"] = [*tags[:1], _DIGEST_TAG, *tags[1:]]
        response.body = BytesBody(json.dumps(value).encode())
        return response

    def _change_filters(self, request: Request, response: Response) -> None:
        if self._switches.filters in ("no", "silent"):
            response.headers.pop("OCI-Filters-Applied", None)
        elif self._switches.filters == "claimed" and request.parameter("artifactType"):
            response.headers["OCI-Filters-Applied"] = "annotation"

    def _written(self, link: str, request: Request) -> str:
        """A Link in the dialect's form; "" leaves it out."""
        target = link.removeprefix("<").partition(">")[0]
        path, _, query = target.partition("?")
        forms = {
            "absolute": f'<{self._base_url()}{target}>; rel="next"',
            "opaque": f'<{path}?cursor={_encoded(query)}>; rel="next"',
            "query": f'<?{query}>; rel="next"',
            "unquoted": f"<{target}>; rel=next",
            "others": f'<{path}?page=1>; rel="first", <{target}>; title="a,b"; rel="next"',
            "several": f'<{path}?page=1>; rel="first"\n<{target}>; rel="next"',
            "itself": f'<{_target(request)}>; rel="next"',
            "host": f'<http://other.invalid{target}>; rel="next"',
        }
        return forms.get(str(self._switches.link), "")


def _target(request: Request) -> str:
    return request.target if isinstance(request, WireRequest) else request.path


def _encoded(query: str) -> str:
    return base64.urlsafe_b64encode(query.encode()).decode().rstrip("=")


def _decoded(cursor: str) -> str:
    return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()


def _no_referrers(kind: str | int) -> Response:
    if kind == "404-text":
        return text_response(404, "404 page not found\n")
    if kind == "html":
        return text_response(200, "<!DOCTYPE html><p>Hello", "text/html")
    if kind == "null":
        return text_response(200, '{"schemaVersion":2,"manifests":null}', mt.OCI_INDEX)
    if kind == "not-an-index":
        return text_response(200, '{"referrers":[]}', "application/json")
    status = kind if isinstance(kind, int) else 404
    return error_response(status, "UNSUPPORTED", "there is no referrers API")
