"""Platforms: names, variants, and the choice of an instance (checklist item 34)."""

from __future__ import annotations

import pytest

from imgtools.errors import InvalidInput, NotFound
from imgtools.image.select import choose_instance, instances_for
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Index
from imgtools.spec.platform import Platform, choose, from_machine, matches_any


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("Linux/AMD64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/arm/6", "linux/arm/v6"),
        ("macos/arm64", "darwin/arm64"),
        ("windows/amd64", "windows/amd64"),
    ],
)
def test_parse(text: str, normal: str) -> None:
    assert str(Platform.parse(text)) == normal


@pytest.mark.parametrize("text", ["", "linux", "amd64", "a/b/c/d", "linux/", "/amd64", "li nux/x"])
def test_parse_refuses(text: str) -> None:
    with pytest.raises(InvalidInput):
        Platform.parse(text)


@pytest.mark.parametrize(
    ("wanted", "candidates", "best"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], 1),
        ("linux/amd64", ["linux/amd64", "linux/amd64"], 0),
        ("linux/amd64", ["linux/amd64/v2"], None),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], 1),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], 1),
        ("linux/arm/v6", ["linux/arm/v7"], None),
        ("linux/arm/v7", ["linux/arm64"], None),
        ("linux/arm64", ["linux/arm64/v8"], 0),
        ("linux/arm64/v9", ["linux/arm64"], 0),
        ("linux/s390x", ["linux/s390x"], 0),
        ("linux/amd64", ["windows/amd64"], None),
        ("linux/amd64", ["unknown/unknown"], None),
        ("linux/amd64", [None], None),
    ],
)
def test_choose(wanted: str, candidates: list[str | None], best: int | None) -> None:
    platforms = [
        None
        if text is None
        else Platform(**dict(zip(("os", "architecture", "variant"), text.split("/"), strict=False)))
        for text in candidates
    ]
    assert choose(platforms, Platform.parse(wanted)) == best


def test_windows_os_version_must_match() -> None:
    old, new = (
        Platform(os="windows", architecture="amd64", os_version=v) for v in ("10.0.1", "10.0.2")
    )
    assert choose([old, new], new) == 1
    assert choose([old], new) is None


def test_host() -> None:
    assert str(from_machine("linux", "x86_64")) == "linux/amd64"
    assert str(from_machine("linux", "armv7l")) == "linux/arm/v7"


def test_matches_any() -> None:
    v6 = Platform.parse("linux/arm/v6")
    assert matches_any(v6, [Platform(os="linux", architecture="arm")])
    assert not matches_any(v6, [Platform.parse("linux/arm/v7")])
    assert not matches_any(None, [v6])


def entry(platform: str | None, name: str, **annotations: str) -> Descriptor:
    return Descriptor(
        media_type=mt.OCI_MANIFEST,
        digest=Digest.of(name.encode()),
        size=1,
        platform=Platform.parse(platform) if platform else None,
        annotations={k.replace("_", "."): v for k, v in annotations.items()},
    )


AMD, ARM = entry("linux/amd64", "amd"), entry("linux/arm64", "arm")
PROOF = Descriptor(
    media_type=mt.OCI_MANIFEST,
    digest=Digest.of(b"proof"),
    size=1,
    platform=Platform(os="unknown", architecture="unknown"),
    annotations={
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": str(ARM.digest),
    },
)
INDEX = Index(media_type=mt.OCI_INDEX, manifests=(AMD, ARM, PROOF))


def test_choose_instance_never_takes_an_attestation() -> None:
    assert choose_instance(INDEX, Platform.parse("linux/arm64")) == ARM
    with pytest.raises(NotFound) as caught:
        choose_instance(INDEX, Platform.parse("linux/s390x"))
    assert "linux/amd64, linux/arm64" in caught.value.message


def test_choose_instance_takes_the_only_entry_without_platform() -> None:
    only = entry(None, "only")
    index = Index(media_type=mt.OCI_INDEX, manifests=(only,))
    assert choose_instance(index, Platform.parse("linux/amd64")) == only


def test_instances_for_takes_attestations_along() -> None:
    assert instances_for(INDEX, [Platform.parse("linux/arm64")]) == (ARM, PROOF)
    assert instances_for(INDEX, [Platform.parse("linux/amd64")]) == (AMD,)
    with pytest.raises(NotFound):
        instances_for(INDEX, [Platform.parse("linux/amd64"), Platform.parse("linux/s390x")])
