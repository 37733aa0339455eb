"""Users and groups by name, looked up in a root file system that somebody else wrote.

The rules are those engines share: a number is always an id, whether or not /etc/passwd knows
it; the first matching line counts; supplementary groups are taken from /etc/group only if no
group was asked for. No C library is involved, which would read the host's files or load
modules of the image.
"""

from __future__ import annotations

import errno
import os
import stat

from engine.runtime.errors import InvalidConfig, refused
from engine.runtime.kernel.files import close_all, read_all
from engine.runtime.kernel.paths import open_in_root, proc_path
from engine.runtime.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_ID = (1 << 32) - 2
"""4294967295 is -1, which setuid(2) takes for "do not change"."""

MAX_FILE = 16 << 20
MAX_LINE = 1 << 20
_MAX_DIGITS = 10
_PASSWD, _GROUP = b"/etc/passwd", b"/etc/group"


class ResolvedUser(Record):
    """`name` is empty for a number that /etc/passwd does not have; `home` is "/" then.

    `additional_gids` begin with `gid` and hold every group once, for setgroups(2): without its
    primary group among them a process could regain access that the group is denied.
    """

    uid: int
    gid: int
    additional_gids: tuple[int, ...]
    home: str
    name: str = ""


class _User(Record):
    name: bytes
    uid: int
    gid: int
    home: bytes


class _Group(Record):
    name: bytes
    gid: int
    members: tuple[bytes, ...]


def resolve_user(root_fd: int, text: str) -> ResolvedUser:
    """The ids for `USER`, `USER:GROUP` (names or decimal numbers), or "" for root.

    An empty part is one that was not given, as in `USER $UID:$GID` of an image. `root_fd` is
    the root file system. Raises InvalidConfig for a name that it does not know, a number above
    MAX_ID, and files that are not regular or larger than MAX_FILE.
    """
    user_part, _, group_part = text.partition(":")
    wanted = _name(user_part)
    number = parse_id(user_part) if user_part else 0
    user = next(
        (
            u
            for u in _users(root_fd)
            if (u.uid == number if number is not None else u.name == wanted)
        ),
        None,
    )
    if user is None:
        if number is None:
            shown = _shown(user_part)
            raise InvalidConfig(f"unable to find user {shown}: no matching entries in passwd file")
        user = _User(name=b"", uid=number, gid=0, home=b"/")
    gid = resolve_group(root_fd, group_part) if group_part else user.gid
    others: tuple[int, ...] = ()
    if user.name and not group_part:
        others = tuple(group.gid for group in _groups(root_fd) if user.name in group.members)
    return ResolvedUser(
        uid=user.uid,
        gid=gid,
        additional_gids=tuple(dict.fromkeys((gid, *others))),
        home=os.fsdecode(user.home or b"/"),
        name=os.fsdecode(user.name),
    )


def home_of(root_fd: int, uid: int) -> str:
    """The home directory of `uid` by /etc/passwd, "/" if it has none there."""
    user = next((u for u in _users(root_fd) if u.uid == uid), None)
    return os.fsdecode(user.home or b"/") if user else "/"


def parse_id(text: str) -> int | None:
    """The id that a text of decimal digits stands for; None for other texts, which are names.

    No sign, space, prefix or other script's digits (CVE-2026-30892). Raises InvalidConfig for
    a number above MAX_ID.
    """
    if not (text.isascii() and text.isdecimal()):
        return None
    if len(text) > _MAX_DIGITS or int(text) > MAX_ID:
        raise InvalidConfig(f"id {text[:40]} is not from 0 to {MAX_ID}")
    return int(text)


def resolve_group(root_fd: int, text: str) -> int:
    """The id of a group, by name or decimal number; raises as `resolve_user`."""
    number = parse_id(text)
    if number is not None:
        return number
    wanted = _name(text)
    found = next((group.gid for group in _groups(root_fd) if group.name == wanted), None)
    if found is None:
        shown = _shown(text)
        raise InvalidConfig(f"unable to find group {shown}: no matching entries in group file")
    return found


def _name(text: str) -> bytes:
    """A name as it is in a file; empty, which matches nothing, where no file can hold it."""
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:
        return b""


def _shown(text: str) -> str:
    return text if text.isprintable() else ascii(text)


def _users(root_fd: int) -> Iterator[_User]:
    """name:password:uid:gid:comment:home:shell, the malformed lines left out."""
    for fields in _lines(root_fd, _PASSWD):
        if len(fields) >= 4 and fields[0]:
            uid, gid = _field_id(fields[2]), _field_id(fields[3])
            if uid is not None and gid is not None:
                home = fields[5] if len(fields) > 5 else b""
                yield _User(name=fields[0], uid=uid, gid=gid, home=home)


def _groups(root_fd: int) -> Iterator[_Group]:
    """name:password:gid:members, the malformed lines left out."""
    for fields in _lines(root_fd, _GROUP):
        if len(fields) >= 3 and fields[0]:
            gid = _field_id(fields[2])
            if gid is not None:
                members = fields[3].split(b",") if len(fields) > 3 else []
                yield _Group(name=fields[0], gid=gid, members=tuple(m for m in members if m))


def _field_id(field: bytes) -> int | None:
    if not field.isdigit() or len(field) > _MAX_DIGITS:
        return None
    number = int(field)
    return number if number <= MAX_ID else None


def _lines(root_fd: int, path: bytes) -> Iterator[list[bytes]]:
    """The fields of each line, without comments, NIS entries, and lines that are too long or
    hold a NUL byte."""
    for line in _content(root_fd, path).split(b"\n"):
        line = line.removesuffix(b"\r")
        if line and line[:1] not in b"#+-" and len(line) <= MAX_LINE and b"\0" not in line:
            yield line.split(b":")


def _content(root_fd: int, path: bytes) -> bytes:
    """The whole file, empty if there is none.

    What it is gets known before it is opened: opening a FIFO would hold us up, and opening a
    device may do anything.
    """
    name = path.decode()
    found = fd = -1
    try:
        found = open_in_root(root_fd, path)
        st = os.fstat(found)
        if not stat.S_ISREG(st.st_mode):
            raise InvalidConfig(f"{name} of the container is not a regular file")
        if st.st_size > MAX_FILE:
            raise InvalidConfig(f"{name} of the container is larger than {MAX_FILE} bytes")
        fd = os.open(proc_path(found), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        content = read_all(fd, MAX_FILE + 1)
        if len(content) > MAX_FILE:
            raise InvalidConfig(f"{name} of the container grows while it is read")
        return content
    except OSError as e:
        if found < 0 and e.errno in (errno.ENOENT, errno.ENOTDIR):
            return b""
        raise refused(f"read {name} of the container", e) from e
    finally:
        close_all((found, fd))
