"""What a build fetched, with its digests: noted while steps look their sources up."""

from __future__ import annotations

import threading

from imgtools.build.contexts.classify import ContextKind
from imgtools.build.contexts.context import Context
from imgtools.build.outputs.provenance import Dependency

SHA1_LENGTH = 40


class Materials:
    """What was fetched, in no order; for several threads."""

    def __init__(self) -> None:
        self._found: set[Dependency] = set()
        self._lock = threading.Lock()

    def url(self, url: str, digest: str) -> None:
        """A file from `url`, with its digest as ALGORITHM:HEX."""
        algorithm, _, text = digest.partition(":")
        self._add(Dependency(uri=url, algorithm=algorithm, hex=text))

    def commit(self, url: str, commit: str) -> None:
        """A repository at `commit`."""
        algorithm = "sha1" if len(commit) == SHA1_LENGTH else "sha256"
        self._add(Dependency(uri=url, algorithm=algorithm, hex=commit))

    def context(self, url: str, context: Context) -> None:
        """A context that is open; one of this machine is no material."""
        if context.kind is ContextKind.GIT and context.revision:
            self.commit(url, context.revision)
        elif context.kind is ContextKind.HTTP and context.revision:
            self.url(url, context.revision)

    def found(self) -> tuple[Dependency, ...]:
        """All of it."""
        with self._lock:
            return tuple(self._found)

    def _add(self, dependency: Dependency) -> None:
        with self._lock:
            self._found.add(dependency)
