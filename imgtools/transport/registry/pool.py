"""The registry sessions of a command: one per registry and set of options.

Source and destination of a copy, and all tags of a sync, share connections, challenges,
tokens and the limits of hosts through it.
"""

from __future__ import annotations

import threading
from contextlib import ExitStack

from imgtools.task import CancelToken
from imgtools.transport.closing import Closing
from imgtools.transport.options import RegistryOptions
from imgtools.transport.registry.access.challenge_cache import ChallengeCache
from imgtools.transport.registry.session import Session
from imgtools.transport.registry.wire.retry import RetryPolicy
from imgtools.transport.registry.wire.traffic import Traffic, Warn


class SessionPool(Closing):
    """Makes sessions when they are first asked for, and closes them all."""

    def __init__(self, cancel: CancelToken | None = None, *, warn: Warn | None = None) -> None:
        """Cancelling `cancel` ends whatever any session is waiting for; `warn` is called
        with each warning of a registry, once, from any thread, instead of logging it."""
        self._traffic = Traffic(warn)
        self._lock = threading.Lock()
        self._aborted = False
        self._sessions: dict[tuple[str, RegistryOptions, RetryPolicy | None], Session] = {}
        self._caches: dict[str | None, ChallengeCache] = {}
        self._ending = ExitStack()
        if cancel is not None:
            self._ending.enter_context(cancel.calls(self.abort))

    def session(
        self, registry: str, options: RegistryOptions, policy: RetryPolicy | None = None
    ) -> Session:
        """The session for `registry` (`host[:port]`, docker.io for Docker Hub); `policy` is
        how it retries, None for the usual way."""
        key = (registry, options, policy)
        with self._lock:
            session = self._sessions.get(key)
            if session is None:
                path = options.challenge_cache
                cache = self._caches.setdefault(path, ChallengeCache(path))
                session = self._sessions[key] = Session(
                    registry, options, cache, policy, traffic=self._traffic
                )
                if self._aborted:
                    session.abort()
            return session

    def abort(self) -> None:
        """End every request, now and to come, with Cancelled; safe from any thread."""
        with self._lock:
            self._aborted = True
            sessions = list(self._sessions.values())
        for session in sessions:
            session.abort()

    def close(self) -> None:
        """Close every session and write the challenge caches; safe to call twice."""
        self._ending.close()
        with self._lock:
            sessions, self._sessions = self._sessions, {}
            caches, self._caches = self._caches, {}
        for session in sessions.values():
            session.close()
        for cache in caches.values():
            cache.save()
