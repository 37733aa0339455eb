"""Simple signing payloads: the JSON that simple signatures and cosign's attachments sign.

Reading is strict (containers-signature(5) "JSON data format", cosign's SIGNATURE_SPEC): what
two readers could understand in two ways is refused. Writing gives the bytes that skopeo and
cosign would write.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

from imgtools.errors import (
    InvalidDigest,
    InvalidInput,
    InvalidJSON,
    InvalidReference,
    InvalidSignature,
    LimitExceeded,
)
from imgtools.sign.model import PAYLOAD_LIMIT, Claim
from imgtools.spec import strict_json
from imgtools.spec.digest import Digest
from imgtools.spec.reference import Reference

Kind = Literal["simple", "sigstore"]

TYPES: Mapping[Kind, str] = MappingProxyType(
    {"simple": "atomic container signature", "sigstore": "cosign container image signature"}
)
"""critical.type, by the kind of signature that may carry it."""

_INT64 = 2**63
_SURROGATE = re.compile("[\ud800-\udfff]")


def parse_payload(content: bytes, *, kind: Kind) -> Claim:
    """What the payload of a `kind` signature claims; raises InvalidSignature.

    `content` has to be bytes whose signature holds: this decides nothing about who signed.
    In a "sigstore" payload `optional` may be null, as cosign writes it. The reference is
    returned as it was signed, and is a valid docker reference. Annotations are the strings of
    `optional`; what is not a string there is read and left out.
    """
    value = _parse(content)
    top = _exactly(value, "the payload", ("critical", "optional"))
    critical = _exactly(top["critical"], "critical", ("identity", "image", "type"))
    if critical["type"] != TYPES[kind]:
        raise InvalidSignature(
            f"the payload's type is {_shown(critical['type'])}: expected {TYPES[kind]!r}"
        )
    image = _exactly(critical["image"], "critical.image", ("docker-manifest-digest",))
    identity = _exactly(critical["identity"], "critical.identity", ("docker-reference",))
    optional = top["optional"]
    if optional is None and kind == "sigstore":
        optional = {}
    if not isinstance(optional, dict):
        raise InvalidSignature(f"the payload's optional is {_shown(optional)}: expected an object")
    return Claim(
        digest=_digest(image["docker-manifest-digest"]),
        reference=_reference(identity["docker-reference"]),
        creator=_creator(optional),
        timestamp=_timestamp(optional),
        annotations=MappingProxyType(
            {k: v for k, v in optional.items() if k != "creator" and isinstance(v, str)}
        ),
    )


def make_payload(
    kind: Kind,
    digest: Digest,
    reference: str,
    creator: str,
    timestamp: int,
    annotations: Mapping[str, str] | None = None,
) -> bytes:
    """The payload that skopeo writes: compact, keys in order, no newline.

    `reference` is host/repository with a tag or a digest, `creator` a name and version of
    who signs, `timestamp` in seconds, `annotations` the signer's own words. Raises
    InvalidInput for what no reader would accept.
    """
    optional = {**(annotations or {}), "creator": creator, "timestamp": timestamp}
    return _write(kind, digest, reference, dict(sorted(optional.items())))


def cosign_payload(
    digest: Digest, repository: str, annotations: Mapping[str, str] | None = None
) -> bytes:
    """The payload that cosign 2 writes: no tag, and `optional` is null without annotations.

    Raises InvalidInput for a digest or a name that no reader would accept.
    """
    return _write("sigstore", digest, repository, dict(sorted((annotations or {}).items())) or None)


def _write(
    kind: Kind, digest: Digest, reference: str, optional: Mapping[str, object] | None
) -> bytes:
    if digest.algorithm != "sha256":
        raise InvalidInput(f"{digest} cannot be signed: signatures name manifests by sha256")
    Reference.parse(reference)
    critical = {
        "identity": {"docker-reference": reference},
        "image": {"docker-manifest-digest": str(digest)},
        "type": TYPES[kind],
    }
    return strict_json.dumps({"critical": critical, "optional": optional})


def _parse(content: bytes) -> Any:
    if len(content) > PAYLOAD_LIMIT:
        raise InvalidSignature(f"the payload is larger than {PAYLOAD_LIMIT} bytes")
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        # Go reads bytes that are no UTF-8 as U+FFFD, and so verifies such payloads: within
        # `critical` nothing could have the character, and `optional` proves nothing.
        content = content.decode("utf-8", "replace").encode()
    try:
        value = strict_json.loads(content, "the payload", limit=3 * PAYLOAD_LIMIT)
    except (InvalidJSON, LimitExceeded) as e:
        raise InvalidSignature(e.message) from e
    _check_values(value)
    return value


def _check_values(value: Any) -> None:
    """Refuse halves of surrogate pairs and numbers beyond a float64, wherever they stand:
    readers differ in what they make of them."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting.extend(item.keys())
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
        elif isinstance(item, str):
            if _SURROGATE.search(item):
                raise InvalidSignature("the payload has half of a surrogate pair")
        elif isinstance(item, float | int) and not _is_float64(item):
            raise InvalidSignature("the payload has a number that is too large")


def _is_float64(number: float) -> bool:
    try:
        return math.isfinite(float(number))
    except OverflowError:
        return False


def _exactly(value: Any, what: str, keys: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidSignature(f"{what} is {_shown(value)}: expected an object")
    for key in value:
        if key not in keys:
            raise InvalidSignature(f"{what} has the unknown key {key[:80]!r}")
    for key in keys:
        if key not in value:
            raise InvalidSignature(f"{what} has no {key}")
    return value


def _digest(value: Any) -> Digest:
    """Manifests are named by sha256: by another algorithm nobody signs, and nobody looks."""
    try:
        digest = Digest.parse(value) if isinstance(value, str) else None
    except InvalidDigest as e:
        raise InvalidSignature(f"docker-manifest-digest: {e.message}") from e
    if digest is None or digest.algorithm != "sha256":
        raise InvalidSignature(f"docker-manifest-digest is {_shown(value)}: expected a sha256")
    return digest


def _reference(value: Any) -> str:
    if not isinstance(value, str):
        raise InvalidSignature(f"docker-reference is {_shown(value)}: expected a string")
    try:
        Reference.parse(value, default_tag="")
    except InvalidReference as e:
        raise InvalidSignature(f"docker-reference: {e.message}") from e
    return value


def _creator(optional: Mapping[str, Any]) -> str:
    value = optional.get("creator", "")
    if not isinstance(value, str):
        raise InvalidSignature(f"optional.creator is {_shown(value)}: expected a string")
    return value


def _timestamp(optional: Mapping[str, Any]) -> int | None:
    """Seconds: a JSON number without a fraction (1.0 is 1) that a signed 64-bit integer holds."""
    if "timestamp" not in optional:
        return None
    value = optional["timestamp"]
    if isinstance(value, int | float) and not isinstance(value, bool):
        whole = int(value)
        if whole == value and -_INT64 <= whole < _INT64:
            return whole
    raise InvalidSignature(f"optional.timestamp is {_shown(value)}: expected an integer")


def _shown(value: Any) -> str:
    """A value for a message, short whatever it is."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return repr(value)[:80] if value is not None else "null"
