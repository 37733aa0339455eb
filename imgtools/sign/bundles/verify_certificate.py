"""Verifies bundles with short-lived certificates (sigstore's "keyless"), offline.

sigstore-python checks certificates, logs and timestamps against the trusted root that the
caller gives; nothing is asked of a network. What it leaves to others is decided here: which
bundles are admitted, when things were trusted, that every timestamp holds, whose certificate
it is, and what the statement says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from imgtools.errors import InvalidSignature
from imgtools.sign.bundles.dsse import IN_TOTO, signed_message
from imgtools.sign.bundles.model import Bundle, LogEntry
from imgtools.sign.bundles.statement import Statement, parse_statement
from imgtools.sign.bundles.times import proven_times
from imgtools.sign.bundles.trusted_root import TrustedRoot
from imgtools.sign.bundles.write import write_bundle
from imgtools.sign.certificates.identity import check_rules, identified, match
from imgtools.sign.certificates.sct import only_stamp
from imgtools.sign.model import Proof
from imgtools.sign.policies.model import CertificateIdentity
from imgtools.spec.digest import Digest

if TYPE_CHECKING:
    from cryptography.x509 import Certificate
    from sigstore.models import Bundle as PeerBundle
    from sigstore.verify import Verifier

    _Verify = Callable[[Verifier, PeerBundle, "_ThisCertificate"], None]

_KINDS = frozenset({("hashedrekord", "0.0.1"), ("hashedrekord", "0.0.2"), ("dsse", "0.0.1")})


def verify_with_certificate(
    bundle: Bundle, trusted_root: bytes, identities: Sequence[CertificateIdentity]
) -> tuple[Statement, Proof]:
    """The statement in `bundle`, signed under a certificate of one of `identities`.

    `trusted_root` is trusted_root.json. What holds then: the certificate is of an authority of
    the root, has an SCT of a certificate log of it, was valid when an entry of exactly this
    signature was in a log of the root (Rekor v1 by the log's own time, v2 by a timestamp), and
    every timestamp in the bundle holds. Raises InvalidSignature, and InvalidKey or
    InvalidInput for a root and identities that cannot be used.
    """
    if bundle.envelope is None:
        raise InvalidSignature("the bundle has the signature of a message, not a statement")
    signature = signed_message(bundle.envelope)[1]
    statement = parse_statement(bundle.envelope.payload)
    payload = bundle.envelope.payload

    def verify(verifier: Verifier, peer: PeerBundle, policy: _ThisCertificate) -> None:
        if verifier.verify_dsse(peer, policy) != (IN_TOTO, payload):
            raise InvalidSignature("the payload that was verified is not the one that was read")

    return statement, _verified(bundle, signature, trusted_root, identities, verify)


def verify_message_with_certificate(
    bundle: Bundle, message: bytes, trusted_root: bytes, identities: Sequence[CertificateIdentity]
) -> tuple[Digest, Proof]:
    """The digest of `message`, signed as it is under a certificate; like
    `verify_with_certificate`. Images are never signed in this way."""
    if bundle.message is None:
        raise InvalidSignature("the bundle has a statement, not the signature of a message")
    digest = Digest.of(message)
    if bundle.message.digest not in (None, digest):
        raise InvalidSignature(f"the bundle is about {bundle.message.digest}, not about {digest}")

    def verify(verifier: Verifier, peer: PeerBundle, policy: _ThisCertificate) -> None:
        verifier.verify_artifact(message, peer, policy)

    proof = _verified(bundle, bundle.message.signature, trusted_root, identities, verify)
    return digest, proof


def _verified(
    bundle: Bundle,
    signature: bytes,
    trusted_root: bytes,
    identities: Sequence[CertificateIdentity],
    verify: _Verify,
) -> Proof:
    """Who signed. Identities are matched here: sigstore-python's own policies read only the
    older issuer extension, and no host names."""
    check_rules(identities)
    root = TrustedRoot(trusted_root)
    entry = _only_entry(bundle)
    leaf = _leaf(bundle)
    times = proven_times(bundle, entry, signature, root)
    _check_usage(leaf)
    policy = _ThisCertificate(bundle.certificates[0])
    _run(bundle, root.at(times, only_stamp(leaf).time), policy, verify)
    found = identified(leaf)
    name = match(found, identities)
    return Proof(kind="certificate", subject=name.value, issuer=found.issuer, time=min(times))


class _ThisCertificate:
    """What sigstore-python is told of who may sign: the certificate that was read here."""

    def __init__(self, der: bytes) -> None:
        self._der = der

    def verify(self, cert: Certificate) -> None:
        """Raise InvalidSignature for another certificate."""
        from cryptography.hazmat.primitives.serialization import Encoding

        if cert.public_bytes(Encoding.DER) != self._der:
            raise InvalidSignature("the certificate that was verified is not the one that was read")


def _only_entry(bundle: Bundle) -> LogEntry:
    """The log entry of a bundle, of a kind that binds a signature; raises InvalidSignature."""
    if not bundle.certificates:
        raise InvalidSignature("the bundle names a key: expected a certificate")
    if len(bundle.entries) != 1:
        raise InvalidSignature(
            f"the bundle has {len(bundle.entries)} log entries: expected exactly one"
        )
    entry = bundle.entries[0]
    if (entry.kind, entry.version) not in _KINDS:
        raise InvalidSignature(
            f"the log entry is a {ascii(entry.kind)[:40]} {ascii(entry.version)[:40]}: "
            "expected hashedrekord or dsse"
        )
    if entry.proof is None or not entry.proof.checkpoint:
        raise InvalidSignature("the log entry has no proof of inclusion with a checkpoint")
    return entry


def _leaf(bundle: Bundle) -> Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        leaf = x509.load_der_x509_certificate(bundle.certificates[0])
        extensions = leaf.extensions
        key = leaf.public_key()
    except (ValueError, TypeError, x509.DuplicateExtension, _unsupported()) as e:
        raise InvalidSignature("the certificate in the bundle is malformed") from e
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise InvalidSignature("the certificate's key is not ECDSA, which bundles are signed with")
    for extension in extensions:
        if isinstance(extension.value, x509.BasicConstraints) and extension.value.ca:
            raise InvalidSignature("the certificate is an authority's: expected a signer's")
    return leaf


def _check_usage(leaf: Certificate) -> None:
    """The certificate is for signatures, and for those of code; raises InvalidSignature."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    try:
        signs = leaf.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
        purposes = list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound as e:
        raise InvalidSignature("the certificate does not say what it may be used for") from e
    if not signs or ExtendedKeyUsageOID.CODE_SIGNING not in purposes:
        raise InvalidSignature("the certificate is not for code signing")


def _run(bundle: Bundle, root: bytes, policy: _ThisCertificate, verify: _Verify) -> None:
    """Have sigstore-python verify what we parsed, and nothing else."""
    from sigstore.errors import Error as PeerError
    from sigstore.models import Bundle as PeerBundle
    from sigstore.models import TrustedRoot as PeerRoot
    from sigstore.verify import Verifier
    from sigstore_models.trustroot import v1

    try:
        peer = PeerBundle.from_json(write_bundle(bundle))
        verifier = Verifier(trusted_root=PeerRoot(v1.TrustedRoot.from_json(root)))
        verify(verifier, peer, policy)
    except InvalidSignature:
        raise
    except PeerError as e:
        raise InvalidSignature(f"the bundle does not hold: {_line(e)}") from e
    except Exception as e:
        # Hostile certificates and entries make it fail in ways of its dependencies' as well,
        # and what was not verified to the end was not verified.
        raise InvalidSignature(f"the bundle cannot be verified: {type(e).__name__}") from e


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return "".join(c if c.isprintable() else "?" for c in text)[:300] or type(error).__name__


def _unsupported() -> type[Exception]:
    from cryptography.exceptions import UnsupportedAlgorithm

    return UnsupportedAlgorithm
