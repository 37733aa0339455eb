"""Owner, mode and extended attributes of what is unpacked, and the recorder of the rest.

Decides what is put on a file, and tells the recorder, if there is one, what was not.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Container, Mapping
from types import MappingProxyType

from imgtools.blob.tar import attributes
from imgtools.blob.tar.entry import Entry, EntryType
from imgtools.blob.tar.options import UnpackOptions, Xattrs
from imgtools.errors import InvalidArchive

log = logging.getLogger(__name__)

MAX_ID = (1 << 32) - 2
REFUSED_XATTR = (errno.ENOTSUP, errno.EPERM, errno.EINVAL)
NOTHING: Mapping[str, bytes] = MappingProxyType({})


class Metadata:
    """What an unpacking with `options` does about the metadata of each entry.

    `owner` is whether owners are set, `skipped` counts attributes that were left out.
    """

    def __init__(self, options: UnpackOptions) -> None:
        superuser = os.geteuid() == 0
        self.owner = superuser if options.owner is None else options.owner
        self.recorder = options.recorder
        self.skipped = 0
        self._map_owner = options.map_owner
        self._policy = options.xattrs
        self._widen = self.recorder is not None and not superuser

    def ids(self, entry: Entry) -> tuple[int, int]:
        """(uid, gid) that the file of `entry` is to have; raises InvalidArchive."""
        uid, gid = entry.uid, entry.gid
        if self._map_owner is not None:
            uid, gid = self._map_owner(uid, gid)
        if not (0 <= uid <= MAX_ID and 0 <= gid <= MAX_ID):
            raise InvalidArchive(f"{entry.path!r} has an impossible owner {uid}:{gid}")
        return uid, gid

    def mode(self, entry: Entry) -> int:
        """The mode that the file of `entry` is to have.

        Where it is recorded and we have no right to override it, its owner can always get in.
        """
        if self._widen:
            return entry.mode | (0o700 if entry.type is EntryType.DIR else 0o600)
        return entry.mode

    def xattrs(self, fd: int, entry: Entry) -> Mapping[str, bytes]:
        """Set the attributes of `entry` that are kept on `fd`; those that were refused."""
        if not entry.xattrs or self._policy is Xattrs.NONE:
            return NOTHING
        refused = {}
        for name, value in entry.xattrs.items():
            if not attributes.kept(name):
                self.skipped += 1
                log.debug("attribute %s of %r left out", name, entry.path)
                continue
            try:
                os.setxattr(fd, name, value)
            except OSError as e:
                if self._policy is Xattrs.REQUIRE or e.errno not in REFUSED_XATTR:
                    raise
                refused[name] = value
                log.debug("attribute %s of %r refused: %s", name, entry.path, e.strerror)
        if self.recorder is None:
            self.skipped += len(refused)
        return refused

    def made(
        self,
        path: bytes,
        entry: Entry,
        refused: Mapping[str, bytes] = NOTHING,
        *,
        placeholder: bool = False,
    ) -> None:
        """Tell the recorder of an entry that is in place."""
        if self.recorder is not None:
            self.recorder.made(path, entry, refused, placeholder)

    def linked(self, path: bytes, target: bytes) -> None:
        """Tell the recorder of a hard link."""
        if self.recorder is not None:
            self.recorder.linked(path, target)

    def removed(self, path: bytes) -> None:
        """Tell the recorder of something that is gone."""
        if self.recorder is not None:
            self.recorder.removed(path)

    def cleared(self, path: bytes, keep: Container[bytes]) -> None:
        """Tell the recorder of a directory that was emptied."""
        if self.recorder is not None:
            self.recorder.cleared(path, keep)
