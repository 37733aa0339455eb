"""Blob bodies that survive a cut connection: what is missing is asked for with Range.

This is the carrier below a verifying reader, so nothing here checks digests; it only makes
sure that the bytes of several answers are one stream. A registry that ignores Range makes
us skip what is known; one that answers with another range is not believed.
"""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable

from imgtools.blob.reader import CHUNK
from imgtools.errors import BlobNotFound, ConnectionFailed, RegistryError
from imgtools.spec.digest import Digest
from imgtools.transport.registry.api import Repository
from imgtools.transport.registry.exchange import ExchangeFailed
from imgtools.transport.registry.failure import read_error
from imgtools.transport.registry.http import Response
from imgtools.transport.registry.retry import delay_before_retry
from imgtools.transport.registry.url import redact

log = logging.getLogger(__name__)

_CONTENT_RANGE = re.compile(r"bytes\s+(\d{1,18})-(\d{1,18})/(?:\d{1,18}|\*)", re.IGNORECASE)


class ResumingBody:
    """A blob's bytes from the start, over as many answers as it takes."""

    def __init__(self, repository: Repository, digest: Digest, size: int) -> None:
        """Sends the first request, so that a missing blob is known at once.

        A negative `size` is unknown, as in schema 1 manifests; the registry's word is taken.
        """
        self._repository = repository
        self._digest = digest
        self._position = 0
        self._fruitless = 0
        self._response = open_blob_at(repository, digest, 0)
        self._size = size if size >= 0 else self._response.content_length or 0

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, b"" at the end; raises ExchangeFailed when resuming fails,
        and what a request raises."""
        while size > 0:
            try:
                data = self._response.read(size)
            except ExchangeFailed as e:
                self._resume(e)
                continue
            if not data and self._position < self._size:
                # The server ended early without an announced length.
                self._resume(_ended_early(self._response, self._position, self._size))
                continue
            if data:
                self._position += len(data)
                self._fruitless = 0
            return data
        return b""

    def close(self) -> None:
        """Release the connection."""
        self._response.close()

    def _resume(self, failure: ExchangeFailed) -> None:
        session = self._repository.session
        while True:
            self._response.close()
            if self._position >= self._size:
                # Everything came; what was cut is only the end, and the digest decides.
                return
            self._fruitless += 1
            delay = delay_before_retry(
                session.policy, failure, tried=self._fruitless, jitter=random.random()
            )
            if delay is None:
                raise failure
            log.debug(
                "blob %s: %s after %d bytes, resuming in %.2f s",
                self._digest.short, failure.message, self._position, delay,
            )  # fmt: skip
            session.wait(delay)
            self._response = open_blob_at(self._repository, self._digest, self._position)
            try:
                self._skip()
            except ExchangeFailed as e:
                failure = e
            else:
                return

    def _skip(self) -> None:
        """Bring an answer that starts at the beginning to our position."""
        left = self._position if self._response.status == 200 else 0
        while left and (data := self._response.read(min(left, CHUNK))):
            left -= len(data)
        if left:
            raise _ended_early(self._response, self._position - left, self._size)


def open_blob_at(repository: Repository, digest: Digest, position: int) -> Response:
    """An answer whose body is the blob from `position` (206) or from its start (200).

    Raises BlobNotFound, RegistryError and what a request raises.
    """
    response = repository.get_blob(digest, position)
    if response.status == 200:
        return response
    if response.status == 206 and position:
        start = _range_start(response)
        if start == position:
            return response
        response.close()
        raise RegistryError(
            method="GET",
            url=redact(response.url),
            status=206,
            detail=f"asked for bytes from {position}, got bytes from {start}",
        )
    if response.status == 404:
        raise _missing(repository, digest, response)
    raise repository.failure(response)


def read_blob_range(
    repository: Repository, digest: Digest, offset: int, length: int
) -> bytes | None:
    """Bytes of a blob, unverified; None when the registry does not serve ranges.

    Raises BlobNotFound, RegistryError, LimitExceeded and what a request raises.
    """
    response = repository.get_blob(digest, offset, offset + length)
    with response:
        match response.status:
            case 200:
                return None
            case 206:
                if _range_start(response) != offset:
                    return None
                return response.body(length, f"range of blob {digest.short}")
            case 416:
                return b""
            case 404:
                raise _missing(repository, digest, response)
    raise repository.failure(response)


def fetch_from_urls(
    attempt: Callable[[str], Response], urls: tuple[str, ...], digest: Digest
) -> Response:
    """The first good answer for a foreign layer; raises BlobNotFound naming the last cause."""
    reason = "it has no http or https URL"
    for url in urls:
        if not url.startswith(("https://", "http://")):
            continue
        try:
            response = attempt(url)
        except (ConnectionFailed, RegistryError) as e:
            reason = e.message
            continue
        if response.status == 200:
            return response
        reason = f"{redact(url)}: {response.status}"
        response.close()
    raise BlobNotFound(f"foreign layer {digest} cannot be fetched: {reason}")


def _range_start(response: Response) -> int | None:
    match = _CONTENT_RANGE.fullmatch(response.header("Content-Range").strip())
    return int(match[1]) if match else None


def _ended_early(response: Response, position: int, size: int) -> ExchangeFailed:
    origin = response.origin
    return ExchangeFailed(
        f"no complete answer from {origin}: the body ended after {position} of {size} bytes",
        host=origin.authority,
        stage="receive",
    )


def _missing(repository: Repository, digest: Digest, response: Response) -> BlobNotFound:
    code, detail = read_error(response)
    said = " ".join(part for part in (code, detail) if part)
    name = f"{repository.session.host}/{repository.name}"
    return BlobNotFound(f"blob {digest} is not in {name}" + (f": {said}" if said else ""))
