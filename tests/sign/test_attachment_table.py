"""Attachments as containers/image was seen to judge them, each judged by a policy here.

A row is what a registry holds for an image, with the verdict of both: `peer` and `ours`.
"accept" admits, "reject" does not, and "error" ends in an error of its own kind that is no
verdict. Where the two differ `why` says so; no row that the peer rejects is accepted.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from cryptography.hazmat.primitives.asymmetric import utils

from imgtools.errors import Error, InvalidSignature, LimitExceeded, Rejected
from imgtools.sign.gate import Gate
from imgtools.sign.image_places import image_places
from imgtools.sign.model import SIMPLE_SIGNING_LAYER, SigstoreSignature
from imgtools.sign.policies.files import Policies
from imgtools.sign.registries_d import RegistriesD
from imgtools.sign.stores.attachment import SIGNATURE_ANNOTATION
from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.spec.reference import ImageName
from imgtools.transport.options import SourceOptions
from tests.sign.judging import DIGEST, NAME, Signer, policy, verdict
from tests.sign.store_site import CONFIG, SIG, Site, site
from tests.sign.store_site import DIGEST as SITE_DIGEST

Ruling = Literal["accept", "reject", "error"]

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Of the group of P-256."""

SIGNER = Signer()
BASE = SIGNER.payload()


@dataclass(frozen=True, kw_only=True)
class Row:
    """`layers` are those of an attachment; `put` puts one into a registry that has to be read."""

    peer: Ruling
    ours: Ruling = "reject"
    layers: Callable[[], Sequence[SigstoreSignature]] | None = None
    put: Callable[[Site], object] | None = None
    reason: str = ""
    why: str = ""
    error: type[Error] = field(default=Error)


def document() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(BASE)
    return value


def changed(path: str, value: object) -> bytes:
    whole = part = document()
    *parents, last = path.split(".")
    for key in parents:
        part = part[key]
    part[last] = value
    return json.dumps(whole).encode()


def without(path: str) -> bytes:
    whole = document()
    whole.pop(path)
    return json.dumps(whole).encode()


def text(old: str, new: str | bytes) -> bytes:
    assert old.encode() in BASE
    return BASE.replace(old.encode(), new if isinstance(new, bytes) else new.encode(), 1)


def accepts(payload: bytes) -> Row:
    return Row(peer="accept", ours="accept", layers=lambda: [SIGNER.attachment(payload)])


def rejects(payload: bytes, reason: str) -> Row:
    return Row(peer="reject", layers=lambda: [SIGNER.attachment(payload)], reason=reason)


def encoded(change: Callable[[bytes], str]) -> Callable[[], list[SigstoreSignature]]:
    """The baseline with another text of its signature."""
    return lambda: [SIGNER.attachment(text=change(SIGNER.raw(BASE)))]


def base64_of(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def folded(raw: bytes) -> str:
    whole = base64_of(raw)
    return f"{whole[:40]}\n{whole[40:]}\r\n"


def spaced(raw: bytes) -> str:
    whole = base64_of(raw)
    return f"{whole[:40]} {whole[40:]}"


def url_safe(raw: bytes) -> str:
    found = base64.urlsafe_b64encode(raw).decode()
    while not set("-_") & set(found):
        found = base64.urlsafe_b64encode(SIGNER.raw(BASE)).decode()
    return found


def mirrored(raw: bytes) -> str:
    r, s = utils.decode_dss_signature(raw)
    return base64_of(utils.encode_dss_signature(r, _ORDER - s))


def side_by_side(raw: bytes) -> str:
    r, s = utils.decode_dss_signature(raw)
    return base64_of(r.to_bytes(32) + s.to_bytes(32))


def annotated(**annotations: str) -> Callable[[], list[SigstoreSignature]]:
    found: dict[str, Any] = {
        name.replace("__", "/").replace("_", "."): value for name, value in annotations.items()
    }
    return lambda: [SIGNER.attachment(**found)]


def stored(
    site: Site,
    payloads: Sequence[bytes],
    *,
    media_type: str = mt.OCI_MANIFEST,
    layer_type: str = SIMPLE_SIGNING_LAYER,
    config_type: str = mt.OCI_CONFIG,
) -> None:
    """An attachment of signed payloads about the image of a site."""
    layers = []
    for payload in payloads:
        site.registry.push_blob("app", payload)
        layers.append(
            {
                "mediaType": layer_type,
                "digest": str(Digest.of(payload)),
                "size": len(payload),
                "annotations": {SIGNATURE_ANNOTATION: base64_of(SIGNER.raw(payload))},
            }
        )
    config = {"mediaType": config_type, "digest": str(Digest.of(CONFIG)), "size": len(CONFIG)}
    value = {"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers}
    site.put(value, SIG, media_type=media_type)


def of_site(site: Site, number: int = 0, filling: int = 0) -> bytes:
    """A payload about the image of a site."""
    payload = SIGNER.payload(SITE_DIGEST, str(site.reference))
    fill = f'"fill":"{number}{"x" * filling}"'
    return payload.replace(b'"optional":{', b'"optional":{%b,' % fill.encode(), 1)


def large(site: Site, size: int) -> None:
    stored(site, [of_site(site, filling=size)])


def nested(depth: int) -> bytes:
    return text('"optional":{', f'"optional":{{"deep":{"[" * depth}{"]" * depth},')


OTHER = "sha256:" + "5" * 64
TABLE: Mapping[str, Row] = {
    "baseline": accepts(BASE),
    "optional-null": accepts(changed("optional", None)),
    "trailing-newline": accepts(BASE + b"\n"),
    "pretty-printed": accepts(json.dumps(document(), indent=2).encode()),
    "escaped-key-names": accepts(text('"critical"', '"cr\\u0069tical"')),
    "timestamp-1.0": accepts(text("1700000000", "1.0")),
    "invalid-utf8-in-optional": accepts(text('"optional":{', b'"optional":{"x":"\xff\xfe",')),
    "base64-with-line-ends": Row(peer="accept", ours="accept", layers=encoded(folded)),
    "ecdsa-n-minus-s": Row(peer="accept", ours="accept", layers=encoded(mirrored)),
    "ecdsa-r-and-s": Row(peer="accept", ours="accept", layers=encoded(side_by_side)),
    "bad-then-good": Row(
        peer="accept",
        ours="accept",
        layers=lambda: [Signer().attachment(), SIGNER.attachment()],
    ),
    "junk-certificate": Row(
        peer="accept",
        ours="accept",
        layers=annotated(dev_sigstore_cosign__certificate="junk"),
    ),
    "junk-bundle": Row(
        peer="accept", ours="accept", layers=annotated(dev_sigstore_cosign__bundle="{junk")
    ),
    "payload-of-3.9-mib": Row(
        peer="accept", ours="accept", put=lambda place: large(place, 3_900_000)
    ),
    "300-layers": Row(
        peer="accept",
        ours="error",
        put=lambda place: stored(place, [of_site(place, n) for n in range(300)]),
        error=LimitExceeded,
        why="each layer costs everybody who pulls a request and a verification; signing again "
        "adds none here, and what is too much is said, never taken for unsigned",
    ),
    "nesting-5000": Row(
        peer="accept",
        layers=lambda: [SIGNER.attachment(nested(5000))],
        reason="nested deeper than 100",
        why="no signer writes such a payload, and readers stop at different depths",
    ),
    "optional-missing": rejects(without("optional"), "has no optional"),
    "optional-array": rejects(changed("optional", []), "expected an object"),
    "unknown-top-key": rejects(changed("more", 1), "unknown key 'more'"),
    "unknown-critical-key": rejects(changed("critical.more", 1), "unknown key 'more'"),
    "unknown-image-key": rejects(changed("critical.image.more", 1), "unknown key 'more'"),
    "duplicate-key": rejects(text('"type"', '"type":"x","type"'), "duplicate key"),
    "duplicate-key-in-optional": rejects(
        text('"creator"', '"creator":"x","creator"'), "duplicate key"
    ),
    "type-atomic": rejects(changed("critical.type", "atomic container signature"), "type is"),
    "type-sign-v1": rejects(
        changed("critical.type", "https://sigstore.dev/cosign/sign/v1"), "type is"
    ),
    "key-case": rejects(text('"critical"', '"Critical"'), "unknown key"),
    "trailing-junk": rejects(BASE + b"junk", "not valid JSON"),
    "second-document": rejects(BASE + BASE, "not valid JSON"),
    "byte-order-mark": rejects(b"\xef\xbb\xbf" + BASE, "not valid JSON"),
    "nan": rejects(text("1700000000", "NaN"), "not a number"),
    "timestamp-string": rejects(changed("optional.timestamp", "1"), "optional.timestamp"),
    "timestamp-1e300": rejects(text("1700000000", "1e300"), "optional.timestamp"),
    "creator-number": rejects(changed("optional.creator", 1), "optional.creator"),
    "digest-other": rejects(
        changed("critical.image.docker-manifest-digest", OTHER), f"about {OTHER}, not {DIGEST}"
    ),
    "digest-upper-case": rejects(
        changed("critical.image.docker-manifest-digest", f"sha256:{DIGEST.hex.upper()}"),
        "docker-manifest-digest",
    ),
    "digest-sha512": rejects(
        changed("critical.image.docker-manifest-digest", "sha512:" + "5" * 128), "sha256"
    ),
    "digest-md5": rejects(
        changed("critical.image.docker-manifest-digest", "md5:" + "5" * 32), "digest"
    ),
    "digest-empty": rejects(changed("critical.image.docker-manifest-digest", ""), "digest"),
    "reference-tag-and-digest": rejects(
        changed("critical.identity.docker-reference", f"{NAME}@{DIGEST}"), "is not accepted"
    ),
    "reference-digest": rejects(
        changed("critical.identity.docker-reference", f"registry.example/ns/app@{DIGEST}"),
        "is not accepted",
    ),
    "reference-upper-case": rejects(
        changed("critical.identity.docker-reference", "registry.example/NS/app:v1"), "reference"
    ),
    "reference-empty": rejects(changed("critical.identity.docker-reference", ""), "reference"),
    "reference-space": rejects(
        changed("critical.identity.docker-reference", NAME + " "), "reference"
    ),
    "signature-missing": Row(
        peer="reject",
        layers=lambda: [SigstoreSignature(payload=BASE)],
        reason="no annotation dev.cosignproject",
    ),
    "signature-empty": Row(
        peer="reject", layers=encoded(lambda raw: ""), reason="no annotation dev.cosignproject"
    ),
    "base64-with-a-space": Row(peer="reject", layers=encoded(spaced), reason="is not base64"),
    "base64-url-safe": Row(peer="reject", layers=encoded(url_safe), reason="is not base64"),
    "der-trailing-byte": Row(
        peer="reject", layers=encoded(lambda raw: base64_of(raw + b"\0")), reason="not by the key"
    ),
    "wrong-layer-type": Row(
        peer="reject",
        put=lambda place: stored(place, [of_site(place)], layer_type="application/octet-stream"),
        reason="no signature's media type",
    ),
    "docker-schema-2": Row(
        peer="reject",
        ours="error",
        put=lambda place: stored(
            place, [of_site(place)], media_type=mt.DOCKER_MANIFEST, config_type=mt.DOCKER_CONFIG
        ),
        error=InvalidSignature,
        why="neither admits it, but what is no attachment may hide one, so it is no verdict",
    ),
    "payload-over-4-mib": Row(
        peer="reject",
        ours="error",
        put=lambda place: large(place, 4 * 1024 * 1024),
        error=LimitExceeded,
        why="neither admits it, but what was not read is not known to be unsigned",
    ),
    "nesting-20000": rejects(nested(20_000), "nested deeper than 100"),
}  # fmt: skip


def ruled(row: Row) -> tuple[Ruling, str, Error | None]:
    """The ruling on a row, its reasons, and the error if it is one."""
    trust = policy(SIGNER.requirement())
    if row.layers is not None:
        found = verdict(trust, row.layers())
        (outcome,) = found.outcomes
        assert not outcome.unsigned
        return ("accept" if found.admitted else "reject"), "; ".join(outcome.reasons), None
    assert row.put is not None
    with site() as place:
        row.put(place)
        options = SourceOptions(registry=place.options)
        gate = Gate(
            Policies(policy=trust),
            lambda name: image_places(name, place.transports, options, RegistriesD),
        )
        name = ImageName(transport="docker", rest=f"//{place.reference}")
        try:
            gate.admit(name, SITE_DIGEST)
        except Rejected as e:
            return "reject", e.message, e
        except Error as e:
            return "error", e.message, e
    return "accept", "", None


@pytest.mark.parametrize("name", TABLE)
def test_attachment_table(name: str) -> None:
    """What is admitted is what the table says, for the reason that it says."""
    row = TABLE[name]
    ruling, reason, error = ruled(row)
    assert ruling == row.ours, reason
    assert row.reason in reason
    if ruling == "error":
        assert isinstance(error, row.error)


def test_the_table_is_whole_and_every_difference_is_argued() -> None:
    """Nothing that the peer rejects is accepted, and no difference goes without its reason."""
    assert len(TABLE) == 52
    assert sum(row.peer == "accept" for row in TABLE.values()) == 16
    for name, row in TABLE.items():
        assert (row.peer != row.ours) == bool(row.why), name
        assert row.peer == "accept" or row.ours != "accept", name
