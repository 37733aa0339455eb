"""Predicates of attestations: their types by short name, and the statements made of them.

The short names are cosign's (`cosign attest --type`), and so is the form of `custom`, which
keeps the document as text with the time at which it was attested.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

from imgtools.errors import InvalidInput, InvalidJSON, InvalidSignature
from imgtools.frozen import dataclass
from imgtools.sign.bundles.make import make_statement
from imgtools.sign.bundles.statement import (
    COSIGN_SIGN,
    MOST_VALUES,
    Statement,
    check_values,
    parse_statement,
)
from imgtools.sign.model import ATTESTATION_LIMIT
from imgtools.spec import strict_json
from imgtools.spec.digest import Digest

PREDICATE_LIMIT = ATTESTATION_LIMIT // 2
"""Bytes of a predicate: it has to fit into its bundle in base64."""

CUSTOM = "https://cosign.sigstore.dev/attestation/v1"

PREDICATE_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "custom": CUSTOM,
        "slsaprovenance": "https://slsa.dev/provenance/v0.2",
        "slsaprovenance02": "https://slsa.dev/provenance/v0.2",
        "slsaprovenance1": "https://slsa.dev/provenance/v1",
        "spdx": "https://spdx.dev/Document",
        "spdxjson": "https://spdx.dev/Document",
        "cyclonedx": "https://cyclonedx.org/bom",
        "link": "https://in-toto.io/Link/v1",
        "vuln": "https://cosign.sigstore.dev/attestation/vuln/v1",
        "openvex": "https://openvex.dev/ns",
    }
)
"""cosign's short names, and what stands in statements."""

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-~]+")
_URI_LENGTH = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicate:
    """What is said of an image: `type` is a URI, `body` the object."""

    type: str
    body: Mapping[str, Any]


def predicate_type(text: str) -> str:
    """The URI that a short name or a URI means.

    Raises InvalidInput for others, and for the type that makes a statement a signature.
    """
    found = PREDICATE_TYPES.get(text, text)
    if not _URI.fullmatch(found) or len(found) > _URI_LENGTH:
        raise InvalidInput(
            f"{text!r} is no type of attestation: expected a URI, or one of "
            + ", ".join(PREDICATE_TYPES)
        )
    if found == COSIGN_SIGN:
        raise InvalidInput(
            f"{COSIGN_SIGN} is the type of signatures, not of attestations",
            hint="signatures are made by `imgtools sign`, and verified without --attestation",
        )
    return found


def read_predicate(content: bytes, kind: str, now: datetime) -> Predicate:
    """The predicate in `content` for what `predicate_type` makes of `kind`.

    That is the JSON object itself; for `custom` any JSON document, as text, with the time
    `now`. Raises InvalidInput, InvalidJSON and LimitExceeded.
    """
    uri = predicate_type(kind)
    try:
        value = strict_json.loads(content, "predicate", limit=PREDICATE_LIMIT, values=MOST_VALUES)
    except InvalidJSON as e:
        if uri == PREDICATE_TYPES["spdx"]:
            e.hint = "the predicate is SPDX's JSON form; attach a tag-value document as an SBOM"
        raise
    if uri == CUSTOM:
        body = {
            "Data": content.decode(),
            "Timestamp": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return Predicate(type=uri, body=MappingProxyType(body))
    if not isinstance(value, dict):
        raise InvalidInput(f"a predicate of type {uri} is a JSON object")
    return Predicate(type=uri, body=MappingProxyType(value))


def attestation(predicate: Predicate, digest: Digest, name: str) -> bytes:
    """The statement that `predicate` holds for the manifest `digest`, which is in the
    repository `name`: the payload to sign.

    Raises InvalidInput for what verifiers would refuse.
    """
    try:
        check_values(dict(predicate.body))
        payload = make_statement(
            digest, name=name, predicate_type=predicate.type, predicate=predicate.body
        )
        parse_statement(payload)
    except InvalidSignature as e:
        raise InvalidInput(f"the predicate cannot be attested: {e.message}") from e
    return payload


def says_the_same(one: Statement, other: Statement) -> bool:
    """Whether two statements about one manifest say the same, whenever they were made."""
    return (one.predicate_type, _said(one)) == (other.predicate_type, _said(other))


def _said(statement: Statement) -> Any:
    said = statement.predicate
    if statement.predicate_type == CUSTOM and isinstance(said, dict):
        return {key: value for key, value in said.items() if key != "Timestamp"}
    return said
