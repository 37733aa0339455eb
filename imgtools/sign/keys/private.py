"""Private keys in files: those of cosign and skopeo, and plain or encrypted PEM of any tool.

A key that cannot make the signatures that containers/image verifies is refused when it is read,
before anything is uploaded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from imgtools.errors import InvalidKey
from imgtools.frozen import dataclass
from imgtools.sign.keys import encrypted
from imgtools.sign.keys.pem import read_block
from imgtools.sign.keys.public import PublicKey

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey

Passphrase = bytes | Callable[[], bytes] | None
"""A passphrase, or who is asked for it, once and only if the key is encrypted."""

_PLAIN = frozenset({"PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"})
_ENCRYPTED = "ENCRYPTED PRIVATE KEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalKey:
    """A private key in memory (a `protocols.KeySigner`); `public` is what verifies with it."""

    public: PublicKey
    _key: PrivateKey = field(repr=False, compare=False)

    @classmethod
    def of(cls, key: object, what: str) -> LocalKey:
        """The key of the cryptography package; raises InvalidKey unless it may be used."""
        if not isinstance(key, PrivateKey):
            raise InvalidKey(f"{what} is neither an ECDSA nor an RSA nor an Ed25519 key")
        return cls(public=PublicKey.of(key.public_key(), what), _key=key)

    @property
    def public_pem(self) -> bytes:
        """The public key, PKIX PEM."""
        return self.public.pem

    def sign(self, message: bytes) -> bytes:
        """The signature of `message`, as `protocols.KeySigner.sign` says."""
        key = self._key
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return key.sign(message)
        if isinstance(key, rsa.RSAPrivateKey):
            return key.sign(message, padding.PKCS1v15(), hashes.SHA256())
        return key.sign(message, ec.ECDSA(hashes.SHA256()))


def load_private_key(content: bytes, passphrase: Passphrase, what: str) -> LocalKey:
    """The key in the PEM file `content`, which `what` names in errors.

    Reads the encrypted keys of cosign and skopeo, PKCS #8 plain and encrypted, and the older
    EC and RSA forms. An encrypted key needs `passphrase`, which may be empty; for a plain one
    it is not used. Raises InvalidKey for what is no such key, for a weak one, and for a
    missing or wrong passphrase, and what asking for it raises.
    """
    label, body = read_block(content, what)
    if label in encrypted.LABELS:
        return LocalKey.of(
            _pkcs8(encrypted.decrypt(body, _ask(passphrase, what), what), what), what
        )
    if label in _PLAIN:
        return LocalKey.of(_pkcs8(body, what), what)
    if label == _ENCRYPTED:
        return LocalKey.of(_encrypted_pkcs8(body, _ask(passphrase, what), what), what)
    raise InvalidKey(
        f"{what} is a {label}: expected a private key",
        hint="name the file with the private part of the key" if label == "PUBLIC KEY" else None,
    )


def _ask(passphrase: Passphrase, what: str) -> bytes:
    if passphrase is None:
        raise InvalidKey(f"{what} is encrypted, and no passphrase was given")
    return passphrase() if callable(passphrase) else passphrase


def _pkcs8(der: bytes, what: str) -> object:
    try:
        return serialization.load_der_private_key(der, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise InvalidKey(f"{what} is not a valid private key, or of an unknown kind") from e


def _encrypted_pkcs8(der: bytes, passphrase: bytes, what: str) -> object:
    try:
        return serialization.load_der_private_key(der, passphrase)
    except UnsupportedAlgorithm as e:
        raise InvalidKey(f"{what} is encrypted in a way that is not supported") from e
    except (ValueError, TypeError) as e:
        raise InvalidKey(
            f"{what} does not open: the passphrase is wrong, or the file is damaged"
        ) from e
