"""Remembers what was probed, until something that it depends on changes.

One file per fingerprint, which covers the boot, the kernel, who asks and with what rights, the
namespaces, and the settings an administrator could change. A file that is not ours, or not what
we wrote, is as good as none.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import asdict
from typing import Any

from engine.probe.host import Facts
from engine.probe.model import Probe
from engine.probe.namespaces import masked_proc, mount_points
from imgtools.blob.files import write_file
from imgtools.errors import Error

NAMESPACES = ("user", "mnt", "net", "pid", "cgroup")
MAX_FILE = 1 << 20
PREFIX = "probes-"


def fingerprint(facts: Facts, *, storage_device: int, version: str) -> str:
    """A name for everything that the results depend on, as hex digits."""
    namespaces = [_namespace(name) for name in NAMESPACES]
    helpers = [_identity_of(path) for path in sorted(set(facts["helpers"].values()))]
    # Numbers of namespaces are used again, so what lies over /proc is looked at too.
    masks = masked_proc(mount_points())
    document = [facts, namespaces, masks, helpers, storage_device, version]
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def load(directory: str, name: str) -> tuple[Probe, ...] | None:
    """What was remembered under the fingerprint `name`, or None."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = os.open(_path(directory, name), flags)
    except OSError:
        return None
    try:
        found = os.fstat(fd)
        if found.st_uid != os.geteuid() or found.st_mode & 0o077 or not stat.S_ISREG(found.st_mode):
            return None
        content = os.read(fd, MAX_FILE)
    except OSError:
        return None
    finally:
        os.close(fd)
    try:
        return _parse(json.loads(content), name)
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _parse(document: Any, name: str) -> tuple[Probe, ...] | None:
    if document["fingerprint"] != name:
        return None
    probes = tuple(Probe(**fields) for fields in document["probes"])
    for probe in probes:
        values = asdict(probe)
        if not isinstance(values.pop("works"), bool):
            return None
        if not all(isinstance(value, str) for value in values.values()):
            return None
    return probes or None


def save(directory: str, name: str, probes: tuple[Probe, ...]) -> bool:
    """Remember `probes`, for this user only; whether that could be done. Files of earlier
    fingerprints go. Nothing is written into a directory that others own or may write to."""
    document = {"fingerprint": name, "probes": [asdict(probe) for probe in probes]}
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        found = os.lstat(directory)
        if found.st_uid != os.geteuid() or found.st_mode & 0o022 or not stat.S_ISDIR(found.st_mode):
            return False
        write_file(_path(directory, name), json.dumps(document).encode(), mode=0o600)
        for other in os.listdir(directory):
            if other.startswith(PREFIX) and other != os.path.basename(_path(directory, name)):
                os.unlink(os.path.join(directory, other))
    except (OSError, Error):
        return False
    return True


def _path(directory: str, name: str) -> str:
    return os.path.join(directory, f"{PREFIX}{name[:32]}.json")


def _namespace(name: str) -> str:
    try:
        return os.readlink(f"/proc/self/ns/{name}")
    except OSError:
        return ""


def _identity_of(path: str) -> list[int]:
    """Size, mode and time of a helper, so that installing or mending one is noticed."""
    try:
        found = os.stat(path)
    except OSError:
        return []
    return [found.st_size, found.st_mode, found.st_mtime_ns]
