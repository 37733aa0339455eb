"""The registry application as a WSGI application (PEP 3333), for any WSGI server.

The request body is read from `wsgi.input` in chunks and never past its announced length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs

from imgtools.blob.reader import Readable
from imgtools.errors import ConnectionFailed, InvalidInput
from imgtools.serve.app import RegistryApp
from imgtools.serve.message import Body, Request, error_response
from imgtools.serve.wire import body_length

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]
_QUERY_FIELDS = 1000


def make_wsgi(app: RegistryApp) -> Callable[[Environ, StartResponse], Iterable[bytes]]:
    """`app` as a WSGI callable; what it returns is a `Body`, which servers may recognise."""

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        try:
            response = app.handle(request_of(environ))
        except InvalidInput as e:
            response = error_response(400, "UNSUPPORTED", e.message)
            response.headers["Connection"] = "close"
        start_response(status_line(response.status), response.complete_headers())
        return WsgiBody(response.body) if response.body is not None else ()

    return application


def request_of(environ: Environ) -> Request:
    """The request that a WSGI environment describes; raises InvalidInput."""
    headers = {
        key[5:].replace("_", "-").lower(): str(value)
        for key, value in environ.items()
        if key.startswith("HTTP_")
    }
    for key in ("CONTENT_TYPE", "CONTENT_LENGTH"):
        if environ.get(key):
            headers[key.replace("_", "-").lower()] = str(environ[key])
    length = body_length(headers)
    stream: Readable = environ["wsgi.input"]
    return Request(
        method=str(environ["REQUEST_METHOD"]),
        path=str(environ.get("PATH_INFO", "")),
        query=parse_query(str(environ.get("QUERY_STRING", ""))),
        headers=headers,
        body=stream if length is None else _Bounded(stream, length),
        length=length,
    )


def parse_query(text: str) -> dict[str, tuple[str, ...]]:
    """The parameters of a query string; raises InvalidInput when there are too many."""
    try:
        fields = parse_qs(
            text, keep_blank_values=True, max_num_fields=_QUERY_FIELDS, errors="replace"
        )
    except ValueError as e:
        raise InvalidInput("the query has too many parameters") from e
    return {key: tuple(values) for key, values in fields.items()}


def status_line(status: int) -> str:
    """`404 Not Found`, as WSGI and HTTP write a status."""
    return f"{status} {HTTPStatus(status).phrase}"


class _Bounded:
    """Reads the announced number of bytes and treats an earlier end as a cut."""

    def __init__(self, stream: Readable, length: int) -> None:
        self._stream = stream
        self._left = length

    def read(self, size: int, /) -> bytes:
        if not self._left:
            return b""
        data = self._stream.read(min(size, self._left))
        if not data:
            raise ConnectionFailed("the request body is shorter than announced", host="client")
        self._left -= len(data)
        return data


class WsgiBody:
    """A body with the iteration that WSGI expects, reachable for servers that can sendfile."""

    def __init__(self, body: Body) -> None:
        self.body = body

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.body)

    def close(self) -> None:
        self.body.close()
