r"""The mounts of a namespace as /proc/PID/mountinfo lists them (proc_pid_mountinfo(5)).

Space, tab, newline and \ are written there as \ooo.
"""

from __future__ import annotations

import os

from engine.runtime.kernel.files import read_if_there
from engine.runtime.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

MAX_TABLE = 16 << 20
MOUNTINFO = "/proc/self/mountinfo"


class MountEntry(Record):
    """One mount: its number, that of the mount it is on, the device of its file system, which
    directory of that it shows and where, the type, and the options of the file system."""

    number: int
    parent: int
    device: int
    root: bytes
    point: bytes
    fstype: bytes
    options: bytes


def survey_mounts(path: str = MOUNTINFO) -> tuple[MountEntry, ...]:
    """The mounts in a file mountinfo; none where it cannot be read."""
    return parse_mountinfo(read_if_there(path, MAX_TABLE))


def parse_mountinfo(text: bytes, fstypes: Container[bytes] | None = None) -> tuple[MountEntry, ...]:
    """The lines of mountinfo, only those of `fstypes` if given; what is not of its form is left
    out."""
    lines = (_entry(line, fstypes) for line in text.split(b"\n"))
    return tuple(entry for entry in lines if entry is not None)


def _entry(line: bytes, fstypes: Container[bytes] | None) -> MountEntry | None:
    before, _, after = line.partition(b" - ")
    left, right = before.split(b" "), after.split(b" ")
    if len(left) < 6 or len(right) < 3 or (fstypes is not None and right[0] not in fstypes):
        return None
    major, _, minor = left[2].partition(b":")
    if not all(number.isdigit() for number in (left[0], left[1], major, minor)):
        return None
    return MountEntry(
        number=int(left[0]),
        parent=int(left[1]),
        device=os.makedev(int(major), int(minor)),
        root=unescape(left[3]),
        point=unescape(left[4]),
        fstype=right[0],
        options=right[2],
    )


def unescape(field: bytes) -> bytes:
    """A field with its octal escapes undone; what is none is left as it is."""
    first, *rest = field.split(b"\\")
    parts = [first]
    for part in rest:
        digits = part[:3]
        if len(digits) == 3 and all(0x30 <= d < 0x38 for d in digits) and int(digits, 8) < 256:
            parts.append(bytes((int(digits, 8),)) + part[3:])
        else:
            parts.append(b"\\" + part)
    return b"".join(parts)
