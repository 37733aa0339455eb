"""HTTP/1.1 messages as the proxy sees them: heads it can rewrite, bodies it only measures.

A body's bytes are passed on with their framing, whatever that is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

CHUNK = 256 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The head of a request or a response: its first line, and the headers in their order."""

    line: str
    headers: tuple[tuple[str, str], ...]

    @classmethod
    def parse(cls, data: bytes) -> Head:
        """Take a head apart, the empty line at its end included."""
        line, *rest = data.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        pairs = (text.partition(":") for text in rest)
        return cls(line=line, headers=tuple((name, value.strip()) for name, _, value in pairs))

    def encode(self) -> bytes:
        """As it goes over the wire."""
        lines = [self.line, *(f"{name}: {value}" for name, value in self.headers)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def get(self, name: str) -> str:
        """The first value of a header, empty if there is none."""
        return next((v for n, v in self.headers if n.lower() == name.lower()), "")

    def without(self, name: str) -> Head:
        """A copy less every header of that name."""
        kept = tuple(pair for pair in self.headers if pair[0].lower() != name.lower())
        return replace(self, headers=kept)

    def with_header(self, name: str, value: str) -> Head:
        """A copy with that header, and no other of its name."""
        return replace(self, headers=(*self.without(name).headers, (name, value)))

    @property
    def method(self) -> str:
        """Of a request."""
        return self.line.split(" ")[0]

    @property
    def target(self) -> str:
        """Of a request."""
        return self.line.split(" ")[1]

    @property
    def status(self) -> int:
        """Of a response."""
        return int(self.line.split(" ")[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """An answer that the proxy gives itself; Content-Length is added."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def head(self) -> Head:
        """Its head."""
        length = ("Content-Length", str(len(self.body)))
        return Head(line=f"HTTP/1.1 {self.status} Proxy", headers=(*self.headers, length))


async def read_head(reader: asyncio.StreamReader) -> bytes:
    """A head with its empty line; nothing if the stream ends before one begins.

    Something that does not begin like HTTP is returned as soon as it is there.
    """
    first = await reader.read(1)
    if not first.isalpha():
        return first
    try:
        return first + await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as e:
        raise asyncio.IncompleteReadError(first, None) from e


async def body_of(
    reader: asyncio.StreamReader, head: Head, *, at_eof: bool
) -> AsyncIterator[bytes]:
    """The body that follows a head, in pieces as they come, framing included.

    Without length or chunks there is none, or with `at_eof` it lasts to the end of the stream.
    """
    if "chunked" in head.get("Transfer-Encoding").lower():
        size = 1
        while size:
            line = await reader.readuntil(b"\r\n")
            yield line
            size = int(line.split(b";")[0], 16)
            async for piece in exactly(reader, size):
                yield piece
            if size:
                yield await reader.readexactly(2)
        # Trailers, then an empty line.
        while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
            yield line
        yield line
    elif length := head.get("Content-Length"):
        async for piece in exactly(reader, int(length)):
            yield piece
    elif at_eof:
        while piece := await reader.read(CHUNK):
            yield piece


async def exactly(reader: asyncio.StreamReader, size: int) -> AsyncIterator[bytes]:
    """`size` bytes in pieces."""
    while size:
        piece = await reader.read(min(size, CHUNK))
        if not piece:
            raise asyncio.IncompleteReadError(b"", size)
        size -= len(piece)
        yield piece
