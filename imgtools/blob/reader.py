"""The verifying reader: size and digest are checked by the object that yields the bytes.

No caller can forget the check: the last read raises when the bytes were wrong, and leaving
the `with` block before the end is an error unless `abandon` says that it was meant. Whoever
has the first bytes of a blob already goes on after them: `prime` verifies the whole all the
same, `skip` leaves that to the side that has the bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from io import BytesIO
from types import TracebackType
from typing import Protocol, runtime_checkable

from imgtools.errors import DigestMismatch, SizeMismatch, Unverified
from imgtools.spec.digest import Digest

CHUNK = 256 * 1024
"""Bytes per read: large enough that hashing and sockets, not Python, are the cost."""


class Readable(Protocol):
    """The least that we ask of a stream: `read(n)` gives at most n bytes, b"" at the end."""

    def read(self, size: int, /) -> bytes: ...


@runtime_checkable
class Skippable(Readable, Protocol):
    """A stream that can move forward without being read."""

    def skip(self, count: int, /) -> None:
        """Leave out the next `count` bytes; there are at least as many."""
        ...


class FromStart:
    """Reads an open file from its start, without moving the position of anybody else's reads.
    The descriptor stays its owner's."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._at = 0

    def read(self, size: int, /) -> bytes:
        """The next `size` bytes, fewer at the end. Raises OSError."""
        data = os.pread(self._fd, size, self._at)
        self._at += len(data)
        return data

    def skip(self, count: int, /) -> None:
        """Go on `count` bytes later."""
        self._at += count


class BlobReader:
    """Reads a blob whose digest (and size in bytes, when known) are known beforehand.

    A negative size is unknown too: schema 1 manifests have no sizes.
    """

    def __init__(
        self,
        raw: Readable,
        digest: Digest,
        size: int | None = None,
        *,
        what: str = "blob",
        close: Callable[[], object] | None = None,
    ) -> None:
        self.digest = digest
        self.size = size if size is None or size >= 0 else None
        self._raw = raw
        self._hasher = digest.hasher()
        self._what = what
        self._count = 0
        self._left_out = False
        self._primed = False
        self._ended = False
        self._abandoned = False
        self._on_close = close

    @classmethod
    def of(cls, content: bytes, digest: Digest | None = None) -> BlobReader:
        """A reader over bytes in memory; without `digest` their own is used."""
        return cls(BytesIO(content), digest or Digest.of(content), len(content))

    @property
    def verified(self) -> bool:
        """Whether the end was reached and everything agreed, the digest included."""
        return self._ended and not self._left_out

    @property
    def position(self) -> int:
        """Where in the blob the next read begins, in bytes."""
        return self._count

    def read(self, size: int = -1, /) -> bytes:
        """At most `size` bytes (all when negative), b"" at the verified end.

        Raises SizeMismatch or DigestMismatch, and whatever the carrier raises.
        """
        if size < 0:
            return self._read_all()
        data = self._raw.read(size)
        try:
            if data:
                self._take(data)
            elif size:
                self._end()
        except (DigestMismatch, SizeMismatch) as e:
            e.hint = e.hint or getattr(self._raw, "doubt", None)
            raise
        return data

    @property
    def pieced(self) -> bool:
        """Whether the bytes so far came in pieces that may not belong together: from several
        answers of a server, or partly from elsewhere. Wrong ones are worth a second try."""
        return self._primed or bool(getattr(self._raw, "pieced", False))

    def start(self) -> None:
        """Make a carrier that waits for the first read, such as a request that is not sent
        yet, begin now: what is not there is known then. Raises what the carrier raises."""
        begin = getattr(self._raw, "begin", None)
        if begin is not None:
            begin()

    def prime(self, prefix: Readable) -> int:
        """Take the next bytes from `prefix` instead of the carrier, which goes on after them.

        For a blob of which the beginning is here already, such as an interrupted download:
        `prefix` is read to its end and hashed, so that the end of the blob verifies all of
        it. Returns the bytes taken. Raises SizeMismatch when `prefix` is longer than the
        blob, and what reading it and moving the carrier raise.
        """
        before = self._count
        while data := prefix.read(CHUNK):
            self._primed = True
            self._take(data)
        taken = self._count - before
        self._move(taken)
        return taken

    def skip(self, count: int) -> None:
        """Leave out the next `count` bytes.

        For a consumer whose other side has these bytes and verifies the whole blob: from
        here on only the size is checked, unless the carrier cannot move and is read.
        Raises SizeMismatch when the blob is known to be shorter, and what the carrier raises.
        """
        if count <= 0:
            return
        self._check_size(self._count + count)
        if isinstance(self._raw, Skippable):
            self._left_out = True
            self._count += count
            self._raw.skip(count)
            return
        while count and (data := self.read(min(count, CHUNK))):
            count -= len(data)

    def abandon(self) -> None:
        """Say that leaving before the end is meant; what was read stays unverified."""
        self._abandoned = True

    def close(self) -> None:
        """Release the carrier; safe to call twice."""
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()

    def __enter__(self) -> BlobReader:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None and not self._ended and not self._abandoned:
                self._finish_or_fail()
        finally:
            self.close()

    def _read_all(self) -> bytes:
        parts = []
        while data := self.read(CHUNK):
            parts.append(data)
        return b"".join(parts)

    def _take(self, data: bytes) -> None:
        self._hasher.update(data)
        self._count += len(data)
        self._check_size(self._count)

    def _move(self, count: int) -> None:
        """Bring the carrier past `count` bytes that were taken from elsewhere."""
        if count and isinstance(self._raw, Skippable):
            self._raw.skip(count)
            return
        while count and (data := self._raw.read(min(count, CHUNK))):
            count -= len(data)

    def _check_size(self, count: int) -> None:
        if self.size is not None and count > self.size:
            raise SizeMismatch(self._name(), expected=self.size, actual=count)

    def _end(self) -> None:
        if self._ended:
            return
        if self.size is not None and self._count != self.size:
            raise SizeMismatch(self._name(), expected=self.size, actual=self._count)
        if self._left_out:
            self._ended = True
            return
        actual = Digest(self.digest.algorithm, self._hasher.hexdigest())
        if actual != self.digest:
            raise DigestMismatch(self._what, expected=str(self.digest), actual=str(actual))
        self._ended = True

    def _finish_or_fail(self) -> None:
        """A reader that stopped exactly at the size has one read left: the one that verifies."""
        if self.size is not None and self._count == self.size and not self.read(1):
            return
        raise Unverified(f"{self._name()} was left after {self._count} bytes, before its end")

    def _name(self) -> str:
        return f"{self._what} {self.digest}"
