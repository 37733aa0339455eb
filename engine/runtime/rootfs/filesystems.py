"""New file systems as detached mounts (fsopen(2), fsconfig(2), fsmount(2)).

Every option is handed over as a key and a value of its own, so that no value can add one.
"""

from __future__ import annotations

import errno
import os

from engine.runtime.errors import KernelRefused, refused
from engine.runtime.kernel import mounting
from engine.runtime.rootfs.names import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_VALUE_BYTES = 255  # fsconfig(2)


def new_filesystem(
    fstype: bytes,
    *,
    source: bytes = b"",
    flags: Iterable[bytes] = (),
    data: Iterable[tuple[bytes, bytes | None]] = (),
    attributes: int = 0,
) -> int:
    """A detached mount of a new `fstype` with MOUNT_ATTR_ `attributes`.

    Raises KernelRefused naming the option, with what the kernel says about it.
    """
    try:
        config = mounting.fsopen(fstype)
    except OSError as e:
        hint = "the kernel does not know this type" if e.errno == errno.ENODEV else ""
        raise refused(f"open a file system of type {shown(fstype)}", e, hint=hint) from e
    try:
        if source:
            _set(config, b"source", source)
            if source.startswith(b"/") and attributes & mounting.MOUNT_ATTR_RDONLY:
                # A device may be write-protected: not only the mount has to be read-only.
                _set(config, b"ro", None)
        for flag in flags:
            _set(config, flag, None)
        for key, value in data:
            _set(config, key, value)
        return _create(config, fstype, attributes)
    finally:
        os.close(config)


def _set(config: int, key: bytes, value: bytes | None) -> None:
    try:
        if value is None:
            mounting.fsconfig_flag(config, key)
        else:
            mounting.fsconfig_string(config, key, value)
    except OSError as e:
        if value is not None and len(value) > MAX_VALUE_BYTES:
            message = f"option {shown(key)}: the value is longer than {MAX_VALUE_BYTES} bytes"
            raise KernelRefused(message, errno=e.errno or 0) from e
        option = key if value is None else key + b"=" + value
        raise _with_messages(f"option {shown(option)[:200]}", e, config) from e


def _create(config: int, fstype: bytes, attributes: int) -> int:
    try:
        mounting.fsconfig_create(config)
        return mounting.fsmount(config, attributes)
    except OSError as e:
        raise _with_messages(f"make a file system of type {shown(fstype)}", e, config) from e


def _with_messages(action: str, error: OSError, config: int) -> KernelRefused:
    said = mounting.fs_messages(config)
    failure = refused(action, error)
    if said:
        return KernelRefused(f"{failure.message} ({said})", errno=failure.errno)
    return failure
