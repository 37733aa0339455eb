"""What the services answer: requests of clients of Fulcio, Rekor and the others to responses.

Paths and JSON are those of Fulcio's v1 and v2 API, Rekor's v1 and v2 API, a timestamp authority
and an OpenID Connect issuer, all behind one address.
"""

from __future__ import annotations

import base64
import json
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    load_der_public_key,
    load_pem_public_key,
)

from imgtools.serve.message import BytesBody, Request, Response, json_response
from imgtools.serve.wsgi import parse_query
from imgtools.testing.sigstore.authority import CertificateAuthority, Chain, Leaf, names
from imgtools.testing.sigstore.entries import TransparencyEntry
from imgtools.testing.sigstore.rekor import Refused, RekorV1, RekorV2
from imgtools.testing.sigstore.timestamps import TimestampAuthority, parse_request
from imgtools.testing.sigstore.tokens import TokenIssuer

_BODY_LIMIT = 16 * 1024 * 1024
_ENTRY = re.compile(r"/api/v1/log/entries/([0-9a-f]{64,80})\Z")
_GITHUB = "https://github.com/"
# The claims of GitHub's tokens and the extensions that Fulcio makes of them.
_CLAIMS = {
    "event_name": ("1.2", "1.20"),
    "sha": ("1.3", "1.13"),
    "workflow": ("1.4",),
    "repository": ("1.5",),
    "ref": ("1.6", "1.14"),
}
_CERTIFIED = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey
_FULCIO_ARC = "1.3.6.1.4.1.57264."


class Services:
    """All services; `leaf` is how Fulcio makes certificates."""

    def __init__(
        self,
        *,
        authority: CertificateAuthority,
        rekor: RekorV1,
        rekor2: RekorV2,
        timestamps: TimestampAuthority,
        issuer: TokenIssuer,
        leaf: Leaf | None = None,
    ) -> None:
        self.authority = authority
        self.rekor = rekor
        self.rekor2 = rekor2
        self.timestamps = timestamps
        self.issuer = issuer
        self.leaf = leaf or Leaf()

    def handle(self, request: Request) -> Response:
        """The answer to a request."""
        routes = {
            ("POST", "/api/v2/signingCert"): self._certificate_v2,
            ("POST", "/api/v1/signingCert"): self._certificate_v1,
            ("GET", "/api/v2/trustBundle"): self._trust_bundle,
            ("POST", "/api/v1/log/entries"): self._log_v1,
            ("GET", "/api/v1/log/entries"): self._find_v1,
            ("GET", "/api/v1/log"): lambda request: json_response(self.rekor.tree()),
            ("GET", "/api/v1/log/publicKey"): self._log_key,
            ("POST", "/api/v2/log/entries"): self._log_v2,
            ("POST", "/ts"): self._timestamp,
            ("GET", "/.well-known/openid-configuration"): self._discovery,
            ("GET", "/keys"): lambda request: json_response(self.issuer.keys()),
            ("GET", "/auth"): self._authorize,
            ("POST", "/token"): self._redeem,
        }
        route = routes.get((request.method, request.path))
        if route is None and request.method == "GET" and _ENTRY.match(request.path):
            route = self._find_v1
        if route is None:
            return _failure(404, f"there is no {request.method} {request.path}")
        try:
            return route(request)
        except (Refused, KeyError, TypeError, ValueError) as e:
            return _failure(400, f"{type(e).__name__}: {e}")

    # --- Fulcio ---------------------------------------------------------------------------------

    def _certificate_v2(self, request: Request) -> Response:
        try:
            claims = self._claims(request)
        except ValueError as e:
            return _failure(401, str(e))
        asked = _json(request)
        key = _requested_key(asked)
        if key is None:
            given = asked["publicKeyRequest"]
            key = load_pem_public_key(given["publicKey"]["content"].encode())
            _check_possession(key, base64.b64decode(given["proofOfPossession"]), claims)
        chain = self._issue(key, claims)
        pems = [each.public_bytes(Encoding.PEM).decode() for each in (chain.leaf, *chain.issuers)]
        return json_response({"signedCertificateEmbeddedSct": {"chain": {"certificates": pems}}})

    def _certificate_v1(self, request: Request) -> Response:
        try:
            claims = self._claims(request)
        except ValueError as e:
            return _failure(401, str(e))
        asked = _json(request)
        key = _requested_key(asked)
        if key is None:
            key = load_der_public_key(base64.b64decode(asked["publicKey"]["content"]))
            _check_possession(key, base64.b64decode(asked["signedEmailAddress"]), claims)
        chain = self._issue(key, claims)
        return Response(
            status=201,
            headers={"Content-Type": "application/pem-certificate-chain"},
            body=BytesBody(chain.leaf_pem + chain.chain_pem),
        )

    def _trust_bundle(self, request: Request) -> Response:
        chain = (self.authority.intermediate, self.authority.root)
        pems = [each.public_bytes(Encoding.PEM).decode() for each in chain]
        return json_response({"chains": [{"certificates": pems}]})

    def _claims(self, request: Request) -> dict[str, Any]:
        scheme, _, token = request.header("authorization").partition(" ")
        if scheme.lower() != "bearer":
            raise ValueError("an identity token is needed")
        return self.issuer.claims(token)

    def _issue(self, key: object, claims: Mapping[str, Any]) -> Chain:
        if not isinstance(key, _CERTIFIED):
            raise Refused("keys of this kind are not certified")
        identity = _identity(claims)
        leaf = self.leaf
        extensions = _github_extensions(claims)
        if extensions and not leaf.extensions:
            leaf = replace(leaf, extensions=extensions)
        return self.authority.issue(names(identity), str(claims["iss"]), key, leaf=leaf)

    # --- Rekor ----------------------------------------------------------------------------------

    def _log_v1(self, request: Request) -> Response:
        proposal = _json(request)
        known = self.rekor.find(proposal)
        if known is not None:
            found = _failure(409, "an equivalent entry already exists in the transparency log")
            found.headers["Location"] = f"/api/v1/log/entries/{known.uuid}"
            return found
        entry = self.rekor.log(proposal)
        created = json_response(entry.v1_response(), status=201)
        # Go's client finds its entry in the answer by this.
        created.headers["ETag"] = entry.uuid
        created.headers["Location"] = f"/api/v1/log/entries/{entry.uuid}"
        return created

    def _find_v1(self, request: Request) -> Response:
        match = _ENTRY.match(request.path)
        index = request.parameter("logIndex")
        entry: TransparencyEntry | None
        if match is not None:
            found = (each for each in self.rekor.entries if each.uuid.endswith(match[1][-64:]))
            entry = next(found, None)
        else:
            number = int(index or "-1")
            entry = self.rekor.entries[number] if 0 <= number < len(self.rekor.entries) else None
        if entry is None:
            return _failure(404, "there is no such entry")
        return json_response(entry.v1_response())

    def _log_key(self, request: Request) -> Response:
        headers = {"Content-Type": "application/x-pem-file"}
        return Response(status=200, headers=headers, body=BytesBody(self.rekor.public_pem))

    def _log_v2(self, request: Request) -> Response:
        return json_response(self.rekor2.log(_json(request)).bundle_json(), status=201)

    # --- timestamps and tokens ------------------------------------------------------------------

    def _timestamp(self, request: Request) -> Response:
        answer = self.timestamps.answer(parse_request(_content(request)))
        headers = {"Content-Type": "application/timestamp-reply"}
        return Response(status=201, headers=headers, body=BytesBody(answer))

    def _discovery(self, request: Request) -> Response:
        return json_response(self.issuer.configuration(f"http://{request.header('host')}"))

    def _authorize(self, request: Request) -> Response:
        challenge, back = request.parameter("code_challenge"), request.parameter("redirect_uri")
        if challenge is None or back is None:
            return _failure(400, "code_challenge and redirect_uri are needed")
        code = self.issuer.authorize(challenge, request.parameter("nonce"))
        if not back.startswith("http"):
            # Out of band: the user copies the code from the page.
            return Response(status=200, body=BytesBody(code.encode()))
        query = urllib.parse.urlencode({"code": code, "state": request.parameter("state") or ""})
        return Response(status=302, headers={"Location": f"{back}?{query}"})

    def _redeem(self, request: Request) -> Response:
        form = parse_query(_content(request).decode("ascii"))
        token = self.issuer.redeem(form["code"][0], form["code_verifier"][0])
        return json_response({"access_token": token, "id_token": token, "token_type": "Bearer"})


def _identity(claims: Mapping[str, Any]) -> str:
    """Whom a token is about: a workflow, a verified address, or the subject."""
    if workflow := claims.get("job_workflow_ref"):
        return f"{_GITHUB}{workflow}"
    if claims.get("email") and claims.get("email_verified") is True:
        return str(claims["email"])
    return str(claims["sub"])


def _github_extensions(claims: Mapping[str, Any]) -> dict[str, str]:
    found = {
        f"{_FULCIO_ARC}{suffix}": str(claims[claim])
        for claim, suffixes in _CLAIMS.items()
        if claim in claims
        for suffix in suffixes
    }
    if "job_workflow_ref" in claims:
        found[f"{_FULCIO_ARC}1.9"] = f"{_GITHUB}{claims['job_workflow_ref']}"
    if "repository" in claims:
        found[f"{_FULCIO_ARC}1.12"] = f"{_GITHUB}{claims['repository']}"
    return found


def _requested_key(asked: Mapping[str, Any]) -> object:
    """The key of a certificate request, None where there is no such request."""
    encoded = asked.get("certificateSigningRequest")
    if not encoded:
        return None
    content = x509.load_pem_x509_csr(base64.b64decode(encoded))
    if not content.is_signature_valid:
        raise Refused("the certificate request is not signed by its key")
    return content.public_key()


def _check_possession(key: object, proof: bytes, claims: Mapping[str, Any]) -> None:
    """The key has signed who its owner is. Raises Refused."""
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Refused("keys of this kind are not certified")
    subject = str(claims.get("email") or claims["sub"])
    try:
        key.verify(proof, subject.encode(), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature as e:
        raise Refused("the proof of possession does not verify") from e


def _content(request: Request) -> bytes:
    content = b""
    while data := request.body.read(65536):
        content += data
        if len(content) > _BODY_LIMIT:
            raise Refused("the request is too large")
    return content


def _json(request: Request) -> dict[str, Any]:
    value = json.loads(_content(request))
    if not isinstance(value, dict):
        raise Refused("a JSON object is needed")
    return value


def _failure(status: int, message: str) -> Response:
    return json_response({"code": status, "message": message}, status=status)
