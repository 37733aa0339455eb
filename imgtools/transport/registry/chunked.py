"""Uploads a blob in chunks, for registries and proxies that limit the size of a request.

distribution-spec "Pushing a blob in chunks": PATCH with Content-Range, each answered with
the next Location, then an empty PUT. Chunks shrink when they are still too large; a chunk
is sent from the running reader, so a failure begins the blob again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator

from imgtools.spec.descriptor import Descriptor
from imgtools.transport.registry.api import Repository
from imgtools.transport.registry.exchange import Body
from imgtools.transport.registry.http import Response

log = logging.getLogger(__name__)

SMALLEST_CHUNK = 256 * 1024
BUFFERED_CHUNK = 4 * 1024 * 1024
"""Bytes held in memory per request when the blob's size is not known."""
_ACCEPTED = (202, 201, 204, 200)


def put_in_chunks(
    repository: Repository,
    descriptor: Descriptor,
    location: str,
    pieces: Callable[[], Generator[bytes, None, None]],
) -> Response:
    """The answer to the closing PUT, or to the first chunk that was not accepted.

    A blob of unknown (negative) size goes in chunks that are gathered first, because each
    needs its length. Raises what a request and reading the blob raise.
    """
    features = repository.session.features
    known = descriptor.size >= 0
    limit = features.body_limit or (descriptor.size if known else BUFFERED_CHUNK)
    stream = _Stream(pieces())
    offset = 0
    try:
        while True:
            if known:
                body = stream.part(min(limit, descriptor.size - offset))
            else:
                body = Body.of(stream.take(min(limit, BUFFERED_CHUNK)))
            if not body.length:
                break
            response = repository.patch_upload(location, offset, body)
            if response.status == 413 and body.length // 2 >= SMALLEST_CHUNK:
                # The chunk is gone from the stream: the next try begins with smaller ones.
                response.drain()
                limit = body.length // 2
                features.limit_bodies(limit)
                stream.close()
                stream, offset = _Stream(pieces()), 0
                location = _reopen(repository, location)
                continue
            if response.status not in _ACCEPTED:
                return response
            offset += body.length
            location = _next_location(repository, response, location)
            limit = max(limit, _least(response))
            response.drain()
        stream.finish()
    finally:
        stream.close()
    return repository.put_upload(location, descriptor.digest, None)


class _Stream:
    """Cuts a stream of pieces into bodies of given lengths."""

    def __init__(self, pieces: Generator[bytes, None, None]) -> None:
        self._pieces = pieces
        self._rest = b""

    def part(self, length: int) -> Body:
        """The next `length` bytes, to be sent once."""
        return Body(length, lambda: self._send(length))

    def take(self, length: int) -> bytes:
        """The next `length` bytes, fewer at the end."""
        return b"".join(self._send(length))

    def finish(self) -> None:
        """Read the end, where the digest is checked."""
        for _ in self._pieces:
            continue

    def close(self) -> None:
        """Release the blob."""
        self._pieces.close()

    def _send(self, length: int) -> Generator[bytes, None, None]:
        left = length
        while left:
            data = self._rest or next(self._pieces, b"")
            if not data:
                return
            self._rest = data[left:]
            data = data[:left] if self._rest else data
            left -= len(data)
            yield data


def _least(response: Response) -> int:
    """The smallest chunk the registry takes (OCI-Chunk-Min-Length), 0 when it does not say."""
    text = response.header("OCI-Chunk-Min-Length")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 12 else 0


def _next_location(repository: Repository, response: Response, before: str) -> str:
    location = response.header("Location")
    return repository.session.resolve(response, location) if location else before


def _reopen(repository: Repository, location: str) -> str:
    """A fresh session; the one that holds a refused chunk is given up."""
    repository.cancel_upload(location).drain()
    response = repository.start_upload()
    if response.status != 202:
        raise repository.failure(response)
    response.drain()
    return _next_location(repository, response, location)
