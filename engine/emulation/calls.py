"""The system calls that a recorder is asked about, brought to one form whatever their variant
and architecture."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable, Mapping
from enum import Enum

from engine.emulation.filters import (
    ATTRIBUTES,
    CREDENTIALS,
    GROUPS,
    MOVES,
    NODES,
    OWNERSHIP,
    REMOVALS,
)
from engine.emulation.notes import UNCHANGED
from engine.emulation.target import AT_FDCWD
from engine.runtime.kernel.calls import error
from engine.runtime.seccomp.architectures import runnable
from engine.runtime.seccomp.tables import numbers
from imgtools.frozen import dataclass

AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH = 0x100, 0x1000
AT_SYMLINK_FOLLOW, RENAME_EXCHANGE = 0x400, 2
MAX_NARROW, OVERFLOW = 0xFFFF, 0xFFFE


class Kind(Enum):
    """What a call does."""

    CHOWN = "chown"
    MKNOD = "mknod"
    SET = "setxattr"
    REMOVE = "removexattr"
    BECOME = "setresuid"
    GROUPS = "getgroups"
    MOVE = "rename"


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One system call: `name` without the 32 of wide ids; `narrow` ids have 16 bits."""

    kind: Kind
    name: str
    narrow: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The file meant: a descriptor `fd`, or else the path at the address `path`, relative to
    `dir_fd`. An empty path may mean `dir_fd` itself where `empty` says so."""

    fd: int | None = None
    dir_fd: int = AT_FDCWD
    path: int = 0
    follow: bool = True
    empty: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A file that gets another name, or one more: addresses of the paths, and what they are
    relative to. `exchange` is whether both change names."""

    old: int
    new: int
    old_dir: int = AT_FDCWD
    new_dir: int = AT_FDCWD
    follow: bool = False
    exchange: bool = False


def variants(machine: str) -> dict[tuple[int, int], Variant]:
    """The calls of every architecture of `machine` by token and number."""
    kinds = dict.fromkeys(OWNERSHIP, Kind.CHOWN)
    kinds |= {name: Kind.MKNOD for name, _ in NODES}
    kinds |= dict.fromkeys(ATTRIBUTES, Kind.SET)
    kinds |= dict.fromkeys(REMOVALS, Kind.REMOVE)
    kinds |= dict.fromkeys(CREDENTIALS, Kind.BECOME)
    kinds |= dict.fromkeys(GROUPS, Kind.GROUPS)
    kinds |= dict.fromkeys(MOVES, Kind.MOVE)
    found = {}
    for architecture in runnable(machine):
        table = numbers(architecture.table)
        for name, kind in kinds.items():
            if name in table:
                # Where chown32 exists, plain chown is the one of the time of 16-bit ids.
                narrow = f"{name}32" in table
                plain = name.removesuffix("32")
                key = (architecture.token, table[name] + architecture.offset)
                found[key] = Variant(kind=kind, name=plain, narrow=narrow)
    return found


def place(variant: Variant, args: tuple[int, ...]) -> Place:
    """The file that a call is about. Raises OSError EINVAL for flags that do not exist."""
    match variant.name:
        case "fchown" | "fsetxattr" | "fremovexattr":
            return Place(fd=signed(args[0]))
        case "lchown" | "lsetxattr" | "lremovexattr":
            return Place(path=args[0], follow=False)
        case "fchownat":
            return _at(args, args[4])
        case "setxattrat" | "removexattrat":
            return _at(args, args[2])
        case "mknodat":
            return Place(dir_fd=signed(args[0]), path=args[1])
        case _:
            return Place(path=args[0])


def _at(args: tuple[int, ...], flags: int) -> Place:
    flags &= 0xFFFFFFFF
    if flags & ~(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH):
        raise error(errno.EINVAL)
    return Place(
        dir_fd=signed(args[0]),
        path=args[1],
        follow=not flags & AT_SYMLINK_NOFOLLOW,
        empty=bool(flags & AT_EMPTY_PATH),
    )


def move(variant: Variant, args: tuple[int, ...]) -> Move:
    """What a call renames or links."""
    if variant.name in ("rename", "link"):
        return Move(old=args[0], new=args[1])
    return Move(
        old_dir=signed(args[0]),
        old=args[1],
        new_dir=signed(args[2]),
        new=args[3],
        follow=variant.name == "linkat" and bool(args[4] & AT_SYMLINK_FOLLOW),
        exchange=variant.name == "renameat2" and bool(args[4] & RENAME_EXCHANGE),
    )


def ids(variant: Variant, args: tuple[int, ...]) -> tuple[int, int]:
    """uid and gid of a call that changes owners; UNCHANGED for -1 of any width."""
    first = 2 if variant.name == "fchownat" else 1
    return _id(variant, args[first]), _id(variant, args[first + 1])


def become(variant: Variant, args: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """ "uid" or "gid", and the ids that a call of their family takes, as `ids` has them."""
    kind = variant.name[-3:]
    count = {"set": 1, "setre": 2, "setres": 3}[variant.name[:-3]]
    return kind, tuple(_id(variant, one) for one in args[:count])


def packed_groups(variant: Variant, groups: Iterable[int], size: int) -> bytes:
    """What getgroups(2) writes for an array of `size` ids; nothing for size 0. Raises OSError
    EINVAL for one that is too small."""
    found = sorted(groups)
    if size < 0 or 0 < size < len(found):
        raise error(errno.EINVAL)
    if variant.narrow:
        found = [one if one <= MAX_NARROW else OVERFLOW for one in found]
    return struct.pack(f"={len(found)}{'H' if variant.narrow else 'I'}", *found) if size else b""


def _id(variant: Variant, value: int) -> int:
    if not variant.narrow:
        return value & 0xFFFFFFFF
    return UNCHANGED if value & 0xFFFF == 0xFFFF else value & 0xFFFF


def node(variant: Variant, args: tuple[int, ...]) -> tuple[int, tuple[int, int]]:
    """Mode and device number of a call that makes a node (the kernel's new_decode_dev)."""
    first = dict(NODES)[variant.name]
    mode, device = args[first] & 0xFFFF, args[first + 1] & 0xFFFFFFFF
    return mode, ((device & 0xFFF00) >> 8, (device & 0xFF) | ((device >> 12) & 0xFFF00))


def signed(value: int) -> int:
    """A register as an int."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


Variants = Mapping[tuple[int, int], Variant]
