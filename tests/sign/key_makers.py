"""Keys for tests, made with the cryptography package and with nothing of imgtools."""

from __future__ import annotations

import base64
import textwrap
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519

MAKERS: Mapping[str, Callable[[], Any]] = {
    "ecdsa-p256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ecdsa-p384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ecdsa-p521": lambda: ec.generate_private_key(ec.SECP521R1()),
    "rsa-2048": lambda: rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
}
"""Keys that may be used, by kind."""

UNUSABLE: Mapping[str, Callable[[], Any]] = {
    "rsa-1024": lambda: rsa.generate_private_key(65537, 1024),
    "rsa-2040": lambda: rsa.generate_private_key(65537, 2040),
    "p-224": lambda: ec.generate_private_key(ec.SECP224R1()),
    "secp256k1": lambda: ec.generate_private_key(ec.SECP256K1()),
    "brainpool": lambda: ec.generate_private_key(ec.BrainpoolP256R1()),
    "dsa": lambda: dsa.generate_private_key(2048),
    "ed448": ed448.Ed448PrivateKey.generate,
    "x25519": x25519.X25519PrivateKey.generate,
}
"""Keys that may not."""

DESCRIPTIONS = {
    "ecdsa-p256": "ECDSA P-256",
    "ecdsa-p384": "ECDSA P-384",
    "ecdsa-p521": "ECDSA P-521",
    "rsa-2048": "RSA 2048",
    "rsa-3072": "RSA 3072",
    "rsa-4096": "RSA 4096",
    "ed25519": "Ed25519",
}


def public_der(key: Any) -> bytes:
    """The SubjectPublicKeyInfo of a private key."""
    der: bytes = key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return der


def public_pem(key: Any) -> bytes:
    """The same as PEM."""
    return pem("PUBLIC KEY", public_der(key))


def private_der(key: Any) -> bytes:
    """PKCS #8, in the clear."""
    der: bytes = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return der


def private_pem(key: Any, form: str = "PKCS8", passphrase: bytes = b"") -> bytes:
    """The private key as a tool would write it; `form` is a name of PrivateFormat."""
    kind = (
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption()
    )
    content: bytes = key.private_bytes(
        serialization.Encoding.PEM, getattr(serialization.PrivateFormat, form), kind
    )
    return content


def pem(label: str, content: bytes) -> bytes:
    """A PEM block."""
    lines = textwrap.wrap(base64.b64encode(content).decode(), 64)
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()
