"""The two range headers: Range of a download (RFC 9110) and Content-Range of an upload.

An upload's Content-Range is the distribution-spec's own form, `start-end`, both inclusive.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from imgtools.errors import InvalidInput

_BYTES = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})", re.IGNORECASE)
_CONTENT = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")


class Unsatisfiable(InvalidInput):
    """A range that has nothing of the content (status 416)."""


def requested_range(headers: Mapping[str, str], size: int, etag: str) -> tuple[int, int] | None:
    """Offset and length that a GET asks for, None for the whole content.

    Malformed ranges, several ranges and those under an If-Range that does not match are
    ignored, as RFC 9110 section 14.2 allows. Raises Unsatisfiable.
    """
    text = headers.get("range", "").strip()
    match = _BYTES.fullmatch(text)
    if match is None or headers.get("if-range", etag) != etag:
        return None
    first, last = match[1], match[2]
    if not first:
        if not last:
            return None
        length = min(int(last), size)
        if not length:
            raise Unsatisfiable("the range has no bytes")
        return size - length, length
    start = int(first)
    if last and int(last) < start:
        return None
    if start >= size:
        raise Unsatisfiable("the range begins after the end")
    end = min(int(last), size - 1) if last else size - 1
    return start, end - start + 1


def chunk_range(text: str) -> tuple[int, int]:
    """First position and length of an uploaded chunk; raises InvalidInput."""
    match = _CONTENT.fullmatch(text.strip())
    if match is None:
        raise InvalidInput("Content-Range is not of the form START-END")
    start, end = int(match[1]), int(match[2])
    if end < start:
        raise InvalidInput("Content-Range ends before it starts")
    return start, end - start + 1
