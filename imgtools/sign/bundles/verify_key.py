"""Verifies bundles with public keys that the caller names.

The hint in a bundle, its certificates and whatever else it brings never select a key: what
was not given here does not verify anything. A log is asked about only if its keys are given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from imgtools.errors import InvalidSignature
from imgtools.sign.bundles.dsse import signed_message
from imgtools.sign.bundles.model import Bundle, Envelope
from imgtools.sign.bundles.statement import Statement, parse_statement
from imgtools.sign.model import Proof
from imgtools.spec.digest import Digest

if TYPE_CHECKING:
    from imgtools.sign.keys.public import PublicKey


def verify_with_key(
    bundle: Bundle, keys: Sequence[PublicKey], *, trusted_root: bytes | None = None
) -> tuple[Statement, Proof]:
    """The statement that one of `keys` signed, and which key that was.

    With `trusted_root` (trusted_root.json) a log of it must have the signature, and the proof
    says when; without, log entries and timestamps are not looked at. A certificate in the
    bundle never is. Raises InvalidSignature for a bundle without an envelope, for one that
    none of the keys signed, and for a signed payload that is no statement; what it is about is
    the caller's to check (see `statement.signature_claim`). InvalidKey is about the root.
    """
    if bundle.envelope is None:
        raise InvalidSignature("the bundle has the signature of a message, not a statement")
    message, signature = signed_message(bundle.envelope)
    key = _verified_by(keys, signature, message)
    statement = parse_statement(bundle.envelope.payload)
    time = None
    if trusted_root is not None:
        from imgtools.sign.bundles.logged import logged_at

        time = logged_at(bundle, key, trusted_root)
    return statement, Proof(kind="key", key=key.spki_sha256, time=time)


def verify_envelope_with_key(
    envelope: Envelope, keys: Sequence[PublicKey]
) -> tuple[Statement, Proof]:
    """The statement in an envelope that one of `keys` signed, as in cosign's `.att`. Raises
    like `verify_with_key`."""
    message, signature = signed_message(envelope)
    key = _verified_by(keys, signature, message)
    return parse_statement(envelope.payload), Proof(kind="key", key=key.spki_sha256)


def verify_message_with_key(
    bundle: Bundle, message: bytes, keys: Sequence[PublicKey]
) -> tuple[Digest, Proof]:
    """The digest of `message`, which one of `keys` signed as it is (cosign sign-blob).

    Images are never signed in this way. Raises InvalidSignature.
    """
    if bundle.message is None:
        raise InvalidSignature("the bundle has a statement, not the signature of a message")
    said = bundle.message.digest
    digest = Digest.of(message, said.algorithm if said is not None else "sha256")
    if said is not None and said != digest:
        raise InvalidSignature(f"the bundle is about {said}, not about {digest}")
    key = _verified_by(keys, bundle.message.signature, message)
    return digest, Proof(kind="key", key=key.spki_sha256)


def _verified_by(keys: Sequence[PublicKey], signature: bytes, message: bytes) -> PublicKey:
    """The first of `keys` that signed; raises InvalidSignature."""
    if not keys:
        raise InvalidSignature("there is no key to verify the bundle with")
    refused: InvalidSignature | None = None
    for key in keys:
        try:
            # cosign 3 hashes by the size of the key, so that both ways are found in bundles.
            key.verify(signature, message, algorithms="any")
        except InvalidSignature as e:
            refused = e
            continue
        return key
    if len(keys) == 1 and refused is not None:
        raise refused
    raise InvalidSignature(f"the bundle is not signed by any of the {len(keys)} keys")
