"""in-toto statements v0.1 and v1: what is said (the predicate) of which artifacts (subjects).

cosign's signature of an image is a statement with the predicate type `COSIGN_SIGN`, one
subject and no name. We write the name that was signed into an annotation of the subject, which
cosign keeps for the signer's own words, and read it back from there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType
from typing import Any

from imgtools.errors import InvalidJSON, InvalidSignature, LimitExceeded
from imgtools.frozen import dataclass
from imgtools.sign.model import ATTESTATION_LIMIT, Claim
from imgtools.spec import strict_json
from imgtools.spec.digest import Digest

STATEMENT_V01 = "https://in-toto.io/Statement/v0.1"
STATEMENT_V1 = "https://in-toto.io/Statement/v1"

COSIGN_SIGN = "https://sigstore.dev/cosign/sign/v1"
"""The predicate type of a signature: no other statement is one, whoever made it."""

REFERENCE_ANNOTATION = "docker-reference"
"""Ours, on the subject: the name that was signed, as in simple signing's critical.identity."""

STATEMENT_LIMIT = ATTESTATION_LIMIT * 5 // 8
"""Bytes of a statement: it has to fit into its bundle in base64."""

MOST_VALUES = 2_000_000
"""Values in a statement: a bill of materials of the largest size has half of that."""

MOST_SUBJECTS = 1024

_SHA256 = re.compile(r"[0-9a-f]{64}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_FIELDS = frozenset({"_type", "subject", "predicateType", "predicate"})
_SUBJECT_FIELDS = frozenset(
    {"name", "uri", "digest", "content", "downloadLocation", "mediaType", "annotations"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """One artifact: its name ("" for none), its digests by algorithm, the signer's words."""

    name: str = ""
    digests: Mapping[str, str]
    annotations: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A statement; `type` is its `_type`, `predicate` is as it was parsed (None for none)."""

    type: str
    subjects: tuple[Subject, ...]
    predicate_type: str
    predicate: Any = None

    def is_about(self, digest: Digest) -> bool:
        """Whether one of the subjects is `digest` (sha256)."""
        return any(subject.digests.get(digest.algorithm) == digest.hex for subject in self.subjects)


def parse_statement(payload: bytes) -> Statement:
    """The statement in the payload of an envelope.

    Unknown fields are refused: what a signer says and we do not understand may be a condition.
    Raises InvalidSignature; the text of the payload proves nothing before its signature does.
    """
    try:
        value = strict_json.loads_object(
            payload, "statement", limit=STATEMENT_LIMIT, values=MOST_VALUES
        )
    except (InvalidJSON, LimitExceeded) as e:
        raise InvalidSignature(e.message) from e
    check_values(value)
    _known(value, _FIELDS, "statement")
    kind = value.get("_type")
    if kind not in (STATEMENT_V01, STATEMENT_V1):
        raise InvalidSignature(f"statement has the type {_shown(kind)}: expected {STATEMENT_V1}")
    predicate_type = value.get("predicateType")
    if not isinstance(predicate_type, str) or not predicate_type:
        raise InvalidSignature("statement has no predicateType")
    subjects = value.get("subject")
    if not isinstance(subjects, list) or not subjects:
        raise InvalidSignature("statement has no subject")
    if len(subjects) > MOST_SUBJECTS:
        raise InvalidSignature(f"statement has more than {MOST_SUBJECTS} subjects")
    predicate = value.get("predicate")
    if predicate is not None and not isinstance(predicate, dict):
        raise InvalidSignature("the predicate is not an object")
    return Statement(
        type=kind,
        subjects=tuple(_subject(entry) for entry in subjects),
        predicate_type=predicate_type,
        predicate=predicate,
    )


def signed_reference(statement: Statement) -> str:
    """The name that was signed, "" for none, as in what cosign makes.

    Raises InvalidSignature where the annotation is no string.
    """
    found = statement.subjects[0].annotations.get(REFERENCE_ANNOTATION, "")
    if not isinstance(found, str):
        raise InvalidSignature(f"the annotation {REFERENCE_ANNOTATION} is not a string")
    return found


def signature_claim(statement: Statement) -> Claim:
    """What a statement claims that is the signature of an image.

    Raises InvalidSignature for another predicate type (an attestation is no signature), for
    several subjects (which of them does the name belong to?) and for one without sha256.
    """
    if statement.predicate_type != COSIGN_SIGN:
        raise InvalidSignature(
            f"a statement of type {statement.predicate_type[:200]!r} is no signature: "
            f"expected {COSIGN_SIGN}"
        )
    if len(statement.subjects) != 1:
        raise InvalidSignature(
            f"the statement has {len(statement.subjects)} subjects: a signature has exactly one"
        )
    subject = statement.subjects[0]
    if "sha256" not in subject.digests:
        raise InvalidSignature("the subject of the statement has no sha256 digest")
    annotations = {
        key: value
        for key, value in subject.annotations.items()
        if key != REFERENCE_ANNOTATION and isinstance(value, str)
    }
    return Claim(
        digest=Digest("sha256", subject.digests["sha256"]),
        reference=signed_reference(statement),
        annotations=MappingProxyType(annotations),
    )


def _subject(value: object) -> Subject:
    if not isinstance(value, dict):
        raise InvalidSignature("a subject of the statement is not an object")
    _known(value, _SUBJECT_FIELDS, "subject")
    name = _or(value.get("name"), "")
    digests = value.get("digest")
    annotations = _or(value.get("annotations"), {})
    if not isinstance(name, str):
        raise InvalidSignature("the name of a subject is not a string")
    if not isinstance(digests, dict) or not digests:
        raise InvalidSignature("a subject of the statement has no digest")
    if not all(isinstance(item, str) for item in digests.values()):
        raise InvalidSignature("a digest of a subject is not a string")
    if "sha256" in digests and not _SHA256.fullmatch(digests["sha256"]):
        raise InvalidSignature(
            "the sha256 of a subject is not 64 lower-case hexadecimal digits: "
            f"{_shown(digests['sha256'])}"
        )
    if not isinstance(annotations, dict):
        raise InvalidSignature("the annotations of a subject are not an object")
    return Subject(
        name=name,
        digests=MappingProxyType(dict(digests)),
        annotations=MappingProxyType(dict(annotations)),
    )


def check_values(value: object) -> None:
    """Raise InvalidSignature for what readers turn into different things in a value of JSON:
    halves of surrogate pairs, and numbers that have no end."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, list):
            waiting += item
        elif isinstance(item, str) and _SURROGATE.search(item):
            raise InvalidSignature("the statement has half of a surrogate pair")
        elif isinstance(item, float) and not math.isfinite(item):
            raise InvalidSignature("the statement has a number that is out of range")


def _known(value: dict[str, Any], fields: frozenset[str], what: str) -> None:
    unknown = sorted(value.keys() - fields)
    if unknown:
        raise InvalidSignature(f"{what} has the unknown field {_shown(unknown[0])}")


def _or(value: Any, default: Any) -> Any:
    """Protocol buffers write null for what is not set."""
    return default if value is None else value


def _shown(value: object) -> str:
    return ascii(value)[:120]
