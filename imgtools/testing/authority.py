"""Who may do what in the test registry: basic authentication, or bearer tokens.

The token endpoint follows docker's token protocol (GET with scopes, POST as OAuth2). Tokens
are random, expire, are counted, and open exactly the scopes they were asked for.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
import threading
import time
from dataclasses import dataclass
from typing import Literal

from imgtools.serve.message import Request, Response, error_response, json_response
from imgtools.serve.wsgi import parse_query

Scheme = Literal["none", "basic", "bearer"]
TOKEN_PATH = "/token"

_REPOSITORY = re.compile(r"/v2/(.+)/(?:manifests|blobs|tags|referrers)/")
_ACTIONS = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthOptions:
    """What the registry asks for.

    `lifetime` of tokens is in seconds; `announce_lifetime` False leaves expires_in out.
    `anonymous_pull` gives pull tokens without credentials. `token_field` is what the answer
    calls the token. `first_scope_only` grants only the first scope asked for.
    `refresh_token` is accepted by POST (grant_type refresh_token), None for none;
    `oauth` False answers 404 to POST.
    """

    scheme: Scheme = "none"
    username: str = "user"
    password: str = "secret"
    lifetime: float = 300.0
    announce_lifetime: bool = True
    anonymous_pull: bool = True
    token_field: Literal["token", "access_token", "both"] = "token"
    first_scope_only: bool = False
    refresh_token: str | None = None
    oauth: bool = True
    service: str = "test-registry"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken:
    """A token that was given out: its scopes, and whether credentials had been shown."""

    value: str
    scopes: tuple[str, ...]
    anonymous: bool
    expires: float


class Authority:
    """Checks requests and issues tokens."""

    def __init__(self, options: AuthOptions) -> None:
        self.options = options
        self._lock = threading.Lock()
        self._tokens: dict[str, IssuedToken] = {}
        self.issued: list[IssuedToken] = []

    def expire_all(self) -> None:
        """Make every token that was issued invalid."""
        with self._lock:
            self._tokens.clear()

    def refusal(self, request: Request, base_url: str) -> Response | None:
        """The 401 for a request without the right to be answered; None when it has it."""
        scheme = self.options.scheme
        if scheme == "none":
            return None
        given = request.header("authorization")
        if scheme == "basic":
            if self._is_user(given):
                return None
            return _unauthorized('Basic realm="test registry"')
        kind, _, value = given.partition(" ")
        with self._lock:
            token = self._tokens.get(value) if kind.lower() == "bearer" else None
        wanted = _wanted(request)
        fresh = token is not None and token.expires > time.monotonic()
        if token is not None and fresh and _allows(token.scopes, wanted):
            return None
        error = ""
        if token is not None and fresh:
            error = "insufficient_scope"
        elif given:
            error = "invalid_token"
        return _unauthorized(self._challenge(base_url, wanted, error))

    def token_response(self, request: Request) -> Response:
        """The answer of the token endpoint."""
        if request.method == "POST":
            return self._oauth(request)
        if request.method != "GET":
            return error_response(405, "UNSUPPORTED", "GET or POST")
        given = request.header("authorization")
        if given and not self._is_user(given):
            return error_response(401, "UNAUTHORIZED", "wrong credentials")
        scopes = [s for value in request.query.get("scope", ()) for s in value.split()]
        return self._issue(scopes, anonymous=not given)

    def _oauth(self, request: Request) -> Response:
        if not self.options.oauth:
            return error_response(404, "UNSUPPORTED", "no OAuth2 here")
        form = parse_query(_read_form(request))
        first = {key: values[0] for key, values in form.items()}
        refresh = self.options.refresh_token
        by_refresh = (
            first.get("grant_type") == "refresh_token"
            and refresh is not None
            and first.get("refresh_token") == refresh
        )
        by_password = (
            first.get("grant_type") == "password"
            and first.get("username") == self.options.username
            and first.get("password") == self.options.password
        )
        if not by_refresh and not by_password:
            return error_response(401, "UNAUTHORIZED", "wrong credentials")
        scopes = [s for value in form.get("scope", ()) for s in value.split()]
        return self._issue(scopes, anonymous=False)

    def _issue(self, scopes: list[str], *, anonymous: bool) -> Response:
        options = self.options
        if anonymous and not options.anonymous_pull:
            return error_response(401, "UNAUTHORIZED", "credentials are needed")
        granted = scopes[:1] if options.first_scope_only else scopes
        if anonymous:
            granted = [_pull_only(scope) for scope in granted]
        token = IssuedToken(
            value=secrets.token_urlsafe(24),
            scopes=tuple(granted),
            anonymous=anonymous,
            expires=time.monotonic() + options.lifetime,
        )
        with self._lock:
            self._tokens[token.value] = token
            self.issued.append(token)
        fields = ("token", "access_token")
        names = fields if options.token_field == "both" else (options.token_field,)
        answer: dict[str, object] = dict.fromkeys(names, token.value)
        if options.announce_lifetime:
            answer["expires_in"] = int(options.lifetime)
        return json_response(answer)

    def _challenge(self, base_url: str, wanted: list[tuple[str, str]], error: str) -> str:
        parts = [f'realm="{base_url}{TOKEN_PATH}"', f'service="{self.options.service}"']
        if wanted:
            scopes = (f"repository:{n}:{'pull,push' if a == 'push' else a}" for n, a in wanted)
            parts.append(f'scope="{" ".join(scopes)}"')
        if error:
            parts.append(f'error="{error}"')
        return "Bearer " + ",".join(parts)

    def _is_user(self, authorization: str) -> bool:
        kind, _, encoded = authorization.partition(" ")
        try:
            text = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return False
        return (
            kind.lower() == "basic" and text == f"{self.options.username}:{self.options.password}"
        )


def _wanted(request: Request) -> list[tuple[str, str]]:
    """Repositories and actions that a request needs; none for /v2/ and the catalog.

    A mount also needs to read the repository that it takes the blob from.
    """
    match = _REPOSITORY.match(request.path)
    if match is None:
        return []
    action = _ACTIONS.get(request.method, "push")
    if "/blobs/uploads/" in request.path:
        action = "push"
    wanted = [(match[1], action)]
    source = request.parameter("from")
    if request.method == "POST" and request.parameter("mount") and source:
        wanted.append((source, "pull"))
    return wanted


def _allows(scopes: tuple[str, ...], wanted: list[tuple[str, str]]) -> bool:
    return all(any(_grants(scope, name, action) for scope in scopes) for name, action in wanted)


def _grants(scope: str, name: str, action: str) -> bool:
    kind, _, rest = scope.partition(":")
    granted, _, actions = rest.rpartition(":")
    return kind == "repository" and granted == name and action in _expanded(actions)


def _expanded(actions: str) -> frozenset[str]:
    found = frozenset(actions.split(","))
    return found | {"pull", "push", "delete"} if "*" in found else found


def _pull_only(scope: str) -> str:
    head, _, actions = scope.rpartition(":")
    return f"{head}:{'pull' if 'pull' in _expanded(actions) else ''}"


def _read_form(request: Request) -> str:
    content = b""
    while len(content) < 65536 and (data := request.body.read(65536)):
        content += data
    return content.decode("utf-8", "replace")


def _unauthorized(challenge: str) -> Response:
    response = error_response(401, "UNAUTHORIZED", "authentication required")
    response.headers["WWW-Authenticate"] = challenge
    return response
