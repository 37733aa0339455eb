"""What a plan found, placed on the tree below by COPY's rules for destinations. Pure decisions.

BuildKit's rules: a directory's content goes into the destination, a file into it where it is a
directory (or ends with a slash), else to its very name; links on the way to the destination
are followed, and a destination that exists keeps what it has.
"""

from __future__ import annotations

import os

from imgtools.blob.tar import EntryType
from imgtools.build.copying.layout import MADE, Layout, child_of, not_a_directory, parent_of
from imgtools.build.copying.model import CopyRequest, Found, Member
from imgtools.build.copying.modes import parents_mode
from imgtools.build.copying.words import clean, wants_directory

SECOND = 1_000_000_000
UNPACKED_MODE = 0o755


def made_directory(request: CopyRequest, *, unpacking: bool = False) -> Member:
    """A directory that no source has: BuildKit gives it --chown's owner and --chmod's octal
    mode, but 755 where an archive is unpacked."""
    uid, gid = request.owner or (0, 0)
    mode = UNPACKED_MODE if unpacking else parents_mode(request.chmod)
    now = request.now * SECOND
    return Member(path=b"", type=EntryType.DIR, mode=mode, uid=uid, gid=gid, mtime_ns=now)


def place(layout: Layout, request: CopyRequest, found: Found, source: int) -> None:
    """Place what is no archive, as the source with number `source`.

    Raises InvalidInput where a file or directory is in the way, UnsafePath.
    """
    like = made_directory(request)
    target = _target(layout, request, like)
    top = found.members[0]
    if not found.is_dir:
        there = layout.look(target)
        if there is not None and there.type is EntryType.DIR:
            target = child_of(target, found.name)
        else:
            layout.make_directory(parent_of(target), like)
        layout.put(target, top, source)
        return
    if layout.look(target) is None:
        layout.make_directory(parent_of(target), like)
        uid, gid = like.uid, like.gid
        made = Member(path=b"", type=EntryType.DIR, mode=like.mode, uid=uid, gid=gid)
        made.mtime_ns = top.mtime_ns
        layout.put(target, made, MADE)
    else:
        layout.make_directory(target, like)
    put, prefix = layout.put, target + b"/" if target else b""
    for member in found.members[1:]:
        put(prefix + member.path, member, source)


def place_root(layout: Layout, request: CopyRequest) -> bytes:
    """The directory that an archive is unpacked into, made if it is missing; its real path."""
    like = made_directory(request, unpacking=True)
    target = layout.resolve(_parts(request))
    layout.make_directory(target, like)
    return target


def _target(layout: Layout, request: CopyRequest, like: Member) -> bytes:
    """The destination's real path; the directories that it surely needs are there then."""
    parts = _parts(request)
    if wants_directory(request.destination) or not parts:
        target = layout.resolve(parts)
        layout.make_directory(target, like)
        return target
    layout.make_directory(layout.resolve(parts[:-1]), like)
    target = layout.resolve(parts)
    there = layout.look(parent_of(target))
    if there is not None and there.type is not EntryType.DIR:
        raise not_a_directory(parent_of(target))
    return target


def _parts(request: CopyRequest) -> list[bytes]:
    return [os.fsencode(part) for part in clean(request.destination)]
