"""The transport `dir:`, written: a new directory appears whole, an old one turns at once.

What is written collects in an unfinished directory. Where there was none, a rename makes it
the target. In a directory that exists (it may be a mount point, or somebody's working
directory) the new files are moved in beside the old, `manifest.json` is replaced by rename,
which is the instant the image changes, and what only the old image had is removed.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections.abc import Sequence
from contextlib import closing
from typing import NamedTuple

from imgtools.blob.files import storage_errors
from imgtools.errors import Conflict, Error, InvalidInput, NotFound, StorageError, UnsafePath
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.task import Task
from imgtools.transport.base import BlobOpener, BlobOutcome, Capabilities, Origin
from imgtools.transport.closing import Closing
from imgtools.transport.directory import (
    MANIFEST,
    VERSION,
    DirectorySource,
    blob_name,
    instance_name,
    is_version,
    named_blob,
    version_content,
)
from imgtools.transport.folder import PARTIAL_PREFIX, Folder, resolve_target
from imgtools.transport.lock import (
    UNFINISHED_PREFIX,
    OnePerDigest,
    begin_folder,
    clear_unfinished,
    lock,
    locked,
    unfinished_prefix,
)
from imgtools.transport.partial import LEAST_BLOB, Partials, store_blob
from imgtools.transport.partial_journal import partial_digest, partial_name

_log = logging.getLogger(__name__)
# Names that this form gives files, and those under which skopeo writes unfinished blobs.
_OURS = re.compile(
    r"(?:(?:sha\d{3}-)?[0-9a-f]{64,128}(?:\.manifest\.json|\.signature-\d+)?"
    r"|signature-\d+|dir-put-blob\d+)"
)
_VERSION_LIMIT = 1024
_INSIDE = "."
"""What unfinished work is for that is in the directory itself, whose name may change."""


class _Unfinished(NamedTuple):
    """Where the new image collects: `folder` is called `name` in `parent`."""

    parent: Folder
    name: str
    folder: Folder

    def close(self) -> None:
        self.folder.close()
        self.parent.close()


class DirectoryDestination(Closing):
    """Writes one image into a directory that is new, empty or an image of this form."""

    def __init__(self, path: str, *, journal_dir: str | None = None) -> None:
        """Nothing is written yet.

        `journal_dir` remembers large blobs that are unfinished when this ends without
        commit, and lets the next run go on with them; None keeps nothing. Raises NotFound
        when there is no parent directory and Conflict when the directory holds something
        else."""
        if not path:
            raise InvalidInput("dir: needs a path")
        self._origin = Origin(transport="dir", name=f"dir:{path}")
        self._path = resolve_target(path)
        self._journal_dir = journal_dir
        self._partials: Partials | None = None
        self._mutex = threading.Lock()
        self._one_per_digest = OnePerDigest()
        self._unfinished: _Unfinished | None = None
        self._has_top = False
        self._other_digests = False
        if os.path.lexists(self._path):
            with Folder.open(self._path) as target:
                self._check(target)

    @property
    def origin(self) -> Origin:
        """Where this is."""
        return self._origin

    @property
    def capabilities(self) -> Capabilities:
        """Any manifest, any layer."""
        return Capabilities()

    def current(self) -> Descriptor | None:
        """The image in the directory, None when there is none that can be read.

        Nor is there when a writer was killed while it moved the new image in: what it left
        over goes when the image is written again, even if its manifest is the new one.
        """
        unfinished = unfinished_prefix(_INSIDE)
        try:
            with DirectorySource(self._path) as source, Folder.open(self._path) as target:
                if any(name.startswith(unfinished) for name in target.names()):
                    return None
                return source.resolve()
        except Error:
            return None

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the blob was put already; what the old image has does not count."""
        return self._size(blob_name(descriptor.digest)) == descriptor.size

    def has_manifest(self, descriptor: Descriptor) -> bool:
        """Whether the instance was put already."""
        return self._size(instance_name(descriptor.digest)) == descriptor.size

    def put_blob(
        self,
        descriptor: Descriptor,
        open_blob: BlobOpener,
        *,
        mount_from: Sequence[Origin] = (),
        task: Task,
    ) -> BlobOutcome:
        """See Destination; raises StorageError and what the blob's reader raises."""
        folder = self._begin().folder
        name = blob_name(descriptor.digest)
        with self._one_per_digest(descriptor.digest):
            if folder.size(name) == descriptor.size:
                return "present"
            store_blob(folder, name, descriptor, open_blob, task=task, partials=self._partials)
        self._other_digests |= descriptor.digest.algorithm != "sha256"
        return "stored"

    def put_manifest(self, raw: RawManifest, *, top: bool) -> None:
        """See Destination."""
        folder = self._begin().folder
        folder.write(MANIFEST if top else instance_name(raw.digest), raw.content)
        if top:
            self._has_top = True
        else:
            self._other_digests |= raw.digest.algorithm != "sha256"

    def put_signatures(self, digest: Digest | None, blobs: Sequence[bytes]) -> None:
        """Keep `blobs` as all signatures of the instance `digest`, or with None of the top
        manifest; they show with the image, when it is committed."""
        folder = self._begin().folder
        prefix = "" if digest is None else f"{blob_name(digest)}."
        for number, blob in enumerate(blobs, 1):
            folder.write(f"{prefix}signature-{number}", blob)
        number = len(blobs) + 1
        while folder.size(f"{prefix}signature-{number}") is not None:
            folder.remove(f"{prefix}signature-{number}")
            number += 1
        if digest is not None and blobs:
            self._other_digests |= digest.algorithm != "sha256"

    def commit(self) -> None:
        """Make the image the directory's; raises Conflict when something else is there now."""
        if not self._has_top:
            raise InvalidInput("there is nothing to commit: no manifest was put")
        unfinished = self._begin()
        if self._partials is not None:
            self._partials.drop_all(unfinished.folder)
        unfinished.folder.write(VERSION, version_content(other_digests=self._other_digests))
        unfinished.folder.sync()
        if self._rename(unfinished):
            # From here on it is the image, which closing must not clear away.
            self._unfinished = None
            with closing(unfinished):
                unfinished.parent.sync()
        else:
            self._move_in(unfinished)
            self._unfinished = None
            unfinished.close()

    def close(self) -> None:
        """Without commit, remove what was written, but for what the journal remembers."""
        unfinished, self._unfinished = self._unfinished, None
        if unfinished is None:
            return
        try:
            for name in unfinished.folder.names():
                self._leave(unfinished.folder, name)
            unfinished.parent.remove_folder(unfinished.name)
        finally:
            unfinished.close()

    def _leave(self, folder: Folder, name: str) -> None:
        """Remove a file, or keep it for the run that continues this one."""
        digest = named_blob(name)
        if self._partials is None or (digest is None and not name.startswith(PARTIAL_PREFIX)):
            folder.remove(name)
        elif digest is not None:
            self._partials.keep(folder, name, digest)

    def _size(self, name: str) -> int | None:
        unfinished = self._unfinished
        return None if unfinished is None else unfinished.folder.size(name)

    def _begin(self) -> _Unfinished:
        with self._mutex:
            if self._unfinished is None:
                inside = os.path.isdir(self._path)
                target = _INSIDE if inside else os.path.basename(self._path)
                parent = Folder.open(self._path if inside else os.path.dirname(self._path))
                try:
                    self._partials = Partials.of(self._journal_dir, self._path)
                    if self._partials is None:
                        clear_unfinished(parent, target)
                    self._unfinished = _Unfinished(parent, *begin_folder(parent, target))
                    if lock(self._unfinished.folder.fd) != "held":
                        # Nobody could tell later that we are gone, and take it over.
                        self._partials = None
                    if self._partials is not None:
                        _adopt(self._unfinished, target, self._partials)
                        clear_unfinished(parent, target)
                except BaseException:
                    parent.close()
                    raise
            return self._unfinished

    def _rename(self, unfinished: _Unfinished) -> bool:
        """Give a new directory its name; False when one of that name is there."""
        if os.path.lexists(self._path):
            return False
        with storage_errors(self._path):
            try:
                os.rename(
                    unfinished.name,
                    os.path.basename(self._path),
                    src_dir_fd=unfinished.parent.fd,
                    dst_dir_fd=unfinished.parent.fd,
                )
            except (FileExistsError, NotADirectoryError):
                return False
            except OSError:
                if os.path.lexists(self._path):
                    return False
                raise
        return True

    def _move_in(self, unfinished: _Unfinished) -> None:
        """Turn the directory at the path into the new image."""
        new = set(unfinished.folder.names())
        with Folder.open(self._path) as target, locked(target):
            self._check(target)
            old = set(target.names())
            moved: list[str] = []
            try:
                # The version goes first: it is what makes the directory ours for a later run.
                for name in (VERSION, *sorted(new - {MANIFEST, VERSION})):
                    unfinished.folder.move(name, target, name)
                    moved.append(name)
                target.sync()
                unfinished.folder.move(MANIFEST, target, MANIFEST)
            except BaseException:
                for name in reversed(moved):
                    if name not in old:
                        target.remove(name)
                raise
            target.sync()
            for name in target.names():
                if name not in new and _OURS.fullmatch(name):
                    target.remove(name)
            unfinished.parent.remove_folder(unfinished.name)
            target.sync()

    def _check(self, target: Folder) -> None:
        """Raise Conflict unless `target` is empty or an image of this form."""
        if all(name.startswith(UNFINISHED_PREFIX) for name in target.names()):
            return
        try:
            version = target.read(VERSION, _VERSION_LIMIT)
        except (NotFound, UnsafePath, StorageError):
            version = b""
        if not is_version(version):
            raise Conflict(
                f"{self._path} is not empty and not a dir: image, and is not overwritten",
                hint="choose a new or an empty directory",
            )


def _adopt(unfinished: _Unfinished, target: str, partials: Partials) -> None:
    """Take over the large blobs of writers of `target` that are gone."""
    prefix = unfinished_prefix(target)
    for name in unfinished.parent.names():
        if not name.startswith(prefix) or name == unfinished.name:
            continue
        try:
            with unfinished.parent.folder(name) as left, storage_errors(left.path):
                if lock(left.fd) == "held":
                    _take_over(left, unfinished.folder, partials)
        except Error as e:
            # In a directory that several users write, it may not be ours to take.
            _log.debug("left %s in %s: %s", name, unfinished.parent.path, e.message)


def _take_over(left: Folder, folder: Folder, partials: Partials) -> None:
    for name in left.names():
        digest = partial_digest(name) or named_blob(name)
        if digest is None or folder.size(partial_name(digest)) is not None:
            continue
        if name != partial_name(digest) and (left.size(name) or 0) < LEAST_BLOB:
            continue
        if partials.remember(folder, digest):
            left.move(name, folder, partial_name(digest))
