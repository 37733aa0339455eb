"""Entity tags (RFC 9110 sections 8.8.3 and 13): the digest, quoted.

Some clients send the digest without quotes; it is understood as well.
"""

from __future__ import annotations

from imgtools.serve.message import Request
from imgtools.spec.digest import Digest


def etag(digest: Digest) -> str:
    """The entity tag of content with this digest."""
    return f'"{digest}"'


def not_modified(request: Request, digest: Digest) -> bool:
    """Whether If-None-Match says that the client has this content already."""
    return _matches(request.header("if-none-match"), digest)


def precondition_fails(request: Request, current: Digest | None) -> bool:
    """Whether a conditional PUT must be refused (412), given what is there now."""
    wanted, unwanted = request.header("if-match"), request.header("if-none-match")
    if wanted and (current is None or not _matches(wanted, current)):
        return True
    return bool(unwanted) and current is not None and _matches(unwanted, current)


def _matches(header: str, digest: Digest) -> bool:
    for item in header.split(","):
        tag = item.strip().removeprefix("W/")
        if tag == "*" or tag.strip('"') == str(digest):
            return True
    return False
