"""Whiteouts: how a layer says that something of the layers below is gone.

The only file that knows the names. OCI image-spec layer.md "Whiteouts": an entry `.wh.NAME`
hides NAME of lower layers in its directory, `.wh..wh..opq` hides all of them. Other names
that begin with `.wh..wh.` are reserved for AUFS metadata (`.wh..wh.plnk`, `.wh..wh.aufs`).
"""

from __future__ import annotations

from imgtools.errors import InvalidArchive

PREFIX = ".wh."
META_PREFIX = ".wh..wh."
OPAQUE = ".wh..wh..opq"


def basename(path: str) -> str:
    """Last component of an archive path, trailing slashes ignored."""
    return path.rstrip("/").rpartition("/")[2]


def is_whiteout(path: str) -> bool:
    """Whether the last component of `path` is a whiteout of any kind, well-formed or not."""
    return basename(path).startswith(PREFIX)


def is_opaque(path: str) -> bool:
    """Whether `path` is the opaque marker of its directory."""
    return basename(path) == OPAQUE


def is_metadata(path: str) -> bool:
    """Whether `path` is AUFS metadata: reserved, hides nothing, never extracted."""
    name = basename(path)
    return name.startswith(META_PREFIX) and name != OPAQUE


def validate(path: str) -> None:
    """Raise InvalidArchive if `path` is a whiteout that names nothing removable.

    `.wh.` alone, `.wh..` and `.wh...` would name the directory itself or its parent.
    """
    name = basename(path)
    if name.startswith(PREFIX) and name[len(PREFIX) :] in ("", ".", ".."):
        raise InvalidArchive(f"whiteout {path!r} names nothing that can be removed")


def whiteout_target(path: str) -> str:
    """Path that the whiteout `path` hides, in the same directory.

    For the opaque marker that is the directory itself ("" for the root). Raises InvalidArchive
    when `path` is not a well-formed whiteout, or is metadata.
    """
    validate(path)
    name = basename(path)
    if not name.startswith(PREFIX) or is_metadata(path):
        raise InvalidArchive(f"{path!r} is not a whiteout")
    parent = path.rstrip("/")[: -len(name)]
    if name == OPAQUE:
        return parent.rstrip("/")
    return parent + name[len(PREFIX) :]


def make_whiteout(path: str) -> str:
    """Name of the whiteout that hides `path`.

    Raises InvalidArchive when `path` is the root or itself has a whiteout's name.
    """
    name = basename(path)
    if name in ("", ".", "..") or name.startswith(PREFIX):
        raise InvalidArchive(f"{path!r} cannot be hidden by a whiteout")
    return path.rstrip("/")[: -len(name)] + PREFIX + name


def make_opaque(directory: str) -> str:
    """Name of the marker that makes `directory` opaque ("" is the root)."""
    directory = directory.rstrip("/")
    return f"{directory}/{OPAQUE}" if directory else OPAQUE
