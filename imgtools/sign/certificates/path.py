"""The way from a certificate to a root that was named, by the rules of Go's crypto/x509.

Those are RFC 5280 section 6 as containers/image and cosign have it; where they leave something
open the stricter reading is taken. The search is bounded, since whoever signs chooses the
certificates in between.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature as _Mismatch
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from imgtools.errors import InvalidKey, InvalidSignature
from imgtools.sign.keys.public import PublicKey

LONGEST_PATH = 8
CHECKS = 100
"""Signatures that are checked in search of one path; Go has the same limit."""

_Extension = TypeVar("_Extension", bound=x509.ExtensionType)
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_CODE_SIGNING = ExtendedKeyUsageOID.CODE_SIGNING
_ANY_USAGE = ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE
_STRONG = (SHA256, SHA384, SHA512)
# Extensions that are understood here, or that change nothing about who may sign.
_UNDERSTOOD = frozenset(
    (
        ExtensionOID.KEY_USAGE,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.CRL_DISTRIBUTION_POINTS,
        ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
    )
)


def find_path(
    leaf: x509.Certificate,
    *,
    intermediates: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    at: datetime,
) -> tuple[x509.Certificate, ...]:
    """The certificates from `leaf` to one of `roots`, all of them valid at the time `at`.

    Raises InvalidSignature with what was wrong with the most promising way. A leaf that is
    itself an authority is refused, even if it is one of the roots: who holds such a key issues
    certificates, and does not sign images.
    """
    _check_leaf(leaf, at)
    return _Search(intermediates, roots, at).run(leaf)


def public_key(certificate: x509.Certificate) -> PublicKey:
    """The key that a certificate certifies; raises InvalidSignature unless it may be used."""
    try:
        return PublicKey.of(certificate.public_key(), "the certificate's key")
    except (ValueError, UnsupportedAlgorithm) as e:
        raise InvalidSignature("the certificate's key is malformed or of an unknown kind") from e
    except InvalidKey as e:
        raise InvalidSignature(e.message) from e


class _Search:
    """One search: depth first, roots before others, no certificate twice."""

    def __init__(
        self,
        intermediates: Sequence[x509.Certificate],
        roots: Sequence[x509.Certificate],
        at: datetime,
    ) -> None:
        self._intermediates = _by_subject(intermediates)
        self._roots = _by_subject(roots)
        self._at = at
        self._checks = CHECKS
        self._reason = ""
        self._depth = 0

    def run(self, leaf: x509.Certificate) -> tuple[x509.Certificate, ...]:
        """The first path that holds."""
        found = self._extend((leaf,))
        if found is None:
            raise InvalidSignature(
                self._reason
                or f"the certificate was issued by {_name(leaf.issuer)}, which is no root that is "
                "trusted, and nothing leads from it to one"
            )
        return found

    def _extend(self, path: tuple[x509.Certificate, ...]) -> tuple[x509.Certificate, ...] | None:
        if len(path) >= LONGEST_PATH:
            self._blame(path, f"the chain is longer than {LONGEST_PATH} certificates")
            return None
        wanted = path[-1].issuer.public_bytes()
        for candidate in self._roots.get(wanted, ()):
            if self._may_issue(candidate, path):
                whole = (*path, candidate)
                problem = _path_problem(whole, self._at)
                if problem is None:
                    return whole
                self._blame(whole, problem)
        for candidate in self._intermediates.get(wanted, ()):
            if candidate in path or not self._may_issue(candidate, path):
                continue
            found = self._extend((*path, candidate))
            if found is not None:
                return found
        return None

    def _may_issue(self, candidate: x509.Certificate, path: tuple[x509.Certificate, ...]) -> bool:
        """Whether `candidate` has issued the end of `path`, and had the right to."""
        problem = _authority_problem(candidate, len(path) - 1, self._at)
        if problem is not None:
            self._blame(path, problem)
            return False
        if self._checks == 0:
            raise InvalidSignature(f"no chain was found within {CHECKS} signatures")
        self._checks -= 1
        problem = _issue_problem(path[-1], candidate)
        if problem is not None:
            self._blame(path, problem)
        return problem is None

    def _blame(self, path: Sequence[x509.Certificate], problem: str) -> None:
        """Keep the reason that was found farthest from the leaf, the first of its depth."""
        if len(path) > self._depth:
            self._depth, self._reason = len(path), problem


def _check_leaf(leaf: x509.Certificate, at: datetime) -> None:
    problem = _time_problem(leaf, at) or _extension_problem(leaf)
    if problem is not None:
        raise InvalidSignature(problem)
    basic = _extension(leaf, x509.BasicConstraints)
    if basic is not None and basic.ca:
        raise InvalidSignature("the certificate is one of an authority, which signs no images")
    usage = _extension(leaf, x509.KeyUsage)
    if usage is not None and not (usage.digital_signature or usage.content_commitment):
        raise InvalidSignature("the certificate's key usage does not allow signatures")


def _authority_problem(certificate: x509.Certificate, below: int, at: datetime) -> str | None:
    """Why a certificate may not issue, `below` being the authorities between it and the leaf."""
    name = _name(certificate.subject)
    problem = _time_problem(certificate, at) or _extension_problem(certificate)
    if problem is not None:
        return problem
    basic = _extension(certificate, x509.BasicConstraints)
    if basic is None or not basic.ca:
        return f"{name} is not an authority, and has issued a certificate"
    if basic.path_length is not None and below > basic.path_length:
        return f"{name} allows {basic.path_length} authorities below it, and there are {below}"
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        return f"the key usage of {name} does not allow certificates"
    return None


def _issue_problem(certificate: x509.Certificate, issuer: x509.Certificate) -> str | None:
    """Why `certificate` does not hold by the signature of `issuer`."""
    name = _name(issuer.subject)
    try:
        algorithm = certificate.signature_hash_algorithm
        public_key(issuer)
        if algorithm is not None and not isinstance(algorithm, _STRONG):
            return f"a certificate is signed with {algorithm.name}, which is too weak"
        certificate.verify_directly_issued_by(issuer)
    except InvalidSignature as e:
        return f"the key of {name}: {e.message}"
    except (ValueError, TypeError, UnsupportedAlgorithm, _Mismatch):
        return f"a certificate that names {name} as its issuer is not signed by its key"
    return None


def _path_problem(path: tuple[x509.Certificate, ...], at: datetime) -> str | None:
    """What is wrong with a path as a whole: extended key usages, name constraints.

    An authority without extended key usages may issue for any; one that has them must have
    code signing or any among them, and so must the leaf.
    """
    for certificate in path:
        usages = _extension(certificate, x509.ExtendedKeyUsage)
        if usages is not None and _CODE_SIGNING not in usages and _ANY_USAGE not in usages:
            who = "the certificate" if certificate is path[0] else _name(certificate.subject)
            return f"the extended key usage of {who} does not include code signing"
    if any(_extension(each, x509.NameConstraints) is not None for each in path[1:]):
        return _constraint_problem(path, at)
    return None


def _constraint_problem(path: tuple[x509.Certificate, ...], at: datetime) -> str | None:
    """Name constraints are left to cryptography, which refuses those that it does not know."""
    anything = verification.ExtensionPolicy.permit_all()
    authority = anything.require_present(
        x509.BasicConstraints, verification.Criticality.AGNOSTIC, None
    )
    verifier = (
        verification.PolicyBuilder()
        .store(verification.Store([path[-1]]))
        .time(at)
        .max_chain_depth(LONGEST_PATH)
        .extension_policies(ca_policy=authority, ee_policy=anything)
        .build_client_verifier()
    )
    try:
        verifier.verify(path[0], list(path[1:-1]))
    except (verification.VerificationError, x509.UnsupportedGeneralNameType, ValueError) as e:
        return f"the name constraints of the chain do not allow the certificate: {e}"
    return None


def _time_problem(certificate: x509.Certificate, at: datetime) -> str | None:
    start, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if start <= at <= end:
        return None
    whose = _name(certificate.subject) if certificate.subject.rdns else "the certificate"
    return (
        f"{whose} was valid from {start:{_TIME}} to {end:{_TIME}}, and the signature counts "
        f"as made at {at:{_TIME}}"
    )


def _extension_problem(certificate: x509.Certificate) -> str | None:
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            return f"a certificate has the critical extension {extension.oid.dotted_string}"
    return None


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _by_subject(
    certificates: Sequence[x509.Certificate],
) -> dict[bytes, list[x509.Certificate]]:
    """Each certificate once, by the name of whom it certifies."""
    found: dict[bytes, list[x509.Certificate]] = {}
    seen = set()
    for certificate in certificates:
        mark = hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()
        if mark not in seen:
            seen.add(mark)
            found.setdefault(certificate.subject.public_bytes(), []).append(certificate)
    return found


def _name(name: x509.Name) -> str:
    """A distinguished name for people: bounded, and without what would change a terminal."""
    text = name.rfc4514_string()
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return repr(shown if len(shown) <= 200 else f"{shown[:200]}...")
