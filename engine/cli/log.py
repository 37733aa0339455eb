"""Says what went wrong: on standard error, and in the log that podman, conmon and containerd
read.

Lines are those of runc: `time="..." level=error msg="..."`, or JSON with the same three.
"""

from __future__ import annotations

import os
import time

from engine.runtime.errors import Failure, InvalidConfig, refused
from engine.runtime.jsontext import encode

LEVELS = ("error", "warning", "info", "debug")
NAME = "imgtools-runtime"
STDERR = 2
OTHER_LOGS = ("journald:", "syslog:")


class Log:
    """Where messages go, and which.

    Without a file everything goes to standard error. With one, messages go there; errors to
    standard error too, where the caller of a failed command looks.
    """

    def __init__(self, *, path: str = "", form: str = "text", level: str = "") -> None:
        """Raises InvalidConfig, KernelRefused if it cannot be opened.

        `level` is the least severe one that is written; by default warnings are, but for a
        file only errors: podman takes the whole file for one JSON value.
        """
        if form not in ("text", "json"):
            raise InvalidConfig(f"option --log-format: expected text or json, got {form!r}")
        level = level or ("error" if path else "warning")
        if level not in LEVELS:
            raise InvalidConfig(f"option --log-level: expected {', '.join(LEVELS)}, got {level!r}")
        self.severity = LEVELS.index(level)
        self.is_verbose = self.severity >= LEVELS.index("info")
        self.json = form == "json"
        self.fd = -1
        if path:
            self.fd = _open(path)

    def error(self, failure: Failure) -> None:
        """Report what ended the command."""
        message = failure.message + (f" ({failure.hint})" if failure.hint else "")
        self._write("error", message)
        if self.fd >= 0:
            _print(f"{NAME}: {plain(failure.message)}")
            if failure.hint:
                _print(f"{NAME}: {plain(failure.hint)}")

    def warn(self, message: str) -> None:
        """Report what was left out or done otherwise."""
        self._write("warning", message)

    def debug(self, message: str) -> None:
        """Report a step."""
        self._write("debug", message)

    def _write(self, level: str, message: str) -> None:
        if LEVELS.index(level) > self.severity:
            return
        if self.fd < 0 and not self.json:
            _print(f"{NAME}: {'' if level == 'error' else level + ': '}{plain(message)}")
            return
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self.json:
            line = encode({"level": level, "msg": plain(message), "time": now})
        else:
            line = f'time="{now}" level={level} msg={_quoted(message)}'
        _write_all(self.fd if self.fd >= 0 else STDERR, line)


def plain(text: str) -> str:
    """`text` on one line and without what a terminal would obey: names of files in it are the
    container's choice."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{plain(escaped)}"'


def _open(path: str) -> int:
    for scheme in OTHER_LOGS:
        if path.startswith(scheme):
            raise InvalidConfig(f"option --log: {scheme[:-1]} is not supported, name a file")
    path = path.removeprefix("file:")
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    except OSError as e:
        raise refused(f"open log {path}", e) from e


def _print(line: str) -> None:
    _write_all(STDERR, line)


def _write_all(fd: int, line: str) -> None:
    """A line in one write, so that several processes can share the file. An error nobody can
    be told of is let go."""
    try:
        os.write(fd, f"{line}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        return
