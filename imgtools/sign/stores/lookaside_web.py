"""Lookaside storage on a web server, read.

The client is the one of registries, with its time-outs, retries, proxies and certificates,
and it has credentials for nobody. Only 404 says that there is nothing: every other answer
than 200 is an error, because a signature that could not be read must not look like none.
"""

from __future__ import annotations

import logging
from urllib.parse import urlsplit, urlunsplit

from imgtools.errors import Denied, Error, LimitExceeded, RegistryError
from imgtools.sign.model import PAYLOAD_LIMIT, SIGNATURES_LIMIT, TOTAL_LIMIT
from imgtools.transport.options import RegistryOptions
from imgtools.transport.registry.failure import read_error
from imgtools.transport.registry.repeating import repeat
from imgtools.transport.registry.wire.http import HttpClient, Response
from imgtools.transport.registry.wire.redirect import follow
from imgtools.transport.registry.wire.retry import RetryPolicy
from imgtools.transport.registry.wire.traffic import Traffic
from imgtools.transport.registry.wire.url import Origin, redact

_log = logging.getLogger(__name__)


def read_numbered(base: str, path: str, options: RegistryOptions) -> list[bytes]:
    """What is at `base`/`path` with 1, 2 and so on appended, to the first that is not there.

    A query of `base` stays behind the path. Raises Denied, RegistryError, ConnectionFailed,
    and LimitExceeded for a file of more than PAYLOAD_LIMIT bytes, for more files than
    SIGNATURES_LIMIT, and for more than TOTAL_LIMIT bytes in all.
    """
    parts = urlsplit(base)
    origin = Origin.of(base)
    traffic = Traffic()
    client = HttpClient(options, registry=origin.authority, home=origin, traffic=traffic)
    found: list[bytes] = []
    try:
        while True:
            whole = f"{parts.path.rstrip('/')}/{path}{len(found) + 1}"
            url = urlunsplit(parts._replace(path=whole, fragment=""))
            content = _get(client, url, options, traffic)
            if content is None:
                return found
            found.append(content)
            if sum(map(len, found)) > TOTAL_LIMIT:
                raise LimitExceeded(f"all of {redact(base)} together", TOTAL_LIMIT)
            if len(found) > SIGNATURES_LIMIT:
                raise LimitExceeded(redact(base), SIGNATURES_LIMIT, unit="signatures")
    finally:
        client.close()


def _get(client: HttpClient, url: str, options: RegistryOptions, traffic: Traffic) -> bytes | None:
    def once() -> Response:
        return follow(client.exchange, "GET", url, {}, allow_downgrade=not options.tls_verify)

    with repeat(once, RetryPolicy(), traffic, client.pause) as response:
        if response.status == 404:
            response.drain()
            return None
        if response.status != 200:
            raise _refused(response, url)
        if response.header("Content-Type").partition(";")[0].strip().lower() == "text/html":
            _log.warning(
                "signature %s is sent as text/html, it may be a page and no signature", redact(url)
            )
        return response.body(PAYLOAD_LIMIT, redact(url))


def _refused(response: Response, url: str) -> Error:
    status, host = response.status, response.origin.authority
    code, detail = read_error(response)
    if status in (401, 403):
        said = " ".join(part for part in (code, detail) if part)
        return Denied(
            f"GET {redact(url)}: {status}" + (f" {said}" if said else ""),
            host=host,
            hint="lookaside storage is read without credentials",
        )
    return RegistryError(method="GET", url=redact(url), status=status, code=code, detail=detail)
