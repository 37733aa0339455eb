"""Damaged input of every local transport ends in an error of the tree, or in the right bytes."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imgtools.errors import Error
from imgtools.spec import manifest as mf
from imgtools.testing import images
from imgtools.transport.options import SourceOptions
from imgtools.transport.table import Transports
from tests.local_images import write

SAMPLE = images.random_image("fuzz", docker=True, compression="none", layers=1, size=300)
FILES = {
    "oci-archive": "a.tar",
    "docker-archive": "a.tar",
    "oci": "a/index.json",
    "dir": "a/manifest.json",
}


def original(transport: str) -> bytes:
    """The file of an intact image that gets damaged."""
    with tempfile.TemporaryDirectory() as where:
        write(f"{transport}:{where}/{FILES[transport].split('/')[0]}", SAMPLE)
        return (Path(where) / FILES[transport]).read_bytes()


def read_all(name: str, tmpdir: str) -> None:
    """Read everything under a name; only errors of the tree may come out."""
    try:
        with (
            Transports() as transports,
            transports.open_source(name, SourceOptions(tmpdir=tmpdir)) as source,
        ):
            raw = source.top()
            list(source.referrers(raw.digest))
            view = mf.parse(raw)
            if isinstance(view, mf.Manifest):
                for descriptor in view.blobs():
                    with source.open_blob(descriptor) as reader:
                        reader.read()
                    source.read_range(descriptor, 0, 10)
    except Error:
        return


def damaged(transport: str, content: bytes) -> None:
    """Read an image of which one file has another content."""
    with tempfile.TemporaryDirectory() as where:
        name = f"{transport}:{where}/{FILES[transport].split('/')[0]}"
        if "/" in FILES[transport]:
            write(name, SAMPLE)
        (Path(where) / FILES[transport]).write_bytes(content)
        read_all(name, where)


ORIGINALS = {transport: original(transport) for transport in FILES}
CHANGES = st.lists(
    st.tuples(st.integers(min_value=0, max_value=1 << 20), st.integers(0, 255)), max_size=4
)


@pytest.mark.parametrize("transport", sorted(FILES))
@given(CHANGES, st.integers(0, 1 << 20), st.booleans())
@settings(max_examples=80, deadline=None)
def test_flipped_and_cut_bytes(
    transport: str, changes: list[tuple[int, int]], cut: int, packed: bool
) -> None:
    content = bytearray(ORIGINALS[transport])
    for at, value in changes:
        content[at % len(content)] = value
    if cut % 3 == 0:
        del content[cut % len(content) :]
    data = bytes(content)
    damaged(transport, gzip.compress(data) if packed and transport.endswith("archive") else data)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


def replace_one(value: Any, path: list[int], new: Any) -> Any:
    """`value` with what is at the end of `path` replaced by `new`."""
    if not path or not isinstance(value, dict | list) or not value:
        return new
    if isinstance(value, list):
        at = path[0] % len(value)
        return [*value[:at], replace_one(value[at], path[1:], new), *value[at + 1 :]]
    key = sorted(value)[path[0] % len(value)]
    return {**value, key: replace_one(value[key], path[1:], new)}


@pytest.mark.parametrize("transport", ["oci", "dir"])
@given(st.lists(st.integers(0, 9), max_size=6), VALUES)
@settings(max_examples=100, deadline=None)
def test_documents_of_other_shapes(transport: str, path: list[int], new: Any) -> None:
    document = replace_one(json.loads(ORIGINALS[transport]), path, new)
    damaged(transport, json.dumps(document).encode("utf-8", "surrogatepass"))


@given(st.lists(st.integers(0, 9), max_size=6), VALUES)
@settings(max_examples=100, deadline=None)
def test_docker_manifests_of_other_shapes(path: list[int], new: Any) -> None:
    content = ORIGINALS["docker-archive"]
    start = content.index(b'[{"Config"')
    old = content[start : content.index(b"\0", start)]
    text = json.dumps(replace_one(json.loads(old), path, new)).encode("utf-8", "surrogatepass")
    if len(text) <= len(old):
        damaged("docker-archive", content.replace(old, text.ljust(len(old))))
