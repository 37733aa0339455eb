"""One registry, as one command sees it: scheme, connections, credentials, retries.

Every request of sources and destinations goes through `Session.request`: there is no ping,
the first real request learns the scheme and the challenge, and what was learned serves the
rest of the process and, through the challenge cache, the next one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from imgtools.errors import Cancelled, ConnectionFailed, Denied, Error
from imgtools.spec.reference import DOCKER_HUB
from imgtools.task import CancelToken
from imgtools.transport.options import Limits, RegistryOptions, Timeouts
from imgtools.transport.registry.access.auth import Authenticator, check_realm
from imgtools.transport.registry.access.challenge_cache import ChallengeCache, KnownHost
from imgtools.transport.registry.failure import failure
from imgtools.transport.registry.features import Features
from imgtools.transport.registry.repeating import delay_after, repeat
from imgtools.transport.registry.wire.connection import Network
from imgtools.transport.registry.wire.exchange import Body, ExchangeFailed
from imgtools.transport.registry.wire.http import HttpClient, Response
from imgtools.transport.registry.wire.redirect import follow, refusal
from imgtools.transport.registry.wire.retry import RetryPolicy
from imgtools.transport.registry.wire.scheme import SchemeChoice
from imgtools.transport.registry.wire.traffic import Traffic
from imgtools.transport.registry.wire.url import Origin, redact, resolve

if TYPE_CHECKING:
    from imgtools.transport.registry.access.challenge import Challenge
    from imgtools.transport.registry.wire.ratelimit import RateLimit

log = logging.getLogger(__name__)

DOCKER_HUB_API = "registry-1.docker.io"
_AUTHORIZATION_ROUNDS = 3
_WORDLESS = frozenset({400, 403, 405, 406, 409, 410, 412, 451})
"""What a HEAD was refused with for good; a 401 could lock an account, the rest may pass."""
_PARTING = 2.0
"""Seconds that each step of a request may take on which nothing depends."""


class Session:
    """Requests to one registry under one set of options, from any number of threads."""

    def __init__(
        self,
        host: str,
        options: RegistryOptions,
        cache: ChallengeCache,
        policy: RetryPolicy | None = None,
        *,
        traffic: Traffic | None = None,
        network: Network | None = None,
    ) -> None:
        """`host` is `name[:port]` as in references (docker.io for Docker Hub); `traffic` is
        shared with all sessions that keep to the same limits."""
        self.host = host
        self.options = options
        self.policy = policy or RetryPolicy()
        self.features = Features()
        self._authority = DOCKER_HUB_API if host == DOCKER_HUB else host
        self._cache = cache
        self._closing = threading.Event()
        self._traffic = traffic or Traffic()
        self._network = network
        known = cache.get(self._authority)
        if known is not None and options.tls_verify and not known.verified:
            # What an unverified answer said may be anybody's word: it must not tell a session
            # that verifies where to take credentials to.
            known = None
        self._client = self._new_client(options)
        self._scheme = SchemeChoice(
            self._authority,
            self._client,
            verify=options.tls_verify,
            remembered=known.scheme if known else "",
        )
        self._auth = Authenticator(
            host, options, self._fetch_token, known, check=self._client.check
        )

    @property
    def base(self) -> str:
        """`scheme://host[:port]` of the registry's API; connects when the scheme is unknown.

        Raises ExchangeFailed when neither TLS nor, where that is allowed, http answers.
        """
        return self._scheme.base

    def rate_limit(self) -> RateLimit | None:
        """What the registry said last about its limit of requests, None when nothing yet."""
        return self._traffic.rate_limit(Origin.of(f"https://{self._authority}").authority)

    def request(
        self,
        method: str,
        target: str,
        *,
        repository: str,
        scopes: Sequence[str],
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        repeat: bool = True,
        cancel: CancelToken | None = None,
    ) -> Response:
        """The answer to a request, whatever its status, after redirects, authorisation and
        the retries that `repeat` allows.

        `target` is a path on the registry or an absolute URL, which is shown credentials
        only if it is of the registry's own origin. Raises Denied, ExchangeFailed,
        ConnectionFailed, Cancelled.
        """

        def once() -> Response:
            return self._authorised(method, target, repository, scopes, headers or {}, body, cancel)

        return self.repeating(once, cancel=cancel) if repeat else once()

    def failure(self, response: Response, repository: str) -> Error:
        """The error for an answer with an unexpected status; reads and closes it.

        The answer to a HEAD has no message, so it is asked for again in words where a
        refusal is certain to be all that comes of it.
        """
        if response.method == "HEAD" and response.status in _WORDLESS:
            response = self._in_words(response, repository)
        return failure(
            response, host=self.host, authenticated=lambda: self._auth.authenticated(repository)
        )

    def _in_words(self, head: Response, repository: str) -> Response:
        """The answer to a GET of one byte of what HEAD refused, if it is refused as well."""
        if head.origin != Origin.of(self.base):
            return head
        try:
            response = self.request(
                "GET",
                head.url,
                repository=repository,
                scopes=(f"repository:{repository}:pull",),
                headers={"Range": "bytes=0-0"},
                repeat=False,
            )
        except Error as e:
            log.debug("no words for %d: %s", head.status, e.message)
            return head
        if response.status != head.status:
            response.close()
            return head
        head.close()
        return response

    def resolve(self, response: Response, location: str) -> str:
        """The absolute URL of a Location or Link that came with `response`.

        Raises ConnectionFailed for one that nobody can or, leaving TLS, should follow.
        """
        url = resolve(response.url, location)
        allowed = not self.options.tls_verify
        reason = refusal(response.origin, Origin.of(url), allow_downgrade=allowed)
        if reason:
            raise ConnectionFailed(
                f"{self.host}: Location {redact(url)} refused: {reason}", host=self.host
            )
        return url

    def anonymous_request(self, method: str, url: str, headers: Mapping[str, str]) -> Response:
        """A request to anywhere, without credentials; raises ConnectionFailed."""
        return self.repeating(
            lambda: follow(
                self._client.exchange,
                method,
                url,
                headers,
                allow_downgrade=not self.options.tls_verify,
            )
        )

    def repeating(
        self, once: Callable[[], Response], *, cancel: CancelToken | None = None
    ) -> Response:
        """Call `once` until its answer is not "later" or the retry policy has enough."""
        return repeat(once, self.policy, self._traffic, self._wait, cancel)

    def delay_after(self, response: Response, tried: int, *, elapsed: float = 0.0) -> float | None:
        """Seconds until a request that got `response` is worth another try, else None;
        `elapsed` seconds after the first of the `tried` tries."""
        return delay_after(response, tried, self.policy, self._traffic, elapsed)

    def wait(self, seconds: float, cancel: CancelToken | None = None) -> None:
        """Sleep before another try; raises Cancelled when cancelled or closed meanwhile."""
        self._wait(seconds, cancel)

    def give_up(self, method: str, url: str, *, repository: str, scopes: Sequence[str]) -> None:
        """Send one request that tidies up, even after `abort`; what comes of it is not told.

        It has a connection of its own and few seconds, gets a new token only while nothing
        was aborted, and is shown credentials only at the registry's own origin.
        """
        patience = Timeouts(connect=_PARTING, first_byte=_PARTING, idle=_PARTING)
        options = replace(self.options, timeouts=patience, limits=Limits())
        client = self._new_client(options, parting=True)
        try:
            origin = Origin.of(url)
            authorization = None
            if self._scheme.known and origin == Origin.of(self.base):
                authorization = self._auth.header(repository, scopes)
            headers = {} if authorization is None else {"Authorization": authorization}
            client.exchange(method, url, headers).close()
        except Error as e:
            log.debug("%s %s: %s", method, redact(url), e.message)
        finally:
            client.close()

    def abort(self) -> None:
        """End every request and wait under way with Cancelled; safe from any thread."""
        self._closing.set()
        self._client.abort()

    def close(self) -> None:
        """Close connections, end waits, and remember what was learned; safe to call twice."""
        self._closing.set()
        self._client.close()
        learned = self._auth.learned(self._scheme.learned)
        if learned is not None and learned != KnownHost():
            self._cache.put(self._authority, replace(learned, verified=self.options.tls_verify))

    def _authorised(
        self,
        method: str,
        target: str,
        repository: str,
        scopes: Sequence[str],
        headers: Mapping[str, str],
        body: Body | None,
        cancel: CancelToken | None,
    ) -> Response:
        exchange = partial(self._client.exchange, cancel=cancel)
        for number in range(_AUTHORIZATION_ROUNDS):
            url = f"{self.base}{target}" if target.startswith("/") else target
            registry = Origin.of(self.base)
            own = Origin.of(url) == registry
            authorization = self._auth.header(repository, scopes) if own else None
            try:
                response = follow(
                    exchange,
                    method,
                    url,
                    headers,
                    body,
                    authorization=authorization,
                    allow_downgrade=not self.options.tls_verify,
                )
            except ExchangeFailed as e:
                if own and e.host == registry.authority and self._scheme.reconsider():
                    continue
                raise
            if not own or response.origin != registry:
                return response
            if self._scheme.refused_plain(response):
                continue
            self._scheme.confirm()
            if response.status not in (401, 403) or number == _AUTHORIZATION_ROUNDS - 1:
                return response
            try:
                again = self._auth.challenged(
                    response,
                    authorization,
                    repository,
                    scopes,
                    first=number == 0,
                    fallback=self._ask_for_challenges,
                )
            except BaseException:
                response.close()
                raise
            if not again:
                return response
            response.drain()
        return response

    def _ask_for_challenges(self) -> list[Challenge]:
        """The challenges of the base URL, for registries whose other answers have none."""
        from imgtools.transport.registry.access.challenge import parse_challenges

        response = follow(
            self._client.exchange,
            "GET",
            f"{self.base}/v2/",
            {},
            allow_downgrade=not self.options.tls_verify,
        )
        found = parse_challenges(response.header_list("WWW-Authenticate"))
        response.drain()
        # As with every answer, another host's challenge is none of the registry's.
        own = response.origin == Origin.of(self.base)
        return found if own and response.status == 401 else []

    def _fetch_token(
        self,
        method: str,
        url: str,
        headers: dict[str, str],
        body: Body | None,
        authorization: str | None,
    ) -> Response:
        downgrade = not self.options.tls_verify
        try:
            reason = check_realm(Origin.of(self.base), url, allow_downgrade=downgrade)
        except ConnectionFailed:
            reason = "it is not a URL"
        if reason:
            raise Denied(
                f"{self.host}: its token server {redact(url.partition('?')[0])} is not used: "
                f"{reason}",
                host=self.host,
            )
        return self.repeating(
            lambda: follow(
                self._client.exchange,
                method,
                url,
                headers,
                body,
                authorization=authorization,
                allow_downgrade=downgrade,
                # The only body that is ever sent to a token server is a refresh token.
                secret_body=body is not None,
            )
        )

    def _new_client(self, options: RegistryOptions, *, parting: bool = False) -> HttpClient:
        """A client for the registry; a `parting` one waits for nobody."""
        return HttpClient(
            options,
            registry=self.host,
            home=Origin.of(f"https://{self._authority}"),
            traffic=None if parting else self._traffic,
            network=self._network,
            pause=None if parting else self._wait,
            patience=self.policy.patience,
        )

    def _wait(self, seconds: float, cancel: CancelToken | None) -> None:
        if seconds > 0:
            if cancel is not None:
                cancel.wait(seconds)
            else:
                self._closing.wait(seconds)
        if self._closing.is_set():
            raise Cancelled("the connection to the registry was closed")
