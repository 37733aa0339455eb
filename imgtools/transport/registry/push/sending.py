"""Sends a blob through an upload session, and goes on after interruptions.

The usual case is one PUT with the whole body. When that is cut, the session is asked what it
has, and the rest follows in chunks (distribution-spec "Pushing a blob in chunks"); a session
that is gone, or says what cannot be true, is replaced by a new one from the first byte.
"""

from __future__ import annotations

import logging
import random
from typing import TYPE_CHECKING

from imgtools.errors import Cancelled, ConnectionFailed, Denied, RegistryError, Unsupported
from imgtools.spec.descriptor import Descriptor
from imgtools.task import Task
from imgtools.transport.base import BlobOpener
from imgtools.transport.registry.api import Repository
from imgtools.transport.registry.push import upload_plan as plan
from imgtools.transport.registry.push.replay import Replay
from imgtools.transport.registry.push.upload_session import (
    ACCEPTED,
    Upload,
    ask_status,
    check_digest,
    is_stored,
    least_chunk_of,
    next_location,
    open_session,
)
from imgtools.transport.registry.wire.exchange import Body, ExchangeFailed
from imgtools.transport.registry.wire.http import Response
from imgtools.transport.registry.wire.retry import RETRIED_STATUSES, delay_before_retry
from imgtools.transport.registry.wire.url import Origin, redact

if TYPE_CHECKING:
    from imgtools.transport.registry.push.upload_journal import Entry

log = logging.getLogger(__name__)

_STORED = (201, 204, 200)
_TOO_LARGE = frozenset({411, 413})
# What an upload session that is gone looks like; a new one is worth a try.
_SESSION_LOST = frozenset({400, 404, 416})
# Somebody on the way had not the patience for a request of this size.
_TOOK_TOO_LONG = frozenset({408, 499, 502, 504, 520, 521, 522, 523, 524})
# Of a chunk, these say nothing about chunks.
_FINAL = RETRIED_STATUSES | {401, 403}
_WORTH_KEEPING = 1024 * 1024


class Sending:
    """One blob on its way into a repository."""

    def __init__(
        self,
        repository: Repository,
        descriptor: Descriptor,
        open_blob: BlobOpener,
        *,
        task: Task,
        upload: Upload,
        entry: Entry | None = None,
    ) -> None:
        """`entry` is where the session is remembered for another process."""
        self._repository = repository
        self._session = repository.session
        self._features = repository.session.features
        self._digest = descriptor.digest
        self._size = descriptor.size
        self._task = task
        self._upload: Upload | None = upload
        self._entry = entry
        self._replay = Replay(descriptor, open_blob, task)
        self._least = plan.least_chunk(self._session.host)
        self._best = 0
        self._tried = 0
        self._refused = 0
        self._body = 0
        self._closing = False
        self._alone = False

    def run(self) -> None:
        """Upload the blob; raises what reading it raises, DigestMismatch, Unsupported, Denied,
        ConnectionFailed, RegistryError, Cancelled."""
        try:
            while not self._try():
                continue
        except BaseException as e:
            self._give_up(e)
            raise
        finally:
            self._replay.close()
        if self._entry is not None:
            self._entry.remove()

    def _try(self) -> bool:
        """Whether the blob is stored now; if not, everything is ready for another try."""
        self._closing = False
        outcome: ExchangeFailed | Response
        try:
            if self._upload is None:
                self._upload = open_session(self._repository, self._task)
            response = self._send(self._upload)
        except ExchangeFailed as e:
            outcome = e
        else:
            if response is None:
                return False
            if response.status in _STORED:
                self._check_stored(response)
                return True
            outcome = response
        return self._recover(outcome)

    # Sending

    def _send(self, upload: Upload) -> Response | None:
        """The answer to the request that closes the upload, or to the one that failed; None
        when chunks turned out to get lost."""
        part = self._part()
        if part is None and upload.offset:
            self._end_session()
            return None
        self._remember()
        if part is None:
            self._body, self._closing = self._size, True
            return self._repository.put_upload(
                upload.location,
                self._digest,
                self._replay.body(0, self._size),
                alone=self._alone,
                cancel=self._task.cancel,
            )
        while (body := self._chunk(upload, part)).length:
            self._body = body.length
            response = self._repository.patch_upload(
                upload.location,
                upload.offset,
                body,
                alone=self._alone or self._features.loses_cut,
                cancel=self._task.cancel,
            )
            if response.status not in ACCEPTED:
                return response
            advanced = self._advanced(upload, body.length, response)
            if advanced is None:
                return None
            upload = self._upload = advanced
            self._remember()
        self._replay.finish()
        self._body, self._closing = 0, True
        return self._repository.put_upload(
            upload.location, self._digest, None, alone=self._alone, cancel=self._task.cancel
        )

    def _part(self) -> int | None:
        """Bytes per request, None for the whole blob in one."""
        limit = self._features.body_limit
        if self._size < 0:
            return min(limit or plan.BUFFERED_CHUNK, plan.BUFFERED_CHUNK)
        chunk = self._features.chunk
        if chunk is None and self._upload and self._upload.offset and self._features.chunks:
            chunk = plan.USUAL_CHUNK
        most = min(size for size in (limit, chunk, self._size) if size is not None)
        going_on = self._upload is not None and self._upload.offset > 0
        if most >= self._size and not (going_on and self._features.chunks):
            return None
        return max(1, most)

    def _chunk(self, upload: Upload, part: int) -> Body:
        """The next chunk; empty at the end."""
        length = max(part, upload.least)
        if self._size >= 0:
            return self._replay.body(upload.offset, min(length, self._size - upload.offset))
        # Each request needs its length, so chunks of what may end anywhere are gathered first.
        length = min(length, plan.MOST_BUFFERED)
        return Body.of(b"".join(self._replay.pieces(upload.offset, length)))

    def _advanced(self, upload: Upload, length: int, response: Response) -> Upload | None:
        """The session after a chunk was accepted; None when it was not kept.

        Raises RegistryError when that happens where nothing else is left to try.
        """
        end = upload.offset + length
        said = plan.acknowledged(response.header("Range"), end)
        response.drain()
        if said is not None and said <= upload.offset:
            log.debug("%s: a chunk was accepted and not kept", self._digest.short)
            if not self._features.chunks or self._size < 0:
                raise _not_kept(response)
            self._features.no_chunks()
            self._end_session()
            return None
        offset = end if said is None else said
        self._moved_on(offset)
        if offset < end:
            # To keep a part is allowed, but a byte of each chunk would take for ever.
            self._tried += 1
            if self._tried >= self._session.policy.attempts:
                raise _not_kept(response)
        return Upload(
            next_location(self._repository, response, upload.location),
            offset,
            max(upload.least, least_chunk_of(response)),
        )

    def _moved_on(self, offset: int) -> None:
        """Failures count from the last time that we came further than ever before."""
        if offset - self._best >= plan.enough_gain(self._size):
            self._best, self._tried, self._refused = offset, 0, 0

    # What to do after a failure

    def _recover(self, outcome: ExchangeFailed | Response) -> bool:
        """Wait, and find out where to go on; True when the blob is stored after all. Raises
        the failure when nothing more is to be tried."""
        delay = self._delay(outcome)
        if delay is None:
            if isinstance(outcome, ExchangeFailed):
                raise outcome
            raise self._repository.failure(outcome)
        status = 0
        if not isinstance(outcome, ExchangeFailed):
            status = outcome.status
            outcome.drain()
        log.debug("upload of %s goes on in %.2f s", self._digest.short, delay)
        self._session.wait(delay, self._task.cancel)
        # The answer may have been lost after the blob was stored.
        whole = self._closing and (not self._body or self._replay.position == self._size)
        unsure = whole and (not status or status == 404 or status >= 500)
        if unsure and self._turns_out_stored():
            self._replay.report(self._size)
            return True
        self._ask(outcome)
        return False

    def _turns_out_stored(self) -> bool:
        """Whether HEAD says that the blob is there; what it is refused for counts for nothing."""
        try:
            return is_stored(self._repository, self._digest)
        except (Denied, RegistryError) as e:
            log.debug("%s: %s", self._digest.short, e.message)
            return False

    def _delay(self, outcome: ExchangeFailed | Response) -> float | None:
        """Seconds until another try, None when the failure is final."""
        policy = self._session.policy
        stale = isinstance(outcome, ExchangeFailed) and outcome.stale
        if stale and not self._alone and self._sent() < _WORTH_KEEPING:
            # Perhaps the server had closed a connection that we took for a good one. That
            # is no try, and cannot happen again on connections that nobody has used.
            self._alone = True
            return 0.0
        if not isinstance(outcome, ExchangeFailed) and outcome.status in _TOO_LARGE:
            return self._shrink(outcome.method == "PATCH")
        self._tried += 1
        if isinstance(outcome, ExchangeFailed):
            return delay_before_retry(policy, outcome, tried=self._tried, jitter=random.random())
        status, chunk = outcome.status, outcome.method == "PATCH"
        if status == 409:
            # The server still works on the request that was cut.
            return delay_before_retry(policy, 503, tried=self._tried, jitter=random.random())
        if status in _SESSION_LOST:
            # Wrong bytes are refused with 400 as well, and do not become right by repetition.
            self._refused += 1
            if self._refused == 1:
                return policy.first
        if chunk and status not in _FINAL and self._unchunk():
            return policy.first
        return self._session.delay_after(outcome, self._tried)

    def _shrink(self, chunk: bool) -> float | None:
        """Send less per request from now on, unless that is little already."""
        if self._body <= plan.SMALLEST_CHUNK or (chunk and self._body < 2 * plan.SMALLEST_CHUNK):
            return None
        if chunk and self._upload is not None and self._body <= self._upload.least:
            # What stands in front of the registry refuses what the registry asks for.
            return None
        log.debug("a body of %d bytes is too large", self._body)
        self._features.limit_bodies(self._body // 2 if chunk else plan.next_limit(self._body))
        return 0.0

    def _unchunk(self) -> bool:
        """Whether chunks, which this registry refuses, can be done without."""
        optional = self._size >= 0 and self._features.chunks
        limit = self._features.body_limit
        if not optional or (limit is not None and limit < self._size):
            return False
        self._features.no_chunks()
        return True

    def _sent(self) -> int:
        """Bytes of the last request's body that went out."""
        if self._upload is None or not self._body:
            return 0
        return max(0, self._replay.position - self._upload.offset)

    def _ask(self, failure: ExchangeFailed | Response) -> None:
        """Find out from the session where to go on, and end it when it does not tell."""
        upload = self._upload
        if upload is None:
            return
        sent = self._sent()
        if isinstance(failure, ExchangeFailed):
            status, cut = 0, failure.stage in ("send", "receive")
        else:
            status, cut = failure.status, failure.status in _TOOK_TOO_LONG
        found = None
        if status not in (400, 404):
            found = ask_status(self._repository, upload.location, upload.offset + sent, self._task)
        if cut and sent >= _WORTH_KEEPING:
            kept = found is not None and found.offset > upload.offset
            self._features.cut(sent, kept=kept, lost=found is None, least=self._least)
        if found is None:
            if status == 404:
                self._upload = None
            self._end_session()
            self._replay.report(0)
            return
        log.debug("%s: the session has %d bytes", self._digest.short, found.offset)
        self._upload = Upload(found.location, found.offset, max(upload.least, found.least))
        self._replay.report(found.offset)
        self._moved_on(found.offset)

    # The end of a session

    def _remember(self) -> None:
        upload, entry = self._upload, self._entry
        if entry is None or upload is None:
            return
        if Origin.of(upload.location) == Origin.of(self._session.base):
            entry.record(upload.location, upload.offset)

    def _give_up(self, error: BaseException) -> None:
        """Leave the session to the next run if that can go on with it, else end it."""
        upload = self._upload
        later = isinstance(error, ConnectionFailed | Cancelled | KeyboardInterrupt) or (
            isinstance(error, RegistryError) and error.status in RETRIED_STATUSES
        )
        if self._entry is not None and upload is not None and later:
            later = max(upload.offset, self._replay.position) >= _WORTH_KEEPING
            if later:
                return
        if self._entry is not None:
            self._entry.remove()
        if upload is not None and _unreachable(error, upload.location):
            return
        self._end_session()

    def _end_session(self) -> None:
        upload, self._upload = self._upload, None
        if upload is not None:
            self._repository.cancel_upload(upload.location)

    def _check_stored(self, response: Response) -> None:
        said = check_digest(response, self._digest)
        response.drain()
        if said is not None and said.algorithm != self._digest.algorithm:
            # Some registries keep every blob under sha256 whatever they were told, and say
            # that they have it under the other name until they forget.
            if is_stored(self._repository, self._digest, certainly=True):
                return
            raise Unsupported(
                f"{self._session.host} does not keep {self._digest.algorithm} digests: "
                f"it stored {self._digest} as {said}"
            )


def _not_kept(response: Response) -> RegistryError:
    return RegistryError(
        method=response.method,
        url=redact(response.url),
        status=response.status,
        detail="chunks are accepted and not kept",
    )


def _unreachable(error: BaseException, location: str) -> bool:
    """Whether `error` says that nobody is where the session is."""
    if not isinstance(error, ExchangeFailed) or error.stage not in ("connect", "tls"):
        return False
    return error.host == Origin.of(location).authority
