"""One OCI image layout as a repository: its blobs, manifests, tags and referrers.

Everything is read from the files at every request; only facts that a digest fixes are kept.
index.json is replaced whole, under the lock that all writers of layouts take.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from imgtools.blob.files import storage_error
from imgtools.errors import (
    BlobNotFound,
    Conflict,
    DigestMismatch,
    InvalidInput,
    LimitExceeded,
    StorageError,
    Unsupported,
)
from imgtools.frozen import dataclass
from imgtools.serve import beneath, layout_index
from imgtools.serve.message import FileBody
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Index, Manifest, RawManifest, parse
from imgtools.spec.strict_json import MANIFEST_LIMIT
from imgtools.transport.layout_index import INDEX_LIMIT, LAYOUT_FILE

_FACTS_LIMIT = 20_000

_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a manifest says about other manifests; fixed by its digest.

    `referrer` is how the referrers API lists it; `children` are an index's manifests.
    """

    referrer: Descriptor
    subject: Digest | None
    children: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class _State:
    stamp: _Stamp
    index: Index
    tags: Mapping[str, Descriptor]


class LayoutRepository:
    """The layout at `parts` below the directory descriptor `root`."""

    def __init__(self, root: int, parts: tuple[str, ...]) -> None:
        self._root = root
        self.parts = parts
        self._mutex = threading.Lock()
        self._state: _State | None = None
        self._facts: dict[Digest, Facts | None] = {}

    # --- existence and tags -------------------------------------------------------------

    def exists(self) -> bool:
        """Whether there is a layout, or blobs of one that is being pushed."""
        if self._stamp() is not None:
            return True
        with beneath.directory(self._root, (*self.parts, "blobs")) as fd:
            return fd is not None

    def tags(self) -> Sequence[str]:
        """The tags, sorted bytewise."""
        state = self._current()
        return sorted(state.tags) if state else ()

    # --- blobs --------------------------------------------------------------------------

    def open_blob(self, digest: Digest) -> FileBody | None:
        """A blob's content, None when it is not here."""
        found = beneath.open_file(self._root, self._blob(digest))
        return None if found is None else FileBody(found[0], 0, found[1].st_size)

    def blob_size(self, digest: Digest) -> int | None:
        """Bytes of a blob, None when it is not here."""
        body = self.open_blob(digest)
        if body is None:
            return None
        body.close()
        return body.length

    def delete_blob(self, digest: Digest) -> bool:
        """Remove a blob; raises Conflict when it is a manifest that index.json leads to."""
        with self._locked() as parent:
            if parent is None or self.blob_size(digest) is None:
                return False
            index = self._read_index()
            if digest in self._reachable(index):
                raise Conflict("the blob is a manifest: delete it as one")
            return self._unlink_blob(digest)

    def link_blob(self, digest: Digest, source: LayoutRepository) -> bool:
        """Make a blob of another layout be here too, sharing its bytes where possible."""
        body = source.open_blob(digest)
        if body is None:
            return False
        try:
            blobs = ("blobs", digest.algorithm)
            with (
                beneath.sharing_blobs(self._root, self.parts),
                beneath.directory(self._root, (*source.parts, *blobs)) as from_fd,
                beneath.directory(self._root, (*self.parts, *blobs), create=True) as to_fd,
            ):
                if from_fd is None or to_fd is None:
                    return False
                _link_or_copy(from_fd, to_fd, digest.hex, body)
        finally:
            body.close()
        return True

    # --- manifests ----------------------------------------------------------------------

    def manifest(self, target: str | Digest) -> RawManifest | None:
        """The manifest of a tag or digest, None when it is not here.

        Any blob that is a manifest can be had by its digest, as its media type is in it or
        follows from its structure. Raises StorageError when the bytes are not the digest's.
        """
        state = self._current()
        if isinstance(target, str):
            entry = state.tags.get(target) if state else None
            if entry is None:
                return None
            return self._read_manifest(entry.digest, entry.media_type)
        entries = state.index.manifests if state else ()
        said = next((e.media_type for e in entries if e.digest == target), "")
        return self._read_manifest(target, said)

    def put_manifest(
        self, raw: RawManifest, tags: Sequence[str], needed: Sequence[Digest] = ()
    ) -> None:
        """Store a manifest and point `tags` at it.

        Raises Unsupported, StorageError, or BlobNotFound when a blob of `needed` is gone.
        """
        if mt.kind(raw.media_type) == "schema1":
            raise Unsupported("an OCI layout cannot hold a schema 1 manifest")
        with (
            self._locked(create=True) as parent,
            beneath.sharing_blobs(self._root, self.parts),
        ):
            assert parent is not None, "a directory that is created is there"
            for digest in needed:
                if self.blob_size(digest) is None:
                    raise BlobNotFound(f"the manifest names {digest}, which is gone")
            self._write_blob(raw)
            old = self._read_index()
            new = layout_index.with_tags(old, raw.descriptor(), tags)
            if raw.digest not in self._reachable(new):
                new = layout_index.with_untagged(new, [raw.descriptor()])
            elif tags:
                new = layout_index.without_plain(new, [raw.digest])
            children = self._facts_of(raw.descriptor())
            if children is not None and children.children:
                new = layout_index.without_plain(new, (c.digest for c in children.children))
            self._replace_index(parent, old, new)

    def delete_tag(self, tag: str) -> bool:
        """Remove a tag; False when it is not here."""
        with self._locked() as parent:
            if parent is None:
                return False
            old = self._read_index()
            if tag not in layout_index.tags_of(old):
                return False
            self._replace_index(parent, old, layout_index.without_tag(old, tag))
        return True

    def delete_manifest(self, digest: Digest) -> bool:
        """Remove a manifest and its tags; False when it is not here."""
        with self._locked() as parent:
            if parent is None or self._read_manifest(digest, "") is None:
                return False
            old = self._read_index()
            new = layout_index.without_digest(old, digest)
            self._replace_index(parent, old, new, removed=digest)
            with self._mutex:
                self._facts.pop(digest, None)
            return self._unlink_blob(digest)

    def referrers(self, subject: Digest) -> Sequence[Descriptor]:
        """The manifests that index.json leads to and whose subject is `subject`, by digest."""
        state = self._current()
        if state is None:
            return ()
        found = [f.referrer for f in self._reachable(state.index).values() if f.subject == subject]
        return sorted(found, key=lambda d: d.digest)

    # --- index.json ---------------------------------------------------------------------

    def _stamp(self) -> _Stamp | None:
        found = beneath.open_file(self._root, (*self.parts, "index.json"))
        if found is None:
            return None
        os.close(found[0])
        return found[1].st_ino, found[1].st_mtime_ns, found[1].st_size

    def _current(self) -> _State | None:
        """index.json as it is now, parsed anew only when the file is another one."""
        stamp = self._stamp()
        if stamp is None:
            return None
        with self._mutex:
            state = self._state
        if state is None or state.stamp != stamp:
            index = self._read_index()
            state = _State(stamp, index, layout_index.tags_of(index))
            with self._mutex:
                self._state = state
        return state

    def _read_index(self) -> Index:
        path = "/".join((*self.parts, "index.json"))
        try:
            content = beneath.read_file(self._root, (*self.parts, "index.json"), INDEX_LIMIT)
            if content is None:
                return layout_index.EMPTY
            return layout_index.read(content, path)
        except (InvalidInput, LimitExceeded) as e:
            raise StorageError(f"{path}: {e.message}", path=path) from e

    def _replace_index(
        self, parent: int, old: Index, new: Index, *, removed: Digest | None = None
    ) -> None:
        """Write `new`, with entries for referrers that `old` led to and `new` would lose."""
        after = self._reachable(new)
        lost = [
            facts.referrer
            for digest, facts in self._reachable(old).items()
            if facts.subject is not None and digest not in after and digest != removed
        ]
        content = layout_index.with_untagged(new, lost).to_raw().content
        if len(content) > INDEX_LIMIT:
            raise LimitExceeded("the repository's index", INDEX_LIMIT)
        if not beneath.is_file(parent, ("oci-layout",)):
            beneath.write_file(parent, "oci-layout", LAYOUT_FILE)
        beneath.write_file(parent, "index.json", content)

    @contextmanager
    def _locked(self, *, create: bool = False) -> Iterator[int | None]:
        """The layout's directory, locked against other writers; None when it is not there."""
        with beneath.directory(self._root, self.parts, create=create) as parent:
            if parent is None:
                yield None
                return
            with beneath.locked(parent):
                yield parent

    # --- manifests' relations -----------------------------------------------------------

    def _reachable(self, index: Index) -> Mapping[Digest, Facts]:
        """Every manifest that `index` leads to, through indexes at any depth."""
        found: dict[Digest, Facts] = {}
        waiting = list(index.manifests)
        seen = set()
        while waiting:
            entry = waiting.pop()
            if entry.digest in seen:
                continue
            seen.add(entry.digest)
            facts = self._facts_of(entry)
            if facts is not None:
                found[entry.digest] = facts
                waiting.extend(facts.children)
        return found

    def _facts_of(self, entry: Descriptor) -> Facts | None:
        """What a manifest says; None for anything that is no manifest here."""
        with self._mutex:
            if entry.digest in self._facts:
                return self._facts[entry.digest]
        try:
            raw = self._read_manifest(entry.digest, entry.media_type)
        except StorageError:
            return None
        facts = None if raw is None else _facts(raw)
        if raw is not None:
            with self._mutex:
                if len(self._facts) >= _FACTS_LIMIT:
                    self._facts.clear()
                self._facts[entry.digest] = facts
        return facts

    def _read_manifest(self, digest: Digest, said: str) -> RawManifest | None:
        try:
            content = beneath.read_file(self._root, self._blob(digest), MANIFEST_LIMIT)
            if content is None:
                return None
            raw = RawManifest.verified(content, said, digest)
            parse(raw)
        except DigestMismatch as e:
            raise StorageError(f"{digest}: the stored bytes are wrong", path=str(digest)) from e
        except (InvalidInput, LimitExceeded):
            return None
        return raw

    # --- files --------------------------------------------------------------------------

    def _blob(self, digest: Digest) -> tuple[str, ...]:
        return (*self.parts, "blobs", digest.algorithm, digest.hex)

    def _write_blob(self, raw: RawManifest) -> None:
        parts = (*self.parts, "blobs", raw.digest.algorithm)
        with beneath.directory(self._root, parts, create=True) as fd:
            assert fd is not None, "a directory that is created is there"
            if self.blob_size(raw.digest) != raw.size:
                beneath.write_file(fd, raw.digest.hex, raw.content)
            else:
                # Blobs got their names without this; the manifest must not outlive them.
                os.fsync(fd)

    def _unlink_blob(self, digest: Digest) -> bool:
        parts = (*self.parts, "blobs", digest.algorithm)
        with beneath.directory(self._root, parts) as fd:
            return fd is not None and beneath.unlink(fd, digest.hex)


def _facts(raw: RawManifest) -> Facts | None:
    parsed = parse(raw)
    if not isinstance(parsed, Manifest | Index):
        return None
    artifact_type = parsed.artifact_type
    children: tuple[Descriptor, ...] = ()
    if isinstance(parsed, Index):
        children = parsed.manifests
    elif not artifact_type:
        # distribution-spec "Listing Referrers": of an image manifest, never of an index.
        artifact_type = parsed.config.media_type
    referrer = replace(
        raw.descriptor(), artifact_type=artifact_type, annotations=parsed.annotations
    )
    subject = parsed.subject.digest if parsed.subject is not None else None
    return Facts(referrer, subject, children)


_NO_LINKS = frozenset({errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS})


def _link_or_copy(from_fd: int, to_fd: int, name: str, body: FileBody) -> None:
    try:
        os.link(name, name, src_dir_fd=from_fd, dst_dir_fd=to_fd, follow_symlinks=False)
    except FileExistsError:
        return
    except OSError as e:
        if e.errno not in _NO_LINKS:
            raise storage_error(e, name) from e
        _copy(to_fd, name, body)


def _copy(to_fd: int, name: str, body: FileBody) -> None:
    temporary = beneath.temporary_name()
    try:
        fd = os.open(
            temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644, dir_fd=to_fd
        )
        try:
            position = 0
            while position < body.length:
                # Shares extents on file systems that can.
                count = os.copy_file_range(body.fd, fd, body.length - position, position)
                if not count:
                    raise OSError(errno.EIO, "the blob shrank while it was copied")
                position += count
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(temporary, name, src_dir_fd=to_fd, dst_dir_fd=to_fd)
    except OSError as e:
        beneath.unlink(to_fd, temporary)
        raise storage_error(e, name) from e
