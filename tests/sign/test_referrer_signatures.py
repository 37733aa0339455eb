"""Bundles as referrers: the layout, lists by API and by fallback tag, everything attached."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from imgtools.errors import (
    ConnectionFailed,
    Denied,
    DigestMismatch,
    Error,
    InvalidInput,
    InvalidManifest,
    InvalidSignature,
    LimitExceeded,
    RegistryError,
)
from imgtools.sign.bundles.make import make_key_bundle, make_statement
from imgtools.sign.bundles.parse import parse_bundle
from imgtools.sign.bundles.statement import signature_claim
from imgtools.sign.bundles.verify_key import verify_with_key
from imgtools.sign.model import BUNDLE_MEDIA_TYPE, PAYLOAD_LIMIT, BundleSignature
from imgtools.sign.stores.attached import list_attached
from imgtools.sign.stores.attachment import attestation_layer
from imgtools.sign.stores.attachments import AttachmentWriter
from imgtools.sign.stores.referrer import bundle_manifest
from imgtools.sign.stores.referrers import BundleReader, BundleWriter
from imgtools.sign.stores.repeated import repeats
from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.spec.reference import Reference
from imgtools.task import Task
from imgtools.testing.dialects import DISTRIBUTION_2, Dialect
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.options import RegistriesFiles, RegistryOptions
from imgtools.transport.table import Transports
from tests.rig import RegistryServer
from tests.sign.store_site import (
    DIGEST,
    FALLBACK,
    IMAGE,
    SIG,
    Site,
    new_key,
    public,
    signature,
    site,
)

CREATED = datetime(2026, 11, 22, 5, 29, 55, tzinfo=UTC)
SLSA = "https://slsa.dev/provenance/v1"
NAME = "example.test/app:v1"
KEY = new_key()
NO_API = Dialect(referrers="404-text", subject=False)
ECR = Dialect(referrers="404-text", subject=True)


def signed(key: Any = KEY, name: str = NAME, *, digest: Digest = DIGEST) -> BundleSignature:
    return BundleSignature(content=make_key_bundle(make_statement(digest, reference=name), key))


def attested(kind: str = SLSA) -> BundleSignature:
    payload = make_statement(DIGEST, predicate_type=kind, predicate={"a": 1})
    return BundleSignature(content=make_key_bundle(payload, KEY))


def writer(place: Site, **more: Any) -> BundleWriter:
    return BundleWriter(*place.place, created=CREATED, task=Task(), **more)


def contents(place: Site) -> list[bytes]:
    found = BundleReader(*place.place).signatures(DIGEST)
    return [s.content for s in found if isinstance(s, BundleSignature)]


def referrer(place: Site, content: bytes, **changes: Any) -> RawManifest:
    """A referrer that somebody else made: cosign's, with other properties."""
    value = json.loads(bundle_manifest(place.subject, signed().content, CREATED).content)
    blob = {"size": len(content), "digest": str(Digest.of(content))}
    value["layers"] = [{"mediaType": BUNDLE_MEDIA_TYPE, **blob}]
    place.registry.push_blob("app", content)
    return place.put({**value, **changes})


def listed(place: Site, *manifests: RawManifest, **changes: Any) -> None:
    """The index at the fallback tag, as clients keep it."""
    entries = [{**raw.descriptor().to_json(), **changes} for raw in manifests]
    place.put({"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": entries}, FALLBACK)


# The layout


def test_manifest_is_cosign_s_byte_for_byte() -> None:
    """With the artifact type within the config too, and go-containerregistry's order."""
    content = signed().content
    raw = bundle_manifest(IMAGE.descriptor(), content, CREATED)
    kind = "application/vnd.dev.sigstore.bundle.v0.3+json"
    assert raw.content.decode() == (
        '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",'
        '"config":{"mediaType":"application/vnd.oci.empty.v1+json","size":2,"digest":'
        '"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",'
        f'"artifactType":"{kind}"}},'
        f'"layers":[{{"mediaType":"{kind}","size":{len(content)},'
        f'"digest":"{Digest.of(content)}"}}],'
        '"annotations":{"dev.sigstore.bundle.content":"dsse-envelope",'
        '"dev.sigstore.bundle.predicateType":"https://sigstore.dev/cosign/sign/v1",'
        '"org.opencontainers.image.created":"2026-11-22T05:29:55Z"},'
        '"subject":{"mediaType":"application/vnd.oci.image.manifest.v1+json",'
        f'"size":{IMAGE.size},"digest":"{DIGEST}"}},"artifactType":"{kind}"}}'
    )


def test_times_are_universal_and_attestations_say_what_they_are() -> None:
    there = CREATED.astimezone(timezone(timedelta(hours=5))).replace(microsecond=7)
    value = json.loads(bundle_manifest(IMAGE.descriptor(), attested().content, there).content)
    assert value["annotations"] == {
        "dev.sigstore.bundle.content": "dsse-envelope",
        "dev.sigstore.bundle.predicateType": SLSA,
        "org.opencontainers.image.created": "2026-11-22T05:29:55Z",
    }
    with pytest.raises(InvalidInput, match="zone"):
        bundle_manifest(IMAGE.descriptor(), attested().content, CREATED.replace(tzinfo=None))
    with pytest.raises(InvalidSignature):
        bundle_manifest(IMAGE.descriptor(), b"{}", CREATED)


# Reading and writing


@pytest.mark.parametrize(
    "dialect", [Dialect(), NO_API, ECR, DISTRIBUTION_2], ids=["api", "fallback", "ecr", "2.8"]
)
def test_bundles_come_back_as_they_were_put(dialect: Dialect) -> None:
    """#63's ECR too: it takes note of subjects and lists nothing."""
    one, two = signed(), signed(new_key())
    with site(dialect) as place:
        assert contents(place) == []
        assert writer(place).put(place.subject, [one]) == 1
        assert writer(place).put(place.subject, [two, one]) == 1
        assert sorted(contents(place)) == sorted([one.content, two.content])
        tags = place.registry.repository("app").tags
        assert (FALLBACK in tags) == (dialect.referrers != "yes")
        assert SIG not in tags
        assert writer(place).holds == {"bundle"}
        writer(place).preflight()
        found = BundleReader(*place.place).signatures(DIGEST)[0]
        assert isinstance(found, BundleSignature)
        assert found.referrer is not None
        assert found.referrer.artifact_type == BUNDLE_MEDIA_TYPE
        assert found.where == f"{place.reference.name}@{found.referrer.digest}"


def test_real_registry_keeps_bundles(registry_plain: RegistryServer, repository: str) -> None:
    options = RegistryOptions(tls_verify=False)
    reference = Reference.parse(f"{registry_plain.host}/{repository}:v1")
    one, other = signed(), attested()
    with Transports() as transports:
        put = BundleWriter(transports, reference, options, created=CREATED, task=Task()).put
        reader = BundleReader(transports, reference, options)
        assert reader.signatures(DIGEST) == ()
        assert put(IMAGE.descriptor(), [one, other]) == 2
        assert put(IMAGE.descriptor(), [one, other]) == 0
        (found,) = reader.signatures(DIGEST)
        assert isinstance(found, BundleSignature)
        statement, _ = verify_with_key(parse_bundle(found.content), [public(KEY)])
        assert signature_claim(statement).reference == NAME
        assert [a.content for a in reader.attestations(DIGEST)] == [other.content]


def test_s59_attestations_are_no_signatures() -> None:
    """By what the bundle says, whatever the annotations of its referrer do."""
    with site() as place:
        writer(place).put(place.subject, [attested(), attested("https://x.test/p"), signed()])
        lie = {"dev.sigstore.bundle.predicateType": "https://sigstore.dev/cosign/sign/v1"}
        referrer(place, attested("https://lie.test").content, annotations=lie)
        reader = BundleReader(*place.place)
        assert contents(place) == [signed_in(place)]
        assert len(reader.attestations(DIGEST)) == 3
        assert [a.content for a in reader.attestations(DIGEST, "https://lie.test")] == [
            attested_in(place, "https://lie.test")
        ]


def signed_in(place: Site) -> bytes:
    return blob_with(place, "https://sigstore.dev/cosign/sign/v1")


def attested_in(place: Site, kind: str) -> bytes:
    return blob_with(place, kind)


def blob_with(place: Site, kind: str) -> bytes:
    """The bundle in the repository whose statement is of a type."""
    for content in place.registry.repository("app").blobs.values():
        if b"dsseEnvelope" in content:
            envelope = parse_bundle(content).envelope
            if envelope is not None and kind in envelope.payload.decode():
                return content
    raise AssertionError(kind)


def test_other_formats_are_refused_before_any_request() -> None:
    with site() as place:
        with pytest.raises(InvalidInput, match="sigstore"):
            writer(place).put(place.subject, [signature(KEY)])
        with pytest.raises(InvalidSignature):
            writer(place).put(place.subject, [BundleSignature(content=b"{}")])
        assert place.registry.requests == []


def test_s69_signing_anew_adds_nothing_where_the_caller_says_so() -> None:
    with site() as place:
        sparing = writer(place, same=repeats(public(KEY)))
        assert writer(place).put(place.subject, [signed()]) == 1
        assert sparing.put(place.subject, [signed()]) == 0
        assert sparing.put(place.subject, [signed(name="example.test/app:v2")]) == 1
        assert sparing.put(place.subject, [signed(new_key())]) == 1
        assert writer(place).put(place.subject, [signed()]) == 1


def test_s47_a_bundle_that_holds_for_nobody_is_still_given_to_who_verifies() -> None:
    """What cannot be read is not left out: verifying it says what is wrong."""
    with site() as place:
        referrer(place, b"no bundle")
        assert contents(place) == [b"no bundle"]
        with pytest.raises(InvalidSignature):
            parse_bundle(b"no bundle")


# Lists


LISTS: list[tuple[str, dict[str, Any], type[Error]]] = [
    ("401", {"status": 401}, Denied),
    ("403", {"status": 403}, Denied),
    ("429", {"status": 429}, RegistryError),
    ("500", {"status": 500}, RegistryError),
    ("503-html", {"status": 503, "body": "<html>later</html>"}, RegistryError),
    ("cut", {"cut_headers": True}, ConnectionFailed),
]


@pytest.mark.parametrize("name", ["referrers", "fallback"])
@pytest.mark.parametrize(
    ("fault", "expected"), [row[1:] for row in LISTS], ids=[row[0] for row in LISTS]
)
def test_s61_a_list_that_could_not_be_read_is_an_error(
    name: str, fault: dict[str, Any], expected: type[Error]
) -> None:
    """cosign takes a throttled list for "unsigned"."""
    path = r"/referrers/" if name == "referrers" else rf"/manifests/{FALLBACK}$"
    with site(Dialect() if name == "referrers" else NO_API) as place:
        writer(place).put(place.subject, [signed()])
        place.registry.fail(method="GET", path=path, **fault)
        with pytest.raises(expected):
            contents(place)
        with pytest.raises(expected):
            list_attached(*place.place, DIGEST)


def test_s61_a_referrer_that_could_not_be_read_is_an_error() -> None:
    with site() as place:
        writer(place).put(place.subject, [signed()])
        place.registry.fail(method="GET", path=r"/manifests/sha256:", status=500)
        with pytest.raises(RegistryError):
            contents(place)


@pytest.mark.parametrize("kind", ["", mt.OCI_EMPTY, "application/spdx+json"])
def test_s63_entries_of_the_fallback_index_are_opened_whatever_they_say(kind: str) -> None:
    """cosign up to 3.0 wrote an empty type, or that of the config, and no annotations."""
    with site(NO_API) as place:
        listed(place, referrer(place, signed().content), artifactType=kind, annotations={})
        assert len(contents(place)) == 1


@pytest.mark.parametrize("kind", ["", mt.OCI_EMPTY])
def test_s63_types_that_say_nothing_are_opened_in_lists_of_registries_too(kind: str) -> None:
    with site() as place:
        raw = referrer(place, signed().content)
        entry = {**raw.descriptor().to_json(), "artifactType": kind}
        index = {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": [entry]}
        place.registry.fail(
            path="/referrers/", body_override=json.dumps(index).encode(), method="GET"
        )
        assert len(contents(place)) == 1


def test_s63_what_refers_to_another_image_is_not_this_one_s() -> None:
    with site(NO_API) as place:
        other = Digest.of(b"other")
        subject = {**place.subject.to_json(), "digest": str(other)}
        listed(place, referrer(place, signed().content, subject=subject))
        assert contents(place) == []


def test_entries_that_lead_nowhere_are_no_signatures() -> None:
    """Somebody deleted the referrer; the index at the tag stays."""
    with site(NO_API) as place:
        raw = referrer(place, signed().content)
        listed(place, raw, referrer(place, signed(new_key()).content))
        del place.registry.repository("app").manifests[raw.digest]
        assert len(contents(place)) == 1


def test_a_page_for_people_is_no_list() -> None:
    with site(Dialect(referrers="html")) as place:
        writer(place).put(place.subject, [signed()])
        assert len(contents(place)) == 1


def test_what_is_at_the_fallback_tag_has_to_be_an_index() -> None:
    with site(NO_API) as place:
        place.put(IMAGE.content, FALLBACK)
        with pytest.raises(InvalidManifest):
            contents(place)


def test_s37_bundles_have_the_digest_of_their_layer() -> None:
    with site() as place:
        writer(place).put(place.subject, [signed()])
        there = place.registry.repository("app").blobs
        for digest, content in list(there.items()):
            if b"dsseEnvelope" in content:
                there[digest] = content.replace(b"hint", b"tnih")
        with pytest.raises(DigestMismatch):
            contents(place)


def test_s38_bundles_and_lists_are_bounded() -> None:
    with site() as place:
        layer = {
            "mediaType": BUNDLE_MEDIA_TYPE,
            "digest": str(Digest.of(b"big")),
            "size": PAYLOAD_LIMIT + 1,
        }
        referrer(place, b"x", layers=[layer])
        with pytest.raises(LimitExceeded):
            contents(place)
    with site(NO_API) as place:
        raw = referrer(place, b"x")
        entry = raw.descriptor().to_json()
        entries = [{**entry, "digest": str(Digest.of(b"%d" % n))} for n in range(1001)]
        value = {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": entries}
        place.put(value, FALLBACK)
        place.registry.forget_requests()
        with pytest.raises(LimitExceeded):
            contents(place)
        assert place.registry.count("GET", "/manifests/sha256:") == 0


@pytest.mark.parametrize("count", [0, 2])
def test_a_referrer_holds_one_bundle(count: int) -> None:
    with site() as place:
        layer = {"mediaType": BUNDLE_MEDIA_TYPE, "digest": str(Digest.of(b"x")), "size": 1}
        referrer(place, b"x", layers=[layer] * count)
        with pytest.raises(InvalidSignature, match="layers"):
            contents(place)


def test_s64_bundles_are_read_where_the_image_is_read(tmp_path: Path) -> None:
    """From a mirror for digests, and from the primary where the mirror has none."""
    name = Reference.parse(f"example.test/app@{DIGEST}")
    with site() as place, ScriptedRegistry() as mirror:
        (tmp_path / "r.conf").write_text(
            f'[[registry]]\nprefix = "example.test"\nlocation = "{place.registry.host}"\n'
            f'insecure = true\n[[registry.mirror]]\nlocation = "{mirror.host}"\n'
            'insecure = true\npull-from-mirror = "digest-only"\n'
        )
        options = RegistryOptions(registries=RegistriesFiles(main=(f"{tmp_path}/r.conf",)))
        writer(place).put(place.subject, [signed()])
        reader = BundleReader(place.transports, name, options)
        assert len(reader.signatures(DIGEST)) == 1
        there = Reference.parse(f"{mirror.host}/app:v1")
        at_mirror = BundleWriter(
            place.transports, there, place.options, created=CREATED, task=Task()
        )
        at_mirror.put(place.subject, [signed(new_key()), signed(new_key())])
        place.registry.forget_requests()
        assert len(reader.signatures(DIGEST)) == 2
        assert place.registry.requests == []


# Everything attached


def artifact(place: Site, kind: str, layer: str = "application/octet-stream") -> RawManifest:
    """A referrer of any kind."""
    content = f"{kind} {layer}".encode()
    place.registry.push_blob("app", b"{}")
    return place.put(
        {
            "schemaVersion": 2,
            "mediaType": mt.OCI_MANIFEST,
            "artifactType": kind,
            "config": {"mediaType": mt.OCI_EMPTY, "digest": str(Digest.of(b"{}")), "size": 2},
            "layers": [
                {
                    "mediaType": layer,
                    "digest": str(place.registry.push_blob("app", content)),
                    "size": len(content),
                    "annotations": {"in-toto.io/predicate-type": SLSA},
                }
            ],
            "subject": place.subject.to_json(),
        }
    )


@pytest.mark.parametrize("dialect", [Dialect(), NO_API], ids=["api", "fallback"])
def test_everything_attached_is_listed_as_what_it_is(dialect: Dialect) -> None:
    kinds = {
        "application/vnd.in-toto+json": "attestation",
        "application/spdx+json": "sbom",
        "application/vnd.cyclonedx+json": "sbom",
        "application/vnd.cncf.notary.signature": "notation",
        "application/vnd.dev.cosign.artifact.sig.v1+json": "signature",
        "application/x.unknown": "other",
    }
    with site(dialect) as place:
        made = [artifact(place, kind) for kind in kinds]
        if dialect.referrers != "yes":
            listed(place, *made)
        writer(place).put(place.subject, [signed(), attested()])
        AttachmentWriter(*place.place, task=Task()).put(place.subject, [signature(KEY)])
        attest = AttachmentWriter(*place.place, task=Task(), suffix="att")
        attest.put_layers(DIGEST, [attestation_layer(b"{}", SLSA)])
        found = list_attached(*place.place, DIGEST)
    by_type = {item.artifact_type: item for item in found if item.artifact_type in kinds}
    assert {name: item.kind for name, item in by_type.items()} == kinds
    assert by_type["application/vnd.in-toto+json"].predicate_type == SLSA
    bundles = {i.predicate_type: i.kind for i in found if i.artifact_type == BUNDLE_MEDIA_TYPE}
    assert bundles == {
        "https://sigstore.dev/cosign/sign/v1": "signature",
        SLSA: "attestation",
    }
    assert [(i.kind, i.tag[-4:], i.predicate_type) for i in found if i.tag] == [
        ("signature", ".sig", ""),
        ("attestation", ".att", SLSA),
    ]
    raw = {raw.digest: raw for raw in made}
    assert all(item.size == raw[item.digest].size for item in by_type.values())


def test_nothing_attached_is_an_empty_list() -> None:
    with site() as place:
        assert list_attached(*place.place, DIGEST) == ()


def test_large_bills_of_materials_are_listed() -> None:
    with site() as place:
        config = place.registry.push_blob("app", b"{}")
        place.put(
            {
                "schemaVersion": 2,
                "mediaType": mt.OCI_MANIFEST,
                "config": {"mediaType": mt.OCI_CONFIG, "digest": str(config), "size": 2},
                "layers": [
                    {
                        "mediaType": "text/spdx+json",
                        "digest": str(Digest.of(b"large")),
                        "size": 50_000_000,
                    }
                ],
            },
            f"{FALLBACK}.sbom",
        )
        (found,) = list_attached(*place.place, DIGEST)
    assert (found.kind, found.size, found.media_type) == ("sbom", 50_000_000, "text/spdx+json")


def test_notation_s_signatures_never_count() -> None:
    with site() as place:
        artifact(place, "application/vnd.cncf.notary.signature", "application/jose+json")
        assert contents(place) == []
        assert [item.kind for item in list_attached(*place.place, DIGEST)] == ["notation"]
