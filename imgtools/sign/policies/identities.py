"""The signedIdentity of a requirement: which signed names an image may have
(containers-policy.json(5), "signedIdentity")."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from imgtools.errors import InvalidInput, InvalidReference
from imgtools.sign.identity import (
    ExactReference,
    ExactRepository,
    IdentityRule,
    MatchExact,
    MatchRepoDigestOrExact,
    MatchRepository,
    RemapIdentity,
)
from imgtools.sign.policies.fields import Fields, kind_of
from imgtools.spec.reference import Reference

_HOST_PORT = re.compile(
    r"(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
    r"(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[0-9a-fA-F:]+\])(?::[0-9]+)?"
)


def parse_identity(value: object, what: str) -> IdentityRule:
    """The rule that `value` says, `what` being its place; raises InvalidInput."""
    kind = kind_of(value, what, _READERS, "identity match")
    fields = Fields(value, f"{what}: {kind}")
    fields.take("type")
    rule = _READERS[kind](fields)
    fields.done()
    return rule


def _exact_reference(fields: Fields) -> IdentityRule:
    text = fields.needed("dockerReference")
    reference = _reference(fields, text, "dockerReference")
    if not reference.tag and reference.digest is None:
        raise InvalidInput(
            f"{fields.what}: dockerReference {text!r} has neither a tag nor a digest"
        )
    return ExactReference(reference=text)


def _exact_repository(fields: Fields) -> IdentityRule:
    text = fields.needed("dockerRepository")
    _reference(fields, text, "dockerRepository")
    return ExactRepository(repository=text)


def _remap(fields: Fields) -> IdentityRule:
    prefix, signed = fields.needed("prefix"), fields.needed("signedPrefix")
    for text in (prefix, signed):
        _check_prefix(fields, text)
    return RemapIdentity(prefix=prefix, signed_prefix=signed)


def _check_prefix(fields: Fields, text: str) -> None:
    """A host[:port], or a name without a tag; a short one is valid and matches nothing."""
    if _HOST_PORT.fullmatch(text):
        return
    try:
        reference = Reference.parse(text, default_tag="")
    except InvalidReference:
        reference = None
    if reference is None or reference.tag or reference.digest is not None:
        raise InvalidInput(
            f"{fields.what}: prefix {text!r} is neither a host nor a host and a path"
        )


def _reference(fields: Fields, text: str, field: str) -> Reference:
    try:
        return Reference.parse(text, default_tag="")
    except InvalidReference as e:
        raise InvalidInput(f"{fields.what}: {field}: {e.message}") from e


_READERS: Mapping[str, Callable[[Fields], IdentityRule]] = MappingProxyType(
    {
        "matchExact": lambda fields: MatchExact(),
        "matchRepoDigestOrExact": lambda fields: MatchRepoDigestOrExact(),
        "matchRepository": lambda fields: MatchRepository(),
        "exactReference": _exact_reference,
        "exactRepository": _exact_repository,
        "remapIdentity": _remap,
    }
)
