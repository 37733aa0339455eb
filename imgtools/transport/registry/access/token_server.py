"""Asks a token server for a bearer token and reads what it answers.

The distribution project's token specification (GET) and OAuth2 (POST with a refresh token).
Token answers differ: either of two names for the token, a life that may be missing or absurd.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from imgtools.errors import Denied, Error, InvalidJSON, LimitExceeded, RegistryError
from imgtools.frozen import dataclass
from imgtools.spec import strict_json
from imgtools.transport.options import Credentials
from imgtools.transport.registry.failure import denied_hint, read_error
from imgtools.transport.registry.wire.exchange import Body
from imgtools.transport.registry.wire.url import redact, with_query

if TYPE_CHECKING:
    from imgtools.transport.registry.wire.http import Response

CLIENT_ID = "imgtools"
SHORTEST_LIFE = 60
"""Seconds that a token lives at least (token specification: the default of `expires_in`)."""
_TOKEN_LIMIT = 1024 * 1024

Fetch = Callable[[str, str, dict[str, str], "Body | None", "str | None"], "Response"]
"""Method, URL, headers, body, authorization to an answer, redirects and retries done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenServer:
    """Where the challenge of registry `host` says that tokens are."""

    host: str
    realm: str
    service: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAnswer:
    """A token, its life in seconds, and the refresh token for the next one ("" for the same)."""

    token: str = field(repr=False)
    life: int
    refresh_token: str = field(default="", repr=False)


class TokenRefused(Denied):
    """A token server said no; `status` is its answer's, `said` its reason."""

    def __init__(
        self, message: str, *, host: str, status: int, said: str, hint: str | None = None
    ) -> None:
        super().__init__(message, host=host, hint=hint)
        self.status = status
        self.said = said

    def repeated(self) -> TokenRefused:
        """The same error, to be raised another time."""
        return TokenRefused(
            self.message, host=self.host, status=self.status, said=self.said, hint=self.hint
        )

    @property
    def about_scope(self) -> bool:
        """Whether it was rather what was asked for that it did not like."""
        words = self.said.lower()
        return self.status == 400 or "scope" in words or "action" in words


def ask(
    fetch: Fetch,
    server: TokenServer,
    scopes: Sequence[str],
    credentials: Credentials | None,
    refresh_token: str,
) -> TokenAnswer:
    """A token for `scopes`; `refresh_token` is the identity token of `credentials`, as it is
    now. Raises TokenRefused, RegistryError or ConnectionFailed."""
    response = None
    if refresh_token:
        response = _refresh(fetch, server, scopes, refresh_token)
        if response is None and basic(credentials) is None:
            # Going on would be going on as nobody, which was not asked for.
            raise TokenRefused(
                f"{server.host}: token server {redact(server.realm.partition('?')[0])} does not "
                "take identity tokens",
                host=server.host,
                status=404,
                said="",
                hint=f"imgtools login {server.host} with a name and a password",
            )
    if response is None:
        response = _get(fetch, server, scopes, credentials)
    return _read(server, response, credentials)


def basic(credentials: Credentials | None) -> str | None:
    """The Basic header (RFC 7617), None when there is no name and password."""
    from base64 import b64encode

    if credentials is None or not (credentials.username or credentials.password):
        return None
    pair = f"{credentials.username}:{credentials.password}"
    # A byte that is not UTF-8 came as a surrogate escape, and goes as the byte it was.
    return f"Basic {b64encode(pair.encode('utf-8', 'surrogateescape')).decode()}"


def _get(
    fetch: Fetch, server: TokenServer, scopes: Sequence[str], credentials: Credentials | None
) -> Response:
    """The token specification's GET."""
    query = [("scope", scope) for scope in scopes]
    if server.service:
        query.insert(0, ("service", server.service))
    if credentials is not None and credentials.username:
        query.insert(0, ("account", credentials.username))
    url = server.realm
    if query:
        # A name with bytes that are not UTF-8 goes as those bytes.
        encoded = urlencode(query, quote_via=quote, safe="/:,", errors="surrogateescape")
        url = with_query(url, encoded)
    return fetch("GET", url, {}, None, basic(credentials))


def _refresh(
    fetch: Fetch, server: TokenServer, scopes: Sequence[str], refresh_token: str
) -> Response | None:
    """The OAuth2 form for an identity token; None where the server does not know it."""
    form = {
        "grant_type": "refresh_token",
        "service": server.service,
        "client_id": CLIENT_ID,
        "scope": " ".join(scopes),
        "refresh_token": refresh_token,
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    response = fetch("POST", server.realm, headers, Body.of(urlencode(form).encode()), None)
    if response.status in (404, 405):
        response.drain()
        return None
    return response


def _read(server: TokenServer, response: Response, credentials: Credentials | None) -> TokenAnswer:
    url = redact(response.url.partition("?")[0])
    with response:
        if response.status != 200:
            raise _refused(server, response, url, credentials)
        content = response.body(_TOKEN_LIMIT, f"token from {url}")
    try:
        value = strict_json.loads_object(content, f"token from {url}", limit=_TOKEN_LIMIT)
    except (InvalidJSON, LimitExceeded) as e:
        raise RegistryError(method=response.method, url=url, status=200, detail=e.message) from e
    names = (value.get("token"), value.get("access_token"))
    token = next((name for name in names if isinstance(name, str) and name), "")
    # A token becomes a header line, so nothing that would end the line is let through.
    if not token or not token.isascii() or not token.isprintable():
        raise RegistryError(
            method=response.method, url=url, status=200, detail="the answer has no token"
        )
    life = value.get("expires_in")
    seconds = int(life) if isinstance(life, int | float) and 0 < life < 1e9 else 0
    rotated = value.get("refresh_token")
    return TokenAnswer(
        token=token,
        life=max(seconds, SHORTEST_LIFE),
        refresh_token=rotated if isinstance(rotated, str) and rotated.isprintable() else "",
    )


def _refused(
    server: TokenServer, response: Response, url: str, credentials: Credentials | None
) -> Error:
    status = response.status
    code, detail = read_error(response)
    if status not in (400, 401, 403):
        return RegistryError(
            method=response.method, url=url, status=status, code=code, detail=detail
        )
    said = " ".join(part for part in (code, detail) if part)
    user = credentials.username if credentials is not None else ""
    whose = f"the credentials of {user}" if user else "the credentials"
    what = whose if credentials is not None else "access without credentials"
    return TokenRefused(
        f"{server.host}: token server {url} refused {what}: {status}"
        + (f" {said}" if said else ""),
        host=server.host,
        status=status,
        said=said,
        hint=denied_hint(server.host, authenticated=credentials is not None)
        + ("; --no-creds goes without" if status == 401 and credentials is not None else ""),
    )
