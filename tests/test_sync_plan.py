"""The decision of a sync, by tables over hand-made facts; nothing is opened."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imgtools.errors import ImageNotFound, InvalidInput
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.reference import ImageName, Reference
from imgtools.sync.facts import Image, ImageFact, ReferrerFact, Survey
from imgtools.sync.options import SyncOptions, Target
from imgtools.sync.plan import Decision, SyncPlan, plan_sync
from imgtools.sync.render import plan_json, render
from imgtools.transport.options import RegistryOptions

REGISTRY = RegistryOptions()


def descriptor(name: str, media_type: str = mt.OCI_MANIFEST) -> Descriptor:
    """A manifest called `name`."""
    return Descriptor(media_type=media_type, digest=Digest.of(name.encode()), size=10)


A, B, INDEX = descriptor("a"), descriptor("b"), descriptor("i", mt.OCI_INDEX)
SCHEMA1 = descriptor("1", mt.DOCKER_SCHEMA1_SIGNED)


def image(tag: str, place: str = "docker", source: str = "r.io/ns/app") -> Image:
    """r.io/ns/app:tag to m.io/app:tag, or to a directory."""
    reference = Reference.parse(f"{source}:{tag}")
    there = Reference.parse(f"m.io/app:{tag}") if place == "docker" else None
    name = f"//{there}" if there else f"/usb/app:{tag}"
    return Image(
        source=ImageName(transport="docker", rest=f"//{reference}"),
        destination=ImageName(transport=place, rest=name),
        registry=REGISTRY,
        reference=reference,
        place=there,
    )


def fact(
    tag: str, root: Descriptor | None, current: Descriptor | None, place: str = "docker"
) -> ImageFact:
    """What both sides hold of a tag."""
    return ImageFact(image=image(tag, place), top=root, root=root, current=current)


def plan(*facts: ImageFact, place: str = "docker", **more: object) -> SyncPlan:
    """The plan of facts; `more` are SyncOptions, or `referrers` facts."""
    referrers = more.pop("found", ())
    survey = Survey(
        target=Target(place=place, base="m.io"),  # type: ignore[arg-type]
        sources=1,
        images=facts,
        referrers=referrers,  # type: ignore[arg-type]
    )
    return plan_sync(survey, SyncOptions(**more))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("place", "root", "current", "options", "expected"),
    [
        ("docker", A, None, {}, "new"),
        ("docker", A, A, {}, "same"),
        ("docker", A, B, {}, "changed"),
        ("docker", INDEX, INDEX, {"all": True}, "same"),
        ("docker", INDEX, A, {"all": True}, "changed"),
        ("docker", A, A, {"format": "oci"}, "unsure"),
        ("docker", A, None, {"format": "oci"}, "new"),
        ("dir", A, A, {}, "same"),
        ("dir", A, B, {}, "changed"),
        ("dir", INDEX, INDEX, {"all": True}, "unsure"),
        ("dir", INDEX, A, {"all": True}, "changed"),
        ("dir", INDEX, None, {"all": True}, "new"),
    ],
)
def test_decision(
    place: str,
    root: Descriptor,
    current: Descriptor | None,
    options: dict[str, object],
    expected: Decision,
) -> None:
    """What is the same is told by digest alone, where that is enough."""
    made = plan(fact("t", root, current, place), place=place, **options)
    assert [action.decision for action in made.images] == [expected]
    assert bool(made.units) is (expected != "same")


def test_an_index_in_a_directory_may_be_the_same() -> None:
    """Which of its instances is copied is not known before."""
    source = replace(image("t"), reference=None)
    made = plan(ImageFact(image=source, top=INDEX, root=INDEX, current=A))
    assert made.images[0].decision == "unsure"


def test_failure_is_of_the_image() -> None:
    """The others are planned."""
    failed = replace(fact("bad", None, None), error=ImageNotFound("gone"))
    made = plan(failed, fact("good", A, None))
    assert [action.decision for action in made.images] == ["failed", "new"]
    assert [[a.image.source.rest[-4:] for a in unit.images] for unit in made.units] == [["good"]]


def test_names_of_one_manifest_are_one_unit() -> None:
    """And what is already there is in none."""
    made = plan(fact("1", A, None), fact("1.0", A, B), fact("2", B, None), fact("0", A, A))
    assert [[a.image.place and a.image.place.tag for a in u.images] for u in made.units] == [
        ["1", "1.0"],
        ["2"],
    ]


@pytest.mark.parametrize(
    ("root", "options"), [(SCHEMA1, {}), (A, {"format": "v2s2"}), (None, {"format": "oci"})]
)
def test_what_cannot_share(root: Descriptor | None, options: dict[str, object]) -> None:
    """A schema 1 manifest names its tag, and a conversion is made for each name."""
    made = plan(fact("1", root, None), fact("2", root, None), **options)
    assert [len(unit.images) for unit in made.units] == [1, 1]
    assert all(unit.pair is None for unit in made.units)


def test_what_is_attached_joins_its_image() -> None:
    """Also where the image itself is there already; what the destination knows does not."""
    pair = image("t").pair
    assert pair is not None
    signature = fact("sig", B, None)
    signature = replace(signature, image=replace(signature.image, subject=A.digest, owner=A.digest))
    known, missing = (
        ReferrerFact(pair=pair, subject=A.digest, owner=A.digest, descriptor=d, present=present)
        for d, present in ((descriptor("x"), True), (descriptor("y"), False))
    )
    for current, images in ((None, 1), (A, 0)):
        made = plan(fact("t", A, current), signature, found=(known, missing))
        (unit,) = made.units
        assert (len(unit.images), len(unit.tags), unit.referrers) == (images, 1, (missing,))


def test_two_images_of_one_name() -> None:
    """Refused unless they are the same; the option that helps is named."""
    first, second = fact("t", A, None), fact("t", B, None)
    other = replace(second, image=image("t", source="r.io/other/app"))
    with pytest.raises(InvalidInput, match="two images would be ") as found:
        plan(first, other)
    assert found.value.hint is not None
    assert "--scoped" in found.value.hint
    assert len(plan(first, replace(other, root=A)).images) == 1


def test_rendering() -> None:
    """Skopeo's words where it has some, then what we found out."""
    made = plan(fact("1", A, None), fact("2", A, B), fact("3", B, B))
    assert render(made).splitlines() == [
        'Would have copied image ref 1/1 from="docker://r.io/ns/app:1" '
        f'to="docker://m.io/app:1" new {A.digest}',
        'Would have copied image ref 1/1 from="docker://r.io/ns/app:2" '
        f'to="docker://m.io/app:2" changed {B.digest} -> {A.digest}',
        'Unchanged image ref 1/1 from="docker://r.io/ns/app:3" '
        f'to="docker://m.io/app:3" same {B.digest}',
        "Would have synced 2 images from 1 sources: 1 new, 1 changed, 1 same",
    ]
    value = plan_json(made)
    assert [each["decision"] for each in value["images"]] == ["new", "changed", "same"]
    assert value["images"][1]["currentDigest"] == str(B.digest)


def test_options() -> None:
    """Referrers come where they can be held."""
    assert SyncOptions().attached("docker")
    assert not SyncOptions().attached("dir")
    assert not SyncOptions(referrers=False).attached("docker")
    with pytest.raises(InvalidInput):
        SyncOptions(images_at_once=0)
