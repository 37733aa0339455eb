"""The digest of what a copy copies, for cache keys.

Says everything that makes a difference to the image and nothing else: names as the image gets
them, types, modes, owners, targets of links, attributes and content; neither times nor where
the sources lie. Every field is preceded by its length, so no two plans run together.
"""

from __future__ import annotations

import hashlib
import os
from typing import Protocol

from imgtools.blob.tar import EntryType
from imgtools.build.copying.model import BytesOrigin, CopyPlan, Found, HostOrigin, Member
from imgtools.build.copying.sniffing import DescriptorReader, open_host
from imgtools.build.tree import Tree
from imgtools.build.trees import Node
from imgtools.spec.digest import Digest

CHUNK = 1 << 20


class ContentHashes(Protocol):
    """Digests of the content of files, remembered or not."""

    def digest(self, tree: Tree, path: bytes, node: Node) -> bytes:
        """That of the regular file `path`, seen as `node`."""
        ...


def content_digest(plan: CopyPlan, hashes: ContentHashes) -> Digest:
    """The digest of all that `plan` copies.

    The tree below has no part in it: a cache key has that anyway. Raises what `hashes` raises,
    StorageError.
    """
    total = hashlib.sha256()
    _add(total, b"copy 1", b"%d" % len(plan.found))
    for found in plan.found:
        kind = b"directory" if found.is_dir else b"file"
        if found.archive:
            # Its members keep their owners only where none was asked for.
            kind = b"archive" if plan.request.owner is None else b"owned archive"
        # Only files go into a directory under their names.
        called = b"" if found.archive or found.is_dir else found.name
        _add(total, kind, called, b"%d" % len(found.members))
        numbers = {id(member): number for number, member in enumerate(found.members)}
        for member in found.members:
            first = numbers[id(member.same_as)] if member.same_as is not None else -1
            _add(
                total,
                member.path,
                member.type.value.encode(),
                b"%o %d %d %d" % (member.mode, member.uid, member.gid, first),
                b"%d %d" % member.device,
                b"implied" if member.implied else b"",
                member.linkname,
                b"%d" % len(member.xattrs),
            )
            for name, value in sorted(member.xattrs.items()):
                _add(total, os.fsencode(name), value)
            if member.type is EntryType.FILE and first < 0:
                _add(total, _content(found, member, hashes))
    return Digest("sha256", total.hexdigest())


def _content(found: Found, member: Member, hashes: ContentHashes) -> bytes:
    origin = found.origin
    if isinstance(origin, BytesOrigin):
        return hashlib.sha256(origin.content).digest()
    if isinstance(origin, HostOrigin):
        fd = open_host(origin.path)
        try:
            content, reader = hashlib.sha256(), DescriptorReader(fd, origin.path)
            while data := reader.read(CHUNK):
                content.update(data)
            return content.digest()
        finally:
            os.close(fd)
    assert member.node is not None
    return hashes.digest(origin.tree, origin.path_of(member), member.node)


def _add(total: hashlib._Hash, *fields: bytes) -> None:
    for field in fields:
        total.update(b"%d:" % len(field))
        total.update(field)
