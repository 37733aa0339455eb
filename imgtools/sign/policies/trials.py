"""What each requirement asks of one signature, with its keys loaded: a format, a check, a name.

The keys are loaded when an image is judged, all of them, before any signature is looked at.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from imgtools.errors import InvalidKey, InvalidSignature
from imgtools.frozen import dataclass
from imgtools.sign import bundle_checks, checks
from imgtools.sign.identity import IdentityRule
from imgtools.sign.image_places import Kind
from imgtools.sign.model import (
    BundleSignature,
    Format,
    Signature,
    SigstoreSignature,
    SimpleSignature,
    Verified,
)
from imgtools.sign.policies.loading import contents, keys_at, one, public_keys
from imgtools.sign.policies.model import (
    AnyIdentity,
    Attested,
    FulcioTrust,
    KeylessTrust,
    Material,
    PkiTrust,
    Signed,
    SignedBy,
    SigstoreSigned,
)
from imgtools.spec.digest import Digest

Check = Callable[[Signature, Digest], Verified]
"""Verifies one signature, whose claim may still be about another manifest than the digest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """Signatures of `format` are tried by `check`, which is given the digest that is wanted too
    and returns what it verified, or raises InvalidSignature; then the name that was signed has
    to agree with `identity`."""

    format: Kind
    check: Check
    identity: IdentityRule | AnyIdentity


def trials(
    requirement: SignedBy | SigstoreSigned | Signed | Attested, now: datetime
) -> tuple[Trial, ...]:
    """The trials of a requirement at the time `now`; one that succeeds meets it.

    Raises InvalidKey, StorageError and LimitExceeded for keys that cannot be used.
    """
    match requirement:
        case SignedBy():
            check = _signed_by(requirement, now)
            return (Trial(format="simple", check=check, identity=requirement.identity),)
        case SigstoreSigned():
            check = _sigstore_signed(requirement, now)
            return (Trial(format="sigstore", check=check, identity=requirement.identity),)
        case Signed():
            said = requirement.annotations
            return tuple(
                Trial(format=kind, check=_saying(check, said), identity=requirement.identity)
                for kind, check in _signed(requirement, now)
            )
        case Attested():
            check = _attested(requirement, now)
            return (Trial(format="attestation", check=check, identity=AnyIdentity()),)


def _signed_by(found: SignedBy, now: datetime) -> Check:
    if found.key_type != "GPGKeys":
        raise InvalidKey(f"keyType {found.key_type} is not implemented, here or elsewhere")
    rings = contents(found.keys)

    def check(signature: Signature, digest: Digest) -> Verified:
        if not isinstance(signature, SimpleSignature):
            raise InvalidSignature("it is no simple signature")
        return checks.check_simple(signature, rings, now=now)

    return check


def _sigstore_signed(found: SigstoreSigned, now: datetime) -> Check:
    rekor = public_keys(found.rekor, ecdsa=True) if found.rekor is not None else ()
    match found.trust:
        case Material() as keys:
            by_key = checks.KeyTrust(keys=public_keys(keys), rekor=rekor)
            return _attachment(lambda s: checks.check_sigstore_key(s, by_key))
        case FulcioTrust() as fulcio:
            by_fulcio = checks.FulcioCheck(
                roots=one(fulcio.roots),
                rekor=rekor,
                issuer=fulcio.oidc_issuer,
                email=fulcio.subject_email,
            )
            return _attachment(lambda s: checks.check_sigstore_fulcio(s, by_fulcio))
        case PkiTrust() as pki:
            by_pki = checks.PkiCheck(
                roots=one(pki.roots),
                intermediates=one(pki.intermediates) if pki.intermediates is not None else None,
                email=pki.email,
                hostname=pki.hostname,
            )
            return _attachment(lambda s: checks.check_sigstore_pki(s, by_pki, now=now))


def _signed(found: Signed, now: datetime) -> list[tuple[Format, Check]]:
    made: list[tuple[Format, Check]] = []
    if isinstance(found.trust, KeylessTrust):
        trust = bundle_checks.KeylessCheck(
            root=one(found.trust.root), identities=found.trust.identities
        )
        if "sigstore" in found.formats:
            made.append(
                ("sigstore", _attachment(lambda s: bundle_checks.check_sigstore_keyless(s, trust)))
            )
        if "bundle" in found.formats:
            made.append(
                ("bundle", _bundle(lambda s, _: bundle_checks.check_bundle_keyless(s, trust)))
            )
        return made
    keys = checks.KeyTrust(keys=keys_at(found.trust, now), root=_log(found), algorithms="any")
    if "sigstore" in found.formats:
        made.append(("sigstore", _attachment(lambda s: checks.check_sigstore_key(s, keys))))
    if "bundle" in found.formats:
        made.append(("bundle", _bundle(lambda s, _: bundle_checks.check_bundle_key(s, keys))))
    return made


def _attested(found: Attested, now: datetime) -> Check:
    kind = found.predicate_type
    if isinstance(found.trust, KeylessTrust):
        trust = bundle_checks.KeylessCheck(
            root=one(found.trust.root), identities=found.trust.identities
        )
        return _statement(lambda s, d: bundle_checks.check_attestation_keyless(s, trust, kind, d))
    keys = checks.KeyTrust(keys=keys_at(found.trust, now), root=_log(found))
    return _statement(lambda s, d: bundle_checks.check_attestation_key(s, keys, kind, d))


def _saying(check: Check, annotations: tuple[tuple[str, str], ...]) -> Check:
    """The check, of signatures that have these annotations."""

    def checked(signature: Signature, digest: Digest) -> Verified:
        found = check(signature, digest)
        for name, value in annotations:
            if found.claim.annotations.get(name) != value:
                raise InvalidSignature(f"it does not say {name}={value}")
        return found

    return checked


def _log(found: Signed | Attested) -> bytes:
    """The trusted_root.json of the logs that are asked for, b"" for none."""
    return one(found.log) if found.log is not None else b""


def _attachment(
    check: Callable[[SigstoreSignature], Verified],
) -> Check:
    def checked(signature: Signature, digest: Digest) -> Verified:
        if not isinstance(signature, SigstoreSignature):
            raise InvalidSignature("it is no sigstore attachment")
        return check(signature)

    return checked


def _statement(
    check: Callable[[BundleSignature | SigstoreSignature, Digest], Verified],
) -> Check:
    def checked(signature: Signature, digest: Digest) -> Verified:
        if not isinstance(signature, BundleSignature | SigstoreSignature):
            raise InvalidSignature("it is no attestation")
        return check(signature, digest)

    return checked


def _bundle(check: Callable[[BundleSignature, Digest], Verified]) -> Check:
    def checked(signature: Signature, digest: Digest) -> Verified:
        if not isinstance(signature, BundleSignature):
            raise InvalidSignature("it is no sigstore bundle")
        return check(signature, digest)

    return checked
