"""Reads the frame of an HTTP/1.1 answer within bounds: interim answers, chunk sizes, trailers.

The standard library takes any status but 100 for the final one, reads interim answers and
trailers without end, and reads everything there is into memory for a chunk of the size -1.
Source: RFC 9112 section 7.1, RFC 9110 section 15.2.
"""

from __future__ import annotations

import re
from http.client import HTTPException, HTTPResponse, LineTooLong, parse_headers

_MOST_INTERIM = 20
_MOST_TRAILERS = 100
_LINE_LIMIT = 4096
"""Bytes of the line of a chunk's size, with its extensions, and of a trailer."""
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}")


class BoundedResponse(HTTPResponse):
    """An answer whose sender cannot keep us reading what is no part of its body."""

    def _read_status(self) -> tuple[str, int, str]:
        """The status line of the final answer, after a few interim ones."""
        for _ in range(_MOST_INTERIM + 1):
            found: tuple[str, int, str] = super()._read_status()  # type: ignore[misc]
            if not 100 <= found[1] < 200:
                return found
            if found[1] == 101:
                raise HTTPException("it changes to a protocol that nobody asked for")
            parse_headers(self.fp)
        raise HTTPException(f"more than {_MOST_INTERIM} interim answers")

    def _read_next_chunk_size(self) -> int:
        """The size of the next chunk; raises ValueError for what is none."""
        line = self.fp.readline(_LINE_LIMIT + 1)
        size = line.partition(b";")[0].strip()
        if len(line) > _LINE_LIMIT or not _CHUNK_SIZE.fullmatch(size):
            self._close_conn()  # type: ignore[attr-defined]
            raise ValueError("not the size of a chunk")
        return int(size, 16)

    def _read_and_discard_trailer(self) -> None:
        """Pass over the fields behind the last chunk, which say nothing that we need."""
        for _ in range(_MOST_TRAILERS + 1):
            line = self.fp.readline(_LINE_LIMIT + 1)
            if len(line) > _LINE_LIMIT:
                raise LineTooLong("trailer")
            if line in (b"\r\n", b"\n", b""):
                return
        raise HTTPException(f"more than {_MOST_TRAILERS} trailers")
