"""Where the command line hands finished images: the store, places, exports, files with ids."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from imgtools.build.options import BuildOptions
from imgtools.build.outputs.export_options import parse_export
from imgtools.build.outputs.layer_blobs import LayerBlobs
from imgtools.build.outputs.model import BuiltImage
from imgtools.build.outputs.places import CopiedOut, Places
from imgtools.cli.build_deliver import Delivery, Destinations, destinations
from imgtools.cli.build_log import Ready
from imgtools.cli.build_request import ResultOptions
from imgtools.errors import RegistryError
from imgtools.task import Task
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

    def deliver(
        self,
        result: ResultOptions,
        *images: BuiltImage,
        options: BuildOptions | None = None,
        retry: Callable[..., CopiedOut | None] = _once,
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
            return delivery.deliver(images or (self.image,), task=Task())


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
