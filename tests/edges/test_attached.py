"""Cases 61 and 62: what is attached to images, and what goes when something is deleted."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.testing import images
from imgtools.testing.dialects import DISTRIBUTION_2, Dialect
from imgtools.testing.registry import ScriptedRegistry
from tests.bad_input import PLAIN, Outcome, cli, push
from tests.edges.kit import copied

IMAGE = images.random_image("attached")
INDEX = images.random_index("attached")
OLD = Dialect(referrers="404-text", subject=False)
SUFFIXES = (".sig", ".att", ".sbom")


def synced(tmp_path: Path, source: ScriptedRegistry, target: ScriptedRegistry, *flags: str) -> None:
    plain = ("--src-tls-verify=false", "--dest-tls-verify=false")
    done = cli(tmp_path, "sync", "-q", "--src=docker", "--dest=docker", *plain, *flags,
               f"{source.host}/app:1", f"{target.host}/ns")  # fmt: skip
    assert done.code == 0, done.err


def attach(registry: ScriptedRegistry, subject: RawManifest, seed: object) -> RawManifest:
    sample = images.random_artifact(seed, subject=subject.descriptor())
    for content in sample.blobs.values():
        registry.push_blob("app", content)
    registry.push_manifest("app", sample.top.content, sample.top.media_type)
    return sample.top


def attach_by_tag(registry: ScriptedRegistry, digest: Digest) -> set[str]:
    """What cosign puts beside a manifest; the tags."""
    tags = {f"sha256-{digest.hex}{suffix}" for suffix in SUFFIXES}
    for tag in tags:
        push(registry, "app", images.random_image(tag, layers=1), tag)
    return tags


def list_by_tag(registry: ScriptedRegistry, subject: Digest, *raws: RawManifest) -> str:
    """The referrers of `subject` as registries without the API have them; the tag."""
    tag = f"sha256-{subject.hex}"
    value = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_INDEX,
        "manifests": [raw.descriptor().to_json() for raw in raws],
    }
    registry.push_manifest("app", json.dumps(value).encode(), mt.OCI_INDEX, tags=[tag])
    return tag


@pytest.mark.parametrize("sample", [IMAGE, INDEX], ids=["image", "index"])
@pytest.mark.parametrize("command", ["sync", "copy"])
def test_61_tags_and_referrers_of_images_and_instances_come_along(
    tmp_path: Path, sample: images.Sample, command: str
) -> None:
    with ScriptedRegistry() as source, ScriptedRegistry() as target:
        name = push(source, "app", sample)
        manifests = (sample.top, *sample.manifests[:2])
        tags = {tag for raw in manifests for tag in attach_by_tag(source, raw.digest)}
        referrers = {attach(source, raw, f"of {raw.digest}").digest for raw in manifests}
        unrelated = attach_by_tag(source, Digest.of(b"another image"))
        if command == "sync":
            synced(tmp_path, source, target, "--all")
        else:
            to = f"docker://{target.host}/ns/app:1"
            assert copied(tmp_path, name, to, "--all", "--referrers").code == 0
        found = target.repository("ns/app")
        assert referrers <= set(found.manifests)
        assert set(found.tags) - {"1"} == tags
        assert not unrelated & set(found.tags)
        origin = source.repository("app").tags
        assert found.tags == {tag: origin[tag] for tag in found.tags}


@pytest.mark.parametrize("dialect", [Dialect(), OLD], ids=["api", "tags"])
def test_61_referrers_of_referrers_are_followed(tmp_path: Path, dialect: Dialect) -> None:
    with ScriptedRegistry(dialect=dialect) as source, ScriptedRegistry() as target:
        name = push(source, "app", IMAGE)
        chain = [IMAGE.top]
        for number in range(4):
            chain.append(attach(source, chain[-1], number))
        if dialect is OLD:
            for subject, raw in pairwise(chain):
                list_by_tag(source, subject.digest, raw)
        done = cli(tmp_path, "inspect", PLAIN, "--referrers", name)
        assert [str(raw.digest) in done.out.decode() for raw in chain] == [True] * 5
        assert copied(tmp_path, name, f"docker://{target.host}/app:1", "--referrers").code == 0
        assert set(target.repository("app").manifests) >= {raw.digest for raw in chain}


def circle(registry: ScriptedRegistry) -> tuple[str, RawManifest, RawManifest]:
    """An image and two artifacts, of which each is said to refer to all others and itself."""
    name = push(registry, "app", IMAGE)
    one = attach(registry, IMAGE.top, "one")
    two = attach(registry, IMAGE.top, "two")
    for raw in (IMAGE.top, one, two):
        list_by_tag(registry, raw.digest, IMAGE.top, one, two)
    return name, one, two


@pytest.mark.parametrize("command", ["inspect", "copy", "sync"])
def test_61_referrers_in_a_circle_end(tmp_path: Path, command: str) -> None:
    with ScriptedRegistry(dialect=OLD) as source, ScriptedRegistry() as target:
        name, one, two = circle(source)
        if command == "inspect":
            done = cli(tmp_path, "inspect", PLAIN, "--referrers", "--json", name)
            assert done.code == 0, done.err
            assert str(one.digest).encode() in done.out
        else:
            if command == "copy":
                to = f"docker://{target.host}/ns/app:1"
                done = copied(tmp_path, name, to, "--referrers")
                assert done.code == 0, done.err
            else:
                synced(tmp_path, source, target)
            wanted = {IMAGE.top.digest, one.digest, two.digest}
            assert set(target.repository("ns/app").manifests) >= wanted
        # Each list is read, and none for every way that leads to it.
        assert source.count("GET", "/manifests/sha256-") <= 20


def test_61_a_circle_is_deleted_once(tmp_path: Path) -> None:
    with ScriptedRegistry(dialect=OLD) as registry:
        name, one, two = circle(registry)
        done = cli(tmp_path, "delete", PLAIN, "--referrers", name)
        assert done.code == 0, done.err
        left = set(registry.repository("app").manifests)
        assert not left & {IMAGE.top.digest, one.digest, two.digest}


# Deletes


def deleted(tmp_path: Path, registry: ScriptedRegistry, name: str, *flags: str) -> Outcome:
    return cli(tmp_path, "delete", PLAIN, *flags, f"docker://{registry.host}/app{name}")


@pytest.mark.parametrize("status", [400, 404, 405])
def test_62_a_tag_that_cannot_be_deleted_goes_with_its_manifest(
    tmp_path: Path, status: int
) -> None:
    with ScriptedRegistry(dialect=Dialect(delete_tag=status)) as registry:
        push(registry, "app", IMAGE)
        push(registry, "app", images.random_image("stays"), "2")
        done = deleted(tmp_path, registry, ":1")
        assert done.code == 0, done.err
        repository = registry.repository("app")
        assert set(repository.tags) == {"2"}
        assert IMAGE.top.digest not in repository.manifests


@pytest.mark.parametrize("dialect", [DISTRIBUTION_2, Dialect(delete_tag=405)], ids=["400", "405"])
def test_62_no_other_tag_goes_unasked(tmp_path: Path, dialect: Dialect) -> None:
    with ScriptedRegistry(dialect=dialect) as registry:
        for tag in ("1", "stable", "latest"):
            push(registry, "app", IMAGE, tag)
        done = deleted(tmp_path, registry, ":1")
        done.refused("latest", "stable", "--all-tags")
        assert set(registry.repository("app").tags) == {"1", "stable", "latest"}
        assert deleted(tmp_path, registry, ":1", "--all-tags").code == 0
        assert registry.repository("app").tags == {}


def test_62_a_digest_goes_with_all_its_tags(tmp_path: Path) -> None:
    with ScriptedRegistry() as registry:
        for tag in ("1", "2"):
            push(registry, "app", IMAGE, tag)
        assert deleted(tmp_path, registry, f"@{IMAGE.top.digest}").code == 0
        assert registry.repository("app").tags == {}
        # A second time there is nothing.
        deleted(tmp_path, registry, f"@{IMAGE.top.digest}").refused(code=2)


@pytest.mark.parametrize("status", [200, 202, 204])
@pytest.mark.parametrize("by", [":1", f"@{IMAGE.top.digest}"])
def test_62_every_status_of_success(tmp_path: Path, status: int, by: str) -> None:
    with ScriptedRegistry(dialect=Dialect(delete_status=status)) as registry:
        push(registry, "app", IMAGE)
        assert deleted(tmp_path, registry, by).code == 0
        assert registry.repository("app").tags == {}
        assert [e.status for e in registry.requests if e.method == "DELETE"] == [status]


def test_62_instances_and_blobs_are_left_to_the_registry(tmp_path: Path) -> None:
    with ScriptedRegistry(dialect=DISTRIBUTION_2) as registry:
        push(registry, "app", INDEX)
        assert deleted(tmp_path, registry, ":1").code == 0
        repository = registry.repository("app")
        assert set(repository.manifests) == {raw.digest for raw in INDEX.manifests}
        assert repository.blobs
        assert registry.count("DELETE", "/blobs/") == 0


@pytest.mark.parametrize("answer", [405, 403, 401, 501])
@pytest.mark.parametrize("by", [":1", f"@{IMAGE.top.digest}"])
def test_62_registries_that_do_not_delete_say_so(tmp_path: Path, answer: int, by: str) -> None:
    with ScriptedRegistry(dialect=Dialect(delete_tag=answer)) as registry:
        push(registry, "app", IMAGE)
        registry.fail(method="DELETE", status=answer)
        deleted(tmp_path, registry, by).refused(str(answer) if answer != 405 else "delete")
        assert set(registry.repository("app").tags) == {"1"}


def test_62_dialects_that_delete_the_manifest_of_a_tag_are_told_apart(tmp_path: Path) -> None:
    switches: Any = {"delete_tag": "manifest"}
    with ScriptedRegistry(dialect=Dialect(**switches)) as registry:
        for tag in ("1", "2"):
            push(registry, "app", IMAGE, tag)
        before = registry.repository("app").tags
        done = deleted(tmp_path, registry, ":1", "--dry-run")
        assert done.code == 0, done.err
        assert registry.repository("app").tags == before
        assert registry.count("DELETE") == 0


def test_62_a_referrer_with_a_name_of_its_own_stays(tmp_path: Path) -> None:
    with ScriptedRegistry() as registry:
        push(registry, "app", IMAGE)
        sbom = attach(registry, IMAGE.top, "sbom")
        registry.repository("app").tags["sbom-v1"] = sbom.digest
        done = deleted(tmp_path, registry, ":1", "--referrers")
        done.refused(f"{sbom.digest}, which is attached to it, is also tagged sbom-v1")
        assert set(registry.repository("app").tags) == {"1", "sbom-v1"}
