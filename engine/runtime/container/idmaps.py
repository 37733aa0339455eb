"""The id maps of a new user namespace, written from outside by who may.

A process with the capabilities writes them itself; others ask newuidmap and newgidmap, or may
map their own id alone (user_namespaces(7)). Each file takes exactly one write.
"""

from __future__ import annotations

import os

from engine.runtime.errors import KernelRefused, refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from engine.runtime.spec.model import IdMapping

HELPERS = {"uid_map": "newuidmap", "gid_map": "newgidmap"}
SEARCH = ("/usr/bin", "/bin", "/usr/sbin", "/sbin", "/usr/local/bin")


def map_text(mappings: tuple[IdMapping, ...]) -> bytes:
    """The content of uid_map for `mappings`."""
    return b"".join(b"%d %d %d\n" % (m.container_id, m.host_id, m.size) for m in mappings)


def write_maps(
    pid: int, uids: tuple[IdMapping, ...], gids: tuple[IdMapping, ...], *, search: str = ""
) -> None:
    """Give the new user namespace of process `pid` its maps; `search` is a PATH for the
    helpers. Raises KernelRefused."""
    own_gid = len(gids) == 1 and gids[0].size == 1 and gids[0].host_id == os.getegid()
    if not _write(pid, "gid_map", map_text(gids)):
        if own_gid:
            _write(pid, "setgroups", b"deny")
        if not (own_gid and _write(pid, "gid_map", map_text(gids))):
            _helper(pid, "gid_map", gids, search)
    if not _write(pid, "uid_map", map_text(uids)):
        _helper(pid, "uid_map", uids, search)


def _write(pid: int, name: str, content: bytes) -> bool:
    """Whether the kernel took `content`; False for a refusal of rights."""
    try:
        fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, content)
        finally:
            os.close(fd)
    except PermissionError:
        return False
    except OSError as e:
        raise refused(f"write {name}", e) from e
    return True


def _helper(pid: int, name: str, mappings: tuple[IdMapping, ...], search: str) -> None:
    program = HELPERS[name]
    for directory in (*search.split(":"), *SEARCH):
        path = os.path.join(directory, program)
        if directory.startswith("/") and os.access(path, os.X_OK):
            break
    else:
        raise KernelRefused(
            f"{program} is needed to map more ids than one's own, and was not found",
            hint="install the package uidmap (shadow-utils), or map a single id",
        )
    words = [str(n) for m in mappings for n in (m.container_id, m.host_id, m.size)]
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    try:
        child = os.posix_spawn(
            path,
            [program, str(pid), *words],
            {},
            file_actions=[(os.POSIX_SPAWN_DUP2, write_end, 2)],
        )
    except OSError as e:
        raise refused(f"run {path}", e) from e
    finally:
        os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        said = pipe.read(4096).decode("utf-8", "replace").strip()
    _, status = os.waitpid(child, 0)
    if status:
        raise KernelRefused(
            f"{program} failed: {said or f'exit status {os.waitstatus_to_exitcode(status)}'}",
            hint="the ranges have to be yours in /etc/subuid and /etc/subgid",
        )
