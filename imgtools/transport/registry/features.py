"""What a registry turned out to do or not to do, so that it is found out once and not per blob."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from imgtools.transport.registry.push.known import KnownContent


class Features:
    """Findings about one registry in one process; safe to use from any thread."""

    def __init__(self) -> None:
        self.known = KnownContent()
        self._lock = threading.Lock()
        self._without_referrers: set[str] = set()
        self._no_mounts: set[str] = set()
        self._writers: dict[tuple[str, str], threading.Lock] = {}
        self._body_limit: int | None = None
        self._chunk: int | None = None
        self._chunks = True
        self._loses_cut = False
        self._signatures_api: bool | None = None

    def has_referrers(self, repository: str) -> bool:
        """Whether the referrers API may still be there for `repository`."""
        with self._lock:
            return repository not in self._without_referrers

    def no_referrers(self, repository: str) -> None:
        """The referrers API is not there."""
        with self._lock:
            self._without_referrers.add(repository)

    def mounts(self, source: str) -> bool:
        """Whether a mount from the repository `source` was not refused yet."""
        with self._lock:
            return source not in self._no_mounts

    def no_mounts(self, source: str) -> None:
        """A mount from the repository `source` was refused."""
        with self._lock:
            self._no_mounts.add(source)

    @property
    def signatures_api(self) -> bool | None:
        """Whether the registry has an API for signatures, None as long as nobody asked."""
        with self._lock:
            return self._signatures_api

    def found_signatures_api(self, found: bool) -> None:
        """The registry said whether it has an API for signatures."""
        with self._lock:
            self._signatures_api = found

    @property
    def body_limit(self) -> int | None:
        """Bytes that one request body may have, None as long as any was accepted."""
        with self._lock:
            return self._body_limit

    def limit_bodies(self, limit: int) -> None:
        """A larger body than `limit` bytes was refused."""
        with self._lock:
            if self._body_limit is None or limit < self._body_limit:
                self._body_limit = limit

    @property
    def chunk(self) -> int | None:
        """Bytes per request since a transfer was cut, None while none was."""
        with self._lock:
            return self._chunk if self._chunks else None

    @property
    def chunks(self) -> bool:
        """Whether an upload in several requests may work."""
        with self._lock:
            return self._chunks

    def no_chunks(self) -> None:
        """An upload in several requests was refused, or lost bytes."""
        with self._lock:
            self._chunks = False

    @property
    def loses_cut(self) -> bool:
        """Whether a cut request ended its session, with everything that was in it."""
        with self._lock:
            return self._loses_cut

    def cut(self, sent: int, *, kept: bool, lost: bool, least: int) -> None:
        """A request was cut when `sent` bytes of its body had gone out; `kept` says that the
        registry has some of them, `lost` that the session went with it, `least` is the
        smallest useful chunk."""
        from imgtools.transport.registry.push.upload_plan import chunk_after_cut

        with self._lock:
            self._loses_cut = self._loses_cut or lost
            self._chunk = chunk_after_cut(self._chunk, sent, kept=kept, least=least)

    @contextmanager
    def writing(self, repository: str, tag: str) -> Iterator[None]:
        """Let one thread at a time change what is kept under `tag`."""
        with self._lock:
            writer = self._writers.setdefault((repository, tag), threading.Lock())
        with writer:
            yield
