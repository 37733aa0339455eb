"""The options of a mount as the runtime-spec's config.md ("Linux mount options") lists them,
with the few that crun and podman add.

An option of the table never reaches a file system's driver, and every other one does so as
one key and one value, so that no value can add an option (the kernel parses no list).
"""

from __future__ import annotations

from engine.runtime.errors import InvalidConfig
from engine.runtime.kernel.mounting import (
    MOUNT_ATTR__ATIME,
    MOUNT_ATTR_NOATIME,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NODIRATIME,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_NOSYMFOLLOW,
    MOUNT_ATTR_RDONLY,
    MOUNT_ATTR_RELATIME,
    MOUNT_ATTR_STRICTATIME,
    MS_PRIVATE,
    MS_SHARED,
    MS_SLAVE,
    MS_UNBINDABLE,
)
from engine.runtime.rootfs.model import MountOptions

MAX_OPTIONS = 1024
MAX_OPTION_BYTES = 65536

# Attributes of one mount: (bit, set); with an r before the name, of all mounts below too.
_ATTRIBUTES = {
    "ro": (MOUNT_ATTR_RDONLY, True),
    "rw": (MOUNT_ATTR_RDONLY, False),
    "nosuid": (MOUNT_ATTR_NOSUID, True),
    "suid": (MOUNT_ATTR_NOSUID, False),
    "nodev": (MOUNT_ATTR_NODEV, True),
    "dev": (MOUNT_ATTR_NODEV, False),
    "noexec": (MOUNT_ATTR_NOEXEC, True),
    "exec": (MOUNT_ATTR_NOEXEC, False),
    "nodiratime": (MOUNT_ATTR_NODIRATIME, True),
    "diratime": (MOUNT_ATTR_NODIRATIME, False),
    "nosymfollow": (MOUNT_ATTR_NOSYMFOLLOW, True),
    "symfollow": (MOUNT_ATTR_NOSYMFOLLOW, False),
}
# When access times are written is one choice of three; not asking for one means relatime,
# which is what the kernel does by itself. None takes back an earlier choice in the list.
_ACCESS_TIMES = {
    "relatime": MOUNT_ATTR_RELATIME,
    "noatime": MOUNT_ATTR_NOATIME,
    "strictatime": MOUNT_ATTR_STRICTATIME,
    "atime": MOUNT_ATTR_RELATIME,
    "nostrictatime": MOUNT_ATTR_RELATIME,
    "norelatime": None,
}
_PROPAGATION = {
    "shared": MS_SHARED,
    "slave": MS_SLAVE,
    "private": MS_PRIVATE,
    "unbindable": MS_UNBINDABLE,
}
# Properties of a whole file system, as fsconfig(2) knows them. A bind mount cannot change
# them, and mount(2) never said so: they have no effect there.
_FLAGS = {
    "sync": (b"sync", b"async"),
    "async": (b"async", b"sync"),
    "dirsync": (b"dirsync", b""),
    "lazytime": (b"lazytime", b"nolazytime"),
    "nolazytime": (b"nolazytime", b"lazytime"),
    "mand": (b"mand", b"nomand"),
    "nomand": (b"nomand", b"mand"),
}
# Accepted without effect: the kernel keeps inode versions by itself where they are needed
# (the mount flag does nothing since Linux 6.1), prints nothing to be silent about for the
# file systems of a container, and `defaults` names what is the default.
_WITHOUT_EFFECT = frozenset(("defaults", "iversion", "noiversion", "silent", "loud", "notmpcopyup"))
_SWITCHES = {
    "bind": ("bind",),
    "rbind": ("bind", "recursive"),
    "remount": ("remount",),
    "tmpcopyup": ("copy_up",),
    "idmap": ("idmap",),
    "ridmap": ("idmap", "idmap_recursive"),
    "copy-symlink": ("copy_symlink",),
    "src-nofollow": ("source_nofollow",),
    "dest-nofollow": ("destination_nofollow",),
}


def known_options() -> tuple[str, ...]:
    """Every option of the table, sorted: what `features` prints."""
    recursive = [f"r{name}" for name in (*_ATTRIBUTES, *_ACCESS_TIMES, *_PROPAGATION)]
    plain = (*_ATTRIBUTES, *_ACCESS_TIMES, *_PROPAGATION, *_FLAGS, *_WITHOUT_EFFECT, *_SWITCHES)
    return tuple(sorted((*recursive, *plain)))


def parse_options(options: tuple[str, ...]) -> MountOptions:
    """`options` sorted by what they do; of contradicting ones the last wins, as in mount(8).

    Raises InvalidConfig for an option with a NUL or without a name, and for too many.
    """
    if len(options) > MAX_OPTIONS:
        raise InvalidConfig(f"more than {MAX_OPTIONS} options")
    parser = _Parser()
    for option in options:
        parser.add(option)
    return parser.result()


class _Attributes:
    """Attributes to set and to clear, kept apart."""

    def __init__(self) -> None:
        self.on = 0
        self.off = 0
        self.access: int | None = None

    def change(self, bit: int, on: bool) -> None:
        self.on, self.off = (
            (self.on | bit, self.off & ~bit) if on else (self.on & ~bit, self.off | bit)
        )

    def result(self) -> tuple[int, int]:
        """(set, clear) as mount_setattr(2) takes them: a choice of access times needs the
        whole field cleared."""
        if self.access is None:
            return self.on, self.off
        return self.on | self.access, self.off | MOUNT_ATTR__ATIME


class _Parser:
    """One list of options while it is read."""

    def __init__(self) -> None:
        self._own = _Attributes()
        self._below = _Attributes()
        self._propagation: list[tuple[int, bool]] = []
        self._flags: dict[bytes, bool] = {}
        self._switches: dict[str, bool] = {}
        self._data: list[tuple[bytes, bytes | None]] = []

    def add(self, option: str) -> None:
        known = (
            self._attribute(option, self._own)
            or self._propagate(option, recursive=False)
            or self._flag(option)
            or self._switch(option)
        )
        if not known and option.startswith("r"):
            known = self._attribute(option[1:], self._below) or self._propagate(
                option[1:], recursive=True
            )
        if not known and option not in _WITHOUT_EFFECT:
            self._driver(option)

    def _attribute(self, name: str, attributes: _Attributes) -> bool:
        if name in _ATTRIBUTES:
            attributes.change(*_ATTRIBUTES[name])
        elif name in _ACCESS_TIMES:
            attributes.access = _ACCESS_TIMES[name]
        else:
            return False
        return True

    def _propagate(self, name: str, *, recursive: bool) -> bool:
        if name not in _PROPAGATION:
            return False
        self._propagation.append((_PROPAGATION[name], recursive))
        return True

    def _flag(self, name: str) -> bool:
        if name not in _FLAGS:
            return False
        chosen, opposite = _FLAGS[name]
        self._flags.pop(opposite, None)
        self._flags[chosen] = True
        if chosen == b"async":
            self._flags.pop(b"dirsync", None)
        return True

    def _switch(self, name: str) -> bool:
        for field in _SWITCHES.get(name, ()):
            self._switches[field] = True
        return name in _SWITCHES

    def _driver(self, option: str) -> None:
        raw = option.encode("utf-8", "surrogateescape")
        key, equals, value = raw.partition(b"=")
        if not key or b"\0" in raw or len(raw) > MAX_OPTION_BYTES:
            raise InvalidConfig(f"{option[:80]!r} is not a mount option")
        if key in (b"idmap", b"ridmap"):
            raise InvalidConfig(
                f"{option[:80]!r}: mappings are not taken from options",
                hint="give them as uidMappings and gidMappings of the mount",
            )
        self._data.append((key, value if equals else None))

    def result(self) -> MountOptions:
        attr_set, attr_clear = self._own.result()
        recursive_set, recursive_clear = self._below.result()
        return MountOptions(
            attr_set=attr_set,
            attr_clear=attr_clear,
            recursive_set=recursive_set,
            recursive_clear=recursive_clear,
            propagation=tuple(self._propagation),
            flags=tuple(self._flags),
            data=tuple(self._data),
            **self._switches,
        )
