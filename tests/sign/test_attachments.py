"""cosign's attachments: layouts byte for byte, what registries answer, concurrent signers."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from imgtools.errors import (
    ConnectionFailed,
    Denied,
    DigestMismatch,
    Error,
    InvalidInput,
    InvalidJSON,
    InvalidSignature,
    LimitExceeded,
    NotFound,
    RegistryError,
    SizeMismatch,
    TagImmutable,
)
from imgtools.sign.bundles.dsse import IN_TOTO
from imgtools.sign.bundles.make import make_envelope, make_key_bundle, make_statement
from imgtools.sign.bundles.parse import parse_envelope
from imgtools.sign.bundles.verify_key import verify_envelope_with_key
from imgtools.sign.model import PAYLOAD_LIMIT, SIMPLE_SIGNING_LAYER, SigstoreSignature
from imgtools.sign.model import BundleSignature as Bundle
from imgtools.sign.payload import make_payload, parse_payload
from imgtools.sign.stores.attachment import (
    DSSE_LAYER,
    SIGNATURE_ANNOTATION,
    Layer,
    appended,
    attachment_tag,
    attestation_layer,
    attestation_manifest,
    missing,
    new_attachment,
    signature_layer,
)
from imgtools.sign.stores.attachments import AttachmentReader, AttachmentWriter
from imgtools.sign.stores.places import says_absent
from imgtools.sign.stores.repeated import repeats
from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.spec.reference import Reference
from imgtools.task import Task
from imgtools.testing.dialects import DISTRIBUTION_2, Dialect
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.options import RegistriesFiles, RegistryOptions
from imgtools.transport.table import Transports
from tests.rig import RegistryServer
from tests.sign.store_site import (
    CONFIG,
    DIGEST,
    IMAGE,
    SIG,
    Site,
    attachment,
    new_key,
    public,
    signature,
    site,
)


def writer(place: Site, **more: Any) -> AttachmentWriter:
    return AttachmentWriter(*place.place, task=Task(), **more)


def read(place: Site) -> tuple[Any, ...]:
    return AttachmentReader(*place.place).signatures(DIGEST)


# Layouts


def test_the_tag_is_made_of_the_digest() -> None:
    assert attachment_tag(DIGEST, "sig") == f"sha256-{DIGEST.hex}.sig"
    assert attachment_tag(DIGEST, "att") == f"sha256-{DIGEST.hex}.att"


def test_manifest_and_config_are_those_of_containers_image() -> None:
    """The forms that skopeo 1.22 writes, with one layer and with two."""
    payload = make_payload(
        "sigstore", DIGEST, "127.0.0.1:46789/ns/app:v1", "containers/image 5.40.0-dev", 1795324458
    )
    layer = Layer(
        media_type=SIMPLE_SIGNING_LAYER, content=payload, annotations={SIGNATURE_ANNOTATION: "MEY="}
    )
    image = new_attachment([layer])
    one = Digest.of(payload)
    assert image.config.decode() == (
        '{"architecture":"","os":"","rootfs":{"type":"layers","diff_ids":["' + str(one) + '"]}}'
    )
    assert len(image.config) == 141
    assert image.manifest.content.decode() == (
        '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",'
        '"config":{"mediaType":"application/vnd.oci.image.config.v1+json",'
        f'"digest":"{Digest.of(image.config)}","size":141}},'
        '"layers":[{"mediaType":"application/vnd.dev.cosign.simplesigning.v1+json",'
        f'"digest":"{one}","size":{len(payload)},'
        '"annotations":{"dev.cosignproject.cosign/signature":"MEY="}}]}'
    )
    second = Layer(media_type=SIMPLE_SIGNING_LAYER, content=b"{}", annotations={"b": "<", "a": "+"})
    both = appended(image.manifest, image.config, [second])
    assert json.loads(both.config)["rootfs"]["diff_ids"] == [str(one), str(Digest.of(b"{}"))]
    assert both.manifest.content.endswith(b'"size":2,"annotations":{"a":"+","b":"\\u003c"}}]}')
    assert image.manifest.content[:90] == both.manifest.content[:90]


def test_appending_keeps_what_cosign_wrote() -> None:
    """Its config has more fields, and manifests may have annotations of their own."""
    config = (
        b'{"architecture":"","created":"0001-01-01T00:00:00Z","history":[{"created":'
        b'"0001-01-01T00:00:00Z"}],"os":"","rootfs":{"type":"layers","diff_ids":["sha256:'
        + b"0" * 64
        + b'"]},"config":{}}'
    )
    old = json.loads(new_attachment([layer_of(b"one")]).manifest.content)
    old["annotations"] = {"mine": "yes"}
    old["layers"][0]["extra"] = 1
    raw = IMAGE.of(json.dumps(old).encode())
    both = appended(raw, config, [layer_of(b"two")])
    value, written = json.loads(both.manifest.content), json.loads(both.config)
    assert value["annotations"] == {"mine": "yes"}
    assert value["layers"][0] == old["layers"][0]
    assert list(written) == ["architecture", "created", "history", "os", "rootfs", "config"]
    assert written["rootfs"]["diff_ids"] == [str(Digest.of(b"one")), str(Digest.of(b"two"))]
    assert value["config"]["digest"] == str(Digest.of(both.config))


def layer_of(content: bytes, **annotations: str) -> Layer:
    return Layer(media_type=SIMPLE_SIGNING_LAYER, content=content, annotations=annotations)


def test_layers_are_equal_with_all_their_properties() -> None:
    there = [layer_of(b"one", a="1").descriptor()]
    assert missing(there, [layer_of(b"one", a="1")]) == ()
    for new in (layer_of(b"one", a="2"), layer_of(b"two", a="1"), layer_of(b"one")):
        assert missing(there, [new, new]) == (new,)
    other_type = Layer(media_type="text/plain", content=b"one", annotations={"a": "1"})
    assert missing(there, [other_type]) == (other_type,)


def test_attestations_are_cosign_s_layers() -> None:
    key = new_key()
    statement = make_statement(DIGEST, predicate_type="https://slsa.dev/provenance/v1")
    envelope = make_envelope(statement, key)
    assert list(json.loads(envelope)) == ["payloadType", "payload", "signatures"]
    assert json.loads(envelope)["signatures"][0]["keyid"] == ""
    layer = attestation_layer(envelope, "https://slsa.dev/provenance/v1", annotations={"x": "y"})
    image = attestation_manifest([layer])
    value = json.loads(image.manifest.content)["layers"][0]
    assert value["mediaType"] == DSSE_LAYER == "application/vnd.dsse.envelope.v1+json"
    assert list(value["annotations"].items()) == [
        ("dev.cosignproject.cosign/signature", ""),
        ("predicateType", "https://slsa.dev/provenance/v1"),
        ("x", "y"),
    ]
    with pytest.raises(InvalidInput):
        attestation_manifest([layer_of(b"no envelope")])


def test_attestations_are_written_and_read_back() -> None:
    key = new_key()
    with site() as place:
        put = writer(place, suffix="att").put_layers
        for kind in ("https://slsa.dev/provenance/v1", "https://spdx.dev/Document"):
            envelope = make_envelope(make_statement(DIGEST, predicate_type=kind), key)
            assert put(DIGEST, [attestation_layer(envelope, kind)]) == 1
        found = AttachmentReader(*place.place, suffix="att").layers(DIGEST)
        statements = [
            verify_envelope_with_key(parse_envelope(layer.content), [public(key)])[0]
            for layer in found
        ]
        kinds = [statement.predicate_type for statement in statements]
        assert kinds == [layer.annotations["predicateType"] for layer in found]
        assert all(statement.is_about(DIGEST) for statement in statements)
        assert IN_TOTO in found[0].content.decode()
        assert read(place) == ()


# Reading and writing


def test_signatures_come_back_as_they_were_put() -> None:
    one, two = signature(new_key()), signature(new_key(), annotations={"x": 'a "quoted" <text>'})
    with site() as place:
        assert read(place) == ()
        assert writer(place).put(place.subject, [one]) == 1
        assert writer(place).put(place.subject, [two, one]) == 1
        found = read(place)
    assert [(s.payload, dict(s.annotations)) for s in found] == [
        (s.payload, dict(s.annotations)) for s in (one, two)
    ]
    assert [s.where for s in found] == [
        f"{place.reference.name}:{SIG}, layer 1",
        f"{place.reference.name}:{SIG}, layer 2",
    ]


def test_nothing_is_written_when_everything_is_there() -> None:
    one = signature(new_key())
    with site() as place:
        writer(place).put(place.subject, [one])
        place.registry.forget_requests()
        assert writer(place).put(place.subject, [one]) == 0
        assert writer(place).put(place.subject, []) == 0
        assert {request.method for request in place.registry.requests} == {"GET"}


def test_other_formats_are_refused_before_any_request() -> None:
    bundle = Bundle(content=make_key_bundle(make_statement(DIGEST), new_key()))
    with site() as place:
        with pytest.raises(InvalidInput, match="bundle"):
            writer(place).put(place.subject, [bundle])
        assert place.registry.requests == []
        assert writer(place).holds == {"sigstore"}
        writer(place).preflight()


def test_real_registry_keeps_attachments(registry_plain: RegistryServer, repository: str) -> None:
    options = RegistryOptions(tls_verify=False)
    reference = Reference.parse(f"{registry_plain.host}/{repository}:v1")
    one, two = signature(new_key()), signature(new_key())
    with Transports() as transports:
        put = AttachmentWriter(transports, reference, options, task=Task()).put
        reader = AttachmentReader(transports, reference, options)
        assert reader.layers(DIGEST) == ()
        assert put(IMAGE.descriptor(), [one]) == 1
        assert put(IMAGE.descriptor(), [one, two]) == 1
        assert [layer.content for layer in reader.layers(DIGEST)] == [one.payload, two.payload]
        found = reader.manifest(DIGEST)
        assert found == new_attachment([signature_layer(one), signature_layer(two)]).manifest


# What registries answer


ANSWERS: list[tuple[str, dict[str, Any], type[Error] | None]] = [
    ("404-spec", {"status": 404, "body": '{"errors":[{"code":"MANIFEST_UNKNOWN"}]}'}, None),
    ("404-empty", {"status": 404}, None),
    ("404-name", {"status": 404, "body": '{"errors":[{"code":"NAME_UNKNOWN"}]}'}, None),
    ("404-html", {"status": 404, "body": "<html>gone</html>"}, None),
    ("404-text", {"status": 404, "body": "404 page not found"}, None),
    (
        "404-harbor",
        {"status": 404, "body": '{"errors":[{"code":"NOT_FOUND","message":"artifact not found"}]}'},
        None,
    ),
    (
        "400-redhat",
        {"status": 400, "body": '{"errors":[{"code":"UNKNOWN","message":"Not Found"}]}'},
        None,
    ),
    ("400-code", {"status": 400, "body": '{"errors":[{"code":"MANIFEST_UNKNOWN"}]}'}, None),
    (
        "400-other",
        {"status": 400, "body": '{"errors":[{"code":"UNKNOWN","message":"bad request"}]}'},
        RegistryError,
    ),
    (
        "500-not-found",
        {"status": 500, "body": '{"errors":[{"code":"UNKNOWN","message":"not found"}]}'},
        RegistryError,
    ),
    ("401", {"status": 401}, Denied),
    ("403", {"status": 403}, Denied),
    (
        "403-unknown",
        {"status": 403, "body": '{"errors":[{"code":"MANIFEST_UNKNOWN"}]}'},
        Denied,
    ),
    ("429", {"status": 429}, RegistryError),
    ("500", {"status": 500}, RegistryError),
    ("503", {"status": 503, "body": "<html>maintenance</html>"}, RegistryError),
    ("200-html", {"status": 200, "body": "<html>sign in</html>"}, InvalidJSON),
    ("cut", {"cut_headers": True}, ConnectionFailed),
]


@pytest.mark.parametrize(
    ("fault", "expected"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS]
)
def test_s61_only_absence_means_that_there_are_no_signatures(
    fault: dict[str, Any], expected: type[Error] | None
) -> None:
    """Reading and writing alike: who cannot read would write over what others signed."""
    with site() as place:
        attachment(place, b"kept")
        before = place.at(SIG)
        place.registry.fail(method="GET", path=r"\.sig$", **fault)
        if expected is None:
            assert read(place) == ()
            return
        with pytest.raises(expected):
            read(place)
        with pytest.raises(expected):
            writer(place).put(place.subject, [signature(new_key())])
        assert place.at(SIG) == before


def test_s61_absence_is_told_by_status_and_code() -> None:
    def said(status: int, code: str = "", detail: str = "") -> bool:
        return says_absent(
            RegistryError(method="GET", url="u", status=status, code=code, detail=detail)
        )

    assert said(404)
    assert said(400, "MANIFEST_UNKNOWN")
    assert said(400, "UNKNOWN", "Not Found")
    assert not said(400, "UNKNOWN", "unknown error")
    assert not said(429, "MANIFEST_UNKNOWN")
    assert not said(403, "MANIFEST_UNKNOWN")
    assert not said(502, "MANIFEST_UNKNOWN")


def test_s62_an_index_is_no_attachment() -> None:
    index = {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": []}
    with site() as place:
        place.put(index, SIG)
        with pytest.raises(InvalidSignature, match="index"):
            read(place)
        with pytest.raises(InvalidSignature):
            writer(place).put(place.subject, [signature(new_key())])


def test_s62_docker_s_media_type_is_no_attachment() -> None:
    with site() as place:
        value = json.loads(attachment(place, b"payload").content)
        value["mediaType"] = mt.DOCKER_MANIFEST
        place.put(value, SIG)
        with pytest.raises(InvalidSignature, match="docker"):
            read(place)


def test_s37_payloads_have_the_digest_and_size_of_their_layer() -> None:
    for content, expected in ((b"pay1oad", DigestMismatch), (b"payload and more", SizeMismatch)):
        with site() as place:
            attachment(place, b"payload")
            there = place.registry.repository("app")
            there.blobs[Digest.of(b"payload")] = content
            with pytest.raises(expected):
                read(place)


def test_a_missing_payload_is_no_missing_signature() -> None:
    with site() as place:
        attachment(place, b"payload")
        del place.registry.repository("app").blobs[Digest.of(b"payload")]
        with pytest.raises(NotFound):
            read(place)


def test_s38_sizes_and_numbers_are_bounded_before_anything_is_fetched() -> None:
    with site() as place:
        value = json.loads(attachment(place, b"payload").content)
        layer = value["layers"][0]
        for layers in (
            [{**layer, "size": PAYLOAD_LIMIT + 1}],
            [layer] * 129,
            [
                {**layer, "digest": str(Digest.of(bytes([n]))), "size": PAYLOAD_LIMIT}
                for n in range(9)
            ],
        ):
            place.put({**value, "layers": layers}, SIG)
            place.registry.forget_requests()
            with pytest.raises(LimitExceeded):
                read(place)
            assert place.registry.count(path="/blobs/") == 0


def test_s38_a_full_attachment_is_not_made_unreadable() -> None:
    with site() as place:
        attachment(place, *[b"%d" % n for n in range(128)])
        assert len(read(place)) == 128
        with pytest.raises(LimitExceeded):
            writer(place).put(place.subject, [signature(new_key())])
        assert len(read(place)) == 128


def test_other_layers_are_told_by_their_type() -> None:
    with site() as place:
        attachment(place, b"layer", layer_type="application/octet-stream")
        (found,) = read(place)
        assert found.media_type == "application/octet-stream"


# Again and at once


def test_s69_signing_anew_adds_nothing_where_the_caller_says_so() -> None:
    key, other = new_key(), new_key()
    with site() as place:
        plain, sparing = writer(place), writer(place, same=repeats(public(key)))
        assert plain.put(place.subject, [signature(key)]) == 1
        assert sparing.put(place.subject, [signature(key, timestamp=1)]) == 0
        assert sparing.put(place.subject, [signature(key, "example.test/app:v2")]) == 1
        assert sparing.put(place.subject, [signature(other, timestamp=2)]) == 1
        assert plain.put(place.subject, [signature(key, timestamp=3)]) == 1
        assert len(read(place)) == 4


def test_s69_only_what_holds_and_proves_as_much_is_a_repetition() -> None:
    key = new_key()
    same = repeats(public(key))
    old, new = signature(key, timestamp=1), signature(key, timestamp=2)
    forged = SigstoreSignature(payload=old.payload, annotations=signature(new_key()).annotations)
    logged = signature(key, annotations={"dev.sigstore.cosign/bundle": "{}"})
    elsewhere = signature(key, digest=Digest.of(b"other"))
    assert same(old, new)
    assert same(logged, new)
    assert not same(old, logged)
    assert not same(forged, new)
    assert not same(elsewhere, new)
    assert not same(signature(new_key()), new)
    assert not same(old, signature(new_key()))
    assert not same(old, Bundle(content=make_key_bundle(make_statement(DIGEST), key)))
    assert not same(Bundle(content=b"{"), Bundle(content=b"{"))


@pytest.mark.parametrize("etags", [True, False])
def test_s70_concurrent_signers_lose_nothing(etags: bool) -> None:
    """Several writers, each with sessions of its own, as if they were processes."""
    signatures = [signature(new_key()) for _ in range(4)]
    errors: list[BaseException] = []
    with site(Dialect(etags=etags), latency=0.002) as place:

        def sign(number: int) -> None:
            try:
                with Transports() as own:
                    put = AttachmentWriter(own, place.reference, place.options, task=Task()).put
                    put(place.subject, [signatures[number]])
            except BaseException as e:
                errors.append(e)
                raise

        threads = [threading.Thread(target=sign, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert errors == []
        found = {s.payload for s in read(place)}
    assert found == {s.payload for s in signatures}


def test_s70_a_signature_that_was_written_over_is_written_again() -> None:
    """Somebody puts an attachment of their own between our PUT and our look at it."""
    mine = signature(new_key())
    with site(Dialect(etags=False)) as place:
        attachment(place, b"theirs")
        theirs = place.at(SIG)
        overwritten = False
        handle = place.registry._speaker.handle

        def meddle(request: Any) -> Any:
            nonlocal overwritten
            answer = handle(request)
            if request.method == "PUT" and request.path.endswith(".sig") and not overwritten:
                overwritten = True
                place.registry.store.put_manifest("app", theirs, [SIG])
            return answer

        place.registry._speaker.handle = meddle  # type: ignore[method-assign]
        assert writer(place).put(place.subject, [mine]) == 1
        assert overwritten
        assert [s.payload for s in read(place)] == [b"theirs", mine.payload]


def test_s70_a_change_between_reading_and_writing_is_refused_by_the_registry() -> None:
    """If-Match: a 412 leads to another look, and to both signatures."""
    mine = signature(new_key())
    with site() as place:
        attachment(place, b"theirs")
        number = place.registry.fail(method="PUT", path=r"\.sig$", nth=1, status=412)
        writer(place).put(place.subject, [mine])
        assert place.registry.faults.applied(number) == 1
        assert [s.payload for s in read(place)] == [b"theirs", mine.payload]


def test_s70_the_write_is_bound_to_what_was_read() -> None:
    with site() as place:
        attachment(place, b"theirs")
        writer(place).put(place.subject, [signature(new_key())])
        puts = [r for r in place.registry.requests if r.method == "PUT" and SIG in r.target]
        assert len(puts) == 1
        assert puts[0].headers["if-match"].startswith('"')


def test_a_registry_without_conditions_is_written_all_the_same() -> None:
    """One that answers 412 to every condition."""
    mine = signature(new_key())
    with site() as place:
        attachment(place, b"theirs")
        handle = place.registry._speaker.handle

        def refuse(request: Any) -> Any:
            if request.headers.get("if-match"):
                from imgtools.serve.message import error_response

                return error_response(412, "DENIED", "no conditions here")
            return handle(request)

        place.registry._speaker.handle = refuse  # type: ignore[method-assign]
        assert writer(place).put(place.subject, [mine]) == 1
        assert len(read(place)) == 2


def test_an_immutable_tag_is_told() -> None:
    with site(Dialect(immutable_tags=412)) as place:
        writer(place).put(place.subject, [signature(new_key())])
        with pytest.raises(TagImmutable):
            writer(place).put(place.subject, [signature(new_key())])
        assert len(read(place)) == 1


def test_a_registry_that_shows_tags_late_is_waited_for() -> None:
    with site(Dialect(stale_reads=3)) as place:
        assert writer(place).put(place.subject, [signature(new_key())]) == 1
        assert place.registry.count("PUT", r"\.sig$") == 1


def test_distribution_2_is_enough() -> None:
    with site(DISTRIBUTION_2) as place:
        for number in range(3):
            writer(place).put(place.subject, [signature(new_key(), timestamp=number)])
        assert len(read(place)) == 3


# Mirrors


def configured(directory: Path, primary: str, *mirrors: str, each: str = "") -> RegistryOptions:
    lines = [
        f'[[registry]]\nprefix = "example.test"\nlocation = "{primary}"\ninsecure = true',
        *(f'[[registry.mirror]]\nlocation = "{m}"\ninsecure = true\n{each}' for m in mirrors),
    ]
    (directory / "r.conf").write_text("\n".join(lines) + "\n")
    return RegistryOptions(registries=RegistriesFiles(main=(f"{directory}/r.conf",)))


def fill(registry: ScriptedRegistry, *payloads: bytes) -> None:
    place = Site(
        registry=registry,
        transports=Transports(),
        reference=Reference.parse("example.test/app:v1"),
        options=RegistryOptions(),
    )
    registry.push_blob("app", CONFIG)
    registry.push_manifest("app", IMAGE.content, tags=["v1"])
    if payloads:
        attachment(place, *payloads)


@pytest.mark.parametrize("name", ["example.test/app:v1", f"example.test/app@{DIGEST}"])
def test_s64_signatures_are_read_where_the_image_is_read(tmp_path: Path, name: str) -> None:
    """A mirror for digests only serves the signatures of an image that is named by digest,
    although their own name is a tag."""
    by_digest = "@" in name
    with ScriptedRegistry() as primary, ScriptedRegistry() as mirror, Transports() as transports:
        fill(primary, b"primary")
        fill(mirror, b"mirror")
        options = configured(
            tmp_path,
            primary.host,
            mirror.host,
            each='pull-from-mirror = "digest-only"' if by_digest else "",
        )
        found = AttachmentReader(transports, Reference.parse(name), options).signatures(DIGEST)
        assert [s.payload for s in found] == [b"mirror"]  # type: ignore[union-attr]
        assert primary.requests == []


def test_s64_a_mirror_without_signatures_is_not_the_last_word(tmp_path: Path) -> None:
    reference = Reference.parse("example.test/app:v1")
    with ScriptedRegistry() as primary, ScriptedRegistry() as mirror, Transports() as transports:
        fill(primary, b"primary")
        fill(mirror)
        options = configured(tmp_path, primary.host, mirror.host)
        found = AttachmentReader(transports, reference, options).signatures(DIGEST)
        assert [s.payload for s in found] == [b"primary"]  # type: ignore[union-attr]


PRIMARIES: list[tuple[str, dict[str, Any], dict[str, Any], type[Error] | None]] = [
    ("mirror-fails-primary-has-none", {"status": 500}, {"status": 404}, None),
    ("mirror-has-none-primary-forbids", {"status": 404}, {"status": 403}, Denied),
    ("mirror-has-none-primary-fails", {"status": 404}, {"status": 500}, RegistryError),
    ("mirror-has-none-primary-is-away", {"status": 404}, {"cut_headers": True}, None),
    ("both-fail", {"status": 500}, {"cut_headers": True}, ConnectionFailed),
]


@pytest.mark.parametrize(
    ("at_mirror", "at_primary", "expected"),
    [row[1:] for row in PRIMARIES],
    ids=[row[0] for row in PRIMARIES],
)
def test_s64_the_primary_has_the_last_word_when_it_can_be_asked(
    tmp_path: Path,
    at_mirror: dict[str, Any],
    at_primary: dict[str, Any],
    expected: type[Error] | None,
) -> None:
    with site() as place, ScriptedRegistry() as mirror:
        options = configured(tmp_path, place.registry.host, mirror.host)
        mirror.fail(path=r"\.sig$", **at_mirror)
        place.registry.fail(path=r"\.sig$", **at_primary)
        reader = AttachmentReader(place.transports, Reference.parse("example.test/app:v1"), options)
        if expected is None:
            assert reader.signatures(DIGEST) == ()
            return
        with pytest.raises(expected):
            reader.signatures(DIGEST)


def test_layers_of_signatures_keep_them() -> None:
    made = signature(new_key())
    layer = signature_layer(made)
    assert (layer.content, layer.annotations) == (made.payload, made.annotations)
    assert parse_payload(layer.content, kind="sigstore").digest == DIGEST
