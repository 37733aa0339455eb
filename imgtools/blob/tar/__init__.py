"""Tar as image layers and archives use it: read, written, packed from and unpacked to trees.

Reading accepts every format container tools meet; writing is deterministic. Trees are handled
through directory descriptors, so no name can lead out of their root. The tree functions are
imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imgtools.blob.tar.data import EntryData, Readable
from imgtools.blob.tar.entry import BLOCK, Entry, EntryType, TarLimits, clean_path
from imgtools.blob.tar.index import index_tar
from imgtools.blob.tar.reader import TarReader
from imgtools.blob.tar.writer import TarWriter

if TYPE_CHECKING:
    from imgtools.blob.tar.options import (
        Devices,
        PackOptions,
        PackResult,
        UnpackOptions,
        UnpackResult,
        Whiteouts,
        Xattrs,
    )
    from imgtools.blob.tar.pack import pack_tree
    from imgtools.blob.tar.unpack import unpack_tree

__all__ = [
    "BLOCK",
    "Devices",
    "Entry",
    "EntryData",
    "EntryType",
    "PackOptions",
    "PackResult",
    "Readable",
    "TarLimits",
    "TarReader",
    "TarWriter",
    "UnpackOptions",
    "UnpackResult",
    "Whiteouts",
    "Xattrs",
    "clean_path",
    "index_tar",
    "pack_tree",
    "unpack_tree",
]


def __getattr__(name: str) -> object:
    if name == "pack_tree":
        from imgtools.blob.tar.pack import pack_tree

        return pack_tree
    if name == "unpack_tree":
        from imgtools.blob.tar.unpack import unpack_tree

        return unpack_tree
    if name in __all__:
        from imgtools.blob.tar import options

        return getattr(options, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
