"""`imgtools serve` with skopeo as the client, and skopeo reading what was pushed."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serve_process import Served, make_dir_image, serve, skopeo


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Served]:
    with serve(folder, "--writable") as served:
        yield served


def test_skopeo_round_trip(server: Served, tmp_path: Path) -> None:
    make_dir_image(tmp_path / "in")
    there = f"docker://{server.host}/skopeo/app"
    for source, destination in [
        (f"dir:{tmp_path}/in", f"{there}:v1"),
        (f"{there}:v1", f"{there}2:w1"),
        (f"{there}2:w1", f"oci:{tmp_path}/layout:z"),
        (f"oci:{tmp_path}/layout:z", f"{there}:v2"),
        (f"{there}:v2", f"dir:{tmp_path}/out"),
    ]:
        flags = ["--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"]
        skopeo("copy", *flags, source, destination)
    before, after = (tmp_path / name / "manifest.json" for name in ("in", "out"))
    assert before.read_bytes() == after.read_bytes()
    listed = json.loads(skopeo("list-tags", "--tls-verify=false", there))
    assert listed["Tags"] == ["v1", "v2"]
    shown = json.loads(skopeo("inspect", "--tls-verify=false", f"{there}:v1"))
    digest = "sha256:" + hashlib.sha256((tmp_path / "in/manifest.json").read_bytes()).hexdigest()
    assert shown["Digest"] == digest
    skopeo("delete", "--tls-verify=false", f"{there}:v1")
    assert json.loads(skopeo("list-tags", "--tls-verify=false", there))["Tags"] == []
    assert "manifest unknown" in skopeo("inspect", "--tls-verify=false", f"{there}:v1", code=1)


def test_skopeo_reads_the_folder_and_we_read_skopeo(tmp_path: Path) -> None:
    make_dir_image(tmp_path / "in")
    folder = tmp_path / "folder"
    (folder / "library").mkdir(parents=True)
    skopeo("copy", f"dir:{tmp_path}/in", f"oci:{folder}/library/busybox:one")
    with serve(folder, "--writable") as server:
        there = f"docker://{server.host}/library/busybox"
        skopeo("copy", "--src-tls-verify=false", f"{there}:one", f"dir:{tmp_path}/out")
        skopeo("copy", "--dest-tls-verify=false", f"dir:{tmp_path}/out", f"{there}:two")
    skopeo("inspect", f"oci:{folder}/library/busybox:two")
    skopeo("inspect", f"oci:{folder}/library/busybox:one")


def test_kill_in_mid_push_leaves_a_valid_layout(tmp_path: Path) -> None:
    make_dir_image(tmp_path / "in")
    folder = tmp_path / "folder"
    folder.mkdir()
    with serve(folder, "--writable") as server:
        there = f"docker://{server.host}/app:v1"
        skopeo("copy", "--dest-tls-verify=false", f"dir:{tmp_path}/in", there)
        location = server.request("POST", "/v2/app/blobs/uploads/")[1]["Location"]
        with server.connect() as sock:
            head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n"
            sock.sendall(head.encode() + bytes(1_000_000))
            while not any(p.stat().st_size for p in folder.rglob(".imgtools-upload-*")):
                time.sleep(0.01)
            server.process.kill()
            server.process.wait()
    assert list((folder / "app").glob(".imgtools-upload-*"))
    skopeo("inspect", f"oci:{folder}/app:v1")
    for blob in (folder / "app/blobs/sha256").iterdir():
        assert hashlib.sha256(blob.read_bytes()).hexdigest() == blob.name
    with serve(folder, "--writable") as server:
        server.push_blob("app", b"next")
        assert not list(folder.rglob(".imgtools-upload-*"))
