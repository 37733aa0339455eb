"""The companion of policy.json: what its readers elsewhere would refuse the whole file for.

It has the same shape, and `default` may be left out; scopes that it has are decided by it, all
others by policy.json. Its requirements are those of policy.json and three more: `signed`
(attachments and bundles, rotating keys, identities by regular expression), `attested`, and
`anyOf`. It is a file of its own because containers/image refuses a policy with a word that it
does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType

from imgtools.errors import InvalidInput
from imgtools.sign.identity import IdentityRule, MatchRepoDigestOrExact
from imgtools.sign.policies.fields import Fields, kind_of, listed
from imgtools.sign.policies.identities import parse_identity
from imgtools.sign.policies.model import (
    AnyIdentity,
    AnyOf,
    Attested,
    CertificateIdentity,
    KeylessTrust,
    Material,
    Policy,
    Requirement,
    Signed,
    TimedKey,
)
from imgtools.sign.policies.parse import parse_transports, requirement, requirements
from imgtools.spec import strict_json
from imgtools.spec.regular import RegularExpression

_FORMATS = frozenset({"sigstore", "bundle"})
_DEEPEST = 4


def parse_companion(content: bytes, origin: str = "companion policy") -> Policy:
    """The companion in `content`; raises InvalidInput (or InvalidJSON)."""
    fields = Fields(strict_json.loads_object(content, origin), origin)
    default = None
    if fields.has("default"):
        default = requirements(fields.take("default"), f"{origin}: default", _requirement)
    transports = parse_transports(fields, origin, _requirement)
    fields.done()
    return Policy(default=default, transports=transports, origin=origin)


def _requirement(value: object, what: str) -> Requirement:
    return _at_depth(value, what, 0)


def _at_depth(value: object, what: str, depth: int) -> Requirement:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "anyOf":
        return _any_of(Fields(value, f"{what}: anyOf"), depth)
    if not isinstance(kind, str) or kind not in _READERS:
        return requirement(value, what)
    fields = Fields(value, f"{what}: {kind}")
    fields.take("type")
    found = _READERS[kind](fields)
    fields.done()
    return found


def _any_of(fields: Fields, depth: int) -> AnyOf:
    if depth == _DEEPEST:
        raise InvalidInput(f"{fields.what}: more than {_DEEPEST} inside each other")
    fields.take("type")
    lists = listed(fields.take("alternatives"), f"{fields.what}: alternatives")
    fields.done()
    what = fields.what
    return AnyOf(
        alternatives=tuple(
            requirements(items, what, lambda item, place: _at_depth(item, place, depth + 1))
            for items in lists
        )
    )


def _signed(fields: Fields) -> Requirement:
    trust = _trust(fields)
    # An attachment proves less of a certificate (no inclusion, no SCT), so it is asked for.
    usual = ("bundle",) if isinstance(trust, KeylessTrust) else tuple(_FORMATS)
    formats = fields.texts("formats") or usual
    for name in formats:
        if name not in _FORMATS:
            raise InvalidInput(
                f"{fields.what}: format {name!r} is not one of {', '.join(sorted(_FORMATS))}"
            )
    return Signed(
        formats=frozenset(formats),
        trust=trust,
        log=_log(fields, trust),
        annotations=_annotations(fields),
        identity=_identity(fields),
    )


def _attested(fields: Fields) -> Requirement:
    trust = _trust(fields)
    return Attested(
        predicate_type=fields.needed("predicateType"), trust=trust, log=_log(fields, trust)
    )


def _trust(fields: Fields) -> tuple[TimedKey, ...] | KeylessTrust:
    keys, keyless = fields.take("keys"), fields.take("keyless")
    if (keys is None) == (keyless is None):
        raise InvalidInput(f"{fields.what}: exactly one of keys and keyless has to be there")
    if keys is not None:
        return tuple(_key(item, f"{fields.what}: keys") for item in _entries(keys, fields, "keys"))
    inner = Fields(keyless, f"{fields.what}: keyless")
    root = _root(inner)
    identities = tuple(
        _certificate(item, f"{inner.what}: identities")
        for item in _entries(inner.take("identities"), inner, "identities")
    )
    inner.done()
    return KeylessTrust(root=root, identities=identities)


def _annotations(fields: Fields) -> tuple[tuple[str, str], ...]:
    value = fields.take("annotations")
    if value is None:
        return ()
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise InvalidInput(f"{fields.what}: annotations is not an object of texts")
    return tuple(sorted(value.items()))


def _log(fields: Fields, trust: tuple[TimedKey, ...] | KeylessTrust) -> Material | None:
    value = fields.take("log")
    if value is None:
        return None
    if isinstance(trust, KeylessTrust):
        raise InvalidInput(f"{fields.what}: log is for keys: certificates always need one")
    inner = Fields(value, f"{fields.what}: log")
    root = _root(inner)
    inner.done()
    return root


def _root(fields: Fields) -> Material:
    root = fields.material("trustedRootPath", "trustedRootData")
    if root is None:
        raise InvalidInput(f"{fields.what}: one of trustedRootPath and trustedRootData is missing")
    return root


def _entries(value: object, fields: Fields, name: str) -> list[object]:
    if not isinstance(value, list) or not value:
        raise InvalidInput(f"{fields.what}: {name} is not a list with entries")
    return value


def _key(value: object, what: str) -> TimedKey:
    fields = Fields(value, what)
    material = fields.material("keyPath", "keyData")
    if material is None:
        raise InvalidInput(f"{what}: one of keyPath and keyData is missing")
    found = TimedKey(
        key=material, not_before=_time(fields, "notBefore"), not_after=_time(fields, "notAfter")
    )
    if found.not_before and found.not_after and found.not_before >= found.not_after:
        raise InvalidInput(f"{what}: notBefore is not before notAfter")
    fields.done()
    return found


def _certificate(value: object, what: str) -> CertificateIdentity:
    fields = Fields(value, what)
    found = CertificateIdentity(
        subject=fields.text("subject"),
        subject_regexp=_pattern(fields, "subjectRegExp"),
        issuer=fields.text("issuer"),
        issuer_regexp=_pattern(fields, "issuerRegExp"),
    )
    fields.done()
    for pair in (("subject", "subject_regexp"), ("issuer", "issuer_regexp")):
        if sum(bool(getattr(found, name)) for name in pair) != 1:
            raise InvalidInput(f"{what}: exactly one of {pair[0]} and {pair[0]}RegExp is needed")
    return found


def _pattern(fields: Fields, key: str) -> str:
    text = fields.text(key)
    try:
        RegularExpression(text)
    except InvalidInput as e:
        raise InvalidInput(f"{fields.what}: {key}: {e.message}") from e
    return text


def _time(fields: Fields, key: str) -> datetime | None:
    text = fields.text(key)
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError as e:
        raise InvalidInput(f"{fields.what}: {key} {text!r} is not an RFC 3339 time") from e
    if found.tzinfo is None:
        raise InvalidInput(f"{fields.what}: {key} {text!r} has no time zone")
    return found.astimezone(UTC)


def _identity(fields: Fields) -> IdentityRule | AnyIdentity:
    value, what = fields.take("signedIdentity"), f"{fields.what}: signedIdentity"
    if value is None:
        return MatchRepoDigestOrExact()
    if isinstance(value, dict) and value.get("type") == "anyIdentity":
        kind_of(value, what, {"anyIdentity"}, "identity match")
        inner = Fields(value, what)
        inner.take("type")
        inner.done()
        return AnyIdentity()
    return parse_identity(value, what)


_READERS: Mapping[str, Callable[[Fields], Requirement]] = MappingProxyType(
    {"signed": _signed, "attested": _attested}
)
