"""What the tar cases run in a process of its own: our codec, from and to files."""

from __future__ import annotations


def pack(directory: str, archive: str) -> None:
    """Pack a directory into a tar file."""
    from imgtools.blob.tar import pack_tree

    with open(archive, "wb", buffering=0) as out:
        pack_tree(directory, out.write)


def unpack(archive: str, directory: str) -> None:
    """Unpack a tar file into an existing directory."""
    from imgtools.blob.tar import unpack_tree

    with open(archive, "rb", buffering=0) as source:
        unpack_tree(source, directory)
