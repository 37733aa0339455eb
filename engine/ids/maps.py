"""Writes the maps of a user namespace from outside of it, or from within for one id.

The kernel takes a whole map in one write(2) and only once; procfs files are written unbuffered,
because a buffered file hides the error.
"""

from __future__ import annotations

import errno
import os

from engine.ids.model import IdMapping, IdMaps
from engine.ids.refusals import UsernsLimits, explain_map_refusal
from engine.runtime.kernel.files import read_all
from imgtools.errors import Error, Unsupported

MAX_MESSAGE = 4096


class MapsRefused(Unsupported):
    """A map was not written. `partly` says that the other one was, so that there is no way
    back for this namespace."""

    def __init__(self, message: str, *, hint: str | None = None, partly: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.partly = partly


def map_text(lines: tuple[IdMapping, ...]) -> bytes:
    """The content of a map file."""
    return b"".join(b"%d %d %d\n" % (m.container_id, m.host_id, m.size) for m in lines)


def write_maps(process: str, maps: IdMaps, limits: UsernsLimits) -> None:
    """Write both maps of the namespace that /proc/`process` is in; raises MapsRefused.

    The gid map comes first, since setgroups can be denied only before it.
    """
    if maps.deny_setgroups:
        _write(process, "setgroups", b"deny", limits, partly=False)
    _write(process, "gid_map", map_text(maps.gids), limits, partly=False)
    _write(process, "uid_map", map_text(maps.uids), limits, partly=True)


def _write(process: str, name: str, content: bytes, limits: UsernsLimits, *, partly: bool) -> None:
    try:
        fd = os.open(f"/proc/{process}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, content)
        finally:
            os.close(fd)
    except FileNotFoundError:
        if name != "setgroups":
            raise MapsRefused(f"/proc/{process}/{name} does not exist", partly=partly) from None
    except OSError as e:
        found = explain_map_refusal(e.errno or errno.EIO, name, limits)
        raise MapsRefused(found.why, hint=found.remedy or None, partly=partly) from e


def run_helpers(pid: int, maps: IdMaps, newuidmap: str, newgidmap: str) -> None:
    """Have newgidmap and newuidmap write the maps of process `pid`; raises MapsRefused with
    what they said."""
    _run_helper(newgidmap, pid, maps.gids, partly=False)
    _run_helper(newuidmap, pid, maps.uids, partly=True)


def _run_helper(program: str, pid: int, lines: tuple[IdMapping, ...], *, partly: bool) -> None:
    numbers = [n for m in lines for n in (m.container_id, m.host_id, m.size)]
    said, saying = os.pipe()
    try:
        actions = [(os.POSIX_SPAWN_DUP2, saying, 1), (os.POSIX_SPAWN_DUP2, saying, 2)]
        try:
            child = os.posix_spawn(
                program,
                [program, str(pid), *map(str, numbers)],
                {"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
                file_actions=actions,
            )
        except OSError as e:
            text = (e.strerror or str(e)).lower()
            raise MapsRefused(f"{program}: {text}", partly=partly) from e
        finally:
            os.close(saying)
        message = read_all(said, MAX_MESSAGE)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    finally:
        os.close(said)
    if code:
        text = message.decode("utf-8", "replace").strip().replace("\n", "; ")
        raise MapsRefused(
            f"{text or program} (exit status {code})",
            hint="what is mapped has to be granted by /etc/subuid and /etc/subgid",
            partly=partly,
        )


def internal_error(message: str) -> Error:
    """An error that no user can have caused."""
    return Error(f"internal error: {message}")
