"""Answers a registry's challenges: Basic credentials, or bearer tokens kept per scope set.

The distribution project's token specification and OAuth2 refresh tokens are spoken. A token
is fetched once however many threads need it, renewed before it expires, and dropped when a
registry refuses it. Wrong credentials are tried once, so that no account is locked.
"""

from __future__ import annotations

import logging
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from imgtools.errors import Denied, Error, InvalidInput, InvalidJSON, LimitExceeded, RegistryError
from imgtools.spec import strict_json
from imgtools.transport.options import Credentials, RegistryOptions
from imgtools.transport.registry.challenge_cache import KnownHost
from imgtools.transport.registry.exchange import Body
from imgtools.transport.registry.failure import denied_hint, read_error
from imgtools.transport.registry.redirect import refusal
from imgtools.transport.registry.url import Origin, redact, with_query

if TYPE_CHECKING:
    from imgtools.transport.registry.challenge import Challenge
    from imgtools.transport.registry.http import Response

log = logging.getLogger(__name__)

CLIENT_ID = "imgtools"
_TOKEN_LIMIT = 1024 * 1024
_SHORTEST_LIFE = 60
_EARLY = 10

Fetch = Callable[[str, str, dict[str, str], "Body | None", "str | None"], "Response"]
"""Method, URL, headers, body, authorization to an answer, redirects and retries done."""


@dataclass(slots=True)
class _Slot:
    """The token of one scope set; the lock is held while it is fetched."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    header: str | None = None
    expires: float = 0.0


class Authenticator:
    """The credentials and tokens of one registry session."""

    def __init__(
        self,
        host: str,
        options: RegistryOptions,
        fetch: Fetch,
        known: KnownHost | None = None,
    ) -> None:
        """`known` is what an earlier process learned; it is used until it proves wrong."""
        self._host = host
        self._options = options
        self._fetch = fetch
        self._lock = threading.Lock()
        self._scheme = known.auth if known else ""
        self._realm = known.realm if known else ""
        self._service = known.service if known else ""
        self._confirmed = False
        self._credentials: dict[str, Credentials | None] = {}
        self._slots: dict[tuple[str, ...], _Slot] = {}
        self._further: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._refused: dict[tuple[Credentials | None, str], Denied] = {}
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
        """The credentials for `repository`; the files are read once. Raises InvalidInput."""
        if self._options.anonymous:
            return None
        if self._options.credentials is not None:
            return self._options.credentials
        with self._lock:
            if repository not in self._credentials:
                from imgtools.transport.registry.credentials import find_credentials

                self._credentials[repository] = find_credentials(
                    self._options.auth_files, self._host, repository
                )
            return self._credentials[repository]

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
        if scheme == "basic":
            return _basic(self.credentials(repository))
        try:
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
        from imgtools.transport.registry.challenge import parse_challenges

        challenges = parse_challenges(response.header_list("WWW-Authenticate"))
        chosen = _choose(challenges)
        if chosen is None and response.status == 401:
            chosen = _choose(fallback())
        if chosen is None:
            return False
        with self._lock:
            changed = self._learn(chosen)
        credentials = self.credentials(repository)
        if credentials is not None and sent == f"Bearer {credentials.registry_token}":
            return False
        if chosen.scheme == "basic":
            header = _basic(credentials)
            return header is not None and (changed or header != sent)
        key = tuple(scopes)
        grown = sent is not None and self._grow(key, chosen)
        self._drop(key, sent)
        if changed or grown or sent is None:
            return True
        return first and chosen.get("error") != "insufficient_scope"

    def _learn(self, challenge: Challenge) -> bool:
        """Take over a challenge; whether it differs from what was known."""
        now = (challenge.scheme, challenge.get("realm"), challenge.get("service"))
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
        """Add the scopes that a challenge names to what is asked for from now on."""
        if challenge.get("error") != "insufficient_scope":
            return False
        with self._lock:
            known = (*scopes, *self._further.get(scopes, ()))
            new = tuple(s for s in challenge.get("scope").split() if s not in known)
            if new:
                self._further[scopes] = (*self._further.get(scopes, ()), *new[:10])
        return bool(new)

    def _drop(self, scopes: tuple[str, ...], sent: str | None) -> None:
        """Forget the token that was refused, unless it was replaced meanwhile."""
        slot = self._slot(scopes)
        with slot.lock:
            if slot.header == sent:
                slot.header = None

    def _slot(self, scopes: tuple[str, ...]) -> _Slot:
        with self._lock:
            return self._slots.setdefault(scopes, _Slot())

    def _token(self, repository: str, scopes: tuple[str, ...]) -> str:
        slot = self._slot(scopes)
        with slot.lock:
            if slot.header is None or time.monotonic() >= slot.expires:
                slot.header = None
                token, life = self._request_token(repository, scopes)
                slot.expires = time.monotonic() + life - _EARLY
                slot.header = f"Bearer {token}"
            return slot.header

    def _request_token(self, repository: str, scopes: tuple[str, ...]) -> tuple[str, int]:
        """A token and its life in seconds, asked for once."""
        credentials = self.credentials(repository)
        with self._lock:
            realm, service = self._realm, self._service
            wanted = (*scopes, *self._further.get(scopes, ()))
            refused = self._refused.get((credentials, realm))
        if refused is not None:
            raise Denied(refused.message, host=self._host, hint=refused.hint)
        response = None
        if credentials is not None and credentials.identity_token:
            response = self._refresh(realm, service, wanted, credentials)
        if response is None:
            response = self._get_token(realm, service, wanted, credentials)
        return self._read_token(response, credentials)

    def _get_token(
        self, realm: str, service: str, scopes: tuple[str, ...], credentials: Credentials | None
    ) -> Response:
        """The token specification's GET."""
        query = [("scope", scope) for scope in scopes]
        if service:
            query.insert(0, ("service", service))
        if credentials is not None and credentials.username:
            query.insert(0, ("account", credentials.username))
        url = with_query(realm, urlencode(query, quote_via=quote, safe="/:,")) if query else realm
        return self._fetch("GET", url, {}, None, _basic(credentials))

    def _refresh(
        self, realm: str, service: str, scopes: tuple[str, ...], credentials: Credentials
    ) -> Response | None:
        """The OAuth2 form for an identity token; None where the server does not know it."""
        with self._lock:
            token = self._rotated.get(credentials, credentials.identity_token)
        form = {
            "grant_type": "refresh_token",
            "service": service,
            "client_id": CLIENT_ID,
            "scope": " ".join(scopes),
            "refresh_token": token,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        response = self._fetch("POST", realm, headers, Body.of(urlencode(form).encode()), None)
        if response.status in (404, 405):
            response.drain()
            return None
        return response

    def _read_token(self, response: Response, credentials: Credentials | None) -> tuple[str, int]:
        url = redact(response.url.partition("?")[0])
        with response:
            if response.status != 200:
                raise self._token_refused(response, url, credentials)
            content = response.body(_TOKEN_LIMIT, f"token from {url}")
        try:
            value = strict_json.loads_object(content, f"token from {url}", limit=_TOKEN_LIMIT)
        except (InvalidJSON, LimitExceeded) as e:
            raise RegistryError(
                method=response.method, url=url, status=200, detail=e.message
            ) from e
        token = value.get("token") or value.get("access_token")
        # A token becomes a header line, so nothing that would end the line is let through.
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise RegistryError(
                method=response.method, url=url, status=200, detail="the answer has no token"
            )
        life = value.get("expires_in")
        seconds = int(life) if isinstance(life, int | float) and 0 < life < 1e9 else 0
        rotated = value.get("refresh_token")
        with self._lock:
            self._accepted.add(credentials)
            if credentials is not None and credentials.identity_token and isinstance(rotated, str):
                self._rotated[credentials] = rotated
        return token, max(seconds, _SHORTEST_LIFE)

    def _token_refused(
        self, response: Response, url: str, credentials: Credentials | None
    ) -> Error:
        status = response.status
        code, detail = read_error(response)
        said = " ".join(part for part in (code, detail) if part)
        if status not in (400, 401, 403):
            return RegistryError(
                method=response.method, url=url, status=status, code=code, detail=detail
            )
        user = credentials.username if credentials is not None else ""
        whose = f"the credentials of {user}" if user else "the credentials"
        what = whose if credentials is not None else "access without credentials"
        denied = Denied(
            f"{self._host}: token server {url} refused {what}: {status}"
            + (f" {said}" if said else ""),
            host=self._host,
            hint=denied_hint(self._host, authenticated=credentials is not None),
        )
        with self._lock:
            # Wrong once is wrong always; but credentials that served other scopes are right.
            if status == 401 and credentials is not None and credentials not in self._accepted:
                self._refused[credentials, self._realm] = denied
        return denied


def check_realm(registry: Origin, realm: str, *, allow_downgrade: bool) -> str:
    """Why the token server at `realm` is not spoken to, "" when it is.

    Where a registry on a public host names a private address belongs here too.
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


def _basic(credentials: Credentials | None) -> str | None:
    """The Basic header, None when there is no name and password."""
    if credentials is None or not (credentials.username or credentials.password):
        return None
    pair = f"{credentials.username}:{credentials.password}"
    # A byte that is not UTF-8 came as a surrogate escape, and goes as the byte it was.
    return f"Basic {b64encode(pair.encode('utf-8', 'surrogateescape')).decode()}"
