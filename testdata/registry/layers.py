"""Makes the layers of the test images: tar archives, plain, gzip and zstd, always the same bytes.

The archives hold one of everything a layer can have that needs no device node.
"""

from __future__ import annotations

import base64
import hashlib
import io
import tarfile
import zlib
from collections.abc import Iterable

MTIME = 1709208000

# tar_layer("zstd") compressed with zstd 1.5.7, level 3: kept, since zstd's output changes between
# versions.
ZSTD_LAYER = base64.b64decode(
    "KLUv/WQAJ3UEAILFEhigtTkAvpko7efvX+z+D0VSEie5w0BA4sgDsUcBHX3ESFYRcDlEiZiSarqrABCaGANtRkAw"
    "h63a19YeyMvlr9Jp5xOe7T9t+w5bDRgA/Q96EDDBCVAgYIICKAhM4Lo2PQZUAt0FZuj8hRYyoPIDBIZ8LZDrBmVu"
    "jgIAMGBhNWbMUI1gBQDHymV4AlqilzfO"
)


def gzipped(data: bytes) -> bytes:
    """One gzip member without name or time."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, 31)
    return compressor.compress(data) + compressor.flush()


def noise(seed: str, size: int) -> bytes:
    """`size` bytes that do not compress, from `seed` alone."""
    blocks = (hashlib.sha256(f"{seed} {i}".encode()).digest() for i in range(size // 32 + 1))
    return b"".join(blocks)[:size]


def tar_of(members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """A pax archive of `members`, owned by root, of one date."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in members:
            info.mtime = MTIME
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def member(
    name: str, kind: bytes = tarfile.REGTYPE, mode: int = 0o644, link: str = ""
) -> tarfile.TarInfo:
    """A tar header."""
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname = kind, mode, link
    return info


def base_layer() -> bytes:
    """A little root file system: directories, files, both kinds of link, a setuid file."""
    release = b'ID=imgtools\nPRETTY_NAME="imgtools test image"\n'
    return tar_of(
        [
            (member("etc/", tarfile.DIRTYPE, 0o755), b""),
            (member("etc/os-release"), release),
            (member("etc/removed-later"), b"a file that the next layer deletes\n"),
            (member("usr/", tarfile.DIRTYPE, 0o755), b""),
            (member("usr/bin/", tarfile.DIRTYPE, 0o755), b""),
            (member("usr/bin/hello", mode=0o4755), b"#!/bin/sh\necho hello\n"),
            (member("usr/bin/hi", tarfile.LNKTYPE, 0o4755, "usr/bin/hello"), b""),
            (member("bin", tarfile.SYMTYPE, 0o777, "usr/bin"), b""),
            (member("usr/share/noise"), noise("base", 40_000)),
            (member("tmp/", tarfile.DIRTYPE, 0o1777), b""),
        ]
    )


def tar_layer(text: str) -> bytes:
    """A second layer: a file of its own, and a whiteout of one below."""
    return tar_of(
        [
            (member("etc/", tarfile.DIRTYPE, 0o755), b""),
            (member("etc/.wh.removed-later"), b""),
            (member("etc/flavour"), f"{text}\n".encode()),
        ]
    )
