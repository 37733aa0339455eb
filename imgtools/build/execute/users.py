"""Whom a name means in an image: the values of USER and --chown, looked up in its passwd and
group files, with the rules of Docker (libcontainer's user package)."""

from __future__ import annotations

from collections.abc import Iterator

from imgtools.build.tree import Tree
from imgtools.build.trees import read_small, resolve
from imgtools.errors import InvalidInput, NotFound

MAX_FILE = 4 << 20
MAX_ID = 2**32 - 2
_DIGITS = 20
PASSWD, GROUP = b"etc/passwd", b"etc/group"


def resolve_owner(tree: Tree | None, text: str, *, option: str) -> tuple[int, int]:
    """(uid, gid) of USER[:GROUP]. A number without a group is its own group's number for
    --chown; a name's group is that of passwd. `tree` None has no names. Raises NotFound for a
    name that is not there, InvalidInput for a number out of range."""
    user, colon, group = text.partition(":")
    if not user and not group:
        raise InvalidInput(f"{option} is empty")
    uid, primary = _user(tree, user or "0", option)
    if colon and group:
        return uid, _group(tree, group, option)
    return uid, primary


def owner_of_user(tree: Tree | None, user: str) -> tuple[int, int]:
    """(uid, gid) that a process of USER has; a number that passwd does not know has group 0."""
    name, colon, group = user.partition(":")
    number = _number(name or "0", "USER")
    if number is None:
        return resolve_owner(tree, user, option="USER")
    gid = 0
    for fields in _lines(tree, PASSWD, 4):
        group_id = _id(fields[3])
        if fields[2] == str(number) and group_id is not None:
            gid = group_id
            break
    if colon and group:
        gid = _group(tree, group, "USER")
    return number, gid


def _user(tree: Tree | None, name: str, option: str) -> tuple[int, int]:
    number = _number(name, option)
    if number is not None:
        return number, number
    for fields in _lines(tree, PASSWD, 4):
        uid, gid = _id(fields[2]), _id(fields[3])
        if fields[0] == name and uid is not None and gid is not None:
            return uid, gid
    raise NotFound(f"{option}: there is no user {name!r} in the image's /etc/passwd")


def _group(tree: Tree | None, name: str, option: str) -> int:
    number = _number(name, option)
    if number is not None:
        return number
    for fields in _lines(tree, GROUP, 3):
        gid = _id(fields[2])
        if fields[0] == name and gid is not None:
            return gid
    raise NotFound(f"{option}: there is no group {name!r} in the image's /etc/group")


def _number(text: str, option: str) -> int | None:
    if not text.isascii() or not text.isdigit():
        return None
    number = _id(text.lstrip("0") or "0")
    if number is None:
        raise InvalidInput(f"{option}: {text[:_DIGITS]} is no id of a user or group")
    return number


def _id(text: str) -> int | None:
    """The id in a field of an image's file, None for what is none."""
    if not text.isascii() or not text.isdigit() or len(text) > _DIGITS or int(text) > MAX_ID:
        return None
    return int(text)


def _lines(tree: Tree | None, path: bytes, fields: int) -> Iterator[list[str]]:
    """The lines of a file of the image that have enough fields; others are skipped. Links are
    followed as they are inside the image."""
    content = None
    if tree is not None:
        content = read_small(tree, resolve(tree, path, last=True), MAX_FILE)
    # At newlines only: text has other ends of lines, which a name or comment may have in it.
    for line in (content or b"").decode("utf-8", "surrogateescape").split("\n"):
        found = line.strip().split(":")
        if len(found) >= fields and not line.startswith("#"):
            yield found
