"""Answers a registry's challenges: Basic credentials, or bearer tokens kept per scope set.

A token is fetched once however many threads need it, serves every request that it allows, is
renewed before it expires, and dropped when a registry refuses it. Wrong credentials are tried
once, so that no account is locked; those that a helper gave may have become too old, so the
helper is asked once more.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import field
from typing import TYPE_CHECKING

from imgtools.errors import Error, InvalidInput
from imgtools.frozen import dataclass
from imgtools.transport.options import Credentials, RegistryOptions
from imgtools.transport.registry.access.challenge_cache import KnownHost
from imgtools.transport.registry.access.scopes import covers, widened
from imgtools.transport.registry.access.token_server import (
    Fetch,
    TokenRefused,
    TokenServer,
    ask,
    basic,
)
from imgtools.transport.registry.access.wallet import Wallet
from imgtools.transport.registry.wire.redirect import refusal
from imgtools.transport.registry.wire.url import Origin, without_user

if TYPE_CHECKING:
    from imgtools.transport.registry.access.challenge import Challenge
    from imgtools.transport.registry.wire.http import Response

log = logging.getLogger(__name__)

_EARLY = 10
"""Seconds before its end at which a token is replaced."""
_MOST_SCOPES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Token:
    """A header to send until `expires` (monotonic), and for whom it was made out."""

    header: str = field(repr=False)
    expires: float
    credentials: Credentials | None


@dataclass(slots=True)
class _Slot:
    """The token of one scope set; the lock is held while it is fetched.

    `wanted` is what is asked for: the scopes, or what the servers made of them. `borrowed` is
    another slot's token that was sent instead, `alone` that such a one was refused.
    """

    wanted: tuple[str, ...]
    lock: threading.Lock = field(default_factory=threading.Lock)
    token: _Token | None = None
    borrowed: str = field(default="", repr=False)
    alone: bool = False


class Authenticator:
    """The credentials and tokens of one registry session."""

    def __init__(
        self,
        host: str,
        options: RegistryOptions,
        fetch: Fetch,
        known: KnownHost | None = None,
        *,
        check: Callable[[], object],
    ) -> None:
        """`known` is what an earlier process learned; it is used until it proves wrong.
        `check` is called while a credential helper is waited for, and ends that by raising."""
        self._host = host
        self._options = options
        self._fetch = fetch
        self._wallet = Wallet(host, options, check)
        self._lock = threading.Lock()
        self._scheme = known.auth if known else ""
        self._realm = known.realm if known else ""
        self._service = known.service if known else ""
        self._confirmed = False
        self._slots: dict[tuple[str, ...], _Slot] = {}
        self._refused: dict[tuple[Credentials | None, str], TokenRefused] = {}
        self._accepted: set[Credentials | None] = set()
        self._rotated: dict[Credentials, str] = {}

    def learned(self, scheme: str) -> KnownHost | None:
        """What a later process may use, given the URL scheme; None when nothing is known."""
        with self._lock:
            if not self._scheme and not scheme:
                return None
            return KnownHost(
                scheme=scheme, auth=self._scheme, realm=self._realm, service=self._service
            )

    def authenticated(self, repository: str) -> bool:
        """Whether we have anything to show for `repository`."""
        return self.credentials(repository) is not None

    def credentials(self, repository: str) -> Credentials | None:
        """The credentials for `repository`, looked up once; raises InvalidInput, StorageError."""
        return self._wallet.get(repository)

    def header(self, repository: str, scopes: Sequence[str]) -> str | None:
        """The Authorization to send now, None when nothing was asked for yet.

        Fetches a token when the challenge is known and no token is. Raises Denied,
        ConnectionFailed or RegistryError.
        """
        given = self._options.credentials
        if given is not None and given.registry_token and not self._options.anonymous:
            return _bearer(given.registry_token)
        with self._lock:
            scheme, confirmed = self._scheme, self._confirmed
        if not scheme:
            return None
        try:
            if scheme == "basic":
                return basic(self.credentials(repository))
            ready = self._ready_token(repository)
            if ready:
                return _bearer(ready)
            return self._token(repository, tuple(scopes))
        except Error as e:
            if confirmed:
                raise
            # What was remembered is out of date, so the registry is asked again.
            log.debug("remembered token server of %s is of no use: %s", self._host, e)
            self._forget()
            return None

    def challenged(
        self,
        response: Response,
        sent: str | None,
        repository: str,
        scopes: Sequence[str],
        *,
        first: bool,
        fallback: Callable[[], list[Challenge]],
    ) -> bool:
        """Learn from a 401 (or a 403 that asks for scope); whether another try makes sense.

        `sent` is the Authorization that was refused, `first` whether it was the first one
        for this request: a token may have expired, one that was just made has not.
        `fallback` asks the registry's base URL for challenges when the response has none
        that we understand.
        """
        # With a remembered challenge and a good token, nobody parses one.
        from imgtools.transport.registry.access.challenge import parse_challenges

        challenges = parse_challenges(response.header_list("WWW-Authenticate"))
        chosen = _choose(challenges)
        if chosen is None and response.status == 401:
            chosen = _choose(fallback())
        if chosen is None:
            return sent is not None and self._too_old(repository, sent)
        credentials = self.credentials(repository)
        with self._lock:
            changed = self._learn(chosen)
        if credentials is not None and sent == f"Bearer {credentials.registry_token}":
            return False
        if chosen.scheme == "basic":
            header = basic(credentials)
            if header is None or changed or header != sent:
                return header is not None
            return self._wallet.renew(repository, credentials)
        key = tuple(scopes)
        grown = sent is not None and self._grow(key, chosen)
        lent = self._drop(key, sent)
        if changed or grown or lent or sent is None:
            return True
        return first and chosen.get("error") != "insufficient_scope"

    def _too_old(self, repository: str, sent: str) -> bool:
        """Whether there are newer credentials than those refused without a challenge: that is
        how some registries speak of a password whose time has passed."""
        credentials = self.credentials(repository) if self._scheme == "basic" else None
        if credentials is None or sent != basic(credentials):
            return False
        return self._wallet.renew(repository, credentials)

    def _ready_token(self, repository: str) -> str:
        """The bearer token that an auth file has for `repository`, "" without."""
        credentials = self.credentials(repository)
        return credentials.registry_token if credentials is not None else ""

    def _learn(self, challenge: Challenge) -> bool:
        """Take over a challenge; whether it differs from what was known."""
        # What is remembered on disk has nobody's name and password in it.
        realm = without_user(challenge.get("realm"))
        now = (challenge.scheme, realm, challenge.get("service"))
        if challenge.scheme == "basic":
            now = ("basic", "", "")
        changed = now != (self._scheme, self._realm, self._service)
        self._scheme, self._realm, self._service = now
        self._confirmed = True
        if changed:
            self._slots.clear()
        return changed

    def _forget(self) -> None:
        with self._lock:
            if not self._confirmed:
                self._scheme = self._realm = self._service = ""
                self._slots.clear()

    def _grow(self, scopes: tuple[str, ...], challenge: Challenge) -> bool:
        """Ask from now on for what a challenge says was not enough; whether that is more."""
        if challenge.get("error") != "insufficient_scope":
            return False
        slot = self._slot(scopes)
        new = tuple(s for s in challenge.get("scope").split() if not covers(slot.wanted, (s,)))
        before = slot.wanted
        # A server that grants less than `delete` without a word may know it as `*`.
        slot.wanted = (*before, *new)[:_MOST_SCOPES] if new else widened(before)
        return slot.wanted != before

    def _drop(self, scopes: tuple[str, ...], sent: str | None) -> bool:
        """Forget the token that was refused, unless it was replaced meanwhile.

        Whether it was borrowed: one of our own may then fare better.
        """
        slot = self._slot(scopes)
        with slot.lock:
            if slot.token is not None and slot.token.header == sent:
                slot.token = None
            elif sent is not None and slot.borrowed == sent:
                slot.alone = True
                return True
        return False

    def _slot(self, scopes: tuple[str, ...]) -> _Slot:
        with self._lock:
            return self._slots.setdefault(scopes, _Slot(scopes))

    def _token(self, repository: str, scopes: tuple[str, ...]) -> str:
        slot = self._slot(scopes)
        with slot.lock:
            now = time.monotonic()
            if slot.token is not None and now < slot.token.expires:
                return slot.token.header
            if not slot.alone and (lent := self._borrow(repository, slot, now)) is not None:
                slot.borrowed = lent
                return lent
            slot.token = None
            slot.token = self._request_token(repository, slot)
            return slot.token.header

    def _borrow(self, repository: str, slot: _Slot, now: float) -> str | None:
        """A token that another scope set has and that allows what this one asks for."""
        with self._lock:
            others = [other for other in self._slots.values() if other is not slot]
        for other in others:
            token = other.token
            if token is None or now >= token.expires or not covers(other.wanted, slot.wanted):
                continue
            # Somebody else, for whom it was made out, may not be allowed this.
            if token.credentials == self.credentials(repository):
                return token.header
        return None

    def _request_token(self, repository: str, slot: _Slot) -> _Token:
        """A new token; what is refused is asked for once more if there is another way."""
        credentials = self.credentials(repository)
        try:
            return self._ask(credentials, slot.wanted)
        except TokenRefused as e:
            wider = widened(slot.wanted)
            if e.about_scope and wider != slot.wanted:
                log.debug("%s refused these scopes; asking for %s", self._host, wider)
                slot.wanted = wider
            elif e.status == 400 or not self._wallet.renew(repository, credentials):
                raise
        return self._ask(self.credentials(repository), slot.wanted)

    def _ask(self, credentials: Credentials | None, scopes: tuple[str, ...]) -> _Token:
        """A token for `scopes` in the name of `credentials`, asked for once."""
        identity = credentials.identity_token if credentials is not None else ""
        with self._lock:
            server = TokenServer(host=self._host, realm=self._realm, service=self._service)
            refused = self._refused.get((credentials, server.realm))
            if credentials is not None and identity:
                identity = self._rotated.get(credentials, identity)
        if refused is not None:
            raise refused.repeated()
        # The life of a token begins before we have it, by a clock that nobody sets.
        begun = time.monotonic()
        try:
            answer = ask(self._fetch, server, scopes, credentials, identity)
        except TokenRefused as e:
            with self._lock:
                # Wrong once is wrong always; but credentials that served before are right.
                wrong = e.status == 401 and credentials not in self._accepted
                if wrong and credentials is not None and not e.about_scope:
                    self._refused[credentials, server.realm] = e
            raise
        with self._lock:
            self._accepted.add(credentials)
            if credentials is not None and identity and answer.refresh_token:
                self._rotated[credentials] = answer.refresh_token
        return _Token(
            header=f"Bearer {answer.token}",
            expires=begun + answer.life - _EARLY,
            credentials=credentials,
        )


def check_realm(registry: Origin, realm: str, *, allow_downgrade: bool) -> str:
    """Why the token server at `realm` is not spoken to, "" when it is.

    Private addresses are refused where the connection is made, on the address it is made to.
    """
    return refusal(registry, Origin.of(realm), allow_downgrade=allow_downgrade)


def _choose(challenges: list[Challenge]) -> Challenge | None:
    """Bearer with a usable realm before Basic; None when there is neither."""
    for challenge in challenges:
        if challenge.scheme == "bearer" and challenge.get("realm").startswith(
            ("https://", "http://")
        ):
            return challenge
    return next((c for c in challenges if c.scheme == "basic"), None)


def _bearer(token: str) -> str:
    """The header for a ready token; raises InvalidInput, without the token."""
    if not token.isascii() or not token.isprintable():
        raise InvalidInput("the registry token has a character that no HTTP header may have")
    return f"Bearer {token}"
