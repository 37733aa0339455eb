"""What a registry turned out not to do, so that it is asked once and not per blob."""

from __future__ import annotations

import threading


class Features:
    """Findings about one registry in one process; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._without_referrers: set[str] = set()
        self._body_limit: int | None = None

    def has_referrers(self, repository: str) -> bool:
        """Whether the referrers API may still be there for `repository`."""
        with self._lock:
            return repository not in self._without_referrers

    def no_referrers(self, repository: str) -> None:
        """The referrers API is not there."""
        with self._lock:
            self._without_referrers.add(repository)

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
