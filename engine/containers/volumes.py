"""The values of -v, --tmpfs and --device, as podman reads them."""

from __future__ import annotations

import os

from engine.containers.options import Device, Tmpfs, Volume
from imgtools.errors import InvalidInput, Unsupported

PROPAGATIONS = ("shared", "rshared", "slave", "rslave", "private", "rprivate")
ELSEWHERE = {"U": "change the owner of the files", "O": "lay a file system over the directory"}
BIND_OPTIONS = frozenset(
    ("ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "bind", "rbind")
)
TMPFS_OPTIONS = BIND_OPTIONS - {"bind", "rbind"} | {"tmpcopyup", "notmpcopyup"}
LABELS = frozenset("zZ")
TMPFS_VALUES = ("size", "mode", "uid", "gid", "nr_inodes")


def parse_volume(text: str, directory: str) -> Volume:
    """SOURCE:DESTINATION[:OPTIONS], a relative source being one of `directory`.

    Labels (z, Z) ask for SELinux and are accepted where there is none to set. Raises
    InvalidInput, and Unsupported for a named volume.
    """
    parts = text.split(":")
    if len(parts) == 1 and text.startswith("/"):
        raise Unsupported(
            f"anonymous volume {text!r}", hint="--tmpfs gives an empty directory in memory"
        )
    if len(parts) not in (2, 3) or not parts[0]:
        raise InvalidInput(f"invalid volume {text!r}: expected SOURCE:DESTINATION[:OPTIONS]")
    source, destination = parts[0], parts[1]
    if not source.startswith((".", "/")) and "/" not in source:
        raise Unsupported(
            f"named volume {source!r}", hint="name a directory: /path, ./path or ../path"
        )
    if not destination.startswith("/"):
        raise InvalidInput(f"invalid volume {text!r}: the destination has to be absolute")
    options = [word for word in (parts[2] if len(parts) == 3 else "").split(",") if word]
    for word in options:
        if word in ELSEWHERE:
            raise Unsupported(f"volume {text!r}: option {word} to {ELSEWHERE[word]}")
        if word not in BIND_OPTIONS and word not in PROPAGATIONS and word not in LABELS:
            raise InvalidInput(f"invalid volume {text!r}: unknown option {word!r}")
    if "ro" in options and "rw" in options:
        raise InvalidInput(f"invalid volume {text!r}: ro and rw exclude each other")
    return Volume(
        source=os.path.normpath(os.path.join(directory, source)),
        destination=destination,
        options=tuple(word for word in options if word not in LABELS),
    )


def parse_device(text: str) -> Device:
    """SOURCE[:DESTINATION][:ACCESS], as podman reads it; raises InvalidInput."""
    parts = text.split(":")
    source, path, access = parts[0], parts[0], "rwm"
    match parts[1:]:
        case []:
            pass
        case [word] if word.startswith("/"):
            path = word
        case [word]:
            access = word
        case [path, access]:
            pass
        case _:
            raise InvalidInput(f"invalid device {text!r}: expected SOURCE[:PATH[:ACCESS]]")
    if not source.startswith("/") or not path.startswith("/"):
        raise InvalidInput(f"invalid device {text!r}: expected absolute paths")
    if not access or set(access) - set("rwm") or len(set(access)) < len(access):
        raise InvalidInput(f"invalid device {text!r}: access is some of r, w and m")
    return Device(source=source, path=path, access=access)


def parse_tmpfs(text: str) -> Tmpfs:
    """DESTINATION[:OPTIONS]; raises InvalidInput."""
    destination, _, rest = text.partition(":")
    if not destination.startswith("/"):
        raise InvalidInput(f"invalid tmpfs {text!r}: expected an absolute path")
    options = tuple(word for word in rest.split(",") if word)
    for word in options:
        name, sign, _ = word.partition("=")
        if not (name in TMPFS_VALUES if sign else word in TMPFS_OPTIONS):
            raise InvalidInput(f"invalid tmpfs {text!r}: unknown option {word!r}")
    return Tmpfs(destination=destination, options=options)
