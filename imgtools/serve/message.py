"""Requests and responses of the registry protocol, free of any HTTP server.

The application reads a `Request` and returns a `Response`; adapters (WSGI, the test
registry) translate. A body is never in memory unless it is small: it is read and sent in
chunks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Protocol

from imgtools.blob.reader import CHUNK, Readable
from imgtools.errors import Error
from imgtools.frozen import dataclass


class Body(Protocol):
    """A response body of known length that can be iterated once and must be closed."""

    @property
    def length(self) -> int:
        """Bytes that iterating yields."""
        ...

    def narrow(self, offset: int, length: int) -> Body:
        """The same content restricted to a range; takes over the duty to close."""
        ...

    def __iter__(self) -> Iterator[bytes]: ...

    def close(self) -> None: ...


class BytesBody:
    """A body in memory."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    @property
    def length(self) -> int:
        """Bytes of the content."""
        return len(self.content)

    def narrow(self, offset: int, length: int) -> BytesBody:
        """The range as a body of its own."""
        return BytesBody(self.content[offset : offset + length])

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self.content), CHUNK):
            yield self.content[start : start + CHUNK]

    def close(self) -> None:
        """Nothing to release."""


class FileBody:
    """A range of an open file, which it owns; a server may send it with sendfile(2)."""

    def __init__(self, fd: int, offset: int, length: int) -> None:
        self.fd = fd
        self.offset = offset
        self._length = length

    @property
    def length(self) -> int:
        """Bytes of the range."""
        return self._length

    def narrow(self, offset: int, length: int) -> FileBody:
        """A part of this range; this object gives up the file."""
        fd, self.fd = self.fd, -1
        return FileBody(fd, self.offset + offset, length)

    def __iter__(self) -> Iterator[bytes]:
        position, end = self.offset, self.offset + self._length
        while position < end:
            data = os.pread(self.fd, min(CHUNK, end - position), position)
            if not data:
                # The file shrank under us: ending early is what tells the client.
                return
            yield data
            position += len(data)

    def close(self) -> None:
        """Close the file; safe to call twice."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request.

    `path` is percent-decoded; `query` keeps every value of a repeated name; header names are
    lower case. `length` is the Content-Length in bytes, None for a chunked body.
    """

    method: str
    path: str
    query: Mapping[str, tuple[str, ...]]
    headers: Mapping[str, str]
    body: Readable
    length: int | None = 0

    def parameter(self, name: str) -> str | None:
        """The first value of a query parameter, None when absent."""
        values = self.query.get(name)
        return values[0] if values else None

    def header(self, name: str) -> str:
        """A header's value, "" when absent; `name` in lower case."""
        return self.headers.get(name, "")


@dataclass(slots=True, kw_only=True)
class Response:
    """One response. Content-Length is derived from `body` unless `headers` has it (HEAD)."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: Body | None = None

    def close(self) -> None:
        """Release the body; safe to call twice."""
        if self.body is not None:
            self.body.close()

    def complete_headers(self) -> list[tuple[str, str]]:
        """All headers to send, with a Content-Length wherever HTTP allows one."""
        headers = list(self.headers.items())
        if "Content-Length" not in self.headers and self.status not in (204, 304):
            length = self.body.length if self.body is not None else 0
            headers.append(("Content-Length", str(length)))
        return headers


class Refusal(Error):
    """A request is answered with an error status.

    `code` is one of distribution-spec "Error Codes"; `headers` are added to the response.
    """

    def __init__(
        self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The error as the specification's JSON document."""
        response = error_response(self.status, self.code, self.message)
        response.headers.update(self.headers)
        return response


def error_response(status: int, code: str, message: str) -> Response:
    """An error status with the specification's JSON body."""
    return json_response({"errors": [{"code": code, "message": message}]}, status=status)


def json_response(value: object, *, status: int = 200, content_type: str = "") -> Response:
    """A JSON document as a response."""
    return Response(
        status=status,
        headers={"Content-Type": content_type or "application/json"},
        body=BytesBody(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()),
    )
