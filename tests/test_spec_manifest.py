"""Manifests, indexes, schema 1 and configs: parsing, refusals, digests and conversions."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.errors import DigestMismatch, Error, InvalidManifest, Unsupported
from imgtools.spec import convert
from imgtools.spec import media_type as mt
from imgtools.spec.config import Config
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Index, Manifest, RawManifest, guess_media_type, parse
from imgtools.spec.schema1 import EMPTY_LAYER, Schema1

CONFIG = Digest.of(b"{}")
LAYER = Digest.of(b"layer")


def blob(media_type: str, digest: Digest = LAYER, size: int = 5) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": str(digest), "size": size}


def oci(**more: Any) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "config": blob(mt.OCI_CONFIG, CONFIG, 2),
        "layers": [blob(mt.OCI_LAYER_GZIP)],
        **more,
    }


def docker() -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": mt.DOCKER_MANIFEST,
        "config": blob(mt.DOCKER_CONFIG, CONFIG, 2),
        "layers": [blob(mt.DOCKER_LAYER_GZIP)],
    }


def raw(value: object) -> RawManifest:
    return RawManifest.of(json.dumps(value).encode())


def test_bytes_are_kept_as_received() -> None:
    content = json.dumps(oci(), indent=7).encode() + b"\n\n"
    received = RawManifest.of(content, "application/json; charset=utf-8")
    assert received.content == content
    assert received.digest == Digest.of(content)
    assert received.media_type == mt.OCI_MANIFEST


@pytest.mark.parametrize(
    ("value", "said", "expected"),
    [
        (oci(), "", mt.OCI_MANIFEST),
        (oci(), "text/plain", mt.OCI_MANIFEST),
        (oci(), mt.DOCKER_MANIFEST, mt.OCI_MANIFEST),
        ({k: v for k, v in oci().items() if k != "mediaType"}, "", mt.OCI_MANIFEST),
        ({k: v for k, v in docker().items() if k != "mediaType"}, "", mt.DOCKER_MANIFEST),
        ({k: v for k, v in oci().items() if k != "mediaType"}, mt.DOCKER_MANIFEST.upper(),
         mt.DOCKER_MANIFEST),
        (docker(), "", mt.DOCKER_MANIFEST),
        ({"schemaVersion": 2, "manifests": []}, "", mt.OCI_INDEX),
        ({"schemaVersion": 2, "manifests": []}, mt.DOCKER_LIST, mt.DOCKER_LIST),
        ({"schemaVersion": 1, "fsLayers": [], "history": []}, "", mt.DOCKER_SCHEMA1),
        ({"schemaVersion": 1, "fsLayers": [], "signatures": []}, "", mt.DOCKER_SCHEMA1_SIGNED),
    ],
)  # fmt: skip
def test_media_type(value: dict[str, Any], said: str, expected: str) -> None:
    assert guess_media_type(json.dumps(value).encode(), said) == expected


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"schemaVersion": 2},
        {"schemaVersion": 3, "x": 1},
        oci(manifests=[]),
        {**oci(), "mediaType": mt.OCI_INDEX},
        {"schemaVersion": 2, "mediaType": mt.OCI_MANIFEST, "manifests": []},
        {"schemaVersion": 1, "config": {}},
        oci(fsLayers=[]),
        {"errors": [{"code": "DENIED"}]},
    ],
)
def test_ambiguous_or_foreign_documents_are_refused(value: dict[str, Any]) -> None:
    with pytest.raises(InvalidManifest):
        raw(value)


@pytest.mark.parametrize(
    "value",
    [
        oci(Manifests=[]),
        oci(LAYERS=[]),
        oci(MediaType=mt.OCI_INDEX),
        {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": [], "Config": {}},
        {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": [], "Manifests": []},
        {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manife\u017fts": []},
        oci(
            layers=[
                {"mediaType": mt.OCI_LAYER, "digest": f"sha256:{'0' * 64}", "size": 1, "Size": 2}
            ]
        ),
    ],
)
def test_other_spellings_of_what_go_takes_for_the_same_are_refused(value: dict[str, Any]) -> None:
    """Its programs would read another image out of the same bytes."""
    raw = RawManifest.of(json.dumps(value).encode())
    with pytest.raises(InvalidManifest, match="to other programs"):
        parse(raw)


@pytest.mark.parametrize(
    "change",
    [
        {"layers": {}},
        {"layers": [1]},
        {"layers": [{}]},
        {"layers": [{"digest": str(LAYER)}]},
        {"layers": [{**blob("x"), "size": "5"}]},
        {"layers": [{**blob("x"), "size": True}]},
        {"layers": [{**blob("x"), "size": -1}]},
        {"layers": [{**blob("x"), "size": 2**63}]},
        {"layers": [{**blob("x"), "digest": "sha256:../../etc"}]},
        {"layers": [{**blob("x"), "urls": "http://x"}]},
        {"layers": [{**blob("x"), "annotations": {"a": 1}}]},
        {"layers": [{**blob("x"), "data": "!"}]},
        {"layers": [{**blob("x"), "data": base64.b64encode(b"wrong").decode()}]},
        {"config": None},
        {"annotations": []},
        {"subject": {}},
        {"artifactType": 3},
    ],
)
def test_malformed_manifests_are_typed_errors(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidManifest):
        parse(raw({**oci(), **change}))


def test_inline_data_is_checked_and_kept() -> None:
    entry = {**blob("text/plain"), "data": base64.b64encode(b"layer").decode()}
    manifest = parse(raw(oci(layers=[entry])))
    assert isinstance(manifest, Manifest)
    assert manifest.layers[0].data == b"layer"
    assert manifest.to_json()["layers"] == [entry]


def test_unknown_properties_survive_a_rewrite() -> None:
    value = oci(annotations={"b": "1", "a": "2"}, future={"x": [1]})
    value["layers"][0]["later"] = 7
    manifest = parse(raw(value))
    assert isinstance(manifest, Manifest)
    assert json.loads(manifest.to_raw().content) == value


def test_artifact() -> None:
    value = oci(artifactType="application/x", subject=blob(mt.OCI_MANIFEST))
    value["config"] = blob(mt.OCI_EMPTY, CONFIG, 2)
    manifest = parse(raw(value))
    assert isinstance(manifest, Manifest)
    assert manifest.is_artifact
    assert manifest.subject is not None
    assert not parse(raw(oci())).is_artifact  # type: ignore[union-attr]


def test_blobs_are_listed_once() -> None:
    manifest = parse(raw(oci(layers=[blob(mt.OCI_LAYER), blob(mt.OCI_LAYER_GZIP)])))
    assert isinstance(manifest, Manifest)
    assert [b.digest for b in manifest.blobs()] == [CONFIG, LAYER]


def test_verified_refuses_other_bytes() -> None:
    content = json.dumps(oci()).encode()
    assert RawManifest.verified(content, "", Digest.of(content)).digest == Digest.of(content)
    with pytest.raises(DigestMismatch):
        RawManifest.verified(content + b" ", "", Digest.of(content))
    wide = Digest.of(content, "sha512")
    assert RawManifest.verified(content, "", wide).digest == wide


def signed_schema1(payload: bytes) -> bytes:
    """A JWS over `payload` as distribution lays it out: the signature block before the tail."""
    head, tail = payload[:-2], payload[-2:]
    protected = {
        "formatLength": len(head),
        "formatTail": base64.urlsafe_b64encode(tail).rstrip(b"=").decode(),
    }
    encoded = base64.urlsafe_b64encode(json.dumps(protected).encode()).rstrip(b"=").decode()
    signatures = json.dumps([{"header": {}, "signature": "x", "protected": encoded}])
    return head + b',\n   "signatures": ' + signatures.encode() + b"\n}"


def schema1_payload() -> bytes:
    newest = {"id": "2", "architecture": "arm64", "os": "linux", "config": {"Env": ["A=b"]},
              "created": "2020-01-02T00:00:00Z", "throwaway": True,
              "container_config": {"Cmd": ["/bin/sh -c #(nop)", "CMD x"]}}  # fmt: skip
    oldest = {"id": "1", "created": "2020-01-01T00:00:00Z"}
    value = {
        "schemaVersion": 1, "name": "a/b", "tag": "t", "architecture": "arm64",
        "fsLayers": [{"blobSum": str(EMPTY_LAYER)}, {"blobSum": str(LAYER)}],
        "history": [{"v1Compatibility": json.dumps(v)} for v in (newest, oldest)],
    }  # fmt: skip
    return json.dumps(value, indent=3).encode()


def test_schema1_digest_is_over_the_payload() -> None:
    payload = schema1_payload()
    received = RawManifest.of(signed_schema1(payload))
    assert received.media_type == mt.DOCKER_SCHEMA1_SIGNED
    assert received.digest == Digest.of(payload)
    assert RawManifest.of(payload).digest == Digest.of(payload)


def test_schema1_layers_oldest_first_without_throwaways() -> None:
    manifest = parse(RawManifest.of(signed_schema1(schema1_payload())))
    assert isinstance(manifest, Schema1)
    assert manifest.layers == (LAYER, EMPTY_LAYER)
    assert manifest.real_layers() == (LAYER,)
    config = Config.from_json(manifest.to_config((CONFIG,)))
    assert config.platform.architecture == "arm64"
    assert config.env == ("A=b",)
    assert config.diff_ids == (CONFIG,)
    assert [h.empty_layer for h in config.history] == [False, True]
    assert config.history[1].created_by == "/bin/sh -c #(nop) CMD x"
    with pytest.raises(InvalidManifest):
        manifest.to_config(())


@pytest.mark.parametrize("length", [-1, 10**9, True, None])
def test_schema1_with_a_lying_signature(length: object) -> None:
    protected = base64.urlsafe_b64encode(
        json.dumps({"formatLength": length, "formatTail": "Cn0"}).encode()
    ).decode()
    value = {"schemaVersion": 1, "fsLayers": [], "signatures": [{"protected": protected}]}
    with pytest.raises(InvalidManifest):
        raw(value)


def test_to_oci_and_back_keeps_blobs() -> None:
    manifest = parse(raw(docker()))
    assert isinstance(manifest, Manifest)
    there = convert.manifest_to_oci(manifest)
    assert there.media_type == mt.OCI_MANIFEST
    assert there.layers[0].media_type == mt.OCI_LAYER_GZIP
    back = convert.manifest_to_docker(there)
    assert back == manifest
    assert convert.manifest_to_oci(there) is there


@pytest.mark.parametrize(
    "value",
    [
        {**oci(), "config": blob("application/x", CONFIG, 2)},
        oci(layers=[blob("application/x")]),
        oci(layers=[blob(mt.OCI_FOREIGN_ZSTD)]),
    ],
)
def test_to_docker_refuses_what_docker_cannot_say(value: dict[str, Any]) -> None:
    manifest = parse(raw(value))
    assert isinstance(manifest, Manifest)
    with pytest.raises(Unsupported):
        convert.manifest_to_docker(manifest)


def test_to_docker_drops_what_has_no_place_there() -> None:
    manifest = parse(raw(oci(subject=blob(mt.OCI_MANIFEST), annotations={"a": "b"})))
    assert isinstance(manifest, Manifest)
    value = convert.manifest_to_docker(manifest).to_json()
    assert set(value) == {"schemaVersion", "mediaType", "config", "layers"}


def test_docker_manifest_is_written_in_dockers_form() -> None:
    manifest = parse(raw(docker()))
    assert isinstance(manifest, Manifest)
    text = manifest.to_raw().content.decode()
    assert text.startswith('{\n   "schemaVersion": 2,\n   "mediaType": "')
    assert '"size": 5,\n         "digest"' in text


def index_of(*children: dict[str, Any]) -> Index:
    value = parse(raw({"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": children}))
    assert isinstance(value, Index)
    return value


def test_index_conversion_replaces_children() -> None:
    child = {**blob(mt.OCI_MANIFEST), "platform": {"architecture": "amd64", "os": "linux"}}
    new = Descriptor(media_type=mt.DOCKER_MANIFEST, digest=CONFIG, size=9)
    listed = convert.index_to_docker(index_of(child), {LAYER: new})
    assert listed.media_type == mt.DOCKER_LIST
    assert listed.manifests[0].digest == CONFIG
    assert listed.manifests[0].platform == index_of(child).manifests[0].platform
    with pytest.raises(Unsupported):
        convert.index_to_docker(index_of(child), {})
    with pytest.raises(Unsupported):
        convert.index_to_docker(index_of(blob(mt.OCI_MANIFEST)), {LAYER: new})


def test_config_view_and_rewrite() -> None:
    document = {
        "architecture": "arm", "variant": "v7", "os": "linux", "x-future": [1],
        "config": {"Labels": {"a": "b"}, "Env": ["P=1"], "Healthcheck": {}},
        "rootfs": {"type": "layers", "diff_ids": [str(LAYER)]},
        "history": [{"created_by": "x"}, {"empty_layer": True}],
    }  # fmt: skip
    config = Config.parse(json.dumps(document).encode())
    assert str(config.platform) == "linux/arm/v7"
    assert dict(config.labels) == {"a": "b"}
    again = config.with_rootfs((CONFIG, LAYER), config.history)
    written = json.loads(again.to_bytes())
    assert written["rootfs"]["diff_ids"] == [str(CONFIG), str(LAYER)]
    assert written["x-future"] == [1]
    assert written["history"] == document["history"]


@pytest.mark.parametrize(
    "document",
    [
        {"config": []},
        {"rootfs": {"diff_ids": ["x"]}},
        {"rootfs": {"diff_ids": [1]}},
        {"history": [1]},
        {"created": 5},
        {"config": {"Env": [1]}},
        {"config": {"Labels": {"a": 1}}},
    ],
)
def test_malformed_configs_are_typed_errors(document: dict[str, Any]) -> None:
    with pytest.raises(InvalidManifest):
        Config.from_json(document)


def _mutate(value: object) -> st.SearchStrategy[object]:
    junk = st.none() | st.integers() | st.text(max_size=5) | st.just([]) | st.just({})
    if isinstance(value, dict) and value:
        return st.sampled_from(sorted(value)).flatmap(
            lambda key: (junk | _mutate(value[key])).map(lambda new: {**value, key: new})
        )
    if isinstance(value, list) and value:
        return (junk | _mutate(value[0])).map(lambda new: [new, *value[1:]])
    return junk


@given(
    st.sampled_from([oci(subject=blob("x")), docker(), json.loads(schema1_payload())]).flatmap(
        _mutate
    )
)
def test_mutated_manifests_have_only_typed_errors(value: object) -> None:
    try:
        parse(raw(value))
    except Error:
        return
