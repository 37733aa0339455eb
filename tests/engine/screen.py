"""A terminal for tests, with a person who reads and types."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import subprocess
import termios
import time
from typing import Any

LIMIT = 20.0


class Screen:
    """A terminal of the tests' own, in which a program runs."""

    def __init__(self) -> None:
        self.master, self.slave = os.openpty()
        self.set_size(24, 80)
        self.seen = b""

    def set_size(self, rows: int, columns: int) -> None:
        """As a window that is resized does."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def start(self, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        """The command with this as its controlling terminal."""

        def control() -> None:
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        return subprocess.Popen(
            command,
            **options,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=control,
        )

    def expect(self, text: bytes) -> bytes:
        """Everything shown so far, once it has `text`."""
        end = time.monotonic() + LIMIT
        while text not in self.seen:
            ready, _, _ = select.select([self.master], [], [], max(0, end - time.monotonic()))
            assert ready, f"{text!r} was not shown, but {self.seen!r}"
            self.seen += os.read(self.master, 65536)
        return self.seen

    def type(self, keys: bytes) -> None:
        """As fingers do."""
        os.write(self.master, keys)

    def mode(self) -> list[Any]:
        """What tcgetattr says."""
        return termios.tcgetattr(self.slave)

    def close(self) -> None:
        """Hang up."""
        for fd in (self.master, self.slave):
            with contextlib.suppress(OSError):
                os.close(fd)
