"""A token server as the distribution project's token specification has it, for docker-registry.

It answers GET with Basic credentials and POST as OAuth2 (password and refresh_token), signs JSON
web tokens in the two ways registry 2.8 accepts (x5c chain or libtrust key id), and remembers every
request. Who may do what is one replaceable function.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.rig.sockets import Connections
from tests.rig.testdata import PASSWORD, USERNAME

# Registry 2.8 accepts a token for this many seconds after it expired.
REGISTRY_LEEWAY = 60

Access = tuple[str, str, tuple[str, ...]]
"""Resource type, resource name, actions."""
Grant = Callable[[str | None, Access], Iterable[str]]
"""Account (None: anonymous) and what it asks for -> the actions it gets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """One request as it came, and the status it got."""

    method: str
    account: str | None
    scopes: tuple[str, ...]
    service: str
    grant: str
    status: int


def unpadded(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def parse_scope(scope: str) -> Access:
    """`repository:a/b:pull,push` in its parts; the name may hold colons (a port)."""
    kind, _, rest = scope.partition(":")
    name, _, actions = rest.rpartition(":")
    return kind, name, tuple(actions.split(","))


class TokenServer:
    """One token server in a thread; use it in a `with` block."""

    service = "test registry"
    issuer = "test token server"

    def __init__(
        self,
        certificates: Path,
        *,
        key: Literal["token", "token-rsa"] = "token",
        header: Literal["x5c", "kid"] = "x5c",
        anonymous_pull: bool = False,
        lifetime: int = 300,
        latency: float = 0.0,
    ) -> None:
        """Sign with the files KEY.key and KEY.crt of `certificates`.

        A token is valid for `lifetime` seconds, by the registry's clock too; `latency` is slept
        before each answer. Both may be changed while it runs.
        """
        private = (certificates / f"{key}.key").read_bytes()
        loaded = serialization.load_pem_private_key(private, None)
        assert isinstance(loaded, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
        self._key = loaded
        self._certificate = x509.load_pem_x509_certificate(
            (certificates / f"{key}.crt").read_bytes()
        )
        self._header = header
        self.users = {USERNAME: PASSWORD}
        self.anonymous_pull = anonymous_pull
        self.lifetime = lifetime
        self.latency = latency
        self.grant: Grant = self._default_grant
        self.requests: list[TokenRequest] = []
        self._refresh_tokens: dict[str, str] = {}

    @property
    def url(self) -> str:
        """The realm."""
        return f"http://127.0.0.1:{self._server.server_port}/token"

    def __enter__(self) -> Self:
        """Listen."""
        self._connections = Connections()
        handler = type("Handler", (_Handler,), {"tokens": self, "connections": self._connections})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        # Joined at the end instead: a thread must not outlive its test.
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening, cut what is still connected, join every thread."""
        self._server.shutdown()
        self._connections.close()
        self._server.server_close()
        self._thread.join()

    def _default_grant(self, account: str | None, access: Access) -> Iterable[str]:
        if account is not None:
            return access[2]
        return [action for action in access[2] if action == "pull" and self.anonymous_pull]

    def mint(self, account: str | None, access: Iterable[Access]) -> str:
        """A signed token for exactly `access`."""
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "sub": account or "",
            "aud": self.service,
            # The registry adds its leeway; taking it off here makes `lifetime` exact.
            "exp": now + self.lifetime - REGISTRY_LEEWAY,
            "nbf": now - REGISTRY_LEEWAY,
            "iat": now,
            "jti": secrets.token_hex(8),
            "access": [{"type": t, "name": n, "actions": list(a)} for t, n, a in access],
        }
        algorithm = "RS256" if isinstance(self._key, rsa.RSAPrivateKey) else "ES256"
        header = {"typ": "JWT", "alg": algorithm, **self._key_header()}
        signed = ".".join(unpadded(json.dumps(part).encode()) for part in (header, claims))
        return f"{signed}.{unpadded(self._sign(signed.encode()))}"

    def _key_header(self) -> dict[str, Any]:
        if self._header == "x5c":
            chain = self._certificate.public_bytes(serialization.Encoding.DER)
            return {"x5c": [base64.b64encode(chain).decode()]}
        # libtrust: 240 bits of the sha256 of the public key, base32 in groups of four.
        info = self._key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        text = base64.b32encode(hashlib.sha256(info).digest()[:30]).decode()
        return {"kid": ":".join(text[i : i + 4] for i in range(0, len(text), 4))}

    def _sign(self, message: bytes) -> bytes:
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(message, padding.PKCS1v15(), hashes.SHA256())
        r, s = decode_dss_signature(self._key.sign(message, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    def answer_get(self, query: dict[str, list[str]], authorization: str) -> tuple[int, Any]:
        """The token specification's GET: status and JSON body."""
        account: str | None = None
        if authorization:
            scheme, _, credentials = authorization.partition(" ")
            try:
                decoded = base64.b64decode(credentials, validate=True).decode()
            except ValueError:
                decoded = ""
            account, _, password = decoded.partition(":")
            if scheme.lower() != "basic" or not self._known(account, password):
                return self._note("GET", account, query, "basic", _refusal("wrong credentials"))
        body = self._token(account, query)
        if account is not None and query.get("offline_token") == ["true"]:
            body["refresh_token"] = self._refresh_token(account)
        grant = "anonymous" if account is None else "basic"
        return self._note("GET", account, query, grant, (200, body))

    def answer_post(self, form: dict[str, list[str]]) -> tuple[int, Any]:
        """The OAuth2 form: status and JSON body."""
        grant = form.get("grant_type", [""])[0]
        account: str | None = None
        if grant == "refresh_token":
            account = self._refresh_tokens.get(form.get("refresh_token", [""])[0])
        elif grant == "password":
            name = form.get("username", [""])[0]
            account = name if self._known(name, form.get("password", [""])[0]) else None
        else:
            return self._note("POST", None, form, grant, (400, {"error": "unsupported_grant_type"}))
        if account is None:
            return self._note("POST", None, form, grant, _refusal("wrong credentials"))
        if not form.get("client_id"):
            return self._note("POST", account, form, grant, (400, {"error": "invalid_request"}))
        body = self._token(account, form)
        body["scope"] = " ".join(_scopes(form))
        if grant == "refresh_token":
            body["refresh_token"] = form["refresh_token"][0]
        elif form.get("access_type") == ["offline"]:
            body["refresh_token"] = self._refresh_token(account)
        return self._note("POST", account, form, grant, (200, body))

    def _known(self, name: str, password: str) -> bool:
        return name in self.users and self.users[name] == password

    def _refresh_token(self, account: str) -> str:
        token = secrets.token_urlsafe(24)
        self._refresh_tokens[token] = account
        return token

    def _token(self, account: str | None, fields: dict[str, list[str]]) -> dict[str, Any]:
        wanted = [parse_scope(scope) for scope in _scopes(fields)]
        granted = [(a[0], a[1], tuple(self.grant(account, a))) for a in wanted]
        token = self.mint(account, [access for access in granted if access[2]])
        issued = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        body = {"token": token, "access_token": token, "expires_in": self.lifetime}
        return {**body, "issued_at": issued}

    def _note(
        self,
        method: str,
        account: str | None,
        fields: dict[str, list[str]],
        grant: str,
        answer: tuple[int, Any],
    ) -> tuple[int, Any]:
        self.requests.append(
            TokenRequest(
                method=method,
                account=account,
                scopes=tuple(_scopes(fields)),
                service=fields.get("service", [""])[0],
                grant=grant,
                status=answer[0],
            )
        )
        return answer


def _scopes(fields: dict[str, list[str]]) -> list[str]:
    """Scopes come repeated (GET) or separated by spaces (OAuth2)."""
    return [scope for value in fields.get("scope", []) for scope in value.split()]


def _refusal(detail: str) -> tuple[int, Any]:
    return 401, {"errors": [{"code": "UNAUTHORIZED", "message": detail}]}


class _Handler(BaseHTTPRequestHandler):
    """Unpacks requests for the server's two answer methods."""

    tokens: TokenServer
    connections: Connections
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        self.connections.add(self.request)
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.connections.discard(self.request)

    def do_GET(self) -> None:
        target = urlsplit(self.path)
        query = parse_qs(target.query, keep_blank_values=True)
        self._reply(self.tokens.answer_get(query, self.headers.get("Authorization", "")))

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self._reply(self.tokens.answer_post(parse_qs(body.decode(), keep_blank_values=True)))

    def _reply(self, answer: tuple[int, Any]) -> None:
        time.sleep(self.tokens.latency)
        body = json.dumps(answer[1]).encode()
        self.send_response(answer[0])
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if answer[0] == 401:
            self.send_header("WWW-Authenticate", 'Basic realm="token server"')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the requests are in TokenServer.requests."""
