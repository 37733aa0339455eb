"""Requests to the services of sigstore: one at a time, bounded, and led nowhere else.

The client is the one of registries, with its time-outs, certificates and proxies. A redirect
is an error, since a token or a signature is for the service that was named and for no other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from imgtools.errors import ConnectionFailed, Denied, InvalidInput, RegistryError
from imgtools.task import CancelToken
from imgtools.transport.options import RegistryOptions
from imgtools.transport.registry.failure import read_error
from imgtools.transport.registry.repeating import repeat
from imgtools.transport.registry.wire.exchange import Body
from imgtools.transport.registry.wire.http import HttpClient, Response
from imgtools.transport.registry.wire.retry import RetryPolicy
from imgtools.transport.registry.wire.traffic import Traffic
from imgtools.transport.registry.wire.url import Origin, redact

ANSWER_LIMIT = 8 * 1024 * 1024
"""Bytes of an answer: Rekor's has the entry, and with it what was proposed."""

_POLICY = RetryPolicy(attempts=3, connect_attempts=2, patience=30.0, deadline=60.0)


# JSON in base64url, and what hangs on it: services repeat tokens that they do not like, and
# what they say is cut at some length.
_TOKEN = re.compile(r"eyJ[\w.-]+", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a service said: `location` is that header."""

    status: int
    content: bytes
    location: str = ""


class Web:
    """Asks services under one set of options, whose credentials are for registries only."""

    def __init__(
        self,
        options: RegistryOptions,
        *,
        cancel: CancelToken | None = None,
        policy: RetryPolicy | None = None,
    ) -> None:
        """Nothing is connected to yet."""
        self._options, self._cancel, self._policy = options, cancel, policy or _POLICY

    def post(
        self,
        url: str,
        content: bytes,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
        token: str = "",
        expected: tuple[int, ...] = (200, 201),
    ) -> Answer:
        """Send `content`, with the identity token `token`, and return an answer of a status
        that is `expected`.

        Raises Denied (401, 403), RegistryError (any other status), ConnectionFailed,
        LimitExceeded and Cancelled.
        """
        headers = {"Content-Type": content_type, "Accept": accept}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        return self._ask("POST", url, headers, Body.of(content), expected)

    def get(self, url: str, *, expected: tuple[int, ...] = (200,)) -> Answer:
        """What is at `url`; raises like `post`."""
        return self._ask("GET", url, {"Accept": "application/json"}, None, expected)

    def _ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: Body | None,
        expected: tuple[int, ...],
    ) -> Answer:
        origin = Origin.of(url)
        traffic = Traffic()
        client = HttpClient(self._options, registry=origin.authority, home=origin, traffic=traffic)

        def once() -> Response:
            return client.exchange(method, url, headers, body, cancel=self._cancel)

        try:
            with repeat(once, self._policy, traffic, client.pause, self._cancel) as response:
                if response.status not in expected:
                    raise _refused(response)
                return Answer(
                    status=response.status,
                    content=response.body(ANSWER_LIMIT, redact(url)),
                    location=response.header("Location"),
                )
        except ConnectionFailed as e:
            raise e.with_context(f"{method} {redact(url)}") from e
        finally:
            client.close()


def service_url(base: str, path: str) -> str:
    """The URL of `path` at the service `base`, whatever path and slash that ends in.

    Raises InvalidInput for what is no http or https URL, or has more than a path.
    """
    try:
        parts = urlsplit(base)
    except ValueError as e:
        raise InvalidInput(f"malformed URL {redact(base)}") from e
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput(f"{redact(base)} is no http or https URL of a service")
    if parts.query or parts.fragment or parts.username is not None:
        raise InvalidInput(f"{redact(base)} has a query, a fragment or a user: expected none")
    return f"{base.rstrip('/')}{path}"


def _refused(response: Response) -> Denied | RegistryError:
    """The error for a status that is not the answer; reads what the service says."""
    method, url, status = response.method, redact(response.url), response.status
    host = response.origin.authority
    code, detail = (_TOKEN.sub("…", text) for text in read_error(response))
    if status in (401, 403):
        said = " ".join(part for part in (code, detail) if part)
        return Denied(f"{method} {url}: {status}" + (f" {said}" if said else ""), host=host)
    hint = "name the address that it redirects to" if 300 <= status < 400 else None
    return RegistryError(method=method, url=url, status=status, code=code, detail=detail, hint=hint)
