"""Indexes and attestations: in registries, by the side of images and within an index; what
provenance says, and what a scan finds."""

from __future__ import annotations

import json
import os
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imgtools.build.outputs.attest import ARTIFACT_TYPE, IN_TOTO, SPDX, Predicate, image_purl
from imgtools.build.outputs.index import REFERENCE_DIGEST, REFERENCE_TYPE, index_of
from imgtools.build.outputs.layer_blobs import LayerBlobs
from imgtools.build.outputs.outgoing import AttestationStyle, Wanted
from imgtools.build.outputs.places import Places
from imgtools.build.outputs.provenance import (
    V02,
    V1,
    BuildFacts,
    Dependency,
    ProvenanceOptions,
    base_dependency,
    parse_provenance,
    provenance,
    steps_of,
    without_credentials,
)
from imgtools.build.outputs.sbom import databases
from imgtools.build.outputs.sbom import scan as scan_module
from imgtools.build.outputs.sbom.model import Distribution, Package
from imgtools.build.outputs.sbom.spdx import document, sbom
from imgtools.build.tree import Tree
from imgtools.errors import InvalidInput, LimitExceeded, Unsupported
from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Index, Manifest, parse
from imgtools.spec.platform import Platform
from imgtools.spec.reference import ImageName
from imgtools.task import Note, Task
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.table import TRANSPORTS, Transports
from tests.build.outputs_kit import (
    AMD64,
    ARM64,
    CREATED,
    FROM,
    TO,
    base_image,
    built,
    described,
    new_store,
    pinned,
    tar,
)
from tests.build.store_double import StoreDouble
from tests.rig import RegistryServer

ARM7 = Platform(os="linux", architecture="arm", variant="v7")
SAID = (Predicate(type=V1, body={"a": 1}), Predicate(type=SPDX, body={"b": 2}))


@pytest.fixture
def store(tmp_path: Path) -> StoreDouble:
    return new_store(tmp_path)


@pytest.fixture
def places(store: StoreDouble) -> Iterator[Places]:
    with Transports() as transports, LayerBlobs(store) as layers:
        yield Places(transports=transports, layers=layers, options=TO)


def place(text: str) -> ImageName:
    return ImageName.parse(text, TRANSPORTS)


def several(store: StoreDouble, style: AttestationStyle = "index", **more: Any) -> Wanted:
    images = tuple(
        built(store, [tar(("f", str(platform).encode()))], platform=platform)
        for platform in (AMD64, ARM64, ARM7)
    )
    return Wanted(
        images=images, predicates=(SAID, SAID, ()), style=style, names=("r.io/app:1",), **more
    )


def test_e93_an_index_with_attestations_as_buildkit_has_it(
    store: StoreDouble, places: Places
) -> None:
    with ScriptedRegistry() as registry:
        where = f"docker://{registry.host}/app:1"
        done = places.copy(several(store), place(where), task=Task())
        with places.transports.open_source(where, FROM) as source:
            index = parse(source.top())
            assert isinstance(index, Index)
            assert source.top().digest == done.top.digest
            platforms = [str(entry.platform) for entry in index.manifests]
            assert platforms == [
                "linux/amd64", "linux/arm64", "linux/arm/v7", "unknown/unknown", "unknown/unknown",
            ]  # fmt: skip
            for image, said in zip(index.manifests[:2], index.manifests[3:], strict=True):
                assert said.annotations == {
                    REFERENCE_DIGEST: str(image.digest),
                    REFERENCE_TYPE: "attestation-manifest",
                }
                manifest = parse(source.manifest(said))
                assert isinstance(manifest, Manifest)
                assert manifest.artifact_type == ARTIFACT_TYPE
                assert manifest.subject is not None
                assert manifest.subject.digest == image.digest
                statements = []
                for layer in manifest.layers:
                    with source.open_blob(layer) as reader:
                        statements.append(json.loads(reader.read()))
                assert [x["predicateType"] for x in statements] == [V1, SPDX]
                assert statements[0]["subject"][0]["digest"] == {"sha256": image.digest.hex}
                assert statements[0]["subject"][0]["name"].startswith("pkg:docker/r.io/app@1?")
                assert {layer.media_type for layer in manifest.layers} == {IN_TOTO}
                assert statements[1]["predicate"] == {"b": 2}


def test_e93_an_index_without_attestations_in_dockers_format(
    store: StoreDouble, places: Places
) -> None:
    wanted = replace(several(store), predicates=(), as_index=True)
    docker = replace(places, family="docker")
    with ScriptedRegistry() as registry:
        where = f"docker://{registry.host}/app:1"
        docker.copy(wanted, place(where), task=Task())
        with places.transports.open_source(where, FROM) as source:
            assert source.top().media_type == mt.DOCKER_LIST
        with pytest.raises(Unsupported, match="attestations"):
            docker.copy(several(store), place(where), task=Task())


def test_attestations_are_referrers(
    store: StoreDouble, places: Places, registry_plain: RegistryServer, repository: str
) -> None:
    where = f"docker://{registry_plain.host}/{repository}:1"
    wanted = Wanted(images=(built(store, [tar(("f", b"1"))]),), predicates=(SAID,))
    done = places.copy(wanted, place(where), task=Task())
    with places.transports.open_source(where, FROM) as source:
        assert source.top().media_type == mt.OCI_MANIFEST
        found = list(source.referrers(done.top.digest))
        assert [x.artifact_type for x in found] == [ARTIFACT_TYPE]
        assert isinstance(parse(source.manifest(found[0])), Manifest)


def test_attestations_that_a_place_cannot_hold_are_warned_of(
    store: StoreDouble, places: Places, tmp_path: Path
) -> None:
    notes: list[str] = []
    task = Task(progress=lambda e: notes.append(e.text) if isinstance(e, Note) else None)
    wanted = Wanted(images=(built(store, [tar(("f", b"1"))]),), predicates=(SAID,))
    places.copy(wanted, place(f"docker-archive:{tmp_path}/a.tar"), task=task)
    assert notes == ["docker-archive: cannot hold attestations, they are left out"]
    places.copy(wanted, place(f"oci:{tmp_path}/a:1"), task=task)
    assert len(notes) == 1


def test_one_image_can_have_an_index_and_none_can_be_wrong(
    store: StoreDouble, places: Places, tmp_path: Path
) -> None:
    image = built(store, [tar(("f", b"1"))])
    wanted = Wanted(images=(image,), as_index=True, index_annotations={"k": "v"})
    places.copy(wanted, place(f"oci:{tmp_path}/a:1"), task=Task())
    with places.transports.open_source(f"oci:{tmp_path}/a:1", FROM) as source:
        index = parse(source.top())
        assert isinstance(index, Index)
        assert index.annotations == {"k": "v"}
    with pytest.raises(InvalidInput, match="no image"):
        Wanted(images=())
    with pytest.raises(InvalidInput, match="every image or for none"):
        Wanted(images=(image, image), predicates=(SAID,))
    entry = replace(described(b"a", mt.OCI_MANIFEST), platform=ARM64)
    same = Platform(os="linux", architecture="arm64", variant="v8")
    other = replace(described(b"b", mt.OCI_MANIFEST), platform=same)
    with pytest.raises(InvalidInput, match="two images are for linux/arm64"):
        index_of([entry, other])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alpine", "pkg:docker/alpine@latest?platform=linux%2Famd64"),
        ("r.io:5000/a/b:1", "pkg:docker/r.io%3A5000/a/b@1?platform=linux%2Famd64"),
        (
            f"a@{Digest.of(b'')}",
            f"pkg:docker/a@sha256%3A{Digest.of(b'').hex}?platform=linux%2Famd64",
        ),
        ("NOT A NAME", ""),
    ],
)
def test_package_urls_of_images(name: str, expected: str) -> None:
    assert image_purl(name, AMD64) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", ProvenanceOptions()),
        ("true", ProvenanceOptions()),
        ("false", None),
        ("disabled=true", None),
        ("mode=max", ProvenanceOptions(mode="max")),
        (
            "mode=min,version=v0.2,builder-id=https://ci/1,reproducible=true",
            ProvenanceOptions(version="v0.2", builder_id="https://ci/1", reproducible=True),
        ),
        ("inline-only,filename=p.json", ProvenanceOptions(inline_only=True, filename="p.json")),
        ("inline-only=false", ProvenanceOptions()),
    ],
)
def test_values_of_provenance(value: str, expected: ProvenanceOptions | None) -> None:
    assert parse_provenance(value) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("max", "not KEY=VALUE"),
        ("mode=most", "mode is one of min, max"),
        ("version=v2", "version is one of"),
        ("colour=red", "no option 'colour'"),
        ("filename=a/b", "filename is the name of a file"),
    ],
)
def test_bad_values_of_provenance(value: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_provenance(value)


FACTS = BuildFacts(
    platform=AMD64,
    context="https://user:hunter2@git.example/r.git#main",
    context_digest=Dependency(uri="", algorithm="sha1", hex="ab" * 20),
    args={"VERSION": "1", "NPM_TOKEN": "hunter2", "URL": "https://u:hunter2@h/x"},
    secrets=("npmrc",),
    steps=steps_of(["|2 API_KEY=hunter2 A=b /bin/sh -c make", "COPY . ."]),
    dependencies=(Dependency(uri="https://u:hunter2@h/f.tgz", algorithm="sha256", hex="cd" * 32),),
    source="FROM scratch\n",
    started=0,
    finished=61,
)


@pytest.mark.parametrize("version", ["v1", "v0.2"])
@pytest.mark.parametrize("mode", ["min", "max"])
def test_e69_provenance_never_has_secrets(version: Any, mode: Any) -> None:
    options = ProvenanceOptions(version=version, mode=mode)
    predicate = provenance(options, FACTS)
    text = json.dumps(predicate.body)
    assert "hunter2" not in text
    assert predicate.type == (V1 if version == "v1" else V02)
    assert ("npmrc" in text) is (mode == "max")
    assert ("FROM scratch" in text) is (mode == "max")
    assert ("build-arg:VERSION" in text) is (mode == "max")
    assert provenance(options, FACTS) == predicate
    dependencies = (
        predicate.body["buildDefinition"]["resolvedDependencies"]
        if version == "v1"
        else predicate.body["materials"]
    )
    assert dependencies == [
        {"uri": "https://git.example/r.git#main", "digest": {"sha1": "ab" * 20}},
        {"uri": "https://h/f.tgz", "digest": {"sha256": "cd" * 32}},
    ]


def test_what_provenance_says() -> None:
    body = provenance(ProvenanceOptions(mode="max", builder_id="https://ci/7"), FACTS).body
    details = body["runDetails"]
    assert details["builder"]["id"] == "https://ci/7"
    assert details["metadata"]["startedOn"] == "1970-01-01T00:00:00Z"
    assert details["metadata"]["finishedOn"] == "1970-01-01T00:01:01Z"
    external = body["buildDefinition"]["externalParameters"]
    assert external["configSource"]["digest"] == {"sha1": "ab" * 20}
    assert external["request"]["args"]["build-arg:NPM_TOKEN"] == "<hidden>"
    local = provenance(ProvenanceOptions(), BuildFacts(platform=AMD64, target="t", invocation="i"))
    request = local.body["buildDefinition"]["externalParameters"]["request"]
    assert request["args"] == {"target": "t"}
    assert [x["name"] for x in request["locals"]] == ["context", "dockerfile"]
    assert local.body["runDetails"]["metadata"]["invocationId"] == "i"
    assert without_credentials("https://[bad@x") == "<hidden>"


def test_a_base_is_a_dependency(store: StoreDouble) -> None:
    base, _ = base_image(store, "oci:dir:x", [tar(("a", b""))])
    assert base_dependency(base).uri == "oci:dir:x"
    found = base_dependency(pinned(base, "quay.io/a/b"))
    assert found.uri == "pkg:docker/quay.io/a/b@latest?platform=linux%2Famd64"
    assert found.hex == base.manifest.digest.hex


DPKG = """Package: bash
Status: install ok installed
Architecture: amd64
Source: bash (5.2)
Version: 5.2-1+b1
Description: shell
 with more lines: x

Package: gone
Status: deinstall ok config-files
Version: 1
"""
APK = "C:Q1x=\nP:musl\nV:1.2.4-r2\nA:x86_64\nL:MIT\no:musl\n\nP:musl-utils\nV:1.2\no:musl\n"


def rpm_header(**tags: Any) -> bytes:
    """A header as rpm has it in its database."""
    numbers = {"name": 1000, "version": 1001, "release": 1002, "epoch": 1003, "arch": 1022}
    entries, store = b"", b""
    for name, value in tags.items():
        kind = 4 if isinstance(value, int) else 6
        store += bytes(-len(store) % 4)
        entries += struct.pack(">4I", numbers[name], kind, len(store), 1)
        store += struct.pack(">I", value) if kind == 4 else value.encode() + b"\0"
    return struct.pack(">2I", len(tags), len(store)) + entries + store


@contextmanager
def tree_of(root: Path, files: dict[str, str | bytes]) -> Iterator[Tree]:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    root.mkdir(exist_ok=True)
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield Tree(fd=fd, name="image")
    finally:
        os.close(fd)


def scanned(tree: Tree) -> tuple[list[str], list[str]]:
    scan = scan_module.Scan(tree, Task())
    return [package.purl for package in scan.packages()], scan.notes


def rpm_database(path: Path, *statements: str, blobs: tuple[bytes, ...] = ()) -> bytes:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements or ("CREATE TABLE Packages (hnum INTEGER, blob BLOB)",):
            connection.execute(statement)
        for blob in blobs:
            connection.execute("INSERT INTO Packages VALUES (1, ?)", (blob,))
        connection.commit()
    return path.read_bytes()


def test_a_scan_finds_what_is_installed(tmp_path: Path) -> None:
    blobs = (
        rpm_header(name="glibc", version="2.38", release="1", epoch=2, arch="x86_64"),
        rpm_header(name="gpg-pubkey", version="1"),
        b"junk",
        struct.pack(">2I", 0xFFFFFFFF, 1),
    )
    files: dict[str, str | bytes] = {
        "usr/lib/os-release": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian 12"\n# x\n',
        "var/lib/dpkg/status": DPKG,
        "var/lib/dpkg/status.d/base": "Package: base-files\nVersion: 12\n",
        "lib/apk/db/installed": APK,
        "usr/lib/sysimage/rpm/rpmdb.sqlite": rpm_database(tmp_path / "db", blobs=blobs),
        "opt/v/lib/Foo_Bar-1.0.dist-info/METADATA": "Name: Foo_Bar\nVersion: 1.0\n\nName: no\n",
        "opt/old.egg-info": "Name: old\nVersion: 2\n",
        "app/node_modules/left-pad/package.json": '{"name":"left-pad","version":"1.3.0"}',
        "app/node_modules/@a/b/package.json": '{"name":"@a/b","version":"2"}',
        "app/node_modules/left-pad/test/package.json": '{"name":"no","version":"1"}',
        "app/node_modules/bad/package.json": "[" * 100_000,
        "proc/x.egg-info": "Name: never\nVersion: 1\n",
    }
    with tree_of(tmp_path / "root", files) as tree:
        found, notes = scanned(tree)
    assert found == [
        "pkg:apk/debian/musl@1.2.4-r2?arch=x86_64&distro=debian-12",
        "pkg:apk/debian/musl-utils@1.2?distro=debian-12&upstream=musl",
        "pkg:deb/debian/base-files@12?distro=debian-12",
        "pkg:deb/debian/bash@5.2-1%2Bb1?arch=amd64&distro=debian-12&upstream=bash",
        "pkg:npm/%40a/b@2",
        "pkg:npm/left-pad@1.3.0",
        "pkg:pypi/foo-bar@1.0",
        "pkg:pypi/old@2",
        "pkg:rpm/debian/glibc@2.38-1?arch=x86_64&distro=debian-12&epoch=2",
    ]
    assert notes == []


def test_hostile_trees_are_not_left_and_do_not_stop_a_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "status").write_text(DPKG)
    root = tmp_path / "root"
    (root / "var/lib").mkdir(parents=True)
    (root / "var/lib/dpkg").symlink_to(outside)
    (root / "lib").mkdir()
    os.mkfifo(root / "lib/package.egg-info")
    endless = (
        "CREATE VIEW Packages AS WITH RECURSIVE t(blob) AS "
        "(SELECT x'00' UNION ALL SELECT blob FROM t) SELECT count(*) AS blob FROM t"
    )
    files: dict[str, str | bytes] = {
        "var/lib/rpm/rpmdb.sqlite": rpm_database(tmp_path / "db", endless),
        "lib/apk/db/installed": "P:" + "x" * 100,
    }
    monkeypatch.setattr(scan_module, "MAX_STEPS", 1_000_000)
    monkeypatch.setattr(scan_module, "DATABASE_LIMIT", 64 * 1024)
    with tree_of(root, files) as tree:
        found, notes = scanned(tree)
        assert found == [f"pkg:apk/{'x' * 100}"]
        assert notes == ["/var/lib/rpm/rpmdb.sqlite: interrupted"]
        monkeypatch.setattr(scan_module, "DATABASE_LIMIT", 10)
        assert scanned(tree)[0] == []
    with tree_of(tmp_path / "old", {"var/lib/rpm/Packages": b""}) as tree:
        assert "only SQLite" in scanned(tree)[1][0]
        monkeypatch.setattr(scan_module, "MAX_FILES", 3)
        with pytest.raises(LimitExceeded):
            scanned(tree)


def test_a_document_is_spdx_and_the_same_each_time(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "etc/os-release": "ID=alpine\nPRETTY_NAME='Alpine'\n",
        "lib/apk/db/installed": APK,
    }
    with tree_of(tmp_path / "root", files) as tree:
        said = [sbom(tree, name="app", created=CREATED, version="1", task=Task()) for _ in range(2)]
    assert said[0] == said[1]
    body = said[0].body
    assert (body["spdxVersion"], body["creationInfo"]["created"]) == ("SPDX-2.3", CREATED)
    root, musl, utils = body["packages"]
    assert (root["summary"], musl["versionInfo"]) == ("Alpine", "1.2.4-r2")
    assert musl["licenseComments"] == "MIT"
    assert len({root["SPDXID"], musl["SPDXID"], utils["SPDXID"]}) == 3
    assert {"spdxElementId": root["SPDXID"], "relationshipType": "CONTAINS",
            "relatedSpdxElement": musl["SPDXID"]} in body["relationships"]  # fmt: skip
    empty = document([], Distribution(), name="x", created="", version="1")
    assert empty["creationInfo"]["created"] == "1970-01-01T00:00:00Z"
    package = Package(kind="rpm", name="a", version="1:2")
    assert package.purl == "pkg:rpm/a@1:2"
    assert databases.parse_npm([], "x") is None
    assert databases.parse_python("Version: 1\n", "x") is None
