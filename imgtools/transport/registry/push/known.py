"""What a registry is known to hold, for as long as the process lives.

Copies of many tags to one registry share this: a blob is uploaded once, whoever needs it
meanwhile waits, and other repositories mount it. Nothing is kept beyond the process, because
somebody may delete there.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from imgtools.spec.digest import Digest
from imgtools.task import CancelToken


class KnownContent:
    """Blobs and manifests seen in, or put into, one registry; safe to use from any thread."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._blobs: dict[Digest, dict[str, None]] = {}
        self._manifests: set[tuple[str, Digest]] = set()
        self._busy: dict[Digest, set[str]] = {}
        self._shared = True

    def has_blob(self, repository: str, digest: Digest) -> bool:
        """Whether the blob is known to be in `repository`."""
        with self._changed:
            return repository in self._blobs.get(digest, ())

    def add_blob(self, repository: str, digest: Digest) -> None:
        """The blob is in `repository`."""
        with self._changed:
            self._blobs.setdefault(digest, {})[repository] = None

    def elsewhere(self, repository: str, digest: Digest) -> list[str]:
        """The other repositories that are known to have the blob, the latest first."""
        with self._changed:
            return [name for name in reversed(self._blobs.get(digest, {})) if name != repository]

    def has_manifest(self, repository: str, digest: Digest) -> bool:
        """Whether the manifest is known to be in `repository`."""
        with self._changed:
            return (repository, digest) in self._manifests

    def add_manifest(self, repository: str, digest: Digest) -> None:
        """The manifest is in `repository`."""
        with self._changed:
            self._manifests.add((repository, digest))

    def forget(self, repository: str) -> None:
        """Something was deleted from `repository`, or was not there after all."""
        with self._changed:
            for names in self._blobs.values():
                names.pop(repository, None)
            self._manifests = {known for known in self._manifests if known[0] != repository}

    def no_mounts(self) -> None:
        """Blobs cannot be had from other repositories, so there is no use in waiting for them."""
        with self._changed:
            self._shared = False
            self._changed.notify_all()

    @contextmanager
    def alone(self, repository: str, digest: Digest, cancel: CancelToken) -> Iterator[None]:
        """Hold the right to upload a blob for the block, waiting for whoever has it.

        Ask `has_blob` inside: it may have come meanwhile. Raises Cancelled.
        """
        with cancel.calls(self._wake), self._changed:
            while self._is_busy(repository, digest):
                cancel.check()
                self._changed.wait()
            self._busy.setdefault(digest, set()).add(repository)
        try:
            yield
        finally:
            with self._changed:
                self._busy[digest].discard(repository)
                if not self._busy[digest]:
                    del self._busy[digest]
                self._changed.notify_all()

    def _is_busy(self, repository: str, digest: Digest) -> bool:
        """Whether somebody uploads the blob to the repository, or to another one from which
        it can be mounted then."""
        places = self._busy.get(digest, ())
        return repository in places or (self._shared and bool(places))

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify_all()
