"""Where the command line hands finished images: the store, places, exports, files with ids."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imgtools.build.execute.environment import BuildResult
from imgtools.build.options import BuildOptions
from imgtools.build.outputs.attest import SPDX
from imgtools.build.outputs.attest_options import AttestOptions
from imgtools.build.outputs.export_options import parse_export
from imgtools.build.outputs.layer_blobs import LayerBlobs
from imgtools.build.outputs.model import BuiltImage
from imgtools.build.outputs.places import CopiedOut, Places
from imgtools.build.outputs.provenance import BUILDER, V1, BuildFacts, ProvenanceOptions
from imgtools.cli.build_deliver import Delivery, Destinations, destinations
from imgtools.cli.build_log import Ready
from imgtools.cli.build_request import ResultOptions
from imgtools.errors import RegistryError
from imgtools.task import Event, Note, Task
from imgtools.transport.table import Transports
from tests.build.outputs_kit import ARM64, TO, built, new_store, tar
from tests.build.store_double import StoreDouble

LAYERS = [tar(("a", b"1")), tar(("b", b"2"))]


def _once(action: Callable[[], CopiedOut | None]) -> CopiedOut | None:
    return action()


class Desk:
    """Delivers to a directory of the test's."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store: StoreDouble = new_store(directory)
        self.image = built(self.store, LAYERS)
        self.out: list[bytes] = []
        self.added: list[tuple[str, str]] = []
        self.stages: tuple[BuiltImage, ...] = ()

    def deliver(
        self,
        result: ResultOptions,
        *images: BuiltImage,
        options: BuildOptions | None = None,
        retry: Callable[..., CopiedOut | None] = _once,
        task: Task | None = None,
    ) -> list[Ready]:
        """What is where afterwards."""
        options = options or BuildOptions()
        with Transports() as transports, LayerBlobs(self.store) as layers:
            places = Places(
                transports=transports, layers=layers, form=result.form, family=options.format,
                options=TO,
            )  # fmt: skip
            delivery = Delivery(
                store=self.store,
                places=places,
                options=options,
                result=result,
                to=destinations(result),
                retry=retry,
                stdout=self.out.append,
                add=lambda name, image_id: self.added.append((name, image_id)),
            )
            found = images or (self.image,)
            facts = tuple(BuildFacts(platform=image.platform) for image in found)
            built = BuildResult(images=found, facts=facts, stages=self.stages)
            return delivery.deliver(built, task=task or Task())


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    """A store with an image of two layers."""
    return Desk(tmp_path)


def test_an_image_is_kept_under_its_names(desk: Desk) -> None:
    """The first without a registry is of localhost; the id is the config's digest."""
    (ready,) = desk.deliver(ResultOptions(tags=("app", "h.x/app:1")))
    assert ready.names == ("localhost/app:latest", "h.x/app:1")
    kept = desk.store.images["localhost/app:latest"]
    assert desk.store.images[ready.image_id.removeprefix("sha256:")] is kept
    assert str(kept.manifest.digest) == ready.digest
    assert (ready.platform, ready.index) == ("", False)


def test_an_image_without_a_name_is_kept_too(desk: Desk) -> None:
    """It has an id."""
    (ready,) = desk.deliver(ResultOptions())
    assert ready.names == ()
    assert list(desk.store.images) == [ready.image_id.removeprefix("sha256:")]


@pytest.mark.parametrize(
    ("tags", "outputs", "kept"),
    [
        (("oci:{}/layout:1",), (), 0),
        (("oci:{}/layout:1", "app"), (), 2),
        (("app",), ("type=cacheonly",), 0),
        ((), ("{}/files",), 1),
    ],
)
def test_what_the_store_keeps(
    desk: Desk, tags: tuple[str, ...], outputs: tuple[str, ...], kept: int
) -> None:
    """Nothing of an image that goes elsewhere by its names, or nowhere."""
    at = str(desk.directory)
    result = ResultOptions(
        tags=tuple(text.format(at) for text in tags),
        outputs=tuple(parse_export(text.format(at)) for text in outputs),
    )
    (ready,) = desk.deliver(result)
    assert len(desk.store.images) == kept
    assert any("layout" in name for name in ready.names) == any("layout" in t for t in tags)


def test_files_say_what_was_built(desk: Desk) -> None:
    """The id with and without its algorithm, and the digests as JSON, as buildah writes them."""
    at = desk.directory
    result = ResultOptions(
        tags=("app",),
        id_file=f"{at}/id",
        raw_id_file=f"{at}/raw",
        metadata_file=f"{at}/metadata",
    )
    (ready,) = desk.deliver(result)
    assert (at / "id").read_text() == ready.image_id
    assert (at / "raw").read_text() == ready.image_id.removeprefix("sha256:")
    found = json.loads((at / "metadata").read_text())
    assert found["containerimage.config.digest"] == ready.image_id
    assert found["containerimage.digest"] == ready.digest
    assert found["containerimage.descriptor"]["digest"] == ready.digest
    assert found["image.name"] == "localhost/app:latest"


def test_several_platforms_make_an_index_where_one_can_be(desk: Desk) -> None:
    """Ids are those of the images; the files have the index's digest."""
    at = desk.directory
    other = built(desk.store, LAYERS, platform=ARM64)
    result = ResultOptions(manifest=f"oci:{at}/layout:all", id_file=f"{at}/id")
    first, second, index = desk.deliver(result, desk.image, other)
    assert [ready.platform for ready in (first, second)] == ["linux/amd64", "linux/arm64"]
    assert (index.index, index.names) == (True, (f"oci:{at}/layout:all",))
    assert (at / "id").read_text() == index.digest
    top = json.loads((at / "layout/index.json").read_text())["manifests"]
    assert [entry["digest"] for entry in top] == [index.digest]
    blob = at / "layout/blobs/sha256" / index.digest.removeprefix("sha256:")
    platforms = [
        entry["platform"]["architecture"] for entry in json.loads(blob.read_text())["manifests"]
    ]
    assert platforms == ["amd64", "arm64"]
    assert len(desk.store.images) == 2


def test_a_manifest_of_one_image_is_an_index_too(desk: Desk) -> None:
    """As with buildah."""
    at = desk.directory
    (ready,) = desk.deliver(ResultOptions(manifest=f"oci:{at}/layout:all"))
    assert ready.names == (f"oci:{at}/layout:all",)
    assert ready.image_id != ready.digest
    blob = at / "layout/blobs/sha256" / ready.digest.removeprefix("sha256:")
    assert len(json.loads(blob.read_text())["manifests"]) == 1


def test_a_name_of_an_index_in_the_store_gets_the_images(desk: Desk) -> None:
    """All of them, by their ids; they are kept, even where they go elsewhere too."""
    other = built(desk.store, LAYERS, platform=ARM64)
    place = f"oci:{desk.directory}/layout:1"
    ready = desk.deliver(ResultOptions(manifest="all", tags=(place,)), desk.image, other)
    ids = [each.image_id.removeprefix("sha256:") for each in ready if not each.index]
    assert desk.added == [("localhost/all:latest", image_id) for image_id in ids]
    assert set(ids) <= set(desk.store.images)


def test_pushing_is_to_the_registries_of_names() -> None:
    """Beside what is in the store and where names lead anyway."""
    result = ResultOptions(tags=("h.x/a", "oci:dir:1"), manifest="h.x/all", push=True)
    found = destinations(result)
    assert [str(name) for name in found.places] == ["oci:dir:1", "docker://h.x/a:latest"]
    assert [str(name) for name in found.indexes] == ["docker://h.x/all:latest"]
    assert found.lists == ("h.x/all:latest",)
    assert found.local == ("h.x/a:latest",)
    registry = ResultOptions(tags=("h.x/a",), outputs=(parse_export("type=registry"),))
    assert [str(name) for name in destinations(registry).places] == ["docker://h.x/a"]
    assert destinations(ResultOptions()) == Destinations()


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (BuildOptions(), 2),
        (BuildOptions(squash="new"), 1),
        (BuildOptions(squash="all"), 1),
        (BuildOptions(layers=False), 1),
    ],
)
def test_squashing(desk: Desk, options: BuildOptions, count: int) -> None:
    """Also where no layers are wanted for steps."""
    desk.deliver(ResultOptions(tags=("app",)), options=options)
    kept = desk.store.images["localhost/app:latest"]
    assert len(json.loads(kept.manifest.content)["layers"]) == count


def test_exports_to_standard_output(desk: Desk) -> None:
    """The files as a tar."""
    desk.deliver(ResultOptions(outputs=(parse_export("-"),)))
    assert b"".join(desk.out).startswith(b"a\0")


def test_a_copy_is_tried_again_as_a_whole(desk: Desk) -> None:
    """By whoever knows what may pass."""
    tries: list[str] = []

    def retry(action: Callable[[], CopiedOut | None]) -> CopiedOut | None:
        try:
            tries.append("first")
            raise RegistryError(method="PUT", url="https://h", status=503)
        except RegistryError:
            tries.append("again")
            return action()

    place = f"oci:{desk.directory}/layout:1"
    (ready,) = desk.deliver(ResultOptions(tags=(place,)), retry=retry)
    assert tries == ["first", "again"]
    assert ready.names == (place,)
    assert replace(ready, names=()) == replace(ready, names=(), index=False)


STATUS = b"Package: libc6\nStatus: install ok installed\nVersion: 2.36\nArchitecture: amd64\n"
RELEASE = b'ID=debian\nVERSION_ID="12"\n'
SYSTEM = [tar(("etc/os-release", RELEASE), ("var/lib/dpkg/status", STATUS))]
ALL = AttestOptions(sbom=True, provenance=ProvenanceOptions(mode="max"))
PURL = "pkg:deb/debian/libc6@2.36?arch=amd64&distro=debian-12"


def layout_blob(layout: Path, digest: str) -> dict[str, Any]:
    """A blob of a layout that is JSON."""
    found = json.loads((layout / "blobs/sha256" / digest.removeprefix("sha256:")).read_text())
    assert isinstance(found, dict)
    return found


def statements(layout: Path, manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The statements of an attestation manifest, by the type of their predicates."""
    found = [layout_blob(layout, layer["digest"]) for layer in manifest["layers"]]
    return {each["predicateType"]: each for each in found}


def test_attestations_refer_to_the_image_in_a_layout(desk: Desk) -> None:
    """What is installed, and how it was built; the top is the image as without them."""
    layout = desk.directory / "layout"
    image = built(desk.store, SYSTEM)
    (plain,) = desk.deliver(ResultOptions(tags=(f"oci:{desk.directory}/plain:1",)), image)
    (ready,) = desk.deliver(ResultOptions(tags=("app", f"oci:{layout}:1"), attest=ALL), image)
    assert ready.digest == plain.digest
    index = json.loads((layout / "index.json").read_text())
    others = [each["digest"] for each in index["manifests"] if each["digest"] != ready.digest]
    manifests = [layout_blob(layout, digest) for digest in others]
    (said,) = [each for each in manifests if "subject" in each]
    assert said["subject"]["digest"] == ready.digest
    found = statements(layout, said)
    assert set(found) == {V1, SPDX}
    purls = [p["externalRefs"][0]["referenceLocator"] for p in found[SPDX]["predicate"]
             ["packages"] if "externalRefs" in p]  # fmt: skip
    assert purls == [PURL]
    for each in found.values():
        digests = {subject["digest"]["sha256"] for subject in each["subject"]}
        assert digests == {ready.digest.removeprefix("sha256:")}


def test_attestations_stand_in_an_index_where_that_is_asked_for(desk: Desk) -> None:
    """As buildx has it, of each platform; the id is still the image's."""
    layout = desk.directory / "layout"
    other = built(desk.store, SYSTEM, platform=ARM64)
    result = ResultOptions(tags=(f"oci:{layout}:1",), attest=replace(ALL, style="index"))
    for images in ((desk.image,), (desk.image, other)):
        ready = desk.deliver(result, *images)
        index = layout_blob(layout, ready[-1].digest)
        kinds = [each["platform"]["architecture"] for each in index["manifests"]]
        assert kinds.count("unknown") == len(images) == len(kinds) / 2
    first = desk.deliver(replace(result, id_file=f"{desk.directory}/id"))[0]
    assert (desk.directory / "id").read_text() == first.image_id


def test_trees_and_files_get_what_is_said_too(desk: Desk) -> None:
    """Exports of trees, --metadata-file under buildx's key, --sbom-output and its kin."""
    at = desk.directory
    result = ResultOptions(
        tags=("app",),
        outputs=(parse_export(f"{at}/out"),),
        metadata_file=f"{at}/metadata",
        attest=replace(ALL, sbom_file=f"{at}/sbom", purl_file=f"{at}/purls"),
    )
    (ready,) = desk.deliver(result, built(desk.store, SYSTEM))
    found = json.loads((at / "metadata").read_text())
    assert set(found) == {
        "buildx.build.provenance", "containerimage.config.digest", "containerimage.descriptor",
        "containerimage.digest", "image.name",
    }  # fmt: skip
    assert found["buildx.build.provenance"]["runDetails"]["builder"]["id"] == BUILDER
    assert json.loads((at / "sbom").read_text())["spdxVersion"] == "SPDX-2.3"
    assert json.loads((at / "purls").read_text()) == {"image_contents": {"dependencies": [PURL]}}
    stated = json.loads((at / "out/provenance.json").read_text())
    assert stated["predicate"] == found["buildx.build.provenance"]
    assert stated["subject"][0]["digest"]["sha256"] == ready.digest.removeprefix("sha256:")
    assert json.loads((at / "out/sbom.spdx.json").read_text())["predicateType"] == SPDX


def test_several_platforms_have_their_own_key_of_provenance(desk: Desk) -> None:
    at = desk.directory
    other = built(desk.store, LAYERS, platform=ARM64)
    result = ResultOptions(manifest=f"oci:{at}/l:1", metadata_file=f"{at}/metadata", attest=ALL)
    desk.deliver(result, desk.image, other)
    names = {n for n in json.loads((at / "metadata").read_text()) if n.startswith("buildx")}
    assert names == {f"buildx.build.provenance/linux/{arch}" for arch in ("amd64", "arm64")}


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (ResultOptions(tags=("app",), attest=ALL), ["the store has none"]),
        (ResultOptions(tags=("app",)), []),
        (ResultOptions(tags=("docker-archive:{}/a",), attest=ALL), ["cannot hold attestations"]),
    ],
)
def test_whoever_asks_for_attestations_hears_where_there_are_none(
    desk: Desk, result: ResultOptions, expected: list[str]
) -> None:
    told: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Note):
            told.append(event.text)

    result = replace(result, tags=tuple(tag.format(desk.directory) for tag in result.tags))
    desk.deliver(result, task=Task(progress=listen))
    assert len(told) == len(expected)
    assert all(text in line for text, line in zip(expected, told, strict=True))


def test_images_of_stages_are_kept_without_a_name(desk: Desk) -> None:
    desk.stages = (built(desk.store, SYSTEM),)
    desk.deliver(ResultOptions(tags=("app",)))
    assert len(desk.store.images) == 3
    assert [name for name in desk.store.images if len(name) != 64] == ["localhost/app:latest"]
