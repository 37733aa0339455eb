"""Cases 25 to 39: manifests as registries send and take them."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.spec.platform import Platform
from imgtools.spec.strict_json import MANIFEST_LIMIT
from imgtools.testing import images
from imgtools.testing.dialects import DISTRIBUTION_2, Dialect
from imgtools.testing.presets import PRESETS
from imgtools.testing.registry import ScriptedRegistry
from tests.bad_input import PLAIN, Outcome, cli, push

IMAGE = images.random_image("edges", layers=2)
BOTH = ("--src-tls-verify=false", "--dest-tls-verify=false")
TOP = r"^/v2/app/manifests/1$"


def raw_of(tmp_path: Path, registry: ScriptedRegistry, name: str = "app:1") -> Outcome:
    return cli(tmp_path, "inspect", PLAIN, "--raw", f"docker://{registry.host}/{name}")


def copied(tmp_path: Path, source: str, destination: str, *flags: str) -> Outcome:
    used = [f for f in BOTH if (source if "src" in f else destination).startswith("docker:")]
    return cli(tmp_path, "copy", "-q", *used, *flags, source, destination)


def spaced(content: bytes) -> bytes:
    """The same document in bytes that no serialiser of ours would write."""
    return json.dumps(json.loads(content), indent=7).encode() + b"\n\n"


def test_25_bytes_are_kept_and_checked_against_the_digest_asked_for(tmp_path: Path) -> None:
    content = spaced(IMAGE.top.content)
    odd = replace(IMAGE, top=RawManifest.of(content, mt.OCI_MANIFEST))
    with ScriptedRegistry() as registry:
        name = push(registry, "app", odd)
        assert copied(tmp_path, name, f"docker://{registry.host}/copy:1").code == 0
        assert registry.repository("copy").manifests[Digest.of(content)].content == content
        registry.fail(method="GET", path="/v2/app/manifests/sha256:", body_override=b"{}")
        raw_of(tmp_path, registry, f"app@{odd.top.digest}").refused("sha256")


@pytest.mark.parametrize(
    ("claim", "accepted"),
    [
        (None, True),
        (str(IMAGE.top.digest), True),
        ("sha256:" + "1" * 64, False),
        (str(Digest.of(IMAGE.top.content, "sha512")), True),
        ("sha512:" + "1" * 128, False),
        ("tarsum.v1+sha256:" + "1" * 64, True),
        ("nonsense", True),
    ],
)
def test_25_what_the_registry_says_the_digest_is(
    tmp_path: Path, claim: str | None, accepted: bool
) -> None:
    with ScriptedRegistry() as registry:
        push(registry, "app", IMAGE)
        if claim is None:
            registry.fail(path=TOP, drop_headers=["Docker-Content-Digest"])
        else:
            registry.fail(path=TOP, set_headers={"Docker-Content-Digest": claim})
        done = raw_of(tmp_path, registry)
        assert (done.code == 0) is accepted, done.err
        if not accepted:
            done.refused("1111111")


def test_25_coding_that_nobody_asked_for_is_named(tmp_path: Path) -> None:
    with ScriptedRegistry() as registry:
        push(registry, "app", IMAGE)
        registry.fail(
            path=TOP, body_override=gzip.compress(IMAGE.top.content),
            set_headers={"Content-Encoding": "gzip"},
        )  # fmt: skip
        raw_of(tmp_path, registry).refused("Content-Encoding: gzip", "proxy")


def test_25_head_that_names_another_algorithm_is_checked_by_get(tmp_path: Path) -> None:
    with ScriptedRegistry(dialect=Dialect(digest_header="sha512")) as registry:
        name = push(registry, "app", IMAGE)
        target = f"docker://{registry.host}/copy:1"
        assert copied(tmp_path, name, target).code == 0
        assert registry.repository("copy").tags["1"] == IMAGE.top.digest
        # A claim about other bytes is not taken for what is there.
        claim = {"Docker-Content-Digest": "sha512:" + "1" * 128}
        registry.fail(path="/copy/manifests/1$", set_headers=claim)
        raw_of(tmp_path, registry, "copy:1").refused("1111111")


@pytest.mark.parametrize("status", [401, 403, 405])
def test_26_refused_head_of_what_is_not_there(tmp_path: Path, status: int) -> None:
    index = images.random_index("heads")
    with ScriptedRegistry() as source, ScriptedRegistry() as registry:
        name = push(source, "app", index)
        registry.fail(method="HEAD", path="/manifests/", status=status)
        for _ in range(2):
            done = copied(tmp_path, name, f"docker://{registry.host}/copy:1", "--all")
            assert done.code == 0, done.err
        assert registry.repository("copy").tags["1"] == index.top.digest


@pytest.mark.parametrize(
    "fault",
    [
        {"drop_headers": ["Docker-Content-Digest"]},
        {"drop_headers": ["Content-Length"]},
        {"drop_headers": ["Content-Type"]},
        {"status": 405},
        {"status": 401},
        {"status": 403},
        {"status": 400},
    ],
)
def test_26_head_that_does_not_tell_is_followed_by_get(
    tmp_path: Path, fault: dict[str, Any]
) -> None:
    with ScriptedRegistry() as registry:
        name = push(registry, "app", IMAGE)
        registry.fail(method="HEAD", path="/manifests/", **fault)
        assert copied(tmp_path, name, f"dir:{tmp_path}/d").code == 0
        assert (tmp_path / "d" / "manifest.json").read_bytes() == IMAGE.top.content
        assert registry.count("GET", TOP) == 1


@pytest.mark.parametrize("sample", [IMAGE, images.random_index("edges")], ids=["image", "index"])
def test_27_every_type_is_accepted_in_one_line(tmp_path: Path, sample: images.Sample) -> None:
    # This dialect hides OCI manifests from whoever does not ask for them.
    with ScriptedRegistry(dialect=DISTRIBUTION_2) as registry:
        push(registry, "app", sample)
        assert raw_of(tmp_path, registry).out == sample.top.content
        for exchange in registry.requests:
            lines = [v for name, v in exchange.headers.items() if name.lower() == "accept"]
            assert len(lines) == 1
            for kind in mt.ACCEPTED_MANIFESTS:
                assert kind in lines[0]


@pytest.mark.parametrize(
    "content_type",
    [
        f"{mt.OCI_MANIFEST}; charset=utf-8",
        f"{mt.OCI_MANIFEST.upper()}",
        "text/plain",
        "text/plain; charset=utf-8",
        "application/json",
        "application/octet-stream",
        mt.DOCKER_LIST,
        "",
    ],
)
def test_27_content_type_may_be_anything(tmp_path: Path, content_type: str) -> None:
    with ScriptedRegistry() as registry:
        name = push(registry, "app", IMAGE)
        registry.fail(path="/manifests/", set_headers={"Content-Type": content_type})
        assert copied(tmp_path, name, f"oci:{tmp_path}/l:1").code == 0
        index = json.loads((tmp_path / "l" / "index.json").read_bytes())
        assert index["manifests"][0]["mediaType"] == mt.OCI_MANIFEST
        assert index["manifests"][0]["digest"] == str(IMAGE.top.digest)


def document(**changes: Any) -> bytes:
    value = json.loads(IMAGE.top.content)
    value.update(changes)
    return json.dumps({k: v for k, v in value.items() if v is not None}).encode()


def test_28_manifest_without_media_type_is_read_and_pushed_as_what_it_is(tmp_path: Path) -> None:
    bare = replace(IMAGE, top=RawManifest.of(document(mediaType=None), mt.OCI_MANIFEST))
    with ScriptedRegistry() as registry:
        name = push(registry, "app", bare)
        registry.fail(method="GET", path=TOP, set_headers={"Content-Type": "text/plain"})
        assert copied(tmp_path, name, f"docker://{registry.host}/copy:1").code == 0
        stored = registry.repository("copy").manifests[bare.top.digest]
        assert (stored.content, stored.media_type) == (bare.top.content, mt.OCI_MANIFEST)
        put = [e for e in registry.requests if e.method == "PUT" and "/manifests/" in e.target]
        sent = [v for e in put for n, v in e.headers.items() if n.lower() == "content-type"]
        assert sent == [mt.OCI_MANIFEST]


@pytest.mark.parametrize(
    "changes",
    [
        {"manifests": []},
        {"manifests": [{"digest": "sha256:" + "0" * 64, "size": 1, "mediaType": mt.OCI_MANIFEST}]},
        {"layers": None, "manifests": []},
        {"fsLayers": [], "history": []},
    ],
)
def test_28_manifest_that_is_two_things_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    content = document(**changes, mediaType=None)
    with ScriptedRegistry() as registry:
        push(registry, "app", IMAGE)
        registry.fail(
            path=TOP,
            body_override=content,
            set_headers={"Docker-Content-Digest": str(Digest.of(content))},
        )
        name = f"docker://{registry.host}/app:1"
        copied(tmp_path, name, f"dir:{tmp_path}/d").refused()
        assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    "content",
    [
        IMAGE.top.content.replace(b"{", b'{"schemaVersion":2,', 1),
        document(x=float("nan")),
        IMAGE.top.content.replace(b"{", b'{"x":' + b"9" * 5000 + b",", 1),
        b"\xef\xbb\xbf" + IMAGE.top.content,
        IMAGE.top.content[:-1],
        b"[" * 100_000,
    ],
    ids=["duplicate", "nan", "huge", "bom", "cut", "deep"],
)
def test_29_json_is_read_strictly(tmp_path: Path, content: bytes) -> None:
    with ScriptedRegistry() as registry:
        push(registry, "app", IMAGE)
        registry.fail(
            path=TOP,
            body_override=content,
            set_headers={"Docker-Content-Digest": str(Digest.of(content))},
        )
        name = f"docker://{registry.host}/app:1"
        copied(tmp_path, name, f"dir:{tmp_path}/d").refused()


def schema1(signed: bool) -> tuple[bytes, Digest]:
    """A schema 1 manifest of two layers, newest first, with the digest it is known by."""
    layers = [d.digest for d in IMAGE.blobs if mt.kind(d.media_type) == "layer"]
    history = [
        {"id": "b" * 64, "parent": "a" * 64, "os": "linux", "architecture": "amd64"},
        {"id": "a" * 64},
    ]
    value = {
        "schemaVersion": 1,
        "name": "app",
        "tag": "1",
        "architecture": "amd64",
        "fsLayers": [{"blobSum": str(d)} for d in reversed(layers)],
        "history": [{"v1Compatibility": json.dumps(entry)} for entry in history],
    }
    payload = json.dumps(value, indent=3).encode()
    if not signed:
        return payload, Digest.of(payload)
    from base64 import urlsafe_b64encode

    def b64(data: bytes) -> str:
        return urlsafe_b64encode(data).rstrip(b"=").decode()

    # The payload is everything before its last brace, with a tail that the header keeps.
    head, tail = payload[:-2], payload[-2:]
    protected = b64(json.dumps({"formatLength": len(head), "formatTail": b64(tail)}).encode())
    signatures = json.dumps([{"header": {}, "signature": "", "protected": protected}])
    return head + b',\n   "signatures": ' + signatures.encode() + b"\n}", Digest.of(payload)


@pytest.mark.parametrize("signed", [True, False])
def test_30_schema_1_is_verified_by_its_payload_and_converted(tmp_path: Path, signed: bool) -> None:
    content, digest = schema1(signed)
    kind = mt.DOCKER_SCHEMA1_SIGNED if signed else mt.DOCKER_SCHEMA1
    with ScriptedRegistry() as registry:
        push(registry, "app", IMAGE)
        raw = RawManifest.of(content, kind)
        assert raw.digest == digest
        repository = registry.repository("app")
        repository.manifests[digest] = raw
        repository.tags["1"] = digest
        assert raw_of(tmp_path, registry, f"app@{digest}").out == content
        name = f"docker://{registry.host}/app:1"
        done = copied(tmp_path, name, f"dir:{tmp_path}/d", "--format", "v2s2")
        assert done.code == 0, done.err
        converted = json.loads((tmp_path / "d" / "manifest.json").read_bytes())
        listed = [layer["digest"] for layer in converted["layers"]]
        assert listed == [str(d.digest) for d in IMAGE.blobs if mt.kind(d.media_type) == "layer"]
        registry.fail(path="/manifests/", body_override=content.replace(b"amd64", b"amd46"))
        raw_of(tmp_path, registry, f"app@{digest}").refused("sha256")


def test_31_manifest_beyond_the_limit_is_refused_before_it_is_held(tmp_path: Path) -> None:
    with ScriptedRegistry() as registry:
        push(registry, "app", IMAGE)
        content = IMAGE.top.content[:-1] + b" " * MANIFEST_LIMIT + b"}"
        registry.fail(method="GET", path=TOP, body_override=content)
        registry.fail(method="HEAD", path=TOP, status=405)
        raw_of(tmp_path, registry).refused("limit")


def test_31_registry_that_takes_no_large_manifest_says_so(tmp_path: Path) -> None:
    with ScriptedRegistry() as registry:
        name = push(registry, "app", IMAGE)
        error = '{"errors":[{"code":"MANIFEST_INVALID","message":"too large"}]}'
        registry.fail(method="PUT", path="/manifests/", status=413, body=error)
        target = f"docker://{registry.host}/copy:1"
        copied(tmp_path, name, target).refused("413", "too large")
        assert registry.count("PUT", "/manifests/") == 1


def test_31_index_of_thousands_of_entries(tmp_path: Path) -> None:
    entry = IMAGE.top.descriptor()
    many = images.index_of([IMAGE] * 3000)
    assert many.top.content.count(str(entry.digest).encode()) == 3000
    with ScriptedRegistry() as registry:
        name = push(registry, "app", many)
        assert copied(tmp_path, name, f"docker://{registry.host}/copy:1", "--all").code == 0
        assert registry.repository("copy").tags["1"] == many.top.digest
        # Equal entries are one manifest.
        assert registry.count("PUT", "/v2/copy/manifests/") == 2


def index_with(*extra: dict[str, Any]) -> RawManifest:
    entries = [{**IMAGE.top.descriptor().to_json()}, *extra]
    value = {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": entries}
    return RawManifest.of(json.dumps(value).encode(), mt.OCI_INDEX)


def test_32_nested_and_data_and_duplicate_entries_are_copied(tmp_path: Path) -> None:
    nested = images.index_of([images.random_image("deep")])
    inline = IMAGE.top.descriptor().to_json()
    from base64 import b64encode

    inline["data"] = b64encode(IMAGE.top.content).decode()
    inline["platform"] = {"os": "linux", "architecture": "riscv64"}
    top = index_with(nested.top.descriptor().to_json(), inline)
    sample = images.Sample(
        top=top,
        manifests=(*nested.manifests, nested.top, IMAGE.top),
        blobs={**nested.blobs, **IMAGE.blobs},
    )
    with ScriptedRegistry() as registry:
        name = push(registry, "app", sample)
        assert copied(tmp_path, name, f"docker://{registry.host}/copy:1", "--all").code == 0
        there = registry.repository("copy")
        assert there.tags["1"] == top.digest
        assert {nested.top.digest, IMAGE.top.digest} <= set(there.manifests)


def test_32_entries_that_are_blobs_are_copied_as_blobs(tmp_path: Path) -> None:
    cache = b'{"layers":[],"records":[]}'
    entry = {
        "mediaType": "application/vnd.buildkit.cacheconfig.v0",
        "digest": str(Digest.of(cache)),
        "size": len(cache),
    }
    top = index_with(entry)
    sample = images.Sample(top=top, manifests=(IMAGE.top,), blobs=IMAGE.blobs)
    with ScriptedRegistry() as registry:
        push(registry, "app", sample)
        registry.push_blob("app", cache)
        name = f"docker://{registry.host}/app:1"
        assert copied(tmp_path, name, f"docker://{registry.host}/copy:1", "--all").code == 0
        assert registry.repository("copy").blobs[Digest.of(cache)] == cache


def test_32_missing_child_is_an_error_that_names_it(tmp_path: Path) -> None:
    top = images.random_index("sparse")
    with ScriptedRegistry() as registry:
        name = push(registry, "app", top)
        gone = top.manifests[1].digest
        del registry.repository("app").manifests[gone]
        done = copied(tmp_path, name, f"docker://{registry.host}/copy:1", "--all")
        done.refused(str(gone), code=done.code)
        assert done.code != 0
        assert registry.repository("copy").tags == {}


def test_33_blobs_then_manifests_then_the_name(tmp_path: Path) -> None:
    index = images.random_index("order")
    with ScriptedRegistry() as registry, ScriptedRegistry() as other:
        name = push(registry, "app", index)
        assert copied(tmp_path, name, f"docker://{other.host}/copy:1", "--all").code == 0
        writes = [e.target for e in other.requests if e.method == "PUT"]
        manifests = [i for i, target in enumerate(writes) if "/manifests/" in target]
        assert manifests == list(range(len(writes) - len(manifests), len(writes)))
        assert writes[-1] == "/v2/copy/manifests/1"


def test_33_subject_may_be_absent(tmp_path: Path) -> None:
    absent = images.random_image("never pushed").top.descriptor()
    artifact = images.random_artifact("sbom", subject=absent)
    with ScriptedRegistry() as registry:
        name = push(registry, "app", artifact)
        assert copied(tmp_path, name, f"docker://{registry.host}/copy:1").code == 0
        assert registry.repository("copy").tags["1"] == artifact.top.digest


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        (("linux", "arm", "v7"), 2),
        (("linux", "arm", "v8"), 2),
        (("linux", "arm64", ""), 1),
        (("linux", "arm64", "v8"), 1),
        (("linux", "amd64", ""), 0),
        (("linux", "s390x", ""), 3),
    ],
)
def test_34_platform_rules(tmp_path: Path, wanted: tuple[str, str, str], chosen: int) -> None:
    index = images.random_index("platforms")
    with ScriptedRegistry() as registry:
        name = push(registry, "app", index)
        flags = [
            f"--override-{k}={v}" for k, v in zip(("os", "arch", "variant"), wanted, strict=True)
        ]
        assert copied(tmp_path, name, f"dir:{tmp_path}/d", *flags).code == 0
        content = (tmp_path / "d" / "manifest.json").read_bytes()
        assert content == index.manifests[chosen].content


def test_34_ties_keep_the_order_and_zstd_variants_are_not_preferred_blindly(
    tmp_path: Path,
) -> None:
    first, second = images.random_image("first"), images.random_image("second")
    platform = Platform(os="linux", architecture="amd64")
    index = images.index_of([first, second], platforms=[platform, platform])
    with ScriptedRegistry() as registry:
        name = push(registry, "app", index)
        assert copied(tmp_path, name, f"dir:{tmp_path}/d").code == 0
        assert (tmp_path / "d" / "manifest.json").read_bytes() == first.top.content


def test_35_artifacts_with_configs_that_are_none_are_copied_whole(tmp_path: Path) -> None:
    artifact = images.random_artifact("helm", artifact_type="application/vnd.unheard.of")
    with ScriptedRegistry() as registry:
        name = push(registry, "app", artifact)
        assert copied(tmp_path, name, f"oci:{tmp_path}/l:1").code == 0
        assert copied(tmp_path, f"oci:{tmp_path}/l:1", f"docker://{registry.host}/b:1").code == 0
        assert registry.repository("b").tags["1"] == artifact.top.digest
        assert cli(tmp_path, "inspect", PLAIN, name).code == 0


@pytest.mark.parametrize("text", ["manifest invalid", "Invalid JSON syntax"])
def test_36_refused_format_is_reported_not_converted(tmp_path: Path, text: str) -> None:
    error = json.dumps({"errors": [{"code": "MANIFEST_INVALID", "message": text}]})
    with ScriptedRegistry() as registry:
        name = push(registry, "app", IMAGE)
        registry.fail(method="PUT", path="/manifests/", status=400, body=error)
        done = copied(tmp_path, name, f"docker://{registry.host}/copy:1")
        done.refused("MANIFEST_INVALID", text)
        assert registry.repository("copy").manifests == {}
        # One look whether it is there all the same, and no other PUT.
        assert registry.lines()[-2:] == [
            "PUT /v2/copy/manifests/1 400",
            "HEAD /v2/copy/manifests/1 404",
        ]
        assert registry.count("PUT", "/manifests/") == 1


@pytest.mark.parametrize(("times", "code"), [(3, 0), (99, 1)])
def test_36_put_at_the_same_time_as_others(tmp_path: Path, times: int, code: int) -> None:
    # Distribution's files say so of a manifest that two put at once.
    error = refusal("DIGEST_INVALID", "provided digest did not match uploaded content")
    with ScriptedRegistry() as registry:
        name = push(registry, "app", IMAGE)
        registry.fail(
            method="PUT", path="/copy/manifests/", nth=range(1, times + 1), status=400, body=error
        )
        done = copied(tmp_path, name, f"docker://{registry.host}/copy:1")
        assert done.code == code, done.err
        assert registry.count("PUT", "/copy/manifests/1$") == min(times + 1, 5)
        if code:
            done.refused("DIGEST_INVALID")
        else:
            assert registry.repository("copy").tags["1"] == IMAGE.top.digest


@pytest.mark.parametrize("sort", ["DIGEST_INVALID", "MANIFEST_INVALID", "MANIFEST_UNKNOWN"])
def test_36_refused_and_there_is_success(tmp_path: Path, sort: str) -> None:
    index = images.random_index("raced")
    with ScriptedRegistry() as source, ScriptedRegistry() as registry:
        name = push(source, "app", index)
        registry.fail(
            method="PUT", path="/manifests/", status=400, body=refusal(sort, "no"), processed=True
        )
        done = copied(tmp_path, name, f"docker://{registry.host}/copy:1", "--all")
        assert done.code == 0, done.err
        assert registry.count("PUT", "/manifests/") == len(index.manifests) + 1
        assert registry.repository("copy").tags["1"] == index.top.digest


def test_36_subject_of_what_was_put_again_is_acknowledged(tmp_path: Path) -> None:
    # To have it there is not enough: the answer says who keeps the list of referrers.
    report = images.random_artifact("report", subject=IMAGE.top.descriptor())
    error = refusal("DIGEST_INVALID", "no")
    with ScriptedRegistry() as source, ScriptedRegistry() as registry:
        push(source, "app", report, "r")
        registry.fail(
            method="PUT", path="/manifests/", nth=1, status=400, body=error, processed=True
        )
        name = f"docker://{source.host}/app:r"
        assert copied(tmp_path, name, f"docker://{registry.host}/copy:r").code == 0
        assert registry.count("PUT", "/manifests/") == 2
        assert set(registry.repository("copy").tags) == {"r"}


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (404, '{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}', 2),
        (404, '{"errors":[{"code":"NAME_UNKNOWN","message":"repository unknown"}]}', 2),
        (404, '{"errors":[{"code":"NOT_FOUND","message":"artifact not found"}]}', 2),
        (404, "<html><title>404 Not Found</title></html>", 2),
        (404, "Not Found", 2),
        (404, "", 2),
        (403, '{"errors":[{"code":"DENIED","message":"not yours"}]}', 1),
        (401, '{"errors":[{"code":"UNAUTHORIZED","message":"no"}]}', 1),
        (400, '{"errors":[{"code":"NAME_INVALID","message":"no"}]}', 1),
        (410, "", 1),
    ],
)
def test_37_exit_code_2_is_for_what_is_really_not_there(
    tmp_path: Path, status: int, body: str, code: int
) -> None:
    with ScriptedRegistry() as registry:
        registry.fail(path="/manifests/", status=status, body=body)
        done = raw_of(tmp_path, registry)
        done.refused(code=code)


@pytest.mark.parametrize("preset", ["artifactory", "quay"])
def test_37_absence_that_looks_like_a_refusal_does_not_stop_a_push(
    tmp_path: Path, preset: str
) -> None:
    made = PRESETS[preset]
    creds = f"{made.auth.username}:{made.auth.password}"
    index = images.random_index("secret")
    with (
        ScriptedRegistry() as source,
        ScriptedRegistry(dialect=made.dialect, auth=made.auth) as registry,
    ):
        name = push(source, "app", index)
        for _ in range(2):
            target = f"docker://{registry.host}/copy:1"
            done = copied(tmp_path, name, target, "--all", "--dest-creds", creds)
            assert done.code == 0, done.err
            assert registry.repository("copy").tags["1"] == index.top.digest
        wrong = copied(tmp_path, name, target, "--all", "--dest-creds", "user:wrong")
        wrong.refused("401", "login", lines=len(wrong.err.splitlines()))


def refusal(code: str, message: str) -> str:
    return json.dumps({"errors": [{"code": code, "message": message}]})


REFUSED_MOVES = [
    (400, refusal("TAG_INVALID", "The image tag '1' already exists and cannot be overwritten")),
    (400, refusal("UNKNOWN", "ImageTagAlreadyExistsException")),
    (405, refusal("UNSUPPORTED", "The operation is disallowed, as its write is disabled")),
    (409, refusal("TAG_INVALID", "The tag is immutable")),
    (412, refusal("PRECONDITION", "configured as immutable, cannot be updated")),
    (403, refusal("DENIED", "the tag is immutable")),
    (412, "<html><title>412 Precondition Failed</title></html>"),
    (405, ""),
]
IMMUTABLE = [
    pytest.param(*each, id=f"{each[0]}-{number}") for number, each in enumerate(REFUSED_MOVES)
]


@pytest.mark.parametrize(("status", "body"), IMMUTABLE)
def test_38_dialects_of_refusing_to_move_a_tag(tmp_path: Path, status: int, body: str) -> None:
    with ScriptedRegistry() as registry:
        name = push(registry, "app", IMAGE)
        other = push(registry, "app", images.random_image("other"), "2")
        target = f"docker://{registry.host}/copy:1"
        assert copied(tmp_path, name, target).code == 0
        registry.fail(method="PUT", path="/manifests/1$", status=status, body=body)
        # The tag, where it leads, and what it was to become: all three are said, once asked.
        wanted = str(images.random_image("other").top.digest)
        done = copied(tmp_path, other, target)
        done.refused("is immutable", f"{registry.host}/copy:1", str(IMAGE.top.digest), wanted)
        assert registry.count("PUT", "/copy/manifests/1$") == 2
        # Equal is success, also where nobody had looked before.
        registry.fail(method="HEAD", path="/copy/manifests/1$", nth=1, status=404)
        assert copied(tmp_path, name, target).code == 0
        assert registry.count("PUT", "/copy/manifests/1$") == 3
        assert registry.repository("copy").tags["1"] == IMAGE.top.digest


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, refusal("MANIFEST_INVALID", "Invalid JSON syntax")),
        (403, refusal("DENIED", "not yours")),
        (409, refusal("CONFLICT", "another push is under way")),
    ],
)
def test_38_other_refusals_keep_their_words(tmp_path: Path, status: int, body: str) -> None:
    # A tag that is not there cannot be immutable, whatever the status.
    with ScriptedRegistry() as registry:
        name = push(registry, "app", IMAGE)
        registry.fail(method="PUT", path="/manifests/1$", status=status, body=body)
        done = copied(tmp_path, name, f"docker://{registry.host}/copy:1")
        done.refused(json.loads(body)["errors"][0]["message"])
        assert "is immutable" not in done.err


@pytest.mark.parametrize("equal", [True, False])
@pytest.mark.parametrize("status", [400, 405, 409, 412])
def test_38_immutable_tags_among_several(tmp_path: Path, status: int, equal: bool) -> None:
    # The one that leads there already does not keep the new ones from being made.
    dialect = Dialect(immutable_tags=status, immutable_equal=equal)
    with ScriptedRegistry(dialect=dialect) as registry:
        name = push(registry, "app", IMAGE)
        push(registry, "copy", IMAGE, "1")
        push(registry, "copy", IMAGE, "2")
        target = f"docker://{registry.host}/copy:1"
        done = copied(tmp_path, name, target, "--additional-tag", "2", "--additional-tag", "3")
        assert done.code == 0, done.err
        assert set(registry.repository("copy").tags.values()) == {IMAGE.top.digest}
        assert set(registry.repository("copy").tags) == {"1", "2", "3"}


def test_38_immutable_tag_that_is_equal_already_is_success(tmp_path: Path) -> None:
    for status in (400, 405, 409, 412):
        with ScriptedRegistry(dialect=Dialect(immutable_tags=status)) as registry:
            name = push(registry, "app", IMAGE)
            target = f"docker://{registry.host}/copy:1"
            assert copied(tmp_path, name, target).code == 0
            assert copied(tmp_path, name, target).code == 0
            other = push(registry, "app", images.random_image("other"), "2")
            copied(tmp_path, other, target).refused(str(status))
            assert registry.repository("copy").tags["1"] == IMAGE.top.digest


@pytest.mark.parametrize("status", [200, 201, 202])
def test_39_put_of_a_manifest_may_answer(tmp_path: Path, status: int) -> None:
    with ScriptedRegistry() as registry:
        name = push(registry, "app", IMAGE)
        registry.fail(method="PUT", path="/manifests/", status=status, processed=True)
        assert copied(tmp_path, name, f"docker://{registry.host}/copy:1").code == 0
        assert registry.repository("copy").tags["1"] == IMAGE.top.digest


def test_39_echo_of_another_digest_is_an_error(tmp_path: Path) -> None:
    echo = {"Docker-Content-Digest": "sha256:" + "7" * 64}
    with ScriptedRegistry() as registry:
        name = push(registry, "app", IMAGE)
        registry.fail(method="PUT", path="/manifests/", set_headers=echo)
        copied(tmp_path, name, f"docker://{registry.host}/copy:1").refused("7777777")


def test_39_name_that_is_not_shown_yet(tmp_path: Path) -> None:
    with ScriptedRegistry(dialect=Dialect(stale_reads=2)) as registry:
        name = push(registry, "app", IMAGE)
        target = f"docker://{registry.host}/copy:1"
        assert copied(tmp_path, name, target, "--digestfile", str(tmp_path / "digest")).code == 0
        # By the digest that was reported it is there at once, by its tag in a while.
        digest = (tmp_path / "digest").read_text().strip()
        assert digest == str(IMAGE.top.digest)
        assert raw_of(tmp_path, registry, f"copy@{digest}").out == IMAGE.top.content
        raw_of(tmp_path, registry, "copy:1").refused(code=2)
        # Who writes meanwhile writes again, and nothing but the name.
        registry.forget_requests()
        assert copied(tmp_path, name, target).code == 0
        assert registry.repository("copy").tags == {"1": IMAGE.top.digest}
        assert all(e.received == 0 for e in registry.requests if "/uploads/" in e.target)


def test_39_index_whose_children_are_not_shown_yet(tmp_path: Path) -> None:
    # What was put is known without asking for it.
    index = images.random_index("late")
    with ScriptedRegistry() as source, ScriptedRegistry() as registry:
        name = push(source, "app", index)
        registry.fail(method="HEAD", path="/manifests/sha256:", status=404)
        registry.fail(method="GET", path="/manifests/sha256:", status=404)
        done = copied(tmp_path, name, f"docker://{registry.host}/copy:1", "--all")
        assert done.code == 0, done.err
        assert registry.repository("copy").tags["1"] == index.top.digest
        assert registry.count("PUT", "/manifests/") == len(index.manifests) + 1


def test_39_lost_answer_to_a_put_is_made_up_for(tmp_path: Path) -> None:
    with ScriptedRegistry() as registry:
        name = push(registry, "app", IMAGE)
        registry.fail(method="PUT", path="/manifests/", nth=1, cut_headers=True)
        registry.fail(method="PUT", path="/manifests/", nth=2, status=502, processed=True)
        assert copied(tmp_path, name, f"docker://{registry.host}/copy:1").code == 0
        assert registry.repository("copy").tags["1"] == IMAGE.top.digest
        assert registry.count("PUT", "/manifests/") == 3
