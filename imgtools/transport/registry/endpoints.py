"""Several endpoints that serve one reference, tried in turn, and what was learned of them.

Every object is asked for on its own: the endpoint that had the manifest comes first, the
others stand by. What an endpoint does wrong is a debug message as long as another one does
it right; the error at the end is the primary's, and names what the mirrors said.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from imgtools.errors import (
    ConnectionFailed,
    Denied,
    DigestMismatch,
    Error,
    InvalidInput,
    LimitExceeded,
    NotFound,
    RegistryError,
    Rejected,
    SizeMismatch,
    StorageError,
    Unsupported,
)
from imgtools.frozen import dataclass
from imgtools.spec.digest import Digest
from imgtools.transport.registries.match import Endpoint, blocked
from imgtools.transport.registry.session import Session
from imgtools.transport.registry.wire.retry import RetryPolicy

log = logging.getLogger(__name__)

T = TypeVar("T")

MIRROR_POLICY = RetryPolicy(attempts=1, connect_attempts=1)
"""Where there is another endpoint, trying it is better than trying again."""

ENDPOINT_FAILURES = (
    ConnectionFailed,
    Denied,
    DigestMismatch,
    InvalidInput,
    LimitExceeded,
    NotFound,
    RegistryError,
    Rejected,
    SizeMismatch,
    StorageError,
    Unsupported,
)
"""What another endpoint may do better; the end of the command is none of them."""

_REST_SECONDS = 60.0


class Health:
    """What a command knows of its mirrors: which could not be reached lately, so that not
    every object waits for them, and which blobs are wrong there."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds, from any beginning."""
        self._clock = clock
        self._lock = threading.Lock()
        self._resting: dict[str, tuple[float, str]] = {}
        self._wrong: set[tuple[str, Digest]] = set()

    def failed(self, host: str, reason: str) -> None:
        """Let `host` rest for some seconds."""
        with self._lock:
            self._resting[host] = (self._clock() + _REST_SECONDS, reason)

    def resting(self, host: str) -> str:
        """Why `host` is not asked now, "" when it is."""
        with self._lock:
            until, reason = self._resting.get(host, (0.0, ""))
            if reason and self._clock() >= until:
                del self._resting[host]
                return ""
            return reason

    def blame(self, host: str, digest: Digest) -> bool:
        """Remember that `host` has, or may have, a wrong blob; whether that is new."""
        with self._lock:
            fresh = (host, digest) not in self._wrong
            self._wrong.add((host, digest))
            return fresh

    def is_wrong(self, host: str, digest: Digest) -> bool:
        """Whether `host` was blamed for a blob."""
        with self._lock:
            return (host, digest) in self._wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One endpoint with the session that reaches it, None for one that is blocked."""

    endpoint: Endpoint
    session: Session | None

    @property
    def is_mirror(self) -> bool:
        """Whether this is not the place that the reference means."""
        return self.endpoint.kind == "mirror"

    @property
    def reached(self) -> Session:
        """The session; raises Rejected when there is none."""
        if self.session is None:
            raise blocked(self.endpoint)
        return self.session

    @property
    def host(self) -> str:
        """`host[:port]`."""
        return self.endpoint.reference.registry

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.endpoint.reference.name


class Failures:
    """What went wrong with one object, endpoint by endpoint."""

    def __init__(self, health: Health) -> None:
        self._health = health
        self._found: list[tuple[Member, str, Error | None]] = []

    def add(self, member: Member, error: Error, what: str, *, interrupted: bool = False) -> None:
        """Take note; a mirror that cannot be reached rests, unless it was only
        `interrupted`."""
        log.debug("%s: %s failed: %s", member.name, what, error.message)
        self._found.append((member, error.message, error))
        if isinstance(error, ConnectionFailed) and member.is_mirror and not interrupted:
            self._health.failed(member.host, error.message)

    def left_out(self, member: Member, reason: str) -> None:
        """Take note of a mirror that was not asked."""
        self._found.append((member, reason, None))

    def error(self, primary: Member) -> Error:
        """The primary's error, or the last one, with what the others said."""
        if primary.session is None:
            error: Error = blocked(primary.endpoint)
        else:
            known = [(member, e) for member, _, e in self._found if e is not None]
            known.sort(key=lambda entry: entry[0] is primary)
            error = known[-1][1]
        others = [
            f"[{member.name}: {reason}]"
            for member, reason, e in self._found
            if e is not error and member is not primary
        ]
        if others:
            error.message = f"{error.message} (mirrors failed too: {' '.join(others)})"
            error.args = (error.message,)
        return error


class Members:
    """The endpoints of one reference, in the order of the configuration, the primary last."""

    def __init__(self, members: Sequence[Member], health: Health) -> None:
        self.all = tuple(members)
        self.health = health
        self._chosen: Member | None = None

    @property
    def primary(self) -> Member:
        """The place that the reference means."""
        return self.all[-1]

    def choose(self, member: Member) -> None:
        """Ask `member` before the others from now on."""
        if member is not self._chosen:
            log.debug("%s is read from %s", self.primary.name, member.name)
        self._chosen = member

    def order(self, failures: Failures, digest: Digest | None = None) -> list[Member]:
        """Whom to ask, in order: no mirror that rests or has the blob `digest` wrong."""
        ready = []
        for member in self.all:
            reason = self.health.resting(member.host) if member.is_mirror else ""
            if member.is_mirror and digest and self.health.is_wrong(member.host, digest):
                reason = "the blob was wrong there"
            if reason:
                failures.left_out(member, reason)
            elif member.session is not None:
                ready.append(member)
        if self._chosen in ready:
            ready.sort(key=lambda member: member is not self._chosen)
        return ready

    def first(self, what: str, ask: Callable[[Member], T], *, choose: bool = False) -> T:
        """The first answer to `ask`; its endpoint is chosen then, with `choose`.

        Raises the primary's error when nobody can answer.
        """
        failures = Failures(self.health)
        for member in self.order(failures):
            try:
                answer = ask(member)
            except ENDPOINT_FAILURES as e:
                failures.add(member, e, what)
                continue
            if choose:
                self.choose(member)
            return answer
        raise failures.error(self.primary)
