"""An OpenID Connect issuer: signed identity tokens (ES256), and what is needed to check them.

Its authorization endpoint lets everybody in as the user that the test has chosen.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from imgtools.testing.sigstore.clock import Clock, system_clock

_KEY_ID = "test-key"


class TokenIssuer:
    """Issues and checks tokens; `url` is what it calls itself."""

    def __init__(
        self, url: str = "https://oidc.sigstore.test", *, clock: Clock = system_clock
    ) -> None:
        """`user` is who comes in through the authorization endpoint."""
        self.url = url
        self.user = "user@example.test"
        self.key = ec.generate_private_key(ec.SECP256R1())
        self._clock = clock
        self._codes: dict[str, str] = {}

    def token(
        self,
        identity: str,
        *,
        audience: str = "sigstore",
        lifetime: timedelta = timedelta(minutes=5),
        claims: Mapping[str, Any] | None = None,
    ) -> str:
        """A signed token for an e-mail address, or for any other subject (a URI).

        `claims` replace or add claims, None removes one.
        """
        now = int(self._clock().timestamp())
        said: dict[str, Any] = {
            "iss": self.url,
            "sub": identity,
            "aud": audience,
            "iat": now,
            "nbf": now,
            "exp": now + int(lifetime.total_seconds()),
        }
        if "@" in identity and "://" not in identity:
            said |= {"email": identity, "email_verified": True}
        said |= claims or {}
        said = {name: value for name, value in said.items() if value is not None}
        signed = f"{_json({'alg': 'ES256', 'kid': _KEY_ID, 'typ': 'JWT'})}.{_json(said)}"
        r, s = decode_dss_signature(self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"

    def claims(self, token: str) -> dict[str, Any]:
        """The claims of a token of this issuer that is valid now. Raises ValueError."""
        try:
            signed, _, signature = token.rpartition(".")
            raw = _unbase64url(signature)
            der = encode_dss_signature(
                int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
            )
            self.key.public_key().verify(der, signed.encode(), ec.ECDSA(hashes.SHA256()))
            claims = json.loads(_unbase64url(signed.partition(".")[2]))
        except (binascii.Error, InvalidSignature, UnicodeError) as e:
            raise ValueError("the token's signature does not verify") from e
        now = int(self._clock().timestamp())
        if not isinstance(claims, dict) or claims.get("aud") != "sigstore":
            raise ValueError("the token is for another audience")
        if not int(claims.get("nbf", 0)) <= now < int(claims.get("exp", 0)):
            raise ValueError("the token is not valid now")
        return claims

    # --- what clients ask for ---------------------------------------------------------------

    def configuration(self, url: str) -> dict[str, Any]:
        """The discovery document of an issuer that is served at `url`."""
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{url}/auth",
            "token_endpoint": f"{url}/token",
            "jwks_uri": f"{url}/keys",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        }

    def keys(self) -> dict[str, Any]:
        """The JSON Web Key Set."""
        numbers = self.key.public_key().public_numbers()
        point = {"x": numbers.x, "y": numbers.y}
        coordinates = {name: _base64url(n.to_bytes(32, "big")) for name, n in point.items()}
        common = {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": _KEY_ID}
        return {"keys": [common | coordinates]}

    def authorize(self, challenge: str, nonce: str | None) -> str:
        """A code for the user; `challenge` is of PKCE, S256."""
        code = secrets.token_urlsafe(16)
        self._codes[code] = json.dumps([challenge, nonce])
        return code

    def redeem(self, code: str, verifier: str) -> str:
        """The token of a code, which works once. Raises ValueError."""
        challenge, nonce = json.loads(self._codes.pop(code, "[null, null]"))
        if challenge != _base64url(hashlib.sha256(verifier.encode()).digest()):
            raise ValueError("unknown code, or not the verifier that it was made for")
        return self.token(self.user, claims={"nonce": nonce})


def _json(value: object) -> str:
    return _base64url(json.dumps(value, separators=(",", ":")).encode())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unbase64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
