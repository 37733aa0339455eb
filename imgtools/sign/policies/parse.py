"""policy.json to requirements (containers-policy.json(5)), as strictly as its peers read it.

Exact key names, no duplicates, no unknown keys, a default that is not empty: a policy with a
misspelt word is refused as a whole, before any image is looked at.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping
from types import MappingProxyType

from imgtools.errors import InvalidInput
from imgtools.sign.identity import IdentityRule, MatchRepoDigestOrExact
from imgtools.sign.policies.fields import Fields, kind_of, listed, scopes_of
from imgtools.sign.policies.identities import parse_identity
from imgtools.sign.policies.model import (
    AcceptAnything,
    FulcioTrust,
    Material,
    PkiTrust,
    Policy,
    Reject,
    Requirement,
    SignedBaseLayer,
    SignedBy,
    SigstoreSigned,
)
from imgtools.spec import strict_json

_KEYS = ("keyPath", "keyPaths", "keyData", "keyDatas")
_REKOR = (
    "rekorPublicKeyPath",
    "rekorPublicKeyPaths",
    "rekorPublicKeyData",
    "rekorPublicKeyDatas",
)
_GPG_KEY_TYPES = ("GPGKeys", "signedByGPGKeys", "X509Certificates", "signedByX509CAs")
_ABSOLUTE_SCOPES = ("dir", "oci", "oci-archive", "sif")
_NO_SCOPES = ("docker-archive", "tarball")

Reader = Callable[[object, str], Requirement]
"""One requirement from its JSON value and its place in the file."""


def parse_policy(content: bytes, origin: str = "policy") -> Policy:
    """The policy in `content`; raises InvalidInput (or InvalidJSON)."""
    fields = Fields(strict_json.loads_object(content, origin), origin)
    if not fields.has("default"):
        raise InvalidInput(f"{origin}: the default requirements are missing")
    default = requirements(fields.take("default"), f"{origin}: default", requirement)
    transports = parse_transports(fields, origin, requirement)
    fields.done()
    return Policy(default=default, transports=transports, origin=origin)


def parse_transports(
    fields: Fields, origin: str, read: Reader
) -> Mapping[str, Mapping[str, tuple[Requirement, ...]]]:
    """The `transports` of a policy file; scopes of transports nobody knows are not checked."""
    value = fields.take("transports") if fields.has("transports") else {}
    transports = scopes_of(value, f"{origin}: transports")
    parsed: dict[str, Mapping[str, tuple[Requirement, ...]]] = {}
    for transport, value in transports.items():
        scopes = scopes_of(value, f"{origin}: {transport}")
        for scope in scopes:
            _check_scope(origin, transport, scope)
        parsed[transport] = MappingProxyType(
            {
                scope: requirements(items, f"{origin}: {transport}: {scope!r}", read)
                for scope, items in scopes.items()
            }
        )
    return MappingProxyType(parsed)


def requirements(value: object, what: str, read: Reader) -> tuple[Requirement, ...]:
    """A list of requirements, which must not be empty."""
    return tuple(read(item, what) for item in listed(value, what))


def requirement(value: object, what: str) -> Requirement:
    """One requirement of policy.json; raises InvalidInput."""
    kind = kind_of(value, what, _READERS, "requirement")
    fields = Fields(value, f"{what}: {kind}")
    fields.take("type")
    found = _READERS[kind](fields)
    fields.done()
    return found


def _accept(fields: Fields) -> Requirement:
    return AcceptAnything()


def _reject(fields: Fields) -> Requirement:
    return Reject()


def _signed_by(fields: Fields) -> Requirement:
    key_type = fields.text("keyType")
    if key_type not in _GPG_KEY_TYPES:
        raise InvalidInput(f"{fields.what}: keyType {key_type!r} is not one of the known ones")
    keys = fields.material("keyPath", "keyPaths", "keyData")
    if keys is None:
        raise InvalidInput(f"{fields.what}: one of keyPath, keyPaths and keyData is missing")
    return SignedBy(key_type=key_type, keys=keys, identity=_identity(fields))


def _signed_base_layer(fields: Fields) -> Requirement:
    value = fields.take("baseLayerIdentity")
    if value is None:
        raise InvalidInput(f"{fields.what}: baseLayerIdentity is missing")
    return SignedBaseLayer(identity=parse_identity(value, f"{fields.what}: baseLayerIdentity"))


def _sigstore_signed(fields: Fields) -> Requirement:
    keys = fields.material(*_KEYS)
    fulcio, pki = fields.take("fulcio"), fields.take("pki")
    rekor = fields.material(*_REKOR)
    given = [trust for trust in (keys, fulcio, pki) if trust is not None]
    if len(given) != 1:
        raise InvalidInput(
            f"{fields.what}: exactly one of {', '.join(_KEYS)}, fulcio and pki has to be there"
        )
    trust: Material | FulcioTrust | PkiTrust
    if keys is not None:
        trust = keys
    elif fulcio is not None:
        trust = _fulcio(Fields(fulcio, f"{fields.what}: fulcio"))
        if rekor is None:
            raise InvalidInput(f"{fields.what}: fulcio needs one of {', '.join(_REKOR)}")
    else:
        trust = _pki(Fields(pki, f"{fields.what}: pki"))
        if rekor is not None:
            raise InvalidInput(f"{fields.what}: {rekor.field} cannot be used with pki")
    return SigstoreSigned(trust=trust, rekor=rekor, identity=_identity(fields))


def _fulcio(fields: Fields) -> FulcioTrust:
    roots = fields.material("caPath", "caData")
    if roots is None:
        raise InvalidInput(f"{fields.what}: one of caPath and caData is missing")
    found = FulcioTrust(
        roots=roots,
        oidc_issuer=fields.needed("oidcIssuer"),
        subject_email=fields.needed("subjectEmail"),
    )
    fields.done()
    return found


def _pki(fields: Fields) -> PkiTrust:
    roots = fields.material("caRootsPath", "caRootsData")
    if roots is None:
        raise InvalidInput(f"{fields.what}: one of caRootsPath and caRootsData is missing")
    found = PkiTrust(
        roots=roots,
        intermediates=fields.material("caIntermediatesPath", "caIntermediatesData"),
        email=fields.text("subjectEmail"),
        hostname=fields.text("subjectHostname"),
    )
    if not found.email and not found.hostname:
        raise InvalidInput(f"{fields.what}: subjectEmail or subjectHostname is missing")
    fields.done()
    return found


def _identity(fields: Fields) -> IdentityRule:
    value = fields.take("signedIdentity")
    if value is None:
        return MatchRepoDigestOrExact()
    return parse_identity(value, f"{fields.what}: signedIdentity")


def _check_scope(origin: str, transport: str, scope: str) -> None:
    if not scope:
        return
    if transport in _ABSOLUTE_SCOPES:
        if not scope.startswith("/") or scope == "/" or posixpath.normpath(scope) != scope:
            raise InvalidInput(
                f"{origin}: {transport}: scope {scope!r} is not an absolute, clean path below /"
            )
    elif transport in _NO_SCOPES:
        raise InvalidInput(f"{origin}: {transport}: has no scopes but the empty one")


_READERS: Mapping[str, Callable[[Fields], Requirement]] = MappingProxyType(
    {
        "insecureAcceptAnything": _accept,
        "reject": _reject,
        "signedBy": _signed_by,
        "signedBaseLayer": _signed_base_layer,
        "sigstoreSigned": _sigstore_signed,
    }
)
