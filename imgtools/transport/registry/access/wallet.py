"""The credentials that one session holds, and their renewal when they have become too old.

Helpers of cloud registries hand out passwords that live for an hour or twelve, less than some
copies take. What a registry refuses is therefore looked up once more, and only that.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from imgtools.transport.options import Credentials, RegistryOptions

log = logging.getLogger(__name__)

_FRESH = 60.0
"""Seconds for which renewed credentials that are refused are wrong rather than too old."""


@dataclass(slots=True)
class _Held:
    credentials: Credentials | None
    renewed: float | None = None


class Wallet:
    """The credentials of the repositories of one registry, from any number of threads."""

    def __init__(self, host: str, options: RegistryOptions, check: Callable[[], object]) -> None:
        """`check` is called while a helper is waited for, and ends that by raising."""
        self._host = host
        self._options = options
        self._check = check
        # Helpers may take their time, so this lock is nobody else's.
        self._lock = threading.Lock()
        self._held: dict[str, _Held] = {}
        self._answers: dict[str, Credentials | None] = {}

    def get(self, repository: str) -> Credentials | None:
        """The credentials for `repository`, looked up once.

        Raises InvalidInput or StorageError for files and helpers that cannot be used.
        """
        if self._options.anonymous or self._options.credentials is not None:
            return None if self._options.anonymous else self._options.credentials
        with self._lock:
            held = self._held.get(repository)
            if held is None:
                held = self._held[repository] = _Held(self._look_up(repository))
            return held.credentials

    def renew(self, repository: str, refused: Credentials | None) -> bool:
        """Whether there are other credentials than those that were `refused`.

        Files and helpers are asked again, at most once a minute. Raises as `get`.
        """
        if refused is None or self._options.anonymous or self._options.credentials is not None:
            return False
        with self._lock:
            held = self._held.get(repository)
            if held is None or held.credentials != refused:
                return held is not None and held.credentials is not None
            # Helpers answer for a whole registry, so another repository may have asked already.
            self._answers = {k: v for k, v in self._answers.items() if v not in (refused, None)}
            now = time.monotonic()
            if held.renewed is not None and now - held.renewed < _FRESH:
                return False
            held.credentials, held.renewed = self._look_up(repository), now
            if held.credentials is None:
                # Nothing is not better than what was refused, and says less about why.
                held.credentials = refused
            log.debug("looked for newer credentials of %s/%s", self._host, repository)
            return held.credentials != refused

    def _look_up(self, repository: str) -> Credentials | None:
        from imgtools.transport.registry.access.credentials import find

        found = find(self._options, self._host, repository, ask=self._ask)
        return found.credentials if found is not None else None

    def _ask(self, helper: str, registry: str) -> Credentials | None:
        if helper not in self._answers:
            from imgtools.transport.registry.access.credential_helpers import helper_get

            self._answers[helper] = helper_get(helper, registry, check=self._check)
        return self._answers[helper]
