"""Who may do what in the test registry: basic authentication, or bearer tokens.

The token endpoint follows docker's token protocol (GET with scopes, POST as OAuth2). Tokens
are random, expire, are counted, and open exactly the scopes they were asked for. What real
token servers do differently is data too, in `AuthOptions`.
"""

from __future__ import annotations

import base64
import binascii
import re
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Literal

from imgtools.frozen import dataclass
from imgtools.serve.message import Request, Response, error_response, json_response
from imgtools.serve.wsgi import parse_query

Scheme = Literal["none", "basic", "bearer"]
TOKEN_PATH = "/token"

_REPOSITORY = re.compile(r"/v2/(.+)/(?:manifests|blobs|tags|referrers)/")
_ACTIONS = {"GET": "pull", "HEAD": "pull", "DELETE": "delete"}


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthOptions:
    """What the registry asks for.

    Challenges: `challenges` are the WWW-Authenticate headers of a 401, "{own}" being the true
    challenge. `content_challenge` says what content URLs get of it: all, all but the scope, or
    nothing. `ping_open` answers /v2/ to everybody. `announce_errors` False leaves `error` out;
    `scope_status` is the status for a good token without the scope. `realm` replaces the
    address of the token server, `basic_realm` the words of a Basic challenge.

    Tokens: `lifetime` is in seconds; `announce_lifetime` False leaves expires_in out.
    `token_field` is what the answer calls the token, and `claims` replace or add fields, None
    removing one. `requests_per_token` ends a token's life after that many requests.
    `anonymous_pull` gives pull tokens without credentials. `missing_repository` is the token
    server's status when a repository that is not there is asked for to be read.

    Scopes: `first_scope_only` grants only the first scope asked for. `known_actions` refuses
    scopes with others, with `unknown_action_status`. `delete_action` is the action that
    deletes need; `cancel_needs_delete` is whether DELETE of an upload is one.

    Identity tokens: `refresh_token` is accepted by POST (grant_type refresh_token) and as the
    password of user "<token>", None for none; it is given to who asks with offline_token.
    `rotate_refresh` replaces it with every use. `oauth` False answers 404 to POST, a number
    answers that.
    """

    scheme: Scheme = "none"
    username: str = "user"
    password: str = "secret"

    challenges: tuple[str, ...] = ("{own}",)
    content_challenge: Literal["full", "no-scope", "none"] = "full"
    ping_open: bool = False
    announce_errors: bool = True
    scope_status: int = 401
    realm: str | None = None
    basic_realm: str = "test registry"

    lifetime: float = 300.0
    announce_lifetime: bool = True
    token_field: Literal["token", "access_token", "both"] = "token"
    claims: Mapping[str, object] = field(default_factory=dict)
    requests_per_token: int | None = None
    anonymous_pull: bool = True
    missing_repository: int | None = None

    first_scope_only: bool = False
    known_actions: frozenset[str] | None = None
    unknown_action_status: int = 400
    delete_action: Literal["delete", "*", "push"] = "delete"
    cancel_needs_delete: bool = False

    refresh_token: str | None = None
    rotate_refresh: bool = False
    oauth: bool | int = True
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

    def __init__(
        self, options: AuthOptions, exists: Callable[[str], bool] = lambda name: True
    ) -> None:
        """`exists` says whether a repository is there."""
        self.options = options
        self.rejected = 0
        self.refresh_token = options.refresh_token
        self._exists = exists
        self._lock = threading.Lock()
        self._tokens: dict[str, IssuedToken] = {}
        self._uses: dict[str, int] = {}
        self.issued: list[IssuedToken] = []

    def expire_all(self) -> None:
        """Make every token that was issued invalid."""
        with self._lock:
            self._tokens.clear()

    def refusal(self, request: Request, base_url: str) -> Response | None:
        """The 401 for a request without the right to be answered; None when it has it."""
        options = self.options
        if options.scheme == "none" or (options.ping_open and request.path == "/v2/"):
            return None
        given = request.header("authorization")
        if options.scheme == "basic":
            if self._is_user(given):
                return None
            self.rejected += bool(given)
            return self._unauthorized(f'Basic realm="{options.basic_realm}"', request)
        kind, _, value = given.partition(" ")
        token = self._used(value) if kind.lower() == "bearer" else None
        wanted = self._wanted(request)
        if token is not None and self._allows(token.scopes, wanted):
            return None
        error = "invalid_token" if given else ""
        status = 401
        if token is not None:
            error, status = "insufficient_scope", options.scope_status
        challenge = self._challenge(base_url, wanted, error if options.announce_errors else "")
        return self._unauthorized(challenge, request, status)

    def _used(self, value: str) -> IssuedToken | None:
        """The token of that value, if it lives, with one more use."""
        limit = self.options.requests_per_token
        with self._lock:
            token = self._tokens.get(value)
            if token is None or token.expires <= time.monotonic():
                return None
            self._uses[value] = self._uses.get(value, 0) + 1
            return token if limit is None or self._uses[value] <= limit else None

    # --- the token server -------------------------------------------------------------------

    def token_response(self, request: Request) -> Response:
        """The answer of the token endpoint."""
        if request.method == "POST":
            return self._oauth(request)
        if request.method != "GET":
            return error_response(405, "UNSUPPORTED", "GET or POST")
        given = request.header("authorization")
        if given and not self._is_user(given):
            self.rejected += 1
            return error_response(401, "UNAUTHORIZED", "wrong credentials")
        scopes = [s for value in request.query.get("scope", ()) for s in value.split()]
        offline = request.parameter("offline_token") == "true"
        return self._issue(scopes, anonymous=not given, refresh=offline)

    def _oauth(self, request: Request) -> Response:
        oauth = self.options.oauth
        if oauth is not True:
            return error_response(int(oauth) or 404, "UNSUPPORTED", "no OAuth2 here")
        form = parse_query(_read_form(request))
        first = {key: values[0] for key, values in form.items()}
        by_refresh = (
            first.get("grant_type") == "refresh_token"
            and self.refresh_token is not None
            and first.get("refresh_token") == self.refresh_token
        )
        by_password = (
            first.get("grant_type") == "password"
            and first.get("username") == self.options.username
            and first.get("password") == self.options.password
        )
        if not by_refresh and not by_password:
            self.rejected += 1
            return error_response(401, "UNAUTHORIZED", "wrong credentials")
        scopes = [s for value in form.get("scope", ()) for s in value.split()]
        if by_refresh and self.options.rotate_refresh:
            self.refresh_token = secrets.token_urlsafe(24)
        offline = by_refresh or first.get("access_type") == "offline"
        return self._issue(scopes, anonymous=False, refresh=offline)

    def _issue(self, scopes: list[str], *, anonymous: bool, refresh: bool) -> Response:
        options = self.options
        if anonymous and not options.anonymous_pull:
            return error_response(401, "UNAUTHORIZED", "credentials are needed")
        refused = self._scope_refusal(scopes)
        if refused is not None:
            return refused
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
        if refresh and self.refresh_token is not None:
            answer["refresh_token"] = self.refresh_token
        answer.update(options.claims)
        return json_response({name: value for name, value in answer.items() if value is not None})

    def _scope_refusal(self, scopes: list[str]) -> Response | None:
        options = self.options
        for scope in scopes:
            name, actions = _parsed(scope)
            if options.known_actions is not None and not actions <= options.known_actions:
                status = options.unknown_action_status
                return error_response(status, "UNSUPPORTED", f"unknown action in {scope}")
            missing = options.missing_repository
            if missing is not None and actions == {"pull"} and not self._exists(name):
                return error_response(missing, "NAME_UNKNOWN", f"there is no repository {name}")
        return None

    # --- challenges and rights --------------------------------------------------------------

    def _unauthorized(self, own: str, request: Request, status: int = 401) -> Response:
        options = self.options
        code = "UNAUTHORIZED" if status == 401 else "DENIED"
        response = error_response(status, code, "authentication required")
        if options.content_challenge == "none" and request.path != "/v2/":
            return response
        lines = [line.replace("{own}", own) for line in options.challenges]
        response.headers["WWW-Authenticate"] = "\n".join(lines)
        return response

    def _challenge(self, base_url: str, wanted: list[tuple[str, str]], error: str) -> str:
        options = self.options
        realm = options.realm if options.realm is not None else f"{base_url}{TOKEN_PATH}"
        parts = [f'realm="{realm}"', f'service="{options.service}"']
        if wanted and options.content_challenge == "full":
            scopes = (f"repository:{n}:{'pull,push' if a == 'push' else a}" for n, a in wanted)
            parts.append(f'scope="{" ".join(scopes)}"')
        if error:
            parts.append(f'error="{error}"')
        return "Bearer " + ",".join(parts)

    def _wanted(self, request: Request) -> list[tuple[str, str]]:
        """Repositories and actions that a request needs; none for /v2/ and the catalog.

        A mount also needs to read the repository that it takes the blob from.
        """
        match = _REPOSITORY.match(request.path)
        if match is None:
            return []
        action = _ACTIONS.get(request.method, "push")
        if "/blobs/uploads/" in request.path:
            cancel = request.method == "DELETE" and self.options.cancel_needs_delete
            action = "delete" if cancel else "push"
        if action == "delete":
            action = self.options.delete_action
        wanted = [(match[1], action)]
        source = request.parameter("from")
        if request.method == "POST" and request.parameter("mount") and source:
            wanted.append((source, "pull"))
        return wanted

    def _allows(self, scopes: tuple[str, ...], wanted: list[tuple[str, str]]) -> bool:
        return all(any(_grants(scope, name, action) for scope in scopes) for name, action in wanted)

    def _is_user(self, authorization: str) -> bool:
        kind, _, encoded = authorization.partition(" ")
        try:
            text = base64.b64decode(encoded, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return False
        users = [f"{self.options.username}:{self.options.password}"]
        if self.refresh_token is not None:
            users.append(f"<token>:{self.refresh_token}")
        return kind.lower() == "basic" and text in users


def _grants(scope: str, name: str, action: str) -> bool:
    granted, actions = _parsed(scope)
    return granted == name and action in _expanded(actions)


def _parsed(scope: str) -> tuple[str, frozenset[str]]:
    """The repository of a scope and its actions; nothing for other kinds of scope."""
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    return (name, frozenset(actions.split(","))) if kind == "repository" else ("", frozenset())


def _expanded(actions: frozenset[str]) -> frozenset[str]:
    return actions | {"pull", "push", "delete"} if "*" in actions else actions


def _pull_only(scope: str) -> str:
    head, _, actions = scope.rpartition(":")
    return f"{head}:{'pull' if 'pull' in _expanded(frozenset(actions.split(','))) else ''}"


def _read_form(request: Request) -> str:
    content = b""
    while len(content) < 65536 and (data := request.body.read(65536)):
        content += data
    return content.decode("utf-8", "replace")
