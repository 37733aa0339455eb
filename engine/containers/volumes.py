"""The values of -v, --tmpfs and --mount, as podman reads them."""

from __future__ import annotations

import os

from engine.containers.options import Tmpfs, Volume
from imgtools.errors import InvalidInput, Unsupported

PROPAGATIONS = ("shared", "rshared", "slave", "rslave", "private", "rprivate")
BIND_OPTIONS = frozenset(
    ("ro", "rw", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "bind", "rbind")
)
TMPFS_OPTIONS = BIND_OPTIONS - {"bind", "rbind"}
LABELS = frozenset("zZ")
TMPFS_VALUES = ("size", "mode", "uid", "gid", "nr_inodes")


def parse_volume(text: str, directory: str) -> Volume:
    """SOURCE:DESTINATION[:OPTIONS], a relative source being one of `directory`.

    Labels (z, Z) ask for SELinux and are accepted where there is none to set. Raises
    InvalidInput, and Unsupported for a named volume.
    """
    parts = text.split(":")
    if len(parts) not in (2, 3) or not parts[0]:
        raise InvalidInput(f"invalid volume {text!r}: expected SOURCE:DESTINATION[:OPTIONS]")
    source, destination = parts[0], parts[1]
    if not source.startswith(("/", ".", "~")) and "/" not in source:
        raise Unsupported(
            f"named volume {source!r}", hint="name a directory: /path, ./path or ../path"
        )
    if not destination.startswith("/"):
        raise InvalidInput(f"invalid volume {text!r}: the destination has to be absolute")
    options = [word for word in (parts[2] if len(parts) == 3 else "").split(",") if word]
    for word in options:
        if word not in BIND_OPTIONS and word not in PROPAGATIONS and word not in LABELS:
            raise InvalidInput(f"invalid volume {text!r}: unknown option {word!r}")
    if "ro" in options and "rw" in options:
        raise InvalidInput(f"invalid volume {text!r}: ro and rw exclude each other")
    return Volume(
        source=os.path.join(directory, source),
        destination=destination,
        options=tuple(word for word in options if word not in LABELS),
    )


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
