"""The transport `oci:`, written: blobs first, index.json last and under a lock.

Writers of one layout share a lock on its blobs, so that what a dead one left can be told
from what a live one is writing; index.json is changed under an exclusive lock and replaced
by rename, so that writers of different names both land and readers see a whole file.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Self

from imgtools.blob.files import storage_errors, sync_directory
from imgtools.errors import Conflict, InvalidInput, NotFound, StorageError, Unsupported
from imgtools.spec import manifest as mf
from imgtools.spec import media_type as mt
from imgtools.spec import strict_json
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.spec.schema1 import Schema1
from imgtools.spec.strict_json import MANIFEST_LIMIT
from imgtools.task import Task
from imgtools.transport import layout_index, oci_layout
from imgtools.transport.base import BlobOpener, BlobOutcome, Capabilities, Origin
from imgtools.transport.closing import Closing
from imgtools.transport.folder import NEW_PREFIX, Folder, resolve_target
from imgtools.transport.layout_files import LayoutFolder
from imgtools.transport.lock import OnePerDigest, lock, locked
from imgtools.transport.names import LocalName, check_ref_name, parse_target_name
from imgtools.transport.partial import Partials, clear_partial, store_blob

_ATTEMPTS = 20


def layout_capabilities(*, accept_uncompressed: bool) -> Capabilities:
    """What an OCI layout holds, in a directory or an archive."""
    return Capabilities(
        manifest_types=frozenset(
            {mt.OCI_MANIFEST, mt.OCI_INDEX, mt.DOCKER_MANIFEST, mt.DOCKER_LIST}
        ),
        layer_compressions=None if accept_uncompressed else frozenset({"gzip", "zstd"}),
        referrers=True,
        foreign_layers_by_url=True,
    )


@dataclass(slots=True)
class NewEntries:
    """What a commit adds to index.json: the top manifest and referrers."""

    top: RawManifest | None = None
    referrers: list[Descriptor] = field(default_factory=list)

    def note(self, raw: RawManifest, *, top: bool) -> None:
        """Remember a manifest that was stored; raises Unsupported for a schema 1 manifest."""
        view = mf.parse(raw)
        if isinstance(view, Schema1):
            raise Unsupported("an OCI layout cannot hold a Docker schema 1 manifest")
        if top:
            self.top = raw
        elif view.subject is not None:
            listed = oci_layout.referrer(raw.descriptor(), view)
            self.referrers.append(
                Descriptor(
                    media_type=listed.media_type,
                    digest=listed.digest,
                    size=listed.size,
                    artifact_type=view.artifact_type,
                )
            )

    def added_to(self, document: dict[str, Any], ref: str) -> dict[str, Any]:
        """`document` with the entries; raises InvalidInput when there is nothing to add."""
        if self.top is None and not self.referrers:
            raise InvalidInput("there is nothing to commit: no manifest was put")
        if self.top is not None:
            document = layout_index.with_image(document, self.top.descriptor(), ref)
        for descriptor in self.referrers:
            document = layout_index.with_referrer(document, descriptor)
        return document


@dataclass(slots=True)
class _Session:
    """The open directories of a layout that is being written."""

    root: Folder
    blobs: Folder
    made_root: bool
    before: bytes | None
    made_layout_file: bool = False
    partials: Partials | None = None
    folders: dict[str, Folder] = field(default_factory=dict)
    stored: list[Digest] = field(default_factory=list)

    def close(self) -> None:
        for folder in (*self.folders.values(), self.blobs, self.root):
            folder.close()


class LayoutDestination(Closing):
    """Writes one image into a layout, which is made when the first blob needs it."""

    def __init__(
        self,
        name: LocalName,
        origin: Origin,
        capabilities: Capabilities,
        shared: str | None,
        journal_dir: str | None,
    ) -> None:
        """`open` is the way to make one."""
        self._name = name
        self._origin = origin
        self._capabilities = capabilities
        self._shared = shared
        self._path = resolve_target(name.path)
        self._journal_dir = journal_dir
        self._mutex = threading.Lock()
        self._one_per_digest = OnePerDigest()
        self._session: _Session | None = None
        self._entries = NewEntries()
        self._committed = False

    @classmethod
    def open(
        cls,
        rest: str,
        *,
        shared_blob_dir: str | None = None,
        accept_uncompressed: bool = False,
        journal_dir: str | None = None,
    ) -> Self:
        """The destination `oci:rest`, of which nothing is written yet.

        `journal_dir` remembers large blobs that are unfinished when this ends without
        commit, for the next run to go on with; None keeps nothing. Raises InvalidReference,
        NotFound (no parent directory), and InvalidJSON or InvalidManifest when the
        index.json there cannot be extended.
        """
        name = parse_target_name("oci", rest)
        check_ref_name("oci", name)
        new = cls(
            name,
            Origin(transport="oci", name=f"oci:{rest}"),
            layout_capabilities(accept_uncompressed=accept_uncompressed),
            shared_blob_dir,
            journal_dir,
        )
        new._index_there()
        return new

    @property
    def origin(self) -> Origin:
        """Where this is."""
        return self._origin

    @property
    def capabilities(self) -> Capabilities:
        """What a layout can hold."""
        return self._capabilities

    def current(self) -> Descriptor | None:
        """The entry of the name, None when there is none or its manifest is missing."""
        try:
            files = LayoutFolder(self._path, self._shared)
            name = replace(self._name, path=self._path)
            with closing(files), oci_layout.LayoutSource(files, name, self._origin) as source:
                found = source.resolve()
        except (NotFound, InvalidInput, Unsupported):
            return None
        return found if self.has_manifest(found) else None

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether a file of the blob's name and size is there."""
        return self._size(descriptor.digest) == descriptor.size

    def has_manifest(self, descriptor: Descriptor) -> bool:
        """Whether a file of the manifest's name and size is there."""
        return self.has_blob(descriptor)

    def put_blob(
        self,
        descriptor: Descriptor,
        open_blob: BlobOpener,
        *,
        mount_from: Sequence[Origin] = (),
        task: Task,
    ) -> BlobOutcome:
        """See Destination; raises StorageError and what the blob's reader raises."""
        session = self._begin()
        with self._one_per_digest(descriptor.digest):
            folder = self._folder(session, descriptor.digest.algorithm)
            if folder.size(descriptor.digest.hex) == descriptor.size:
                return "present"
            name, partials = descriptor.digest.hex, session.partials
            store_blob(folder, name, descriptor, open_blob, task=task, partials=partials)
            session.stored.append(descriptor.digest)
        return "stored"

    def put_manifest(self, raw: RawManifest, *, top: bool) -> None:
        """See Destination; raises Unsupported for a schema 1 manifest."""
        session = self._begin()
        self._entries.note(raw, top=top)
        with self._one_per_digest(raw.digest):
            folder = self._folder(session, raw.digest.algorithm)
            if folder.size(raw.digest.hex) != raw.size:
                folder.write(raw.digest.hex, raw.content)
                session.stored.append(raw.digest)

    def commit(self) -> None:
        """Make blobs and names durable, then replace index.json."""
        session = self._begin()
        for folder in (*session.folders.values(), session.blobs):
            folder.sync()
        with locked(session.root):
            clear_temporary(session.root)
            document = self._entries.added_to(_index(session.root, self._path), self._name.ref)
            if session.root.size("oci-layout") is None:
                session.made_layout_file = True
                session.root.write("oci-layout", layout_index.LAYOUT_FILE)
            session.root.write("index.json", strict_json.dumps(document))
            session.root.sync()
        if session.made_root:
            sync_directory(os.path.dirname(self._path))
        self._committed = True

    def close(self) -> None:
        """Without commit, take back what was stored, unless somebody may be using it."""
        session, self._session = self._session, None
        if session is None:
            return
        try:
            if not self._committed:
                self._undo(session)
        finally:
            session.close()

    def _index_there(self) -> None:
        """Fail early where index.json cannot be extended."""
        try:
            root = Folder.open(self._path)
        except NotFound:
            if not os.path.lexists(self._path):
                return
            # Another writer has made it just now, or it is a link that leads nowhere.
            root = Folder.open(self._path)
        with root:
            _index(root, self._path)
            layout = root.read_if_there("oci-layout", MANIFEST_LIMIT)
            if layout is not None:
                layout_index.check_layout_file(layout, self._path)

    def _size(self, digest: Digest) -> int | None:
        try:
            with (
                Folder.open(self._shared or os.path.join(self._path, "blobs")) as blobs,
                blobs.folder(digest.algorithm) as folder,
            ):
                return folder.size(digest.hex)
        except NotFound:
            return None

    def _begin(self) -> _Session:
        with self._mutex:
            if self._session is None:
                self._session = self._open_session()
            return self._session

    def _open_session(self) -> _Session:
        """Make the directories and join the writers; starts over when an undo overtakes."""
        made_root = False
        for _ in range(_ATTEMPTS):
            with storage_errors(self._path):
                try:
                    os.mkdir(self._path, 0o755)
                    made_root = True
                except FileExistsError:
                    pass
            try:
                root = Folder.open(self._path)
                blobs = self._open_blobs(root)
            except NotFound:
                continue
            except BaseException:
                if made_root:
                    _remove_if_empty(self._path)
                raise
            if _join(blobs, keep=self._journal_dir is not None):
                return _Session(
                    root=root,
                    blobs=blobs,
                    made_root=made_root,
                    before=root.read_if_there("index.json", layout_index.INDEX_LIMIT),
                    partials=Partials.of(self._journal_dir, os.path.realpath(blobs.path)),
                )
            blobs.close()
            root.close()
        raise Conflict(f"{self._path}: another process keeps removing the layout")

    def _open_blobs(self, root: Folder) -> Folder:
        try:
            own, _made = root.make("blobs")
            if not self._shared:
                return own
            own.close()
            with storage_errors(self._shared):
                os.makedirs(self._shared, exist_ok=True)
            return Folder.open(self._shared)
        except BaseException:
            root.close()
            raise

    def _folder(self, session: _Session, algorithm: str) -> Folder:
        with self._mutex:
            folder = session.folders.get(algorithm)
            if folder is None:
                folder, _made = session.blobs.make(algorithm)
                session.folders[algorithm] = folder
            return folder

    def _undo(self, session: _Session) -> None:
        """Remove our blobs where nobody else can have come to need them.

        That is so when no other writer is at work and nobody committed since we began; in a
        directory of shared blobs it can never be known.
        """
        if self._shared or lock(session.blobs.fd) != "held":
            return
        if session.root.read_if_there("index.json", layout_index.INDEX_LIMIT) != session.before:
            return
        for digest in session.stored:
            folder = session.folders[digest.algorithm]
            if session.partials is None:
                folder.remove(digest.hex)
            else:
                session.partials.keep(folder, digest.hex, digest)
        if session.before is not None:
            return
        if session.made_layout_file:
            session.root.remove("oci-layout")
        for algorithm in session.folders:
            session.blobs.remove_folder(algorithm)
        session.root.remove_folder("blobs")
        if session.made_root:
            _remove_if_empty(self._path)


def _remove_if_empty(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError:
        return  # somebody put something there, or took it away


def _join(blobs: Folder, *, keep: bool) -> bool:
    """Share the lock on `blobs`; False when the directory was removed meanwhile.

    Whoever is alone clears temporary files first, since nobody is left who writes them, but
    for those that may be continued, if `keep` says that there is a journal of them.
    """
    with storage_errors(blobs.path):
        if lock(blobs.fd) == "held" and not blobs.removed:
            for algorithm in blobs.names():
                _clear_algorithm(blobs, algorithm, time.time() if keep else None)
        lock(blobs.fd, shared=True, wait=True)
    return not blobs.removed


def _clear_algorithm(blobs: Folder, algorithm: str, now: float | None) -> None:
    try:
        with blobs.folder(algorithm) as folder:
            clear_temporary(folder)
            clear_partial(folder, now=now)
    except (InvalidInput, StorageError):
        return  # no directory, so nothing of ours


def clear_temporary(folder: Folder) -> None:
    """Remove temporary files of writers that are gone; the caller holds the lock."""
    for name in folder.names():
        if name.startswith(NEW_PREFIX):
            folder.remove(name)


def _index(root: Folder, where: str) -> dict[str, Any]:
    content = root.read_if_there("index.json", layout_index.INDEX_LIMIT)
    if content is None:
        return layout_index.new_index()
    return layout_index.parse_index(content, where)
