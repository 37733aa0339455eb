"""Public keys that a policy or a user names, and signatures verified with them.

ECDSA on P-256, P-384 and P-521, RSA of 2048 bits and more, Ed25519: what containers/image and
cosign verify. A key comes from a file or a policy and never out of a signature.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Literal

from cryptography.exceptions import InvalidSignature as _Mismatch
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from imgtools.errors import InvalidKey, InvalidSignature
from imgtools.frozen import dataclass
from imgtools.sign.keys import ed25519ph
from imgtools.sign.keys.pem import read_block, write_block

Algorithms = Literal["container-image", "any"]
"""Which hash goes with a key: always SHA-256 (and pure Ed25519), as containers/image has it, or
also what cosign 3 chooses by the key: SHA-384, SHA-512, Ed25519ph."""

Key = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey

SMALLEST_RSA = 2048
LARGEST_RSA = 16384

_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
# The longest DER signature of P-521 and the longest of RSA are far below.
_SIGNATURE_LIMIT = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicKey:
    """A public key: `pem` is its PKIX form, `spki_sha256` the hex digest that names it,
    `description` its kind, such as "ECDSA P-256" or "RSA 3072"."""

    pem: bytes
    spki_sha256: str
    description: str
    _key: Key = field(repr=False, compare=False)

    @classmethod
    def of(cls, key: object, what: str) -> PublicKey:
        """The key of the cryptography package; raises InvalidKey unless it may be used."""
        description = _describe(key, what)
        assert isinstance(key, Key)
        der = key.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return cls(
            pem=write_block("PUBLIC KEY", der),
            spki_sha256=hashlib.sha256(der).hexdigest(),
            description=description,
            _key=key,
        )

    @property
    def is_ecdsa(self) -> bool:
        """Whether it is an ECDSA key."""
        return isinstance(self._key, ec.EllipticCurvePublicKey)

    @property
    def is_ed25519(self) -> bool:
        """Whether it is an Ed25519 key, which signs messages and not their digests."""
        return isinstance(self._key, ed25519.Ed25519PublicKey)

    def verify(
        self, signature: bytes, message: bytes, *, algorithms: Algorithms = "container-image"
    ) -> None:
        """Raise InvalidSignature unless `signature` is this key's signature of `message`.

        ECDSA signatures are DER, or r and s side by side as hardware gives them and
        containers/image accepts them; both of the values s and n-s hold, as they do for
        every reader, so nothing may tell signatures apart by their bytes.
        """
        if not any(self._holds(signature, message, name) for name in self._hashes(algorithms)):
            raise InvalidSignature(
                f"the signature is not by the {self.description} key "
                f"{self.spki_sha256[:12]}, or not of this content"
            )

    def to_der(self, signature: bytes) -> bytes:
        """The signature as it is written into images: ECDSA in DER, all else as it is."""
        raw = self._raw_to_der(signature)
        return signature if raw is None else raw

    def _hashes(self, algorithms: Algorithms) -> tuple[str, ...]:
        if isinstance(self._key, ed25519.Ed25519PublicKey):
            return ("pure",) if algorithms == "container-image" else ("pure", "prehashed")
        if algorithms == "any" and isinstance(self._key, ec.EllipticCurvePublicKey):
            own = {"secp384r1": ("sha384",), "secp521r1": ("sha512",)}
            return ("sha256", *own.get(self._key.curve.name, ()))
        return ("sha256",)

    def _holds(self, signature: bytes, message: bytes, name: str) -> bool:
        if len(signature) > _SIGNATURE_LIMIT:
            return False
        key = self._key
        try:
            if isinstance(key, ed25519.Ed25519PublicKey):
                if name == "prehashed":
                    return ed25519ph.verify(key.public_bytes_raw(), signature, message)
                key.verify(signature, message)
            elif isinstance(key, rsa.RSAPublicKey):
                key.verify(signature, message, padding.PKCS1v15(), _HASHES[name]())
            else:
                key.verify(self.to_der(signature), message, ec.ECDSA(_HASHES[name]()))
        except _Mismatch:
            return False
        return True

    def _raw_to_der(self, signature: bytes) -> bytes | None:
        """The DER form of r and s side by side, None for what is not that."""
        if not isinstance(self._key, ec.EllipticCurvePublicKey) or _is_der(signature):
            return None
        size = (self._key.curve.key_size + 7) // 8
        if len(signature) != 2 * size:
            return None
        r, s = signature[:size], signature[size:]
        return utils.encode_dss_signature(int.from_bytes(r), int.from_bytes(s))


_HASHES: Mapping[str, Callable[[], hashes.HashAlgorithm]] = MappingProxyType(
    {"sha256": hashes.SHA256, "sha384": hashes.SHA384, "sha512": hashes.SHA512}
)


def load_public_key(content: bytes, what: str) -> PublicKey:
    """The key in the PEM file `content`, which `what` names in errors.

    Raises InvalidKey unless it is one PUBLIC KEY (or RSA PUBLIC KEY) of a kind and size that
    may be used, in its one valid encoding.
    """
    label, der = read_block(content, what)
    forms = {
        "PUBLIC KEY": serialization.PublicFormat.SubjectPublicKeyInfo,
        "RSA PUBLIC KEY": serialization.PublicFormat.PKCS1,
    }
    if label not in forms:
        raise InvalidKey(
            f"{what} is a {label}: expected a PUBLIC KEY", hint=_HINTS.get(label.split()[-1])
        )
    try:
        key = serialization.load_der_public_key(der)
    except (ValueError, UnsupportedAlgorithm) as e:
        raise InvalidKey(f"{what} is not a valid public key, or of an unknown kind") from e
    public = PublicKey.of(key, what)
    # Compressed points, RSA keys bound to PSS and the like: other readers refuse those, and
    # a key has one name only if it has one encoding.
    if public._key.public_bytes(serialization.Encoding.DER, forms[label]) != der:
        raise InvalidKey(f"{what} is a public key in an unusual encoding")
    return public


_HINTS = {
    "CERTIFICATE": "a certificate is no key; take its key out with: openssl x509 -noout -pubkey",
    "KEY": "this is a private key; name the file with its public part, usually .pub",
}


def load_rekor_key(content: bytes, what: str) -> PublicKey:
    """The ECDSA key of a Rekor log in the PEM file `content`; raises InvalidKey.

    Logs sign entries with ECDSA; containers/image takes no other key for them.
    """
    key = load_public_key(content, what)
    if not key.is_ecdsa:
        raise InvalidKey(f"{what} is an {key.description} key: expected ECDSA for a Rekor log")
    return key


def _describe(key: object, what: str) -> str:
    if isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, _CURVES):
            raise InvalidKey(
                f"{what} is an ECDSA key on {key.curve.name}: expected P-256, P-384 or P-521"
            )
        return f"ECDSA P-{key.curve.key_size}"
    if isinstance(key, rsa.RSAPublicKey):
        if not SMALLEST_RSA <= key.key_size <= LARGEST_RSA:
            raise InvalidKey(
                f"{what} is an RSA key of {key.key_size} bits: "
                f"expected at least {SMALLEST_RSA} and at most {LARGEST_RSA}"
            )
        return f"RSA {key.key_size}"
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "Ed25519"
    raise InvalidKey(f"{what} is neither an ECDSA nor an RSA nor an Ed25519 key")


def _is_der(signature: bytes) -> bool:
    try:
        utils.decode_dss_signature(signature)
    except ValueError:
        return False
    return True
