"""Transparency logs as Rekor is one, in its first and in its second version.

The first signs a timestamp of every entry and checkpoints with ECDSA, the second only
checkpoints, with Ed25519. Both refuse what is not signed by the key that comes with it,
unless they are told not to look.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from imgtools.sign.certificates.jcs import canonical
from imgtools.testing.sigstore import merkle
from imgtools.testing.sigstore.clock import Clock, system_clock
from imgtools.testing.sigstore.entries import InclusionProof, TransparencyEntry, encode, pae

_TREE = "1193050959916656506"


class Refused(ValueError):
    """A proposal that the log does not take."""


class RekorV1:
    """The first Rekor: `POST /api/v1/log/entries`."""

    def __init__(self, *, name: str = "rekor.sigstore.test", clock: Clock = system_clock) -> None:
        """`name` signs the checkpoints; some verifiers look for it in the log's URL."""
        self.name = name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.entries: list[TransparencyEntry] = []
        self._clock = clock
        self._leaves: list[bytes] = []
        self._lock = threading.Lock()

    @property
    def spki(self) -> bytes:
        """The log's public key, DER."""
        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def public_pem(self) -> bytes:
        """The log's public key, PEM."""
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    @property
    def identifier(self) -> bytes:
        """The log's id: the SHA-256 of its key."""
        return hashlib.sha256(self.spki).digest()

    def log(
        self, proposal: Mapping[str, Any], *, at: datetime | None = None, check: bool = True
    ) -> TransparencyEntry:
        """Add an entry; see `entries` for proposals. Raises Refused.

        `at` is when it is integrated, now if not given. `check` False takes what nobody signed.
        """
        kind, version = str(proposal.get("kind")), str(proposal.get("apiVersion"))
        if (kind, version) == ("hashedrekord", "0.0.1"):
            body = _hashedrekord(proposal, check)
        elif (kind, version) == ("dsse", "0.0.1"):
            body = _dsse(proposal, check)
        else:
            raise Refused(f"entries of {kind} {version} are not taken")
        return self.log_body(body, at=at)

    def log_body(self, body: Mapping[str, Any], *, at: datetime | None = None) -> TransparencyEntry:
        """Add an entry of any kind, with the body that it has in the log."""
        content = canonical(body)
        leaf = merkle.leaf_hash(content)
        time = int((at or self._clock()).timestamp())
        with self._lock:
            index = len(self._leaves)
            self._leaves.append(leaf)
            root = merkle.root(self._leaves)
            proof = InclusionProof(
                index=index,
                size=index + 1,
                root=root,
                hashes=merkle.inclusion_proof(self._leaves, index),
                checkpoint=self.checkpoint(index + 1, root),
            )
            entry = TransparencyEntry(
                body=content,
                kind=str(body["kind"]),
                version=str(body["apiVersion"]),
                log_id=self.identifier,
                log_index=index,
                integrated_time=time,
                promise=self.promise(content, time, index),
                proof=proof,
                uuid=f"{int(_TREE):016x}{leaf.hex()}",
            )
            self.entries.append(entry)
        return entry

    def find(self, proposal: Mapping[str, Any]) -> TransparencyEntry | None:
        """The entry that a hashedrekord already has; other kinds never have one."""
        body = canonical(proposal)
        with self._lock:
            return next((entry for entry in self.entries if entry.body == body), None)

    def promise(self, body: bytes, time: int, index: int, log_id: str | None = None) -> bytes:
        """A signed entry timestamp (SET), whether or not there is such an entry."""
        signed = {
            "body": encode(body),
            "integratedTime": time,
            "logID": log_id if log_id is not None else self.identifier.hex(),
            "logIndex": index,
        }
        return self.key.sign(canonical(signed), ec.ECDSA(hashes.SHA256()))

    def checkpoint(self, size: int, root: bytes) -> str:
        """A signed note about a tree, whether or not it is this one."""
        text = f"{self.name} - {_TREE}\n{size}\n{encode(root)}\n"
        signature = self.key.sign(text.encode(), ec.ECDSA(hashes.SHA256()))
        return f"{text}\n— {self.name} {encode(self.identifier[:4] + signature)}\n"

    def tree(self) -> dict[str, Any]:
        """The answer of `GET /api/v1/log`."""
        with self._lock:
            size, root = len(self._leaves), merkle.root(self._leaves)
        return {
            "rootHash": root.hex(),
            "signedTreeHead": self.checkpoint(size, root),
            "treeID": _TREE,
            "treeSize": size,
            "inactiveShards": [],
        }


class RekorV2:
    """The second Rekor: `POST /api/v2/log/entries`."""

    def __init__(self, *, name: str = "log2025.rekor.sigstore.test") -> None:
        """`name` is the log's origin; some verifiers look for it in the log's URL."""
        self.name = name
        self.key = ed25519.Ed25519PrivateKey.generate()
        self.entries: list[TransparencyEntry] = []
        self._leaves: list[bytes] = []
        self._lock = threading.Lock()

    @property
    def spki(self) -> bytes:
        """The log's public key, DER."""
        return self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

    @property
    def identifier(self) -> bytes:
        """The log's id, the note key of https://c2sp.org/signed-note before it is cut."""
        raw = self.key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return hashlib.sha256(self.name.encode() + b"\n\1" + raw).digest()

    def log(self, proposal: Mapping[str, Any], *, check: bool = True) -> TransparencyEntry:
        """Add an entry; see `entries` for proposals. Raises Refused.

        `check` False takes what nobody signed.
        """
        content = canonical(_hashedrekord_v2(proposal, check))
        with self._lock:
            index = len(self._leaves)
            self._leaves.append(merkle.leaf_hash(content))
            root = merkle.root(self._leaves)
            proof = InclusionProof(
                index=index,
                size=index + 1,
                root=root,
                hashes=merkle.inclusion_proof(self._leaves, index),
                checkpoint=self.checkpoint(index + 1, root),
            )
            entry = TransparencyEntry(
                body=content,
                kind="hashedrekord",
                version="0.0.2",
                log_id=self.identifier,
                log_index=index,
                integrated_time=0,
                promise=b"",
                proof=proof,
            )
            self.entries.append(entry)
        return entry

    def checkpoint(self, size: int, root: bytes) -> str:
        """A signed note about a tree, whether or not it is this one."""
        text = f"{self.name}\n{size}\n{encode(root)}\n"
        signature = self.key.sign(text.encode())
        return f"{text}\n— {self.name} {encode(self.identifier[:4] + signature)}\n"


def _hashedrekord(proposal: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """The body of a hashedrekord 0.0.1: the proposal itself."""
    try:
        signature = proposal["spec"]["signature"]
        digest = bytes.fromhex(proposal["spec"]["data"]["hash"]["value"])
        verifier = base64.b64decode(signature["publicKey"]["content"], validate=True)
        content = base64.b64decode(signature["content"], validate=True)
    except (KeyError, TypeError, ValueError) as e:
        raise Refused(f"a malformed hashedrekord: {e}") from e
    if check:
        _check_digest(verifier, content, digest)
    return dict(proposal)


def _dsse(proposal: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """The body of a dsse 0.0.1: hashes of the envelope, and its signatures."""
    try:
        proposed = proposal["spec"]["proposedContent"]
        text = proposed["envelope"]
        content = json.loads(text)
        payload = base64.b64decode(content["payload"], validate=True)
        signatures = [base64.b64decode(each["sig"]) for each in content["signatures"]]
        (verifier,) = (base64.b64decode(each, validate=True) for each in proposed["verifiers"])
        signed = pae(content["payloadType"], payload)
    except (KeyError, TypeError, ValueError) as e:
        raise Refused(f"a malformed dsse: {e}") from e
    if check:
        for signature in signatures:
            _check_digest(verifier, signature, hashlib.sha256(signed).digest())
    return {
        "apiVersion": "0.0.1",
        "kind": "dsse",
        "spec": {
            "envelopeHash": _sha256(text.encode()),
            "payloadHash": _sha256(payload),
            "signatures": [
                {"signature": encode(each), "verifier": encode(verifier)} for each in signatures
            ],
        },
    }


def _hashedrekord_v2(proposal: Mapping[str, Any], check: bool) -> dict[str, Any]:
    """The body of a hashedrekord 0.0.2."""
    try:
        request = proposal["hashedRekordRequestV002"]
        digest = base64.b64decode(request["digest"], validate=True)
        signature = base64.b64decode(request["signature"]["content"], validate=True)
        verifier = request["signature"]["verifier"]
        which = "x509Certificate" if "x509Certificate" in verifier else "publicKey"
        raw = base64.b64decode(verifier[which]["rawBytes"], validate=True)
        kept = {"keyDetails": verifier["keyDetails"], which: {"rawBytes": encode(raw)}}
    except (KeyError, TypeError, ValueError) as e:
        raise Refused(f"a malformed hashedrekord: {e}") from e
    if check:
        _check_digest(raw, signature, digest)
    data = {"algorithm": "SHA2_256", "digest": encode(digest)}
    spec = {"data": data, "signature": {"content": encode(signature), "verifier": kept}}
    return {
        "apiVersion": "0.0.2",
        "kind": "hashedrekord",
        "spec": {"hashedRekordV002": spec},
    }


def _sha256(data: bytes) -> dict[str, str]:
    return {"algorithm": "sha256", "value": hashlib.sha256(data).hexdigest()}


def _check_digest(verifier: bytes, signature: bytes, digest: bytes) -> None:
    """Refuse a signature that is not of this digest by that key or certificate, PEM or DER."""
    sha256 = Prehashed(hashes.SHA256())
    try:
        key = _public_key(verifier)
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, digest, ec.ECDSA(sha256))
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, digest, padding.PKCS1v15(), sha256)
        else:
            raise Refused(f"keys of this kind are not taken: {type(key).__name__}")
    except InvalidSignature as e:
        raise Refused("the signature does not verify") from e


def _public_key(verifier: bytes) -> object:
    try:
        if b"-----BEGIN CERTIFICATE" in verifier:
            return x509.load_pem_x509_certificate(verifier).public_key()
        if b"-----BEGIN" in verifier:
            return load_pem_public_key(verifier)
    except ValueError as e:
        raise Refused("neither a public key nor a certificate") from e
    try:
        return x509.load_der_x509_certificate(verifier).public_key()
    except ValueError:
        return load_der_public_key(verifier)
