"""Deletion from OCI layouts: the reference goes, and the blobs that nothing else needs."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.errors import (
    Cancelled,
    Error,
    ImageNotFound,
    InvalidJSON,
    InvalidManifest,
    InvalidReference,
)
from imgtools.spec.digest import Digest
from imgtools.task import CancelToken, Note, Task
from imgtools.testing.images import random_image
from imgtools.transport.oci_layout_delete import (
    LayoutDeleteOptions,
    Removal,
    delete_from_layout,
    plan_removal,
)
from tests.local_images import same, top_of, tree, write
from tests.rig import RunCli

PLAIN = LayoutDeleteOptions()
D = [Digest.of(bytes([n])) for n in range(8)]


def entry(digest: Digest, name: str = "") -> dict[str, Any]:
    value: dict[str, Any] = {"mediaType": "x", "digest": str(digest), "size": 1}
    if name:
        value["annotations"] = {"org.opencontainers.image.ref.name": name}
    return value


@pytest.mark.parametrize(
    ("entries", "chosen", "graph", "options", "gone", "blobs"),
    [
        ([entry(D[0], "a")], 0, {D[0]: (D[1],)}, PLAIN, (0,), {0, 1}),
        # A blob that another image has stays, and so does a manifest with another name.
        (
            [entry(D[0], "a"), entry(D[2], "b")],
            0,
            {D[0]: (D[1], D[3]), D[2]: (D[3],)},
            PLAIN,
            (0,),
            {0, 1},
        ),
        ([entry(D[0], "a"), entry(D[0], "b")], 0, {D[0]: (D[1],)}, PLAIN, (0,), set()),
        (
            [entry(D[0], "a"), entry(D[0], "b")],
            0,
            {D[0]: (D[1],)},
            LayoutDeleteOptions(all_names=True),
            (0, 1),
            {0, 1},
        ),
        # The name goes wherever it is.
        ([entry(D[0], "a"), entry(D[1], "a")], 0, {D[0]: (), D[1]: ()}, PLAIN, (0, 1), {0, 1}),
        # What an index has stays while an entry of its own is left.
        (
            [entry(D[0], "index"), entry(D[1], "child")],
            0,
            {D[0]: (D[1], D[2]), D[1]: (D[3],), D[2]: (D[3], D[4])},
            PLAIN,
            (0,),
            {0, 2, 4},
        ),
        # A circle ends.
        ([entry(D[0], "a")], 0, {D[0]: (D[1],), D[1]: (D[0],)}, PLAIN, (0,), {0, 1}),
        # What stays and cannot be read may need anything.
        ([entry(D[0], "a"), entry(D[1])], 0, {D[0]: (D[2],), D[1]: None}, PLAIN, (0,), set()),
        # What goes and cannot be read is no reason to keep it.
        ([entry(D[0], "a"), entry(D[1])], 0, {D[0]: None, D[1]: ()}, PLAIN, (0,), {0}),
    ],
)
def test_plan(
    entries: Sequence[Mapping[str, Any]],
    chosen: int,
    graph: Mapping[Digest, tuple[Digest, ...] | None],
    options: LayoutDeleteOptions,
    gone: tuple[int, ...],
    blobs: set[int],
) -> None:
    removal = plan_removal(entries, chosen, graph, options)
    assert removal.entries == gone
    assert set(removal.blobs) == {D[n] for n in blobs}


@given(
    st.lists(st.tuples(st.integers(0, 7), st.sampled_from("abc")), min_size=1, max_size=6),
    st.dictionaries(st.integers(0, 7), st.lists(st.integers(0, 7), max_size=4)),
    st.booleans(),
)
def test_plan_keeps_what_is_needed(
    named: list[tuple[int, str]], needs: dict[int, list[int]], all_names: bool
) -> None:
    entries = [entry(D[n], name) for n, name in named]
    graph = {D[n]: tuple(D[m] for m in found) for n, found in needs.items()}
    removal = plan_removal(entries, 0, graph, LayoutDeleteOptions(all_names=all_names))
    todo = [D[n] for p, (n, _) in enumerate(named) if p not in removal.entries]
    needed: set[Digest] = set()
    while todo:
        digest = todo.pop()
        if digest not in needed:
            needed.add(digest)
            todo.extend(graph.get(digest, ()))
    assert 0 in removal.entries
    assert not needed & set(removal.blobs)


def delete(rest: str, dry_run: bool = False, **options: Any) -> Removal:
    return delete_from_layout(rest, LayoutDeleteOptions(**options), task=Task(), dry_run=dry_run)


def blobs(layout: Path) -> set[str]:
    return {path.name for path in (layout / "blobs/sha256").iterdir()}


def test_image_goes_and_the_other_stays_whole(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    one, two = random_image("one"), random_image("two")
    write(f"oci:{layout}:one", one)
    only_one = blobs(layout)
    write(f"oci:{layout}:two", two)
    before = tree(layout)
    assert delete(f"{layout}:one", dry_run=True).names == ("one",)
    assert tree(layout) == before
    delete(f"{layout}:one")
    assert not blobs(layout) & only_one
    same(f"oci:{layout}:two", two)
    with pytest.raises(ImageNotFound):
        delete(f"{layout}:one")
    # The last one leaves an empty layout, into which can be written again.
    delete(f"{layout}")
    assert blobs(layout) == set()
    with pytest.raises(ImageNotFound):
        delete(f"{layout}")
    write(f"oci:{layout}:one", one)
    same(f"oci:{layout}:one", one)


def test_name_and_position(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    one = random_image("one")
    for name in ("a", "b"):
        write(f"oci:{layout}:{name}", one)
    write(f"oci:{layout}:c", random_image("two"))
    with pytest.raises(InvalidReference, match=r"it holds 3 images"):
        delete(f"{layout}")
    everything = blobs(layout)
    delete(f"{layout}:@0")
    assert blobs(layout) == everything
    same(f"oci:{layout}:b", one)
    with pytest.raises(ImageNotFound):
        delete(f"{layout}:@7")
    assert delete(f"{layout}:b", all_names=True).names == ("b",)
    assert top_of(f"oci:{layout}")


def test_referrers(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    image = random_image("image")
    write(f"oci:{layout}:image", image)
    sbom = random_image("sbom", subject=image.top.descriptor())
    write(f"oci:{layout}", sbom)
    write(f"oci:{layout}", random_image("signature", subject=sbom.top.descriptor()))
    copy = tmp_path / "copy"
    shutil.copytree(layout, copy)
    delete(f"{layout}:image")
    assert len(json.loads((layout / "index.json").read_text())["manifests"]) == 2
    same(f"oci:{layout}:@0", sbom)
    delete(f"{copy}:image", referrers=True)
    assert json.loads((copy / "index.json").read_text())["manifests"] == []
    assert blobs(copy) == set()


def test_every_kind_of_image(images_dir: Path, tmp_path: Path) -> None:
    """Deleting them one after the other keeps the rest whole, and leaves nothing."""
    layout = tmp_path / "layout"
    shutil.copytree(images_dir, layout, ignore=shutil.ignore_patterns("dir"))
    entries = json.loads((layout / "index.json").read_text())["manifests"]
    while entries:
        delete(f"{layout}:@0")
        entries = json.loads((layout / "index.json").read_text())["manifests"]
        for found in entries:
            assert found["digest"].removeprefix("sha256:") in blobs(layout)
    assert blobs(layout) == set()


def test_index_json_keeps_everything_else(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    for name in ("a", "b"):
        write(f"oci:{layout}:{name}", random_image(name))
    path = layout / "index.json"
    document = json.loads(path.read_text())
    document["annotations"] = {"x": "y"}
    document["manifests"][1]["platform"] = {"os": "linux", "architecture": "amd64"}
    path.write_text(json.dumps(document))
    delete(f"{layout}:a")
    document["manifests"] = document["manifests"][1:]
    assert json.loads(path.read_text()) == document


def test_shared_blobs_stay(tmp_path: Path) -> None:
    from imgtools.transport.options import DestinationOptions

    layout, shared = tmp_path / "layout", tmp_path / "shared"
    options = DestinationOptions(shared_blob_dir=str(shared), accept_uncompressed=True)
    write(f"oci:{layout}:a", random_image("a"), options)
    before = tree(shared)
    assert before
    delete(f"{layout}:a", shared_blob_dir=str(shared))
    assert tree(shared) == before
    assert json.loads((layout / "index.json").read_text())["manifests"] == []


def test_unreadable_manifest_keeps_all_blobs(tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    one, two = random_image("one"), random_image("two")
    write(f"oci:{layout}:one", one)
    write(f"oci:{layout}:two", two)
    (layout / "blobs/sha256" / two.top.digest.hex).write_bytes(b"{}")
    before = blobs(layout)
    said: list[str] = []

    def listen(event: object) -> None:
        if isinstance(event, Note):
            said.append(event.text)

    delete_from_layout(f"{layout}:one", PLAIN, task=Task(progress=listen))
    assert blobs(layout) == before
    assert len(said) == 1
    assert str(two.top.digest) in said[0]
    # Which can be mended by deleting that one too.
    delete(f"{layout}:two")


def test_links_are_not_followed(tmp_path: Path) -> None:
    layout, outside = tmp_path / "layout", tmp_path / "outside"
    write(f"oci:{layout}:a", random_image("a"))
    shutil.move(layout / "blobs/sha256", outside)
    (layout / "blobs/sha256").symlink_to(outside)
    before = tree(outside)
    with pytest.raises(Error):
        delete(f"{layout}:a")
    assert tree(outside) == before


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"{", InvalidJSON),
        (b'{"schemaVersion":2,"manifests":[3]}', InvalidManifest),
        (b'{"schemaVersion":2,"manifests":[{"digest":"sha256:../../x"}]}', Error),
        (b'{"schemaVersion":2,"manifests":[{}]}', InvalidManifest),
        (b'{"schemaVersion":2}', ImageNotFound),
    ],
)
def test_bad_layouts(tmp_path: Path, content: bytes, error: type[Exception]) -> None:
    layout = tmp_path / "layout"
    write(f"oci:{layout}:a", random_image("a"))
    (layout / "index.json").write_bytes(content)
    before = tree(layout)
    with pytest.raises(error):
        delete(f"{layout}")
    assert tree(layout) == before


def test_what_is_no_layout(tmp_path: Path) -> None:
    with pytest.raises(ImageNotFound):
        delete(f"{tmp_path}/nothing")
    with pytest.raises(ImageNotFound):
        delete(f"{tmp_path}")
    (tmp_path / "index.json").write_text('{"schemaVersion":2,"manifests":[]}')
    (tmp_path / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    with pytest.raises(ImageNotFound):
        delete(f"{tmp_path}")


def test_writers_are_waited_for(tmp_path: Path) -> None:
    """What a writer has stored is in no index.json yet, so it must not look unused."""
    layout = tmp_path / "layout"
    write(f"oci:{layout}:a", random_image("a"))
    writer = os.open(layout / "blobs", os.O_RDONLY)
    fcntl.flock(writer, fcntl.LOCK_SH)
    ended: list[object] = []
    cancel = CancelToken()

    def run() -> None:
        try:
            ended.append(delete_from_layout(f"{layout}:a", PLAIN, task=Task(cancel=cancel)))
        except Cancelled as e:
            ended.append(e)

    before = tree(layout)
    thread = threading.Thread(target=run)
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    assert tree(layout) == before
    cancel.cancel()
    thread.join(30)
    assert isinstance(ended.pop(), Cancelled)
    assert tree(layout) == before
    cancel = CancelToken()
    thread = threading.Thread(target=run)
    thread.start()
    os.close(writer)
    thread.join(30)
    assert isinstance(ended.pop(), Removal)
    assert blobs(layout) == set()


def test_command(run_cli: RunCli, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    image = random_image("a")
    write(f"oci:{layout}:a", image)
    shown = run_cli("delete", "--dry-run", f"oci:{layout}:a", check=True).stdout.splitlines()
    assert shown[0] == "delete reference a"
    assert sorted(shown[1:]) == sorted(f"delete blob sha256:{name}" for name in blobs(layout))
    done = run_cli("delete", f"oci:{layout}:a", check=True)
    assert (done.stdout, done.stderr) == ("", "")
    assert run_cli("delete", f"oci:{layout}:a").returncode == 2
    refused = run_cli("delete", "--replace-tag", f"oci:{layout}:a")
    assert (refused.returncode, "--replace-tag" in refused.stderr) == (1, True)


@pytest.mark.parametrize("nested", [False, True])
def test_what_an_unknown_document_mentions_stays_with_it(tmp_path: Path, nested: bool) -> None:
    """It does not go with it either: nobody knows whose it is."""
    path = tmp_path / "layout"
    sample = random_image()
    write(f"oci:{path}:x", sample)
    layer = next(d for d in sample.blobs if "layer" in d.media_type)
    descriptors = [
        {"mediaType": "application/vnd.test.v9", "digest": str(layer.digest), "size": 1},
        {"mediaType": "application/vnd.test.v9", "digest": str(D[0]), "size": 1},
    ]
    document: dict[str, Any] = {"parts": descriptors}
    media_type = "application/vnd.test.v9+json"
    for _ in range(1 + nested):
        content = json.dumps(document).encode()
        made = Digest.of(content)
        (path / "blobs" / "sha256" / made.hex).write_bytes(content)
        child = {"mediaType": media_type, "digest": str(made), "size": len(content)}
        media_type = "application/vnd.oci.image.index.v1+json"
        document = {"schemaVersion": 2, "mediaType": media_type, "manifests": [child]}
    index = json.loads((path / "index.json").read_text())
    index["manifests"].append(
        child | {"annotations": {"org.opencontainers.image.ref.name": "unknown"}}
    )
    (path / "index.json").write_text(json.dumps(index))

    delete_from_layout(f"{path}:x", PLAIN, task=Task())
    assert (path / "blobs" / "sha256" / layer.digest.hex).exists()
    if nested:
        delete_from_layout(f"{path}:unknown", PLAIN, task=Task())
        assert [p.name for p in (path / "blobs" / "sha256").iterdir()] == [layer.digest.hex]
