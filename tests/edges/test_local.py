"""Cases 71 to 78 and 80: local formats, full disks, signatures, and what is reported."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.testing import images
from imgtools.testing.registry import ScriptedRegistry
from tests.bad_input import Layout, cli, everything, push, tar_of
from tests.local_images import same, tree, write
from tests.rig import RunCli

IMAGE = images.random_image("local edges", docker=True, compression="none")
OTHER = images.random_image("other edges", docker=True, compression="none")
PUSH = "--dest-tls-verify=false"


def archive_of(path: Path, sample: images.Sample = IMAGE, name: str = "app:1") -> bytes:
    """A docker-archive as we write it."""
    write(f"docker-archive:{path}:{name}", sample)
    return path.read_bytes()


def members_of(archive: bytes) -> list[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        found = [(m, opened.extractfile(m)) for m in opened if m.isfile()]
        return [(m.name, file.read()) for m, file in found if file is not None]


@pytest.mark.parametrize(
    "pack",
    [gzip.compress, bz2.compress, lzma.compress, zstandard.ZstdCompressor().compress],
    ids=["gzip", "bzip2", "xz", "zstd"],
)
def test_71_archives_may_be_compressed_as_a_whole(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    packed = pack(archive_of(tmp_path / "a.tar"))
    (tmp_path / "packed").write_bytes(packed)
    done = cli(tmp_path, "copy", "-q", f"docker-archive:{tmp_path}/packed", f"dir:{tmp_path}/d")
    assert done.code == 0, done.err
    same(f"docker-archive:{tmp_path}/packed", IMAGE)


def test_71_links_dots_and_repeated_names_mean_what_tar_means(tmp_path: Path) -> None:
    found = dict(members_of(archive_of(tmp_path / "a.tar")))
    manifest = json.loads(found["manifest.json"])
    layer = manifest[0]["Layers"][0]
    content = found[layer]
    variants: dict[str, list[tuple[str, bytes | tuple[bytes, str]]]] = {
        "symlink": [
            ("x/real.tar", content),
            *((n, c) for n, c in found.items() if n != layer),
            (layer, (tarfile.SYMTYPE, "x/real.tar")),
        ],
        "hardlink": [
            ("real.tar", content),
            *((n, c) for n, c in found.items() if n != layer),
            (layer, (tarfile.LNKTYPE, "real.tar")),
        ],
        "dots": [(f"./{n}", c) for n, c in found.items()],
        "twice": [(layer, b"the first one does not count"), *found.items()],
    }
    for name, members in variants.items():
        (tmp_path / f"{name}.tar").write_bytes(tar_of(*members))
        same(f"docker-archive:{tmp_path}/{name}.tar", IMAGE)


@pytest.mark.parametrize(
    "target", ["/etc/hostname", "../../../../../../etc/hostname", "x/../../../etc/hostname"]
)
def test_71_links_out_of_an_archive_lead_nowhere(tmp_path: Path, target: str) -> None:
    found = dict(members_of(archive_of(tmp_path / "a.tar")))
    layer = json.loads(found["manifest.json"])[0]["Layers"][0]
    members: list[Any] = [(n, c) for n, c in found.items() if n != layer]
    members.append((layer, (tarfile.SYMTYPE, target)))
    (tmp_path / "evil.tar").write_bytes(tar_of(*members))
    name = f"docker-archive:{tmp_path}/evil.tar"
    cli(tmp_path, "copy", "-q", name, f"dir:{tmp_path}/d").refused(layer)
    assert not (tmp_path / "d").exists()


def test_71_long_names_sparse_members_and_pax_records(tmp_path: Path) -> None:
    found = dict(members_of(archive_of(tmp_path / "a.tar")))
    manifest = json.loads(found["manifest.json"])
    layer = manifest[0]["Layers"][0]
    longer = "deep/" * 40 + "layer.tar"
    manifest[0]["Layers"][0] = longer
    found[longer] = found.pop(layer)
    found["manifest.json"] = json.dumps(manifest).encode()
    for name, form in (("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)):
        with tarfile.open(tmp_path / f"{name}.tar", "w", format=form) as archive:
            for member, content in found.items():
                info = tarfile.TarInfo(member)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
        same(f"docker-archive:{tmp_path}/{name}.tar", IMAGE)


def test_71_old_archives_without_manifest_say_what_they_are(tmp_path: Path) -> None:
    (tmp_path / "old.tar").write_bytes(tar_of(("repositories", b'{"app":{"1":"aa"}}')))
    name = f"docker-archive:{tmp_path}/old.tar"
    cli(tmp_path, "inspect", name).refused("manifest.json", "Docker 1.10")


def test_71_archives_of_docker_25_are_layout_and_archive(tmp_path: Path) -> None:
    write(f"oci:{tmp_path}/layout:app", images.random_image("25"))
    manifest = json.loads(images.random_image("25").top.content)
    paths = [manifest["config"]["digest"], *(layer["digest"] for layer in manifest["layers"])]
    files = [f"blobs/{digest.replace(':', '/')}" for digest in paths]
    entry = {"Config": files[0], "RepoTags": ["app:1"], "Layers": files[1:]}
    members = [*tree(tmp_path / "layout").items(), ("manifest.json", json.dumps([entry]).encode())]
    (tmp_path / "both.tar").write_bytes(tar_of(*members))
    same(f"oci-archive:{tmp_path}/both.tar", images.random_image("25"))
    shown = cli(tmp_path, "inspect", f"docker-archive:{tmp_path}/both.tar")
    assert shown.code == 0, shown.err


def test_71_layer_that_is_not_its_diff_id_is_refused(tmp_path: Path) -> None:
    found = dict(members_of(archive_of(tmp_path / "a.tar")))
    layer = json.loads(found["manifest.json"])[0]["Layers"][0]
    found[layer] = bytes(reversed(found[layer]))
    (tmp_path / "wrong.tar").write_bytes(tar_of(*found.items()))
    name = f"docker-archive:{tmp_path}/wrong.tar"
    cli(tmp_path, "copy", "-q", name, f"dir:{tmp_path}/d").refused("sha256")
    assert not (tmp_path / "d").exists()


def test_72_index_without_media_type_and_names_with_colons_and_slashes(tmp_path: Path) -> None:
    layout = Layout.of(tmp_path / "l", images.random_layer("72"))
    index = json.loads((layout.path / "index.json").read_text())
    del index["schemaVersion"]
    (entry,) = index["manifests"]
    names = ["quay.io/a/b:1", "v1", "a/b"]
    index["manifests"] = [
        {**entry, "annotations": {"org.opencontainers.image.ref.name": name}} for name in names
    ]
    (layout.path / "index.json").write_text(json.dumps({"schemaVersion": 2, **index}))
    for name in names:
        assert cli(tmp_path, "inspect", "--raw", f"{layout.name}:{name}").code == 0
    # Three names of one image are one image.
    assert cli(tmp_path, "inspect", "--raw", layout.name).code == 0
    cli(tmp_path, "inspect", f"{layout.name}:v2").refused("v2", code=2)


@pytest.mark.parametrize("name", ["oci-layout", "index.json"])
def test_72_missing_files_of_a_layout_are_named(tmp_path: Path, name: str) -> None:
    layout = Layout.of(tmp_path / "l", images.random_layer("72"))
    (layout.path / name).unlink()
    done = cli(tmp_path, "inspect", layout.name)
    done.refused(name, code=done.code)
    assert done.code != 0


WRITER = """
import sys
from imgtools.testing import images
from tests.local_images import write
for number in range(4):
    write(f"oci:{sys.argv[1]}:{sys.argv[2]}-{number}", images.random_image(number))
"""


def test_72_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path / "l", name], cwd=Path(__file__).parents[2]
        )
        for name in ("a", "b", "c")
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    for name in ("a", "b", "c"):
        for number in range(4):
            same(f"oci:{tmp_path}/l:{name}-{number}", images.random_image(number))


def test_72_blobs_of_a_layout_are_verified_when_read(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "l")
    layer = layout.blob(gzip.compress(images.random_layer("72")), mt.OCI_LAYER_GZIP)
    layout.image(layer)
    layout.file(layer).write_bytes(b"\0" * layer["size"])
    cli(tmp_path, "copy", "-q", layout.name, f"dir:{tmp_path}/d").refused(layer["digest"])
    assert not (tmp_path / "d").exists()


def test_73_directory_that_is_none_of_ours_is_not_touched(tmp_path: Path) -> None:
    write(f"dir:{tmp_path}/image", IMAGE)
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    before = everything(precious)
    source = f"dir:{tmp_path}/image"
    cli(tmp_path, "copy", "-q", source, f"dir:{precious}").refused(str(precious))
    assert everything(precious) == before
    # One with the version file of the format is replaced, and nothing of it stays.
    write(f"dir:{tmp_path}/old", OTHER)
    assert cli(tmp_path, "copy", "-q", source, f"dir:{tmp_path}/old").code == 0
    assert everything(tmp_path / "old") == everything(tmp_path / "image")
    assert (tmp_path / "old" / "version").read_text() == "Directory Transport Version: 1.1\n"


@pytest.mark.parametrize(
    "digest", ["sha256:../../../precious", "../precious", "sha256:" + "0" * 63, "x:y"]
)
def test_73_names_of_files_come_from_checked_digests(tmp_path: Path, digest: str) -> None:
    write(f"dir:{tmp_path}/d", IMAGE)
    (tmp_path / "precious").write_text("secret")
    path = tmp_path / "d" / "manifest.json"
    manifest = json.loads(path.read_bytes())
    manifest["config"]["digest"] = digest
    path.write_text(json.dumps(manifest))
    cli(tmp_path, "inspect", f"dir:{tmp_path}/d").refused("digest")
    cli(tmp_path, "copy", "-q", f"dir:{tmp_path}/d", f"oci:{tmp_path}/l").refused("digest")


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_74_archives_through_pipes(tmp_path: Path, run_cli: RunCli, kind: str) -> None:
    sample = IMAGE if kind == "docker-archive" else images.random_image("74")
    write(f"{kind}:{tmp_path}/a.tar:app:1", sample)
    content = (tmp_path / "a.tar").read_bytes()
    direct = run_cli("inspect", "--raw", f"{kind}:{tmp_path}/a.tar", check=True)
    reading = run_cli.start("inspect", "--raw", f"{kind}:/dev/stdin")
    out, err = reading.communicate(content)
    assert (reading.returncode, out.decode()) == (0, direct.stdout), err
    writing = run_cli.start("copy", "-q", f"{kind}:{tmp_path}/a.tar", f"{kind}:/dev/stdout")
    out, err = writing.communicate()
    assert writing.returncode == 0, err
    (tmp_path / "b.tar").write_bytes(out)
    again = run_cli("inspect", "--raw", f"{kind}:{tmp_path}/b.tar", check=True)
    assert again.stdout == direct.stdout


def test_75_full_disk_is_named_with_what_helps(tmp_path: Path, monkeypatch: Any) -> None:
    import errno

    write(f"dir:{tmp_path}/d", IMAGE)

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        done = cli(tmp_path, "copy", "-q", f"dir:{tmp_path}/d", f"oci:{tmp_path}/new")
    done.refused(str(tmp_path), "no space left", "TMPDIR", lines=len(done.err.splitlines()))
    assert not (tmp_path / "new" / "index.json").exists()


def test_76_signed_image_is_not_changed_or_stripped_silently(tmp_path: Path) -> None:
    write(f"dir:{tmp_path}/d", IMAGE)
    (tmp_path / "d" / "signature-1").write_bytes(b"\x90signed")
    source = f"dir:{tmp_path}/d"
    cli(tmp_path, "copy", "-q", source, f"oci:{tmp_path}/l").refused("--remove-signatures")
    assert not (tmp_path / "l").exists()
    done = cli(tmp_path, "copy", "-q", "--remove-signatures", source, f"oci:{tmp_path}/l")
    assert done.code == 0, done.err


def test_76_what_is_no_signature_is_not_dropped_silently(tmp_path: Path) -> None:
    write(f"dir:{tmp_path}/d", IMAGE)
    (tmp_path / "d" / "signature-1").write_bytes(b"signed")
    source = f"dir:{tmp_path}/d"
    cli(tmp_path, "copy", "-q", source, f"oci:{tmp_path}/l").refused("no signature of a known")
    assert not (tmp_path / "l").exists()
    done = cli(tmp_path, "copy", "-q", "--remove-signatures", source, f"oci:{tmp_path}/l")
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    "flags",
    [
        ("--format", "oci"),
        ("--dest-compress-format", "zstd", "--dest-force-compress-format"),
        ("--dest-compress-format", "gzip"),
    ],
)
def test_77_preserved_digests_stop_every_change(tmp_path: Path, flags: tuple[str, ...]) -> None:
    with ScriptedRegistry() as registry:
        write(f"dir:{tmp_path}/d", IMAGE)
        target = f"docker://{registry.host}/copy:1"
        arguments = ("copy", "-q", PUSH, "--preserve-digests", *flags)
        cli(tmp_path, *arguments, f"dir:{tmp_path}/d", target).refused("digest")
        assert registry.count("PUT") == 0


def test_77_known_blob_in_another_compression_is_not_substituted(tmp_path: Path) -> None:
    packed = images.random_image("same content", compression="gzip")
    plain = images.random_image("same content", compression="none")
    with ScriptedRegistry() as registry:
        push(registry, "copy", packed, "packed")
        write(f"dir:{tmp_path}/d", plain)
        target = f"docker://{registry.host}/copy:plain"
        assert cli(tmp_path, "copy", "-q", PUSH, f"dir:{tmp_path}/d", target).code == 0
        assert registry.repository("copy").tags["plain"] == plain.top.digest


@pytest.mark.parametrize("flags", [(), ("--format", "oci"), ("--all", "--format", "oci")])
def test_78_digest_that_is_reported_is_the_one_stored(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    sample = images.random_index("78", docker=True) if "--all" in flags else IMAGE
    write(f"dir:{tmp_path}/d", sample)
    with ScriptedRegistry() as registry:
        target = f"docker://{registry.host}/copy:1"
        done = cli(
            tmp_path, "copy", PUSH, "--json", *flags, "--digestfile", tmp_path / "digest",
            f"dir:{tmp_path}/d", target,
        )  # fmt: skip
        assert done.code == 0, done.err
        stored = registry.repository("copy").tags["1"]
        assert (tmp_path / "digest").read_text() == str(stored)
        result = json.loads(done.out.splitlines()[-1])
        assert str(stored) in json.dumps(result)
        assert (str(stored) == str(sample.top.digest)) is (not flags)


def test_80_odd_headers_and_no_version_header(tmp_path: Path) -> None:
    sample = images.random_image("80")
    with ScriptedRegistry() as registry:
        name = push(registry, "app", sample)
        registry.fail(
            path="/v2/",
            set_headers={"Server": "registre \u00e9t\u00e9", "X-Odd": "a\tb"},
            drop_headers=["Docker-Distribution-Api-Version"],
        )
        done = cli(tmp_path, "copy", "-q", "--src-tls-verify=false", name, f"dir:{tmp_path}/d")
        assert done.code == 0, done.err
        same(f"dir:{tmp_path}/d", sample)


def test_80_paths_that_are_not_ascii(tmp_path: Path, run_cli: RunCli) -> None:
    for name in ("\u00e9t\u00e9", "\u6620\u50cf", "with space", os.fsdecode(b"\xff\xfe")):
        run_cli("copy", "-q", f"dir:{_source(tmp_path)}", f"dir:{tmp_path}/{name}", check=True)
        assert (tmp_path / name / "manifest.json").exists()
        assert Digest.of((tmp_path / name / "manifest.json").read_bytes()) == IMAGE.top.digest


def _source(tmp_path: Path) -> Path:
    if not (tmp_path / "source").exists():
        write(f"dir:{tmp_path}/source", IMAGE)
    return tmp_path / "source"
