"""What inspect reads and prints: fields, empty values, times, indexes, artifacts, tags."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from imgtools.errors import (
    Error,
    ImageNotFound,
    InvalidManifest,
    LimitExceeded,
    NotFound,
    RegistryError,
    Unsupported,
)
from imgtools.inspect.gotime import go_time
from imgtools.inspect.instances import read_instances
from imgtools.inspect.oci_config import oci_config
from imgtools.inspect.referrers import read_referrers, referrer_lines
from imgtools.inspect.summary import manifest_digest, odd_created, summary
from imgtools.inspect.survey import read_image
from imgtools.inspect.survey_tags import survey
from imgtools.inspect.tables import instance_table, layer_rows, layer_table
from imgtools.inspect.text import human_size, json_text, printable
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.platform import Platform
from imgtools.task import Event, Note, Task
from tests.inspect_doubles import MemorySource, gzipped

AMD64 = Platform(os="linux", architecture="amd64")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-02-29T12:00:00Z", "2024-02-29T12:00:00Z"),
        ("2024-02-29T12:00:00.120000000Z", "2024-02-29T12:00:00.12Z"),
        ("2024-02-29T12:00:00.000Z", "2024-02-29T12:00:00Z"),
        ("2024-02-29T12:00:00.1234567891Z", "2024-02-29T12:00:00.123456789Z"),
        ("2024-02-29T12:00:00+00:00", "2024-02-29T12:00:00Z"),
        ("2024-02-29T12:00:00-07:30", "2024-02-29T12:00:00-07:30"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("2023-02-29T12:00:00Z", None),
        ("2024-02-29t12:00:00z", None),
        ("2024-02-29T12:00:00", None),
        ("2024-02-29T24:00:00Z", None),
        ("2024-02-29T12:00:00+24:00", None),
        ("2024-02-29 12:00:00Z", None),
        ("٢٠٢٤-02-29T12:00:00Z", None),
        ("", None),
    ],
)
def test_times_are_written_as_go_writes_them(text: str, expected: str | None) -> None:
    assert go_time(text) == expected


def summed(config: dict[str, Any]) -> dict[str, Any]:
    source = MemorySource()
    source.image([], **config)
    return summary(read_image(source, AMD64))


def test_empty_values_are_those_of_go() -> None:
    assert list(summed({}).items())[1:] == [
        ("RepoTags", []),
        ("Created", None),
        ("DockerVersion", ""),
        ("Labels", None),
        ("Architecture", "amd64"),
        ("Os", "linux"),
        ("Layers", []),
        ("LayersData", []),
        ("Env", None),
    ]
    value = summed({"config": {"Labels": {}, "Env": []}})
    assert (value["Labels"], value["Env"]) == ({}, [])
    assert "Name" not in value
    assert "Tag" not in value


def test_labels_are_sorted_and_escaped_as_in_go() -> None:
    value = summed({"config": {"Labels": {"é": "<&>", "b": "\u2028", "Z": '"\\'}}})
    assert list(value["Labels"]) == ["Z", "b", "é"]
    text = json_text(value)
    assert '"é": "\\u003c\\u0026\\u003e"' in text
    assert '"b": "\\u2028"' in text


def test_terminal_controls_in_labels_are_escapes() -> None:
    text = json_text(summed({"config": {"Labels": {"a": "\x1b[2J \x9b2J \u202e \ud800 \x7f"}}}))
    assert text.isprintable() or all(c.isprintable() or c == "\n" for c in text)
    assert json.loads(text)["Labels"]["a"] == "\x1b[2J \x9b2J \u202e \ufffd \x7f"


def test_a_time_that_is_none() -> None:
    source = MemorySource()
    source.image([], created="yesterday")
    image = read_image(source, AMD64)
    assert summary(image)["Created"] is None
    assert odd_created(image) == "yesterday"


def test_a_docker_config_without_time_has_go_s_zero_time() -> None:
    source = MemorySource()
    source.put(
        {
            "schemaVersion": 2,
            "mediaType": mt.DOCKER_MANIFEST,
            # What Docker 1.10 called its configs.
            "config": source.blob(b'{"os":"linux"}', "application/octet-stream"),
            "layers": [],
        }
    )
    assert summary(read_image(source, AMD64))["Created"] == "0001-01-01T00:00:00Z"


@pytest.mark.parametrize("config", [{"config": 1}, {"config": {"Env": "x"}}, {"created": 1}])
def test_configs_of_wrong_types_are_refused(config: dict[str, Any]) -> None:
    with pytest.raises(InvalidManifest):
        summed(config)


def test_the_digest_is_of_the_algorithm_asked_for() -> None:
    source = MemorySource()
    raw = source.image([])
    image = read_image(source, AMD64)
    assert manifest_digest(image) == raw.digest
    assert manifest_digest(image, "sha512").algorithm == "sha512"


# --- indexes


def entry(raw: Any, **extra: Any) -> dict[str, Any]:
    return {"mediaType": raw.media_type, "digest": str(raw.digest), "size": raw.size, **extra}


def platform(architecture: str, os: str = "linux") -> dict[str, Any]:
    return {"platform": {"architecture": architecture, "os": os}}


def index(source: MemorySource, *entries: dict[str, Any], top: bool = True) -> Any:
    value = {"schemaVersion": 2, "mediaType": mt.OCI_INDEX, "manifests": list(entries)}
    return source.put(value, top=top)


def test_the_instance_for_the_platform_is_chosen_in_nested_indexes_too() -> None:
    source = MemorySource()
    arm = source.image([], architecture="arm64", top=False)
    amd = source.image([], top=False)
    inner = index(source, entry(arm, **platform("arm64")), top=False)
    top = index(source, entry(amd, **platform("amd64")), entry(inner))
    for wanted, raw in (("amd64", amd), ("arm64", arm)):
        image = read_image(source, Platform(os="linux", architecture=wanted))
        assert image.raw.digest == raw.digest
        assert image.top.digest == top.digest
        assert summary(image)["Digest"] == str(top.digest)
    with pytest.raises(NotFound, match="linux/amd64"):
        read_image(source, Platform(os="linux", architecture="s390x"))


def test_indexes_nested_without_end_are_refused() -> None:
    source = MemorySource()
    raw = index(source, entry(source.image([], top=False), **platform("arm64")), top=False)
    for _ in range(12):
        raw = index(source, entry(raw), top=True)
    with pytest.raises(LimitExceeded):
        read_image(source, AMD64)
    with pytest.raises(LimitExceeded):
        read_instances(source, task=Task())


def test_every_instance_is_listed() -> None:
    source = MemorySource()
    layer = gzipped(source, {"a": b"x"})
    amd = source.image([layer, layer], top=False)
    arm = source.image([layer], architecture="arm64", variant="v8", top=False)
    artifact = source.put(
        {
            "schemaVersion": 2,
            "mediaType": mt.OCI_MANIFEST,
            "artifactType": "application/x-thing",
            "config": source.blob(b"{}", mt.OCI_EMPTY),
            "layers": [],
        },
        top=False,
    )
    statement = {"vnd.docker.reference.digest": str(amd.digest)}
    inner = index(source, entry(arm), top=False)
    gone = {"mediaType": mt.OCI_MANIFEST, "digest": "sha256:" + "0" * 64, "size": 1}
    index(
        source,
        entry(amd, **platform("amd64")),
        entry(inner),
        entry(artifact),
        entry(arm, **platform("unknown", "unknown"), annotations=statement),
        {**gone, **platform("ppc64le")},
        {"mediaType": "application/vnd.buildkit.cacheconfig.v0", **gone_blob()},
    )
    found = read_instances(source, task=Task())
    assert [(i.kind, str(i.platform), i.layers) for i in found] == [
        ("image", "linux/amd64", 2),
        ("image", "linux/arm64/v8", 1),
        ("artifact", "None", 0),
        ("attestation", "unknown/unknown", 1),
        ("missing", "linux/ppc64le", None),
        ("blob", "None", None),
    ]
    config = found[0].config
    assert config is not None
    assert found[0].size == layer["size"] + len(source.blobs[config])
    assert found[1].parent == inner.digest
    assert found[3].about == str(amd.digest)
    lines = list(instance_table(found))
    assert len({line.index("sha256:") for line in lines[1:]}) == 1
    assert all(json_text(instance.to_json()) for instance in found)


def gone_blob() -> dict[str, Any]:
    return {"digest": "sha256:" + "1" * 64, "size": 5}


def test_a_plain_image_is_its_only_instance() -> None:
    source = MemorySource()
    raw = source.image([])
    (only,) = read_instances(source, task=Task())
    assert (only.digest, str(only.platform), only.parent) == (raw.digest, "linux/amd64", None)


# --- artifacts


def test_artifacts_show_what_is_known() -> None:
    source = MemorySource()
    subject = source.image([], top=False)
    source.put(
        {
            "schemaVersion": 2,
            "mediaType": mt.OCI_MANIFEST,
            "config": source.blob(b"{}", "application/vnd.cncf.helm.config.v1+json"),
            "layers": [source.blob(b"x", "text/plain", annotations={"b": "2", "a": "1"})],
            "subject": entry(subject),
            "annotations": {"k": "v"},
        }
    )
    image = read_image(source, AMD64)
    value = summary(image, name="example.org/a", tags=["x"])
    assert value["Name"] == "example.org/a"
    assert value["ArtifactType"] == "application/vnd.cncf.helm.config.v1+json"
    assert value["Annotations"] == {"k": "v"}
    assert value["Subject"]["Digest"] == str(subject.digest)
    assert list(value["LayersData"][0]["Annotations"]) == ["a", "b"]
    with pytest.raises(Unsupported):
        oci_config(image)


# --- tags


def noted(action: Any) -> tuple[Any, list[str]]:
    notes: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    return action(Task(progress=listen)), notes


def test_tags_and_image_are_read_at_the_same_time() -> None:
    listing, reading = threading.Event(), threading.Event()

    class Waiting(MemorySource):
        def top(self) -> Any:
            reading.set()
            assert listing.wait(10)
            return super().top()

    def tags() -> list[str]:
        listing.set()
        assert reading.wait(10)
        return ["b", "a"]

    source = Waiting()
    source.image([])
    assert survey(source, AMD64, task=Task(), list_tags=tags).tags == ("b", "a")


def test_tags_that_cannot_be_had_are_a_warning() -> None:
    source = MemorySource()
    source.image([])

    def tags() -> list[str]:
        raise RegistryError(method="GET", url="https://r.example/v2/", status=403)

    found, notes = noted(lambda task: survey(source, AMD64, task=task, list_tags=tags))
    assert found.tags == ()
    assert "403" in notes[0]


def test_an_image_that_is_not_there() -> None:
    with pytest.raises(ImageNotFound):
        survey(MemorySource(), AMD64, task=Task(), list_tags=lambda: ["a"])


# --- layers, text, referrers


def test_layers_with_history() -> None:
    source = MemorySource()
    layers = [gzipped(source, {"a": b""}), gzipped(source, {"b": b""})]
    ids = ["sha256:" + "a" * 64, "sha256:" + "b" * 64]
    history = [{"created_by": "\x1b[2JFROM"}, {"created_by": "ENV", "empty_layer": True}, {}]
    source.image(layers, rootfs={"type": "layers", "diff_ids": ids}, history=history)
    rows = layer_rows(read_image(source, AMD64).layers)
    assert [row["CreatedBy"] for row in rows] == ["\x1b[2JFROM", ""]
    assert [row["DiffID"] for row in rows] == ids
    assert "\\x1b[2JFROM" in list(layer_table(read_image(source, AMD64).layers))[1]
    # A history that does not fit says nothing about any layer.
    source.image(layers, rootfs={"diff_ids": ids[:1]}, history=history[:1])
    rows = layer_rows(read_image(source, AMD64).layers)
    assert [(row["DiffID"], row["CreatedBy"]) for row in rows] == [(None, None)] * 2


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_960, "1.0 MB"),
     (12_345_678, "12.3 MB"), (10**18, "1000.0 PB"), (None, "-"), (-1, "-")],
)  # fmt: skip
def test_sizes(size: int | None, text: str) -> None:
    assert human_size(size) == text


def test_printable() -> None:
    assert printable("plain é \\") == "plain é \\"
    assert printable("a\tb\x85\udc80\U000e0001") == "a\\tb\\x85\\x80\\U000e0001"


def descriptor(letter: str, kind: str) -> Descriptor:
    return Descriptor.from_json(
        {
            "mediaType": mt.OCI_MANIFEST,
            "digest": f"sha256:{letter * 64}",
            "size": 10,
            "artifactType": kind,
        }
    )


def test_referrers_of_referrers_and_of_instances() -> None:
    source = MemorySource()
    amd = source.image([], top=False)
    top = index(source, entry(amd, **platform("amd64")))
    signature, sbom = descriptor("a", "x/signature"), descriptor("b", "x/sbom\x1b")
    source.subjects = {
        top.digest: [sbom, signature],
        sbom.digest: [signature],
        signature.digest: [sbom],
        amd.digest: [signature],
    }
    trees = read_referrers(source, task=Task())
    assert [tree.descriptor.digest for tree in trees] == [top.digest, amd.digest]
    lines = list(referrer_lines(trees))
    assert lines[0] == str(top.digest)
    assert [line.partition("sha256:")[0] for line in lines[1:5]] == [
        "├── ", "│   └── ", "│       └── ", "└── ",
    ]  # fmt: skip
    assert "x/sbom\\x1b" in lines[1]
    assert json_text([tree.to_json() for tree in trees])


def test_no_referrers() -> None:
    source = MemorySource()
    source.image([])
    assert list(referrer_lines(read_referrers(source, task=Task())))[1].strip().startswith("(")


def test_a_config_that_is_too_large() -> None:
    source = MemorySource()
    source.put(
        {
            "schemaVersion": 2,
            "mediaType": mt.OCI_MANIFEST,
            "config": {**source.blob(b"{}", mt.OCI_CONFIG), "size": 1 << 30},
            "layers": [],
        }
    )
    with pytest.raises(LimitExceeded):
        read_image(source, AMD64)


@pytest.mark.parametrize("config", [b"[]", b"{", b'{"a":1,"a":2}', b"\xff"])
def test_malformed_configs(config: bytes) -> None:
    source = MemorySource()
    source.put(
        {
            "schemaVersion": 2,
            "mediaType": mt.OCI_MANIFEST,
            "config": source.blob(config, mt.OCI_CONFIG),
            "layers": [],
        }
    )
    with pytest.raises(Error):
        read_image(source, AMD64)


def test_referrers_that_all_refer_to_each_other_come_to_an_end() -> None:
    source = MemorySource()
    top = source.image([])
    crowd = [descriptor(letter, "x") for letter in "0123456789abcdef"]
    source.subjects = {d.digest: crowd for d in crowd} | {top.digest: crowd}
    with pytest.raises(LimitExceeded):
        read_referrers(source, task=Task())
