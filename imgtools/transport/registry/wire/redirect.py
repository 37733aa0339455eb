"""Follows redirects by rules of its own, because credentials hang on them.

Authorization goes only to the origin it was made for; https never leads to http unless
verification is off; a body is sent again where the status says so (307, 308) and a request
with a body is not turned into another one elsewhere. Whether a public host may lead to a
private address is decided where the connection is made, on the address it is made to.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from imgtools.errors import ConnectionFailed
from imgtools.transport.registry.wire.exchange import Body
from imgtools.transport.registry.wire.url import Origin, redact, resolve

if TYPE_CHECKING:
    from imgtools.transport.registry.wire.http import Response

MAX_REDIRECTS = 10

Exchange = Callable[[str, str, Mapping[str, str], Body | None], "Response"]
"""Method, URL, headers, body to the answer."""


def follow(
    exchange: Exchange,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: Body | None = None,
    *,
    authorization: str | None = None,
    allow_downgrade: bool = False,
    secret_body: bool = False,
) -> Response:
    """The answer to a request after at most MAX_REDIRECTS redirects.

    `authorization` is sent to the origin of `url` only, and so is the body if it is a
    secret. Raises ConnectionFailed for a redirect that is not followed, and what
    `exchange` raises.
    """
    trusted = Origin.of(url)
    for _ in range(MAX_REDIRECTS + 1):
        sent = dict(headers)
        if authorization is not None and Origin.of(url) == trusted:
            sent["Authorization"] = authorization
        response = exchange(method, url, sent, body)
        location = response.header("Location")
        if not is_followed(method, response.status) or not location:
            return response
        response.drain()
        try:
            target = resolve(url, location)
        except ConnectionFailed as e:
            raise e.with_context(f"{method} {redact(url)}: redirect") from e
        reason = refusal(Origin.of(url), Origin.of(target), allow_downgrade=allow_downgrade)
        if not reason and secret_body and Origin.of(target) != trusted:
            reason = "it would take credentials to another host"
        if reason:
            raise ConnectionFailed(
                f"{method} {redact(url)}: redirect to {redact(target)} refused: {reason}",
                host=Origin.of(url).authority,
            )
        url = target
    raise ConnectionFailed(
        f"{method} {redact(url)}: more than {MAX_REDIRECTS} redirects",
        host=Origin.of(url).authority,
    )


def is_followed(method: str, status: int) -> bool:
    """Whether `status` is a redirect that keeps `method` as it is."""
    if status in (307, 308):
        return True
    return status in (301, 302, 303) and method in ("GET", "HEAD")


def refusal(source: Origin, target: Origin, *, allow_downgrade: bool) -> str:
    """Why `source` may not send us to `target`, "" when it may."""
    if source.scheme == "https" and target.scheme == "http" and not allow_downgrade:
        return "it leaves TLS"
    return ""
