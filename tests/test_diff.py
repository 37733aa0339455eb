"""Two images compared: config, layers, files; shared layers unread; partial against complete."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgtools.errors import DigestMismatch, InvalidArchive
from imgtools.inspect.compare import config_changes
from imgtools.inspect.diff import Difference, DiffOptions, diff
from imgtools.inspect.diff_text import diff_lines, diff_object
from imgtools.inspect.text import json_text
from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.spec.platform import Platform
from imgtools.task import Task
from tests.inspect_doubles import Files, MemorySource, gzipped, plain, sha256, tar_of, zstd_chunked

AMD64 = Platform(os="linux", architecture="amd64")


def image_of(layers: list[Files], pack: Any = gzipped, **config: Any) -> MemorySource:
    source = MemorySource()
    ids = [sha256(tar_of(files)) for files in layers]
    rootfs = {"type": "layers", "diff_ids": ids}
    source.image([pack(source, files) for files in layers], rootfs=rootfs, **config)
    return source


def compared(a: MemorySource, b: MemorySource, **options: Any) -> Difference:
    return diff(a, b, (AMD64, AMD64), task=Task(), options=DiffOptions(**options))


def changes(difference: Difference) -> dict[str, str]:
    assert difference.files is not None
    marks = {"added": "+", "removed": "-", "changed": "~", "written in A": "<", "written in B": ">"}
    return {
        change.path: f"{marks[change.change]} {' '.join(change.what)}".strip()
        for change in difference.files
    }


BASE: Files = {"d/a": b"1", "d/b": b"2", "e": b"3", "l": "-> e"}


@pytest.mark.parametrize(
    ("a", "b", "partial", "complete"),
    [
        pytest.param([], [], {}, {}, id="equal"),
        pytest.param([], [{"x": b""}], {"x": ">"}, {"x": "+"}, id="added"),
        pytest.param([], [{"e": b"3"}], {"e": ">"}, {}, id="written as it was"),
        pytest.param([], [{"e": b"4"}], {"e": ">"}, {"e": "~ content"}, id="written anew"),
        pytest.param([{"x": b""}], [], {"x": "<"}, {"x": "-"}, id="only in A"),
        pytest.param([], [{".wh.e": b""}], {"e": "-"}, {"e": "-"}, id="whiteout"),
        pytest.param([{".wh.e": b""}], [], {"e": "+"}, {"e": "+"}, id="whiteout in A"),
        pytest.param([{".wh.e": b""}], [{".wh.e": b""}, {"x": b""}], {"x": ">"}, {"x": "+"},
                     id="whiteout in both"),
        pytest.param([{"x": b"1"}], [{"x": b"2"}], {"x": "~ content"}, {"x": "~ content"},
                     id="content"),
        pytest.param([{"x": b"1"}], [{"x": b"22"}], {"x": "~ size content"},
                     {"x": "~ size content"}, id="size"),
        pytest.param([{"x": b"1"}], [{"x": "-> e"}], {"x": "~ type"}, {"x": "~ type"}, id="type"),
        pytest.param([{"x": "-> e"}], [{"x": "-> l"}], {"x": "~ target"}, {"x": "~ target"},
                     id="target"),
        pytest.param([{"x": b"1"}], [{".wh.x": b""}], {"x": "-"}, {"x": "-"}, id="never there"),
        pytest.param([{"x/y": b"1"}], [{"x": b"1"}], {"x": "~ type", "x/y": "-"},
                     {"x": "~ type", "x/y": "-"}, id="directory to file"),
        pytest.param([], [{".wh.d": b"", "d/n": b""}], {"d": ">", "d/n": ">"},
                     {"d/a": "-", "d/b": "-", "d/n": "+"}, id="directory anew"),
        pytest.param([{"d": None}], [{"d/.wh..wh..opq": b"", "d": None}], {"d": "~ opaque"},
                     {"d/a": "-", "d/b": "-"}, id="opaque"),
    ],
)  # fmt: skip
def test_files(
    a: list[Files], b: list[Files], partial: dict[str, str], complete: dict[str, str]
) -> None:
    one, two = image_of([BASE, *a]), image_of([BASE, *b])
    found = changes(compared(one, two))
    assert found == partial
    found = changes(compared(one, two, read_shared=True))
    for path in [path for path in found if found[path].split()[0] == "~" and path == "d"]:
        # An entry of its own gives a directory the mode of the entry.
        del found[path]
    assert found == complete


def test_shared_layers_are_not_read_and_common_ones_once() -> None:
    own_a, own_b, both = {"a": b"1"}, {"b": b"1"}, {"c": b"1"}
    one, two = image_of([BASE, own_a, both]), image_of([BASE, own_b, both])
    found = compared(one, two)
    layers = found.a.layers
    assert (found.layers.shared, len(found.layers.both)) == (1, 1)
    assert one.read_of(str(layers[0].digest)) == 0
    assert one.read_of(str(layers[2].digest)) == layers[2].descriptor.size
    assert two.read_of(str(layers[0].digest)) == two.read_of(str(layers[2].digest)) == 0
    assert changes(found) == {"a": "<", "b": ">"}
    assert not found.complete


def test_layers_of_another_compression_are_shared_by_diff_id() -> None:
    one, two = image_of([BASE]), image_of([BASE], pack=plain)
    found = compared(one, two)
    assert found.layers.shared == 1
    assert found.complete
    assert found.files == ()
    assert not found.any


def test_tables_of_contents_are_compared_by_their_digests() -> None:
    source, other = MemorySource(), MemorySource()
    content = bytes(1_000_000)
    layer = zstd_chunked(source, {"a": b"1", "same": content, "empty": b""})
    source.image([layer])
    other.image([gzipped(other, {"a": b"2", "same": content, "empty": b""})])
    found = compared(source, other)
    assert changes(found) == {"a": "~ content"}
    assert source.read_of(layer["digest"], "open") == 0


def test_a_spoiled_layer_is_an_error() -> None:
    one, two = image_of([{"a": b"1"}]), image_of([{"a": b"2"}])
    (layer,) = compared(one, two).b.layers
    two.blobs[layer.digest] = bytes(layer.descriptor.size)
    with pytest.raises((DigestMismatch, InvalidArchive)):
        compared(one, two)
    assert compared(one, two, files=False).files is None


def test_configs_key_by_key() -> None:
    a = {"config": {"Env": ["A=1"], "Labels": {"x": "1", "y": "1"}}, "n": 1, "rootfs": {"a": 1}}
    b = {"config": {"Env": ["A=2"], "Labels": {"x": "1", "z": "1"}}, "n": True, "history": []}
    assert [change.path for change in config_changes(a, b)] == [
        ("config", "Env"),
        ("config", "Labels", "y"),
        ("config", "Labels", "z"),
        ("n",),
    ]
    assert config_changes(a, a) == ()


def test_the_text_and_the_object() -> None:
    labels_a, labels_b = {"Labels": {"v": "1\x1b[2J"}}, {"Labels": {"v": "2", "w": "3"}}
    one = image_of([BASE, {"a\x1b": b"1", "n": "-> \x1b"}], config=labels_a)
    two = image_of([BASE, {"a\x1b": b"2"}, {".wh.d": b""}], config=labels_b)
    found = compared(one, two)
    text = list(diff_lines(found, ("one\x1b", "two")))
    assert text[0].startswith("A: one\\x1b sha256:")
    assert '  ~ config.Labels.v: "1\\u001b[2J" -> "2"' in text
    assert '  + config.Labels.w: "3"' in text
    assert "Layers: 1 shared, 1 only in A, 2 only in B" in text
    assert "  ~ a\\x1b  content" in text
    assert "  - d" in text
    assert "  < n -> \\x1b" in text
    assert all(line.isprintable() for line in text)
    value = diff_object(found, ("one", "two"))
    assert value["FilesComplete"] is False
    assert {item["Path"]: item["Change"] for item in value["Files"]} == {
        "a\x1b": "changed",
        "d": "removed",
        "n": "written in A",
    }
    assert len(value["Layers"]["Shared"]) == 1
    json_text(value)
    same = compared(one, one)
    assert list(diff_lines(same, ("a", "b")))[-1] == "The images are the same."


def test_artifacts_are_compared_without_files() -> None:
    sources = []
    for text in (b"1", b"2"):
        source = MemorySource()
        source.put(
            {
                "schemaVersion": 2,
                "mediaType": mt.OCI_MANIFEST,
                "config": source.blob(b"{}", mt.OCI_EMPTY),
                "layers": [source.blob(text, "text/plain")],
                "annotations": {"a": text.decode()},
            }
        )
        sources.append(source)
    found = compared(*sources)
    assert found.files is None
    assert [change.path for change in found.config] == [("annotations", "a")]
    assert found.any


NAMES = st.sampled_from(["a", "b", "d/a", "d/b", ".wh.a", ".wh.d", "d/.wh.a", "d/.wh..wh..opq"])
CONTENT = st.sampled_from([b"1", b"2"])
STACK = st.lists(st.dictionaries(NAMES, CONTENT, max_size=4), min_size=1, max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(["a", "b", "d/a"]), CONTENT), STACK, STACK)
def test_what_is_told_without_shared_layers_is_never_wrong(
    base: Files, own_a: list[Files], own_b: list[Files]
) -> None:
    one, two = image_of([base, *own_a]), image_of([base, *own_b])
    partial = compared(one, two)
    whole = changes(compared(one, two, read_shared=True))
    said = changes(partial)
    for path, mark in said.items():
        if mark[0] in "+-" and path in whole:
            assert whole[path][0] == mark[0]
        elif mark.startswith("~") and "opaque" not in mark:
            assert whole.get(path) == mark
    # And nothing that differs goes unmentioned: itself, as part of a directory that one image
    # drops or makes anew, or as a directory that what is mentioned implies.
    for path in whole:
        assert any(
            path == other or path.startswith(f"{other}/") or other.startswith(f"{path}/")
            for other in said
        ), (path, said)


def test_digest_of_a_test_layer_is_what_it_says() -> None:
    source = MemorySource()
    layer = gzipped(source, BASE)
    digest = Digest.parse(layer["digest"])
    assert Digest.of(source.blobs[digest]) == digest
