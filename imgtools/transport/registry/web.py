"""Files at URLs that belong to no registry: one GET, whole or taken up where it was cut.

TLS, proxies, time-outs, redirects and retries are those of registries. Credentials go to the
origin of the URL only, and nothing is decoded: a file is the bytes that were sent.
"""

from __future__ import annotations

import logging
import os
import random
from collections.abc import Mapping
from typing import BinaryIO

from imgtools.blob.files import storage_errors, write_all
from imgtools.blob.reader import CHUNK
from imgtools.errors import ConnectionFailed, Denied, LimitExceeded, NotFound, RegistryError
from imgtools.frozen import dataclass
from imgtools.task import CancelToken, Task
from imgtools.task.events import Advanced, Finished, Started
from imgtools.transport.options import RegistryOptions
from imgtools.transport.registry.failure import read_error
from imgtools.transport.registry.repeating import repeat
from imgtools.transport.registry.wire.exchange import Body, ExchangeFailed
from imgtools.transport.registry.wire.http import HttpClient, Response
from imgtools.transport.registry.wire.redirect import follow
from imgtools.transport.registry.wire.retry import RetryPolicy, delay_before_retry
from imgtools.transport.registry.wire.traffic import Traffic
from imgtools.transport.registry.wire.url import Origin, redact

log = logging.getLogger(__name__)

_NOT_MODIFIED = 304


@dataclass(frozen=True, slots=True, kw_only=True)
class WebAnswer:
    """What a server said of a file: `modified` false means that what is remembered of it still
    holds, and nothing was written. Headers are "" where the server sent none."""

    modified: bool
    etag: str = ""
    last_modified: str = ""


def download(
    url: str,
    target: BinaryIO,
    options: RegistryOptions,
    *,
    task: Task,
    headers: Mapping[str, str] | None = None,
    authorization: str | None = None,
    limit: int,
    policy: RetryPolicy | None = None,
) -> WebAnswer:
    """Write what is at `url` (absolute, http or https, without user information) to the
    unbuffered, seekable file `target`; at most `limit` bytes.

    `authorization` is the value of that header. Raises NotFound, Denied, RegistryError (any
    other status), ConnectionFailed, LimitExceeded, StorageError, Cancelled.
    """
    name = redact(url)
    with _Download(url, target, options, headers or {}, authorization, policy) as work:
        task.progress(Started(name, "file", None))
        answer = work.run(limit, task)
        task.progress(Finished(name, "fetched" if answer.modified else "present"))
        return answer


class _Download:
    """One file, over as many connections as it takes."""

    def __init__(
        self,
        url: str,
        target: BinaryIO,
        options: RegistryOptions,
        headers: Mapping[str, str],
        authorization: str | None,
        policy: RetryPolicy | None,
    ) -> None:
        self._url = url
        self._name = redact(url)
        self._target = target
        self._headers = headers
        self._authorization = authorization
        self._policy = policy or RetryPolicy()
        self._downgrade = not options.tls_verify
        origin = Origin.of(url)
        self._traffic = Traffic()
        self._client = HttpClient(
            options, registry=origin.authority, home=origin, traffic=self._traffic
        )
        self._written = 0
        self._validator = ""

    def __enter__(self) -> _Download:
        return self

    def __exit__(self, *exc: object) -> None:
        self._client.close()

    def run(self, limit: int, task: Task) -> WebAnswer:
        tried = 0
        while True:
            tried += 1
            response = self._get(task.cancel)
            try:
                with response:
                    return self._receive(response, limit, task)
            except ExchangeFailed as e:
                delay = delay_before_retry(self._policy, e, tried=tried, jitter=random.random())
                if delay is None:
                    raise
                log.debug("%s: again in %.2f s", e.message, delay)
                task.cancel.wait(delay)

    def _get(self, cancel: CancelToken) -> Response:
        """The answer to one request for what is still missing, redirects and retries behind."""
        headers = dict(self._headers)
        if self._written and self._validator:
            # RFC 9110 section 13.1.5: the rest, or all of it if it is another file by now.
            headers = {"Range": f"bytes={self._written}-", "If-Range": self._validator}

        def exchange(method: str, url: str, sent: Mapping[str, str], body: Body | None) -> Response:
            return self._client.exchange(method, url, sent, body, cancel=cancel)

        def once() -> Response:
            return follow(
                exchange,
                "GET",
                self._url,
                headers,
                authorization=self._authorization,
                allow_downgrade=self._downgrade,
            )

        return repeat(once, self._policy, self._traffic, self._client.pause, cancel)

    def _receive(self, response: Response, limit: int, task: Task) -> WebAnswer:
        status = response.status
        etag, changed = response.header("ETag"), response.header("Last-Modified")
        if status == _NOT_MODIFIED:
            if not any(name.lower().startswith("if-") for name in self._headers):
                raise _refused(response, self._name)
            return WebAnswer(modified=False, etag=etag, last_modified=changed)
        if status == 206 and self._written:
            announced = response.header("Content-Range")
            if not announced.startswith(f"bytes {self._written}-"):
                raise ConnectionFailed(
                    f"GET {self._name}: asked for bytes from {self._written} on, got"
                    f" {announced[:60]!r}",
                    host=response.origin.authority,
                )
        elif status == 200:
            self._begin(task)
            self._validator = changed if etag.startswith("W/") or not etag else etag
        else:
            raise _refused(response, self._name)
        length = response.content_length
        if length is not None and self._written + length > limit:
            raise LimitExceeded(self._name, limit)
        with storage_errors("the directory of fetched files"):
            while data := response.read1(CHUNK):
                task.cancel.check()
                self._written += len(data)
                if self._written > limit:
                    raise LimitExceeded(self._name, limit)
                write_all(self._target, data)
                task.progress(Advanced(self._name, len(data)))
        return WebAnswer(modified=True, etag=etag, last_modified=changed)

    def _begin(self, task: Task) -> None:
        """Forget what an earlier connection brought."""
        if self._written:
            task.progress(Advanced(self._name, -self._written))
            self._written = 0
            with storage_errors("the directory of fetched files"):
                os.ftruncate(self._target.fileno(), 0)
                self._target.seek(0)


def _refused(response: Response, name: str) -> NotFound | Denied | RegistryError:
    """The error for a status that brings no file; reads what the server says."""
    status, host = response.status, response.origin.authority
    code, detail = read_error(response)
    said = " ".join(part for part in (code, detail) if part)
    text = f"GET {name}: {status}" + (f" {said}" if said else "")
    if status in (404, 410):
        return NotFound(text, hint="check the URL")
    if status in (401, 403):
        return Denied(
            text,
            host=host,
            hint=f"a secret HTTP_AUTH_TOKEN_{host} or HTTP_AUTH_HEADER_{host} gives credentials",
        )
    return RegistryError(method="GET", url=name, status=status, code=code, detail=detail)
