"""A Cgroup as JSON values, for the container's state on disk, and back."""

from __future__ import annotations

from engine.runtime.cgroups.model import Cgroup, CgroupDirectory
from engine.runtime.errors import Damaged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeGuard


def to_document(cgroup: Cgroup) -> dict[str, object]:
    """The Cgroup as JSON values."""
    return {
        "cloneInto": cgroup.clone_into,
        "notes": list(cgroup.notes),
        "directories": [
            {
                "version": one.version,
                "controllers": list(one.controllers),
                "mount": one.mount,
                "path": one.path,
                "made": one.made,
            }
            for one in cgroup.directories
        ],
    }


def from_document(document: object) -> Cgroup:
    """The Cgroup that `to_document` described; raises Damaged for anything else, and for paths
    that would lead out of a hierarchy."""
    if not isinstance(document, dict):
        raise _damaged()
    clone_into, notes = document.get("cloneInto"), document.get("notes")
    directories = document.get("directories")
    if not isinstance(clone_into, bool) or not _texts(notes) or not isinstance(directories, list):
        raise _damaged()
    return Cgroup(
        directories=tuple(_directory(one) for one in directories),
        clone_into=clone_into,
        notes=tuple(notes),
    )


def _directory(one: object) -> CgroupDirectory:
    if not isinstance(one, dict):
        raise _damaged()
    version, made, controllers = one.get("version"), one.get("made"), one.get("controllers")
    mount, path = one.get("mount"), one.get("path")
    if version not in (1, 2) or not _texts(controllers) or type(made) is not int or made < 1:
        raise _damaged()
    if not isinstance(mount, str) or not mount.startswith("/") or "\0" in mount:
        raise _damaged()
    if not isinstance(path, str) or "\0" in path:
        raise _damaged()
    parts = path.split("/")
    if any(part in ("", ".", "..") for part in parts) or made > len(parts):
        raise _damaged()
    return CgroupDirectory(
        version=version, controllers=tuple(controllers), mount=mount, path=path, made=made
    )


def _texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _damaged() -> Damaged:
    return Damaged("the container's state does not say which cgroups it has")
