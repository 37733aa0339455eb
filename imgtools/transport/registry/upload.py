"""Puts one blob into a repository: mounted where that is possible, else in two requests.

POST asks for the mount and opens the session that the PUT of the whole body then uses. A
transfer that fails is begun again in a new session from the start of the blob; a body that
is too large for the registry, or for a proxy before it, goes in chunks.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal

from imgtools.blob.pump import chunks
from imgtools.errors import (
    Denied,
    DigestMismatch,
    RegistryError,
    SizeMismatch,
    Unsupported,
)
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.task import Advanced, Task
from imgtools.transport.base import BlobOpener
from imgtools.transport.registry.api import Repository, content_digest
from imgtools.transport.registry.exchange import Body, ExchangeFailed
from imgtools.transport.registry.http import Response
from imgtools.transport.registry.retry import delay_before_retry
from imgtools.transport.registry.url import redact

log = logging.getLogger(__name__)

_MOST_MOUNTS = 3
_STORED = (201, 204, 200)
_TOO_LARGE = frozenset({411, 413})
# What an upload session that is gone looks like; a new one is worth a try.
_SESSION_LOST = frozenset({400, 404, 416})


@dataclass(frozen=True, slots=True)
class Upload:
    """An open upload session: where its bytes go."""

    location: str


def start(
    repository: Repository, digest: Digest, sources: Sequence[str], *, task: Task
) -> Upload | Literal["mounted"]:
    """Mount the blob from one of the repositories `sources`, or open a session.

    Raises Denied, ConnectionFailed, RegistryError.
    """
    session: Upload | None = None
    for source in sources[:_MOST_MOUNTS]:
        try:
            response = repository.start_upload(mount=digest, source=source, cancel=task.cancel)
        except Denied as e:
            # The token server may refuse the second scope; without it we may still push.
            log.debug("mount of %s from %s: %s", digest.short, source, e.message)
            continue
        if response.status == 201:
            _check_digest(response, digest)
            response.drain()
            return "mounted"
        if response.status == 202:
            session = _session(repository, response)
        else:
            log.debug("mount of %s from %s: %d", digest.short, source, response.status)
            response.drain()
    return session or _open(repository, task)


def put(
    repository: Repository, descriptor: Descriptor, open_blob: BlobOpener, *, task: Task,
    session: Upload,
) -> None:  # fmt: skip
    """Upload the blob, with new sessions after failures.

    Reports Advanced events under the digest, negative ones for what has to be sent again.
    Raises what reading the blob raises, Denied, ConnectionFailed, RegistryError, Cancelled.
    """
    current: Upload | None = session
    tried = 0
    while True:
        tried += 1
        sent = _Sent(descriptor, open_blob, task)
        failure: ExchangeFailed | Response
        try:
            if current is None:
                current = _open(repository, task)
            response = _transfer(repository, descriptor, current.location, sent)
        except ExchangeFailed as e:
            failure = e
            delay = delay_before_retry(
                repository.session.policy, e, tried=tried, jitter=random.random()
            )
        else:
            if response.status in _STORED:
                _check_stored(repository, response, descriptor.digest)
                return
            failure = response
            delay = _delay_after(repository, response, tried)
        if delay is None:
            raise failure if isinstance(failure, ExchangeFailed) else repository.failure(failure)
        log.debug("upload of %s begins again in %.2f s", descriptor.digest.short, delay)
        if isinstance(failure, ExchangeFailed):
            # The answer may have been lost after the blob was stored.
            if sent.complete and is_stored(repository, descriptor.digest):
                return
        else:
            failure.drain()
        sent.take_back()
        current = None
        repository.session.wait(delay, task.cancel)


def is_stored(repository: Repository, digest: Digest) -> bool:
    """Whether the repository has the blob, by HEAD; raises what a request raises."""
    response = repository.head_blob(digest)
    with response:
        if response.status == 200:
            return True
        if response.status == 404:
            return False
    raise repository.failure(response)


class _Sent:
    """The blob as a request body, and how much of it went out."""

    def __init__(self, descriptor: Descriptor, open_blob: BlobOpener, task: Task) -> None:
        self._descriptor = descriptor
        self._open_blob = open_blob
        self.task = task
        self._item = str(descriptor.digest)
        self._reported = 0
        self.complete = False

    def body(self) -> Body:
        """The whole blob; each opening reads it anew."""
        return Body(self._descriptor.size, self.pieces)

    def pieces(self) -> Generator[bytes, None, None]:
        """The blob's bytes from its start, verified at the end."""
        self.take_back()
        self.complete = False
        expected = self._descriptor.size
        try:
            with self._open_blob() as reader:
                if reader.size is not None and reader.size != expected >= 0:
                    reader.abandon()
                    raise SizeMismatch(f"blob {self._item}", expected=expected, actual=reader.size)
                for data in chunks(reader, task=self.task):
                    yield data
                    self._reported += len(data)
                    self.task.progress(Advanced(self._item, len(data)))
        except ExchangeFailed as e:
            # The source has had its own retries; ours are for the destination.
            e.final = True
            raise
        self.complete = True

    def take_back(self) -> None:
        """Report that what went out does not count."""
        reported, self._reported = self._reported, 0
        if reported:
            self.task.progress(Advanced(self._item, -reported))


def _transfer(
    repository: Repository, descriptor: Descriptor, location: str, sent: _Sent
) -> Response:
    """The answer that ends one try: to a PUT with the body, or to chunks and a PUT."""
    limit = repository.session.features.body_limit
    if descriptor.size >= 0 and (limit is None or descriptor.size <= limit):
        response = repository.put_upload(
            location, descriptor.digest, sent.body(), cancel=sent.task.cancel
        )
        if response.status not in _TOO_LARGE:
            return response
        log.debug("a body of %d bytes is too large: %d", descriptor.size, response.status)
        response.drain()
        repository.session.features.limit_bodies(next_limit(descriptor.size))
        location = _open(repository, None).location
    from imgtools.transport.registry.chunked import put_in_chunks

    return put_in_chunks(repository, descriptor, location, sent.pieces)


def next_limit(refused: int) -> int:
    """Bytes per request after a body of `refused` bytes was too large."""
    for size in (64 << 20, 16 << 20, 4 << 20, 1 << 20, 512 << 10):
        if size < refused:
            return size
    return max(1, refused // 2)


def _open(repository: Repository, task: Task | None) -> Upload:
    response = repository.start_upload(cancel=task.cancel if task is not None else None)
    if response.status != 202:
        raise repository.failure(response)
    return _session(repository, response)


def _session(repository: Repository, response: Response) -> Upload:
    location = response.header("Location")
    response.drain()
    if not location:
        raise RegistryError(
            method=response.method,
            url=redact(response.url),
            status=response.status,
            detail="the answer has no Location",
        )
    return Upload(repository.session.resolve(response, location))


def _delay_after(repository: Repository, response: Response, tried: int) -> float | None:
    """Seconds until a new session is worth a try, None when the answer is final."""
    policy = repository.session.policy
    if response.status in _SESSION_LOST:
        # Wrong bytes are refused with 400 as well, and do not become right by repetition.
        return policy.first if tried == 1 else None
    return repository.session.delay_after(response, tried)


def _check_stored(repository: Repository, response: Response, digest: Digest) -> None:
    said = _check_digest(response, digest)
    response.drain()
    if said is not None and said.algorithm != digest.algorithm:
        # Some registries keep every blob under sha256 whatever they were told.
        if is_stored(repository, digest):
            return
        raise Unsupported(
            f"{repository.session.host} does not keep {digest.algorithm} digests: "
            f"it stored {digest} as {said}"
        )


def _check_digest(response: Response, digest: Digest) -> Digest | None:
    said = content_digest(response)
    if said is not None and said.algorithm == digest.algorithm and said != digest:
        response.close()
        raise DigestMismatch(
            f"blob stored by {response.origin.authority}", expected=str(digest), actual=str(said)
        )
    return said
