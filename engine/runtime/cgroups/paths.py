"""Names of cgroups: what `cgroupsPath` means, and where below a hierarchy a container goes.

Pure. A path is split and every component judged once, here; what comes out has no `..`, and is
only ever opened one component at a time or beneath a descriptor.
"""

from __future__ import annotations

from engine.runtime.cgroups.model import Hierarchy
from engine.runtime.errors import InvalidConfig, Unsupported

MAX_PATH, MAX_NAME, MAX_DEPTH = 4000, 255, 128


def components(path: str) -> list[str]:
    """The components of a `cgroupsPath`; raises InvalidConfig for one that leads out of the
    hierarchy or is no name for a cgroup, and Unsupported for systemd's slice:prefix:name."""
    if is_systemd_path(path):
        raise Unsupported(
            f"linux.cgroupsPath {path!r} is in the form of the systemd cgroup manager, which is"
            " not supported",
            hint="use the cgroupfs manager and a path such as /machine/NAME",
        )
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidConfig(f"linux.cgroupsPath {path!r} has a component ..")
    size = len(path.encode("utf-8", "surrogateescape"))
    if size > MAX_PATH or len(parts) > MAX_DEPTH or any(map(_is_bad, parts)):
        raise InvalidConfig(
            f"linux.cgroupsPath {path[:80]!r} is no path of a cgroup: names have at most"
            f" {MAX_NAME} bytes and no control characters"
        )
    if path and not parts:
        raise InvalidConfig(f"linux.cgroupsPath {path!r} is the root of the hierarchies")
    return parts


def is_systemd_path(path: str) -> bool:
    """Whether `path` is slice:prefix:name. A slice is empty or ends in ".slice", so that the
    colons of other names are left alone."""
    fields = path.split(":")
    named = fields[0] == "" or fields[0].endswith(".slice")
    return len(fields) == 3 and "/" not in path and named


def _is_bad(name: str) -> bool:
    encoded = name.encode("utf-8", "surrogateescape")
    return len(encoded) > MAX_NAME or any(byte < 0x20 or byte == 0x7F for byte in encoded)


def place(hierarchy: Hierarchy, path: str, container_id: str) -> str:
    """The cgroup of a container in one hierarchy, relative to its mount.

    An absolute `path` is meant from the mount, and a relative one from a base; an empty one is
    the container's id below that base. Under version 1 the base is the cgroup of this process.
    Under cgroup2 it is the one above it where we may write there, because a cgroup with processes
    of its own cannot hand controllers down; else it is our own. (runc does the same.)
    """
    parts = components(path) or components(container_id)
    if path.startswith("/"):
        return "/".join(parts)
    base = hierarchy.own or ""
    if hierarchy.version == 2 and hierarchy.parent_writable:
        base = base.rpartition("/")[0]
    return "/".join([base, *parts] if base else parts)
