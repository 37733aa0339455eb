"""--output: what its values mean, and the trees, archives and uploads that come of them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imgtools.build.outputs.base_blobs import base_opener
from imgtools.build.outputs.export import Exporter, export_names
from imgtools.build.outputs.export_options import Export, parse_export
from imgtools.build.outputs.layer_blobs import LayerBlobs
from imgtools.build.outputs.model import BuiltImage, Form
from imgtools.build.outputs.outgoing import Wanted
from imgtools.build.outputs.places import Places
from imgtools.build.outputs.push_ahead import PushAhead
from imgtools.errors import Cancelled, InvalidInput, Unsupported
from imgtools.spec.manifest import Manifest, parse
from imgtools.spec.reference import ImageName
from imgtools.task import Note, Task
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.table import TRANSPORTS, Transports
from tests.build.outputs_kit import ARM64, FROM, TO, built, link, new_store, tar
from tests.build.store_double import StoreDouble

LAYERS = [
    tar(("etc/", b""), ("etc/passwd", b"root"), ("gone", b"x"), ("k", b"1"), link("hl", "k")),
    tar((".wh.gone", b""), ("etc/", b""), ("etc/new", b"2")),
]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("out", Export(kind="local", dest="out")),
        ("-", Export(kind="tar", dest="-")),
        ("type=local,dest=out", Export(kind="local", dest="out")),
        ('"type=tar","dest=a,b.tar"', Export(kind="tar", dest="a,b.tar")),
        ("TYPE=tar,Dest=-", Export(kind="tar", dest="-")),
        ("type=oci,dest=x.tar", Export(kind="oci", dest="x.tar")),
        ("type=oci,dest=x,tar=false", Export(kind="oci", dest="x", archive=False)),
        ("type=docker,dest=x,name=a", Export(kind="docker", dest="x", names=("a",))),
        ("type=cacheonly", Export(kind="cacheonly")),
        ('type=image,"name=a,b",push=true', Export(kind="image", names=("a", "b"), push=True)),
        ("type=registry", Export(kind="image", push=True)),
        (
            "type=registry,name=r/a,compression=zstd,compression-level=3,force-compression=true",
            Export(
                kind="image",
                names=("r/a",),
                push=True,
                form=Form(compression="zstd", level=3, force=True),
            ),
        ),
        (
            "type=image,name=a,annotation.k=v,oci-mediatypes=false",
            Export(kind="image", names=("a",), annotations={"k": "v"}, oci_types=False),
        ),
        ("type=local,dest=o,platform-split=1", Export(kind="local", dest="o", platform_split=True)),
    ],
)
def test_values(value: str, expected: Export) -> None:
    assert parse_export(value) == expected


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("", "empty"),
        ("type=zip,dest=x", "expected one of local"),
        ("dest=x,tar", "is not KEY=VALUE"),
        ("dest=x,a=b", "type is ''"),
        ("type=local", "dest is missing"),
        ("type=local,dest=-", "standard output"),
        ("type=oci,dest=-,tar=false", "standard output"),
        ("type=tar,dest=a,dest=b", "twice"),
        ("type=tar,dest=a,push=true", "no option 'push'"),
        ("type=image,push=maybe", "true or false"),
        ("type=image,name=", "expected a name"),
        ("type=image,compression=estargz", "estargz"),
        ("type=image,compression-level=10", "not one of gzip"),
        ("type=image,compression=uncompressed,compression-level=1", "not one of none"),
        ("type=image,compression-level=x", "expected a number"),
        ('type=tar,"dest=a', "comma-separated"),
        ("type=docker,dest=d,tar=false", "always a tar"),
    ],
)
def test_bad_values_say_what_is_wrong(value: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        parse_export(value)


def test_loading_into_a_daemon_is_refused() -> None:
    with pytest.raises(Unsupported, match="no docker daemon"):
        parse_export("type=docker")


@pytest.mark.parametrize(
    ("value", "tags", "local", "places"),
    [
        ("type=image,name=a", [], ["localhost/a:latest"], []),
        ("type=registry", ["r.io/a:1"], [], ["docker://r.io/a:1"]),
        ("type=registry,name=r.io/b", ["r.io/a:1"], [], ["docker://r.io/b"]),
        ("type=image,name=docker://r.io/b,push=true", [], [], ["docker://r.io/b"]),
        ("type=tar,dest=x", ["a"], [], []),
    ],
)
def test_names_of_images(value: str, tags: list[str], local: list[str], places: list[str]) -> None:
    found = export_names(parse_export(value), tags)
    assert list(found.local) == local
    assert [str(place) for place in found.places] == places


def test_a_push_needs_a_name() -> None:
    with pytest.raises(InvalidInput, match="no name to push to"):
        export_names(parse_export("type=registry"), [])


@pytest.fixture
def store(tmp_path: Path) -> StoreDouble:
    return new_store(tmp_path)


@pytest.fixture
def places(store: StoreDouble) -> Iterator[Places]:
    with Transports() as transports, LayerBlobs(store) as layers:
        yield Places(
            transports=transports,
            layers=layers,
            options=TO,
            open_base=base_opener(transports, FROM),
        )


def exported(
    places: Places, store: StoreDouble, value: str, *images: BuiltImage, **more: Any
) -> bytes:
    """What went to standard output."""
    out: list[bytes] = []
    exporter = Exporter(store=store, places=places, stdout=out.append, **more)
    exporter.export(parse_export(value), Wanted(images=images, names=("app:1", "b")), task=Task())
    return b"".join(out)


def test_tar_of_the_final_tree(store: StoreDouble, places: Places, tmp_path: Path) -> None:
    image = built(store, LAYERS)
    content = exported(places, store, "-", image)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        assert sorted(archive.getnames()) == ["etc", "etc/new", "etc/passwd", "hl", "k"]
    assert exported(places, store, f"type=tar,dest={tmp_path}/out.tar", image) == b""
    assert (tmp_path / "out.tar").read_bytes() == content


def test_e79_a_hard_link_stays_one_in_what_is_exported(
    store: StoreDouble, places: Places, tmp_path: Path
) -> None:
    below = tar(("k", b"1"), link("hl", "k"))
    image = built(store, [below, tar(("k", b"2"))])
    exported(places, store, f"{tmp_path}/out", image)
    assert (tmp_path / "out/k").read_bytes() == b"2"
    assert (tmp_path / "out/hl").read_bytes() == b"1"
    exported(places, store, f"{tmp_path}/linked", built(store, [below, tar(("x", b""))]))
    assert os.path.samefile(tmp_path / "linked/k", tmp_path / "linked/hl")


def test_e80_more_than_127_layers(store: StoreDouble, places: Places, tmp_path: Path) -> None:
    image = built(store, [tar((f"f{n % 100}", b"%d" % n)) for n in range(140)])
    exported(places, store, f"{tmp_path}/out", image)
    assert len(list((tmp_path / "out").iterdir())) == 100
    assert (tmp_path / "out/f39").read_bytes() == b"139"


def test_local_keeps_what_is_there_and_stays_inside(
    store: StoreDouble, places: Places, tmp_path: Path
) -> None:
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    out.mkdir()
    (out / "mine").write_bytes(b"kept")
    (out / "etc").symlink_to(outside)
    exported(places, store, f"type=local,dest={out}", built(store, LAYERS))
    assert (out / "mine").read_bytes() == b"kept"
    assert (out / "etc/passwd").read_bytes() == b"root"
    assert list(outside.iterdir()) == []


def test_local_of_several_platforms_with_files_beside(
    store: StoreDouble, places: Places, tmp_path: Path
) -> None:
    images = built(store, LAYERS), built(store, [tar(("arm", b""))], platform=ARM64)
    extra = ({"provenance.json": b"{1}"}, {"provenance.json": b"{2}"})
    exported(places, store, f"{tmp_path}/out", *images, extra=extra)
    assert sorted(os.listdir(tmp_path / "out")) == ["linux_amd64", "linux_arm64"]
    assert (tmp_path / "out/linux_arm64/provenance.json").read_bytes() == b"{2}"
    assert (tmp_path / "out/linux_amd64/hl").read_bytes() == b"1"
    with pytest.raises(InvalidInput, match="several platforms"):
        exported(places, store, f"type=local,dest={tmp_path}/o,platform-split=false", *images)


@pytest.mark.parametrize(
    ("value", "transport"),
    [
        ("type=oci,dest={}", "oci-archive:{}:1"),
        ("type=oci,dest={},tar=false", "oci:{}:1"),
        ("type=docker,dest={}", "docker-archive:{}"),
    ],
)
def test_archives(
    store: StoreDouble, places: Places, tmp_path: Path, value: str, transport: str
) -> None:
    path = tmp_path / "out"
    image = built(store, LAYERS)
    exported(places, store, value.format(path), built(store, LAYERS[:1]))
    exported(places, store, value.format(path), image)
    assert sorted(os.listdir(tmp_path)) == ["out", "store"]
    with places.transports.open_source(transport.format(path), FROM) as source:
        manifest = parse(source.top())
        assert isinstance(manifest, Manifest)
        assert len(manifest.layers) == 2


def test_archive_on_standard_output(store: StoreDouble, places: Places, tmp_path: Path) -> None:
    content = exported(places, store, "type=docker,dest=-", built(store, LAYERS))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        listed = archive.extractfile("manifest.json")
        assert listed is not None
        assert json.load(listed)[0]["RepoTags"] == ["localhost/app:1", "localhost/b:latest"]
    (tmp_path / "in.tar").write_bytes(content)
    name = f"docker-archive:{tmp_path}/in.tar:localhost/b:latest"
    subprocess.run(
        ["skopeo", "--insecure-policy", "inspect", name], capture_output=True, check=True
    )
    with pytest.raises(InvalidInput, match="colon"):
        exported(places, store, f"type=oci,dest={tmp_path}/a:b", built(store, LAYERS))


@pytest.mark.parametrize("kind", ["tar", "oci"])
def test_a_pipe_is_written_to_and_not_replaced(
    store: StoreDouble, places: Places, tmp_path: Path, kind: str
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    exported(places, store, f"type={kind},dest={pipe}", built(store, LAYERS))
    reader.join()
    assert pipe.is_fifo()
    with tarfile.open(fileobj=io.BytesIO(found[0])) as archive:
        assert ("k" if kind == "tar" else "index.json") in archive.getnames()


def test_layers_are_pushed_ahead_of_the_image(store: StoreDouble, places: Places) -> None:
    image = built(store, LAYERS)
    with ScriptedRegistry() as registry:
        name = ImageName.parse(f"docker://{registry.host}/app:1", TRANSPORTS)
        with PushAhead(places, [name], task=Task()) as ahead:
            for layer in (*image.layers, image.layers[0]):
                ahead.layer(layer)
            ahead.finish()
            assert (ahead.uploaded, ahead.errors) == (2, [])
            assert registry.count("PUT", "/manifests/") == 0
        registry.forget_requests()
        done = places.copy(Wanted(images=(image,)), name, task=Task())
        for blob in done.outgoing.images[0].layers:
            assert registry.count(None, str(blob.digest)) == 0
        # One upload is left, that of the config.
        assert registry.count("PUT", "/blobs/uploads/") == 1


def test_errors_of_pushing_ahead_wait_for_the_end(store: StoreDouble, places: Places) -> None:
    image = built(store, LAYERS)
    with ScriptedRegistry() as registry:
        name = ImageName.parse(f"docker://{registry.host}/app:1", TRANSPORTS)
        registry.fail(method="POST", path="/blobs/uploads", status=403)
        with PushAhead(places, [name], task=Task()) as ahead:
            ahead.layer(image.layers[0])
            ahead.finish()
            assert [type(e).__name__ for e in ahead.errors] == ["Forbidden"]


def test_pushing_ahead_ends_with_the_build(store: StoreDouble, places: Places) -> None:
    task = Task()
    with ScriptedRegistry() as registry:
        name = ImageName.parse(f"docker://{registry.host}/app:1", TRANSPORTS)
        ahead = PushAhead(places, [name], task=task)
        task.cancel.cancel()
        ahead.layer(built(store, LAYERS).layers[0])
        with pytest.raises(Cancelled):
            ahead.finish()
        ahead.close()
        assert registry.requests == []
    with PushAhead(places, [ImageName.parse("oci:x", TRANSPORTS)], task=Task()) as nothing:
        nothing.layer(built(store, LAYERS).layers[0])
        nothing.finish()
        assert nothing.uploaded == 0


def test_devices_without_privilege_are_named(
    store: StoreDouble, places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = link("null", "", tarfile.CHRTYPE)
    device.devmajor, device.devminor = 1, 3
    image = built(store, [tar(device, ("f", b""))])
    notes: list[str] = []
    exporter = Exporter(store=store, places=places, stdout=print)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    exporter.export(
        parse_export(f"{tmp_path}/out"),
        Wanted(images=(image,)),
        task=Task(progress=lambda e: notes.append(e.text) if isinstance(e, Note) else None),
    )
    assert os.listdir(tmp_path / "out") == ["f"]
    assert "1 device nodes" in notes[0]
