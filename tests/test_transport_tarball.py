"""Images made of layer archives: what skopeo makes of them, compression, standard input."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from imgtools.errors import (
    BlobNotFound,
    DigestMismatch,
    Error,
    ImageNotFound,
    InvalidArchive,
    InvalidReference,
    NotFound,
    StorageError,
    Unsupported,
)
from imgtools.spec import manifest as mf
from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.testing import images
from imgtools.transport.options import DestinationOptions
from imgtools.transport.table import Transports
from imgtools.transport.tarball import TarballSource
from tests.local_images import top_of

Skopeo = Callable[..., subprocess.CompletedProcess[str]]
LAYER = images.random_layer("tarball", 5000)


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    """A layer archive of a known age."""
    path = tmp_path / "a.tar"
    path.write_bytes(LAYER)
    os.utime(path, ns=(0, 1_577_836_800_123_456_000))
    return path


def test_image_is_the_one_that_skopeo_makes(layer: Path, skopeo: Skopeo, tmp_path: Path) -> None:
    packed = tmp_path / "b.tar.gz"
    packed.write_bytes(gzip.compress(images.random_layer("second"), mtime=0))
    os.utime(packed, ns=(0, 1_609_459_200_000_000_000))
    for rest in (f"{layer}", f"{layer}:{packed}", f"{packed}:{layer}:{layer}"):
        shown = skopeo("inspect", "--raw", f"tarball:{rest}").stdout
        assert top_of(f"tarball:{rest}").decode() == shown
        with TarballSource.open(rest) as source:
            assert source.origin.synthesised
            view = mf.parse(source.top())
            assert isinstance(view, mf.Manifest)
            with source.open_blob(view.config) as reader:
                config = reader.read()
            assert (
                config.decode() == skopeo("inspect", "--config", "--raw", f"tarball:{rest}").stdout
            )
            contents = []
            for descriptor in view.layers:
                with source.open_blob(descriptor) as reader:
                    contents.append(reader.read())
                assert source.read_range(descriptor, 5, 7) == contents[-1][5:12]
            assert contents == [Path(path).read_bytes() for path in rest.split(":")]
            assert source.read_range(view.config, 1, 9) == config[1:10]


@pytest.mark.parametrize(
    ("compress", "media_type", "kept"),
    [
        (bytes, mt.OCI_LAYER, True),
        (gzip.compress, mt.OCI_LAYER_GZIP, True),
        (zstandard.ZstdCompressor().compress, mt.OCI_LAYER_ZSTD, True),
        (bz2.compress, mt.OCI_LAYER, False),
        (lzma.compress, mt.OCI_LAYER, False),
    ],
    ids=["none", "gzip", "zstd", "bzip2", "xz"],
)
def test_compressions(
    compress: Callable[[bytes], bytes], media_type: str, kept: bool, tmp_path: Path
) -> None:
    """What no layer may be compressed with is decompressed."""
    path = tmp_path / "layer"
    path.write_bytes(compress(LAYER))
    with TarballSource.open(str(path), tmpdir=str(tmp_path)) as source:
        view = mf.parse(source.top())
        assert isinstance(view, mf.Manifest)
        (descriptor,) = view.layers
        assert descriptor.media_type == media_type
        with source.open_blob(descriptor) as reader:
            assert reader.read() == (path.read_bytes() if kept else LAYER)
        with source.open_blob(view.config) as reader:
            config = json.loads(reader.read())
    assert config["rootfs"]["diff_ids"] == [str(Digest.of(LAYER))]
    assert [p.name for p in tmp_path.iterdir()] == ["layer"]


@pytest.mark.parametrize("content", [LAYER, gzip.compress(LAYER, mtime=0)])
def test_standard_input(content: bytes, layer: Path) -> None:
    script = (
        "import sys; from tests.local_images import top_of;"
        f"sys.stdout.buffer.write(top_of('tarball:{layer}:-'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=content,
        cwd=Path(__file__).parents[1],
        capture_output=True,
        check=True,
    )
    layers = json.loads(done.stdout)["layers"]
    assert layers[0]["digest"] == str(Digest.of(LAYER))
    assert layers[1]["digest"] == str(Digest.of(content))


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"hello world", InvalidArchive),
        (b"hello " * 1000, InvalidArchive),
        (gzip.compress(b"hello " * 1000), InvalidArchive),
        (gzip.compress(LAYER)[:-9], InvalidArchive),
        (b"", None),
        (bytes(10240), None),
    ],
)
def test_what_is_no_tar(content: bytes, error: type[Error] | None, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(content)
    if error is None:
        assert b'"layers":[{' in top_of(f"tarball:{tmp_path}/file")
    else:
        with pytest.raises(error, match="file"):
            TarballSource.open(f"{tmp_path}/file")


def test_names(layer: Path, tmp_path: Path) -> None:
    for rest in ("", f"{layer}:", f":{layer}", "-:-"):
        with pytest.raises(InvalidReference):
            TarballSource.open(rest)
    with pytest.raises(ImageNotFound):
        TarballSource.open(f"{layer}:{tmp_path}/absent")
    with pytest.raises(StorageError):
        TarballSource.open(str(tmp_path))
    with Transports() as transports, pytest.raises(Unsupported):
        transports.open_destination(f"tarball:{layer}", DestinationOptions())


def test_changed_file_is_noticed(layer: Path) -> None:
    with TarballSource.open(str(layer)) as source:
        view = mf.parse(source.top())
        assert isinstance(view, mf.Manifest)
        layer.write_bytes(bytes(len(LAYER)))
        with pytest.raises(DigestMismatch), source.open_blob(view.layers[0]) as reader:
            reader.read()
        absent = images.random_image().top.descriptor()
        with pytest.raises(BlobNotFound):
            source.open_blob(absent)
        with pytest.raises(NotFound):
            source.manifest(absent)
        assert source.manifest(source.resolve()) == source.top()
        assert list(source.referrers(absent.digest)) == []
