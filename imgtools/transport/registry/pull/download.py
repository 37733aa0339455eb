"""Blob bodies that survive a cut connection: what is missing is asked for with Range.

This is the carrier below a verifying reader, so nothing here checks digests; it only makes
sure that the bytes of several answers are one stream. A registry that ignores Range makes
us skip what is known; one that answers with another range is not believed.
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from imgtools.blob.reader import CHUNK
from imgtools.errors import BlobNotFound, ConnectionFailed, RegistryError
from imgtools.spec.digest import Digest
from imgtools.task import CancelToken
from imgtools.transport.registry.api import Repository
from imgtools.transport.registry.failure import coding_hint, read_error
from imgtools.transport.registry.pull.tries import Pace, Tries
from imgtools.transport.registry.wire.exchange import ExchangeFailed
from imgtools.transport.registry.wire.http import Response
from imgtools.transport.registry.wire.url import Origin, redact

if TYPE_CHECKING:
    from imgtools.blob.spool import Spool
    from imgtools.spec.descriptor import Descriptor

log = logging.getLogger(__name__)

_SPOOLED = 4 * 1024 * 1024
"""Bytes from which on a body is read ahead of a slow reader; less fits into the buffers of
the two systems anyhow."""
_ENOUGH = 128 * 1024
_EXPIRED = frozenset({400, 401, 403})
"""What object stores say of a signature that has expired."""
_CONTENT_RANGE = re.compile(r"bytes\s+(\d{1,18})-(\d{1,18})/(?:(\d{1,18})|\*)", re.IGNORECASE)


class ResumingBody:
    """A blob's bytes from byte `start` on, over as many answers as it takes.

    A large one is read ahead of a slow reader, so that the registry does not hang up.
    """

    def __init__(
        self,
        repository: Repository,
        digest: Digest,
        size: int,
        start: int = 0,
        *,
        deferred: bool = False,
    ) -> None:
        """Sends the first request, so that a missing blob is known at once.

        `deferred` leaves that to `begin` or the first read, for a reader that may be moved
        before it is read. A negative `size` is unknown, as in
        schema 1 manifests; the registry's word is taken.
        """
        self._answers = _Answers(repository, digest, size, start, deferred=deferred)
        self._tmpdir = repository.session.options.tmpdir
        self._large = size - start >= _SPOOLED
        self._spool: Spool | None = None

    @property
    def pieced(self) -> bool:
        """Whether the bytes are of more than one answer, which may not belong together."""
        return self._answers.count > 1

    @property
    def doubt(self) -> str | None:
        """What to say should the bytes be wrong, None for nothing."""
        return self._answers.doubt

    @property
    def begun(self) -> bool:
        """Whether there was an answer."""
        return self._answers.count > 0

    def begin(self) -> None:
        """Send the first request now if that was deferred; raises as the first read does."""
        self._answers.begin()

    def skip(self, count: int, /) -> None:
        """Leave out the next `count` bytes: the next read asks for what is after them."""
        if self._spool is not None:
            self._spool.skip(count)
        else:
            self._answers.skip(count)

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes, b"" at the end; raises ExchangeFailed when resuming fails,
        BlobNotFound and what a request raises."""
        if self._spool is not None:
            return self._spool.read(size)
        data = self._answers.read(size)
        if self._large and data:
            from imgtools.blob import spool

            # Not before the first bytes are here: a request that takes its time is no sign of
            # a slow reader, and two threads must not send it.
            self._spool = spool.Spool(
                self._answers,
                abort=self._answers.abort,
                tmpdir=self._tmpdir,
                patience=spool.PATIENCE,
            )
        return data

    def close(self) -> None:
        """Release the connection; safe to call twice."""
        if self._spool is not None:
            self._spool.close()
        self._answers.close()


class _Answers:
    """The bytes of a blob, one answer after the other."""

    def __init__(
        self, repository: Repository, digest: Digest, size: int, start: int, *, deferred: bool
    ) -> None:
        self._repository = repository
        self._digest = digest
        self._size = size
        self._position = start
        self._ranges = True
        self._tries = Tries(repository.session.policy, size)
        options = repository.session.options
        # Under a limit of bandwidth it may be us who are slow.
        self._crawl = math.inf if options.limits.bandwidth else options.timeouts.crawl
        self._pace = Pace(self._crawl)
        self._response: Response | None = None
        self._failure: ExchangeFailed | None = None
        self._ended = CancelToken()
        self.count = 0
        self.doubt: str | None = None
        if not deferred:
            self._response = self._request()

    def begin(self) -> None:
        if not self.count:
            self._response = self._request()

    def skip(self, count: int, /) -> None:
        if count > 0:
            self.close()
            self._failure = None
            self._position += count

    def read(self, size: int, /) -> bytes:
        while size > 0:
            response = self._response
            if response is None:
                if 0 <= self._size <= self._position:
                    # Everything came, or was skipped; the digest decides.
                    return b""
                response = self._response = self._request()
                # Whoever aborted meanwhile had no answer to end.
                self._ended.check()
            try:
                data = self._gather(response, size)
                if not data and self._position < self._size:
                    # The server ended early without an announced length.
                    raise _ended_early(response, self._position, self._size)
            except ExchangeFailed as e:
                self._interrupted(e)
                continue
            self._position += len(data)
            self._tries.gained(len(data))
            return data
        return b""

    def abort(self) -> None:
        """End a read that another thread is in, and every later one."""
        self._ended.cancel()
        response = self._response
        if response is not None:
            response.abort()

    def close(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            response.close()

    def _gather(self, response: Response, size: int) -> bytes:
        """At most `size` bytes, none of which are lost when the connection is cut; TLS gives
        16 KiB at a time, too few for what is done for each piece."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        data = self._piece(response, size)
        enough = min(size, _ENOUGH)
        if not data or len(data) >= enough:
            return data
        parts, count = [data], len(data)
        try:
            while self._failure is None and count < enough:
                data = self._piece(response, size - count)
                if not data:
                    break
                parts.append(data)
                count += len(data)
        except ExchangeFailed as e:
            self._failure = e
        return b"".join(parts)

    def _piece(self, response: Response, size: int) -> bytes:
        """What comes next, b"" at the end; too slow an answer fails after these bytes."""
        begun = time.monotonic()
        data = response.read1(size)
        if data and self._pace.crawls(len(data), time.monotonic() - begun):
            origin = response.origin
            self._failure = ExchangeFailed(
                f"no complete answer from {origin}: less than 1 KiB a second came for"
                f" {self._crawl:g} s",
                host=origin.authority,
                stage="receive",
            )
        return data

    def _interrupted(self, failure: ExchangeFailed) -> None:
        """Wait until going on is worth a try; raises `failure` when it is not."""
        self.close()
        if 0 <= self._size <= self._position:
            return
        delay = self._tries.delay_after(failure)
        if delay is None or self._ended.cancelled:
            raise failure
        log.debug(
            "blob %s: %s after %d bytes, resuming in %.2f s",
            self._digest.short, failure.message, self._position, delay,
        )  # fmt: skip
        self._repository.session.wait(delay, self._ended)

    def _request(self) -> Response:
        """An answer whose body is at our position."""
        while True:
            asked = self._position if self._ranges else 0
            response = open_blob_at(self._repository, self._digest, asked, self._ended)
            start = _start(response, self._size)
            if start is None or start > self._position:
                # Without a range it is the registry's plain duty to send everything.
                log.debug("blob %s: no use of a range: %d", self._digest.short, response.status)
                response.close()
                self._ranges = False
                continue
            if self._size < 0:
                self._size = _announced(response, start)
            try:
                self._pace = Pace(self._crawl)
                self._pass_over(response, self._position - start)
            except ExchangeFailed as e:
                self._interrupted(e)
                continue
            self.count += 1
            self.doubt = self.doubt or coding_hint(response)
            return response

    def _pass_over(self, response: Response, count: int) -> None:
        """Read `count` bytes that are known; raises ExchangeFailed, the response closed."""
        left = count
        try:
            while left and (data := self._piece(response, min(left, CHUNK))):
                left -= len(data)
                failure, self._failure = self._failure, None
                if failure is not None:
                    raise failure
            if left:
                raise _ended_early(response, count - left, self._size)
        except BaseException:
            response.close()
            raise


def open_blob_at(
    repository: Repository, digest: Digest, position: int, cancel: CancelToken | None = None
) -> Response:
    """An answer to a request for the blob from `position`: 200, or with a position 206 or 416.

    A storage that the registry redirects to may refuse what the registry signed when that
    has expired; the registry is asked for a new redirect once. Raises BlobNotFound, Denied,
    RegistryError and what a request raises.
    """
    good = (200, 206, 416) if position else (200,)
    for again in (True, False):
        response = repository.get_blob(digest, position, cancel=cancel)
        if response.status in good:
            return response
        elsewhere = response.origin != Origin.of(repository.session.base)
        if not (again and elsewhere and response.status in _EXPIRED):
            break
        log.debug("blob %s: %d by %s", digest.short, response.status, response.origin)
        response.drain()
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
    attempt: Callable[[str], Response], descriptor: Descriptor, wrong: Collection[str]
) -> tuple[str, Response]:
    """The first URL of a foreign layer with a good answer, and that; none of those in `wrong`.

    Raises BlobNotFound naming the last cause.
    """
    reason = "it has no http or https URL"
    for url in descriptor.urls:
        if url in wrong:
            reason = f"{redact(url)}: the digest was wrong"
            continue
        if not url.startswith(("https://", "http://")):
            continue
        try:
            response = attempt(url)
        except (ConnectionFailed, RegistryError) as e:
            reason = e.message
            continue
        length = response.content_length
        if response.status != 200:
            reason = f"{redact(url)}: {response.status}"
        elif length is not None and length != descriptor.size >= 0:
            # Such as a page that says, with success, that there is nothing.
            reason = f"{redact(url)}: the size is {length} bytes, not {descriptor.size}"
        else:
            return url, response
        response.close()
    raise BlobNotFound(f"foreign layer {descriptor.digest} cannot be fetched: {reason}")


def _range_start(response: Response) -> int | None:
    match = _CONTENT_RANGE.fullmatch(response.header("Content-Range").strip())
    return int(match[1]) if match else None


def _start(response: Response, size: int) -> int | None:
    """The byte of the blob at which the answer begins; None when it cannot be used: 416,
    several ranges in one body, or a range of something that is not `size` bytes long."""
    if response.status == 200:
        return 0
    match = _CONTENT_RANGE.fullmatch(response.header("Content-Range").strip())
    if response.status != 206 or match is None:
        return None
    total = match[3]
    return int(match[1]) if total is None or size < 0 or int(total) == size else None


def _announced(response: Response, start: int) -> int:
    """Bytes of the whole blob by the word of an answer that begins at `start`, 0 if unknown."""
    length = response.content_length
    return 0 if length is None else start + length


def _ended_early(response: Response, position: int, size: int) -> ExchangeFailed:
    origin = response.origin
    return ExchangeFailed(
        f"no complete answer from {origin}: the body ended after {position} of {size} bytes",
        host=origin.authority,
        stage="receive",
        hint=coding_hint(response),
    )


def _missing(repository: Repository, digest: Digest, response: Response) -> BlobNotFound:
    code, detail = read_error(response)
    said = " ".join(part for part in (code, detail) if part)
    name = f"{repository.session.host}/{repository.name}"
    return BlobNotFound(f"blob {digest} is not in {name}" + (f": {said}" if said else ""))
