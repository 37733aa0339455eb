"""Extended attributes that a program wants to set: which are noted, and which the kernel may
set itself (user.*, and ACLs that name nobody who is not mapped)."""

from __future__ import annotations

import errno
import struct
from enum import Enum

from engine.emulation.notes import CAPABILITY
from engine.emulation.target import read_memory, read_text
from engine.runtime.kernel.calls import error
from imgtools.frozen import dataclass

MAX_NAME, MAX_VALUE = 255, 65536
CREATE, REPLACE = 1, 2
_ACLS = ("system.posix_acl_access", "system.posix_acl_default")
_ACL_USER, _ACL_GROUP = 0x02, 0x08
_V2, _V3, _REVISION = 0x02000000, 0x03000000, 0xFF000000
_SIZES = {_V2: 20, _V3: 24}


class Decision(Enum):
    """Who sets it."""

    NOTE = "note"
    KERNEL = "kernel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribute:
    """One attribute; `flags` as of setxattr(2)."""

    name: str
    value: bytes = b""
    flags: int = 0

    def check_flags(self, *, present: bool) -> None:
        """Raise OSError EEXIST or ENODATA where the flags forbid it."""
        if self.flags & CREATE and present:
            raise error(errno.EEXIST)
        if self.flags & REPLACE and not present:
            raise error(errno.ENODATA)


def read_name(pid: int, call: str, args: tuple[int, ...]) -> Attribute:
    """The attribute that a call names. Raises OSError: ERANGE for a name that is empty or too
    long, EFAULT."""
    address = args[3] if call.endswith("at") else args[1]
    try:
        name = read_text(pid, address, MAX_NAME + 1)
    except OSError as e:
        raise error(errno.ERANGE if e.errno == errno.ENAMETOOLONG else e.errno or 0) from e
    if not name:
        raise error(errno.ERANGE)
    return Attribute(name=name.decode("utf-8", "surrogateescape"))


def read_attribute(pid: int, call: str, args: tuple[int, ...]) -> Attribute:
    """The attribute that a call wants to set, with its value as it is to be noted. Raises
    OSError: E2BIG, EINVAL for flags and for capabilities of no known form, EFAULT."""
    name = read_name(pid, call, args).name
    if call.endswith("at"):
        if args[5] != 16:
            raise error(errno.EINVAL if args[5] < 16 else errno.E2BIG)
        packed = _exactly(pid, args[4], 16)
        address, size, flags = struct.unpack("=QII", packed)
    else:
        address, size, flags = args[2], args[3], args[4] & 0xFFFFFFFF
    if flags & ~(CREATE | REPLACE):
        raise error(errno.EINVAL)
    if size > MAX_VALUE:
        raise error(errno.E2BIG)
    attribute = Attribute(name=name, flags=flags)
    if decide_by_name(name) is Decision.KERNEL and name not in _ACLS:
        return attribute
    value = _exactly(pid, address, size)
    if name == CAPABILITY:
        value = _capability(value)
    return Attribute(name=name, value=value, flags=flags)


def decide_by_name(name: str) -> Decision:
    """Who is responsible for an attribute, as far as its name tells."""
    if name.startswith("trusted.overlay."):
        # What would hide or move files of the layers below; a real root may not either.
        raise error(errno.EPERM)
    if name.startswith(("security.", "trusted.")) and name != "security.selinux":
        return Decision.NOTE
    return Decision.KERNEL


def decide(attribute: Attribute, *, root: bool = True) -> Decision:
    """Who sets or removes `attribute`; `root` says that the one id there is is 0, in containers
    and in layers. Raises OSError EPERM for what nobody may."""
    if attribute.name in _ACLS and names_others(attribute.value, root=root):
        return Decision.NOTE
    return decide_by_name(attribute.name)


def names_others(acl: bytes, *, root: bool = True) -> bool:
    """Whether an ACL (linux/posix_acl_xattr.h) has entries for ids other than 0, which the
    kernel refuses with EINVAL where they are not mapped. Without `root`, for any: 0 is not
    mapped then, and the id that is would be 0 on disk."""
    if len(acl) < 4 or len(acl) % 8 != 4:
        return False
    entries = struct.iter_unpack("<HHI", acl[4:])
    return any(tag in (_ACL_USER, _ACL_GROUP) and (id_ or not root) for tag, _, id_ in entries)


def _exactly(pid: int, address: int, size: int) -> bytes:
    found = read_memory(pid, address, size)
    if len(found) < size:
        raise error(errno.EFAULT)
    return found


def _capability(value: bytes) -> bytes:
    """File capabilities in the form for images, version 2: version 3 is the same for one user
    namespace, whose root it names."""
    magic = struct.unpack_from("<I", value)[0] if len(value) >= 4 else 0
    if _SIZES.get(magic & _REVISION) != len(value):
        raise error(errno.EINVAL)
    return struct.pack("<I", _V2 | (magic & ~_REVISION)) + value[4:20]
