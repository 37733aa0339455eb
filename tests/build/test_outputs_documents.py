"""The documents of a finished image, the names it gets, and the files that say what was built."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imgtools.build.options import ConfigEdits
from imgtools.build.outputs.files import metadata, write_image_id, write_json_file
from imgtools.build.outputs.layer_blobs import sized
from imgtools.build.outputs.manifests import (
    base_layers,
    config_bytes,
    full_name,
    image_annotations,
    layer_type,
    stored_documents,
)
from imgtools.build.outputs.model import Family
from imgtools.build.outputs.names import as_place, local_name, output_names
from imgtools.errors import InvalidReference, NotFound, Unsupported
from imgtools.spec import media_type as mt
from imgtools.spec.config import Config
from imgtools.spec.digest import Digest
from imgtools.task import Task
from tests.build.outputs_kit import CREATED, base_image, built, described, new_store, pinned, tar

SETTINGS = {
    "Shell": ["/bin/bash", "-c"],
    "OnBuild": ["RUN x"],
    "Healthcheck": {"Retries": 3, "Test": ["CMD", "x"], "Interval": 1},
    "Labels": {"b": "2", "a": "<1>"},
    "Cmd": ["c"],
    "Env": ["A=1"],
    "ZZZ": 1,
    "User": "u",
}


@pytest.mark.parametrize(
    ("family", "top", "settings"),
    [
        (
            "oci",
            ["created", "architecture", "os", "config", "rootfs", "history", "x-own"],
            ["User", "Env", "Cmd", "Labels", "Healthcheck", "OnBuild", "Shell", "ZZZ"],
        ),
        (
            "docker",
            ["created", "config", "architecture", "os", "rootfs", "history", "x-own"],
            ["User", "Env", "Cmd", "Healthcheck", "OnBuild", "Labels", "Shell", "ZZZ"],
        ),
    ],
)
def test_e86_e88_configs_have_gos_order_and_keep_what_docker_alone_knows(
    family: Family, top: list[str], settings: list[str]
) -> None:
    document = {
        "x-own": 1, "config": SETTINGS, "os": "linux", "architecture": "amd64",
        "created": CREATED, "history": [], "rootfs": {"diff_ids": [], "type": "layers"},
    }  # fmt: skip
    content = config_bytes(Config.from_json(document), family)
    assert json.loads(content) == document
    assert list(json.loads(content)) == top
    assert list(json.loads(content)["config"]) == settings
    assert list(json.loads(content)["config"]["Healthcheck"]) == ["Test", "Interval", "Retries"]
    assert list(json.loads(content)["config"]["Labels"]) == ["a", "b"]
    assert b"\\u003c1\\u003e" in content
    shuffled = dict(reversed(document.items())) | {"config": dict(reversed(SETTINGS.items()))}
    assert config_bytes(Config.from_json(shuffled), family) == content


def test_what_a_store_is_given_fits_it(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    image = built(store, [tar(("a", b"1"))], annotations={"k": "v"})
    for family, kind, layer in (("oci", mt.OCI_MANIFEST, mt.OCI_LAYER),
                                ("docker", mt.DOCKER_MANIFEST, mt.DOCKER_LAYER)):  # fmt: skip
        documents = stored_documents(image, family)  # type: ignore[arg-type]
        manifest = json.loads(documents.manifest.content)
        assert documents.manifest.media_type == kind
        assert [x["mediaType"] for x in manifest["layers"]] == [layer]
        assert manifest["layers"][0]["size"] == image.layers[0].size
        assert manifest.get("annotations") == ({"k": "v"} if family == "oci" else None)
        identity = store.keep_image(documents.manifest, documents.config, ["x"], task=Task())
        assert identity == documents.config_descriptor.digest.hex


def test_sizes_of_base_layers_are_found_out(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    image = built(store, [tar(("a", b"1")), tar(("b", b"2"))])
    unknown = replace(image, layers=tuple(replace(x, size=0) for x in image.layers))
    assert sized(unknown, store) == image
    store.opened.clear()
    assert sized(image, store) is image
    assert store.opened == []


def test_zstd_has_no_docker_type() -> None:
    assert layer_type("oci", "zstd") == mt.OCI_LAYER_ZSTD
    with pytest.raises(Unsupported):
        layer_type("docker", "zstd")
    with pytest.raises(Unsupported, match="lzma"):
        layer_type("oci", "lzma")


def test_base_layers_end_where_the_image_differs(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    base, _ = base_image(store, "b", [tar(("a", b"1")), tar(("b", b"2"))])
    image = built(store, [tar(("c", b"3"))], base=base)
    assert len(base_layers(image, "oci")) == 2
    other = replace(image, layers=(image.layers[0], image.layers[2]))
    assert list(base_layers(other, "oci")) == [image.layers[0].diff_id]
    assert base_layers(replace(image, base=None), "oci") == {}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("docker.io/library/alpine", "docker.io/library/alpine:latest"),
        ("alpine:3", "docker.io/library/alpine:3"),
        ("docker://docker.io/library/alpine:3", "docker.io/library/alpine:3"),
    ],
)
def test_e91_what_is_said_of_the_base(tmp_path: Path, name: str, expected: str) -> None:
    base, _ = base_image(new_store(tmp_path), "b", [tar(("a", b"1"))])
    found = replace(pinned(base, "docker.io/library/alpine"), name=name, annotations={"old": "1"})
    assert full_name(found) == expected
    digest = str(base.manifest.digest)
    prefix = "org.opencontainers.image"
    assert image_annotations(found, {"own": "2"}, ConfigEdits(), CREATED) == {
        "old": "1", "own": "2", f"{prefix}.base.digest": digest, f"{prefix}.base.name": expected,
    }  # fmt: skip
    edits = ConfigEdits(
        annotations=(("own", "3"), ("new", "4")),
        unset_annotations=("own", f"{prefix}.base.name", "nothing"),
        inherit_annotations=False,
        created_annotation=True,
    )
    assert image_annotations(found, {"own": "2"}, edits, CREATED) == {
        "own": "3", "new": "4", f"{prefix}.base.digest": digest, f"{prefix}.created": CREATED,
    }  # fmt: skip
    assert full_name(base) == ""
    assert image_annotations(None, {}, ConfigEdits(), CREATED) == {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("app", "localhost/app:latest"),
        ("app:1", "localhost/app:1"),
        ("me/app:1", "localhost/me/app:1"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app", "localhost:5000/app:latest"),
        ("quay.io/me/app:1", "quay.io/me/app:1"),
        ("docker.io/app", "docker.io/library/app:latest"),
        ("docker:1", "localhost/docker:1"),
    ],
)
def test_names_of_the_store(value: str, expected: str) -> None:
    assert local_name(value) == expected
    assert as_place(value) is None


@pytest.mark.parametrize("value", ["", "UPPER", f"a@{Digest.of(b'')}", "a:b:c", "a b", "/a"])
def test_bad_names_are_named(value: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        local_name(value)
    assert repr(value) in caught.value.message


def test_places_and_names_each_once() -> None:
    values = ["a", "oci:dir:x", "localhost/a:latest", "docker://r.io/a", "oci:dir:x", "r.io/b:2"]
    found = output_names(values)
    assert found.local == ("localhost/a:latest", "r.io/b:2")
    assert [str(place) for place in found.places] == ["oci:dir:x", "docker://r.io/a"]


def test_image_ids(tmp_path: Path) -> None:
    digest = Digest.of(b"config")
    write_image_id(str(tmp_path / "id"), digest)
    assert (tmp_path / "id").read_text() == str(digest)
    write_image_id(str(tmp_path / "id"), digest, raw=True)
    assert (tmp_path / "id").read_text() == digest.hex
    (tmp_path / "link").symlink_to("target")
    write_image_id(str(tmp_path / "link"), digest)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == str(digest)
    assert sorted(os.listdir(tmp_path)) == ["id", "link", "target"]
    with pytest.raises(NotFound):
        write_image_id(str(tmp_path / "no/id"), digest)


def test_an_id_goes_into_a_pipe(tmp_path: Path) -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as reader:
        write_image_id(f"/dev/fd/{write}", Digest.of(b"config"))
        os.close(write)
        assert reader.read().decode() == str(Digest.of(b"config"))


def test_metadata_has_the_peers_keys(tmp_path: Path) -> None:
    manifest, config = described(b"{}", mt.OCI_MANIFEST), described(b"c", mt.OCI_CONFIG)
    content: dict[str, Any] = metadata(manifest, config, ["a:1", "b:2"], {"more": {"x": 1}})
    write_json_file(str(tmp_path / "m.json"), content)
    assert json.loads((tmp_path / "m.json").read_text()) == {
        "containerimage.config.digest": str(config.digest),
        "containerimage.descriptor": {
            "mediaType": mt.OCI_MANIFEST,
            "digest": str(manifest.digest),
            "size": 2,
        },
        "containerimage.digest": str(manifest.digest),
        "image.name": "a:1,b:2",
        "more": {"x": 1},
    }
    assert "containerimage.config.digest" not in metadata(manifest, None)
