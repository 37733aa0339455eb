"""A folder of layouts: names, hostile content, leftovers, concurrency, what other tools see."""

from __future__ import annotations

import fcntl
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from imgtools.errors import InvalidReference, NotFound
from imgtools.serve.app import RegistryApp
from imgtools.serve.layouts import LayoutsStore
from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from tests.serve_client import REPO, Client, image


@pytest.fixture
def client(tmp_path: Path) -> Any:
    store = LayoutsStore(str(tmp_path), writable=True)
    yield Client(RegistryApp(store))
    store.close()


def entries_of(directory: Path) -> list[dict[str, Any]]:
    document: dict[str, Any] = json.loads((directory / "index.json").read_bytes())
    entries: list[dict[str, Any]] = document["manifests"]
    return entries


def test_what_is_pushed_is_a_layout(client: Client, tmp_path: Path) -> None:
    value = image(client)
    repo = tmp_path / REPO
    assert not (repo / "index.json").exists()
    client.manifest("v1", value)
    assert json.loads((repo / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    (entry,) = entries_of(repo)
    assert entry["annotations"] == {"org.opencontainers.image.ref.name": "v1"}
    assert sorted(p.name for p in repo.iterdir()) == ["blobs", "index.json", "oci-layout"]
    for blob in (repo / "blobs/sha256").iterdir():
        assert Digest.of(blob.read_bytes()).hex == blob.name


def test_index_stays_tidy(client: Client, tmp_path: Path) -> None:
    """Retagging leaves no entry behind, and children are reached through their index."""
    value = image(client)
    child = client.manifest("@", value).headers["Docker-Content-Digest"]
    assert len(entries_of(tmp_path / REPO)) == 1
    size = len(json.dumps(value))
    entry = {"mediaType": mt.OCI_MANIFEST, "digest": child, "size": size}
    for note in ("1", "2"):
        index = {
            "schemaVersion": 2,
            "mediaType": mt.OCI_INDEX,
            "manifests": [entry],
            "annotations": {"n": note},
        }
        client.manifest("multi", index)
        (only,) = entries_of(tmp_path / REPO)
        assert only["mediaType"] == mt.OCI_INDEX
    assert client("GET", f"/v2/{REPO}/manifests/{child}").status == 200


def test_entries_of_others_are_kept(client: Client, tmp_path: Path) -> None:
    client.manifest("v1", image(client))
    path = tmp_path / REPO / "index.json"
    document = json.loads(path.read_bytes())
    document["annotations"] = {"own": "er"}
    document["x-unknown"] = [1]
    document["manifests"][0]["platform"] = {"os": "linux", "architecture": "amd64"}
    document["manifests"][0]["x-more"] = True
    path.write_text(json.dumps(document))
    client.manifest("v2", image(client, annotations={"a": "b"}))
    now = json.loads(path.read_bytes())
    assert (now["annotations"], now["x-unknown"]) == ({"own": "er"}, [1])
    assert now["manifests"][0] == document["manifests"][0]


def test_changes_by_others_are_seen(client: Client, tmp_path: Path) -> None:
    client.manifest("v1", image(client))
    path = tmp_path / REPO / "index.json"
    changed = path.read_text().replace('"v1"', '"w1"')
    other = tmp_path / "other"
    other.write_text(changed)
    other.rename(path)
    assert client("GET", f"/v2/{REPO}/tags/list").json()["tags"] == ["w1"]


def test_single_layout(tmp_path: Path) -> None:
    inner = tmp_path / "busybox"
    inner.mkdir()
    store = LayoutsStore(str(tmp_path), writable=True)
    with_parent = Client(RegistryApp(store))
    with_parent.manifest("v1", image(with_parent, "busybox"), "busybox")
    store.close()
    single = LayoutsStore(str(inner), writable=True)
    client = Client(RegistryApp(single))
    assert client("GET", "/v2/_catalog").json() == {"repositories": ["busybox"]}
    assert client("GET", "/v2/busybox/manifests/v1").status == 200
    assert client("GET", "/v2/other/manifests/v1").code == "NAME_UNKNOWN"
    assert client("POST", "/v2/other/blobs/uploads/").code == "NAME_INVALID"
    assert client.manifest("v2", image(client, "busybox"), "busybox").status == 201
    single.close()
    inner.rename(tmp_path / "Bad Name")
    with pytest.raises(InvalidReference, match="Bad Name") as caught:
        LayoutsStore(str(tmp_path / "Bad Name"))
    assert caught.value.hint
    with pytest.raises(NotFound):
        LayoutsStore(str(tmp_path / "nowhere"))


@pytest.mark.parametrize(
    "name", ["a/blobs", "a/blobs/sha256", "oci-layout", "a/index.json", "blobs"]
)
def test_names_inside_a_layout_cannot_be_repositories(client: Client, name: str) -> None:
    client.manifest("v1", image(client, "a"), "a")
    assert client("POST", f"/v2/{name}/blobs/uploads/").code == "NAME_INVALID"
    assert client("GET", f"/v2/{name}/tags/list").code == "NAME_UNKNOWN"


def test_links_are_not_followed(client: Client, tmp_path: Path) -> None:
    secret = tmp_path.parent / f"{tmp_path.name}-secret"
    secret.mkdir()
    (secret / "file").write_text("secret")
    client.manifest("v1", image(client))
    blobs = tmp_path / REPO / "blobs/sha256"
    os.symlink(secret / "file", blobs / ("a" * 64))
    os.mkfifo(blobs / ("b" * 64))
    (blobs / ("c" * 64)).mkdir()
    for letter in "abc":
        for method in ("GET", "HEAD"):
            path = f"/v2/{REPO}/blobs/sha256:{letter * 64}"
            assert client(method, path).status == 404
        assert client("GET", f"/v2/{REPO}/manifests/sha256:{letter * 64}").status == 404
    os.symlink(tmp_path / REPO, tmp_path / "linked")
    assert client("GET", "/v2/linked/tags/list").code == "NAME_UNKNOWN"
    assert client("GET", "/v2/_catalog").json() == {"repositories": [REPO]}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"manifests":[{"digest":"sha256:../../etc/passwd","size":1}]}',
        b'{"manifests":[{"digest":1}]}',
        b"[" * 100_000,
    ],
)
def test_broken_index(client: Client, tmp_path: Path, content: bytes) -> None:
    """The operator's data is at fault, not the client: 500, and no local path in the answer."""
    client.manifest("v1", image(client))
    (tmp_path / REPO / "index.json").write_bytes(content)
    for path in ("manifests/v1", "tags/list"):
        answer = client("GET", f"/v2/{REPO}/{path}")
        assert answer.status == 500
        assert str(tmp_path).encode() not in answer.body
        assert b"index.json" not in answer.body


def test_corrupt_manifest_is_not_served(client: Client, tmp_path: Path) -> None:
    put = client.manifest("v1", image(client))
    digest = Digest.parse(put.headers["Docker-Content-Digest"])
    path = tmp_path / REPO / "blobs/sha256" / digest.hex
    path.write_bytes(path.read_bytes() + b" ")
    assert client("GET", f"/v2/{REPO}/manifests/v1").status == 500


def test_an_index_that_contains_itself_ends(client: Client, tmp_path: Path) -> None:
    """Not possible by digest, but entries may repeat and lead nowhere."""
    client.manifest("v1", image(client))
    path = tmp_path / REPO / "index.json"
    document = json.loads(path.read_bytes())
    ghost = {"mediaType": mt.OCI_INDEX, "digest": "sha256:" + "d" * 64, "size": 3}
    document["manifests"] = [*document["manifests"] * 3, ghost, ghost]
    path.write_text(json.dumps(document))
    answer = client("GET", f"/v2/{REPO}/referrers/sha256:{'0' * 64}")
    assert answer.json()["manifests"] == []


def test_a_manifest_is_not_deleted_as_a_blob(client: Client) -> None:
    digest = client.manifest("v1", image(client)).headers["Docker-Content-Digest"]
    answer = client("DELETE", f"/v2/{REPO}/blobs/{digest}")
    assert (answer.status, answer.code) == (409, "DENIED")
    assert client("GET", f"/v2/{REPO}/manifests/v1").status == 200


def test_a_blob_that_goes_away_while_its_manifest_is_put(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = image(client)
    layer = tmp_path / REPO / "blobs/sha256" / value["layers"][0]["digest"].partition(":")[2]
    put = LayoutsStore.put_manifest

    def too_late(self: LayoutsStore, *arguments: Any) -> None:
        layer.unlink()
        put(self, *arguments)

    monkeypatch.setattr(LayoutsStore, "put_manifest", too_late)
    answer = client.manifest("v1", value)
    assert (answer.status, answer.code) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert not (tmp_path / REPO / "index.json").exists()


def test_a_lone_writer_is_waited_for(client: Client, tmp_path: Path) -> None:
    """Who holds `blobs` exclusively may remove what is in it; nothing is written meanwhile."""
    value = image(client)
    with ThreadPoolExecutor(1) as pool:
        fd = os.open(tmp_path / REPO / "blobs", os.O_RDONLY)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            put = pool.submit(client.manifest, "v1", value)
            with pytest.raises(TimeoutError):
                put.result(timeout=0.1)
            assert not (tmp_path / REPO / "index.json").exists()
        finally:
            os.close(fd)
        assert put.result(timeout=10).status == 201


def test_schema1_cannot_be_kept(client: Client) -> None:
    value = {"schemaVersion": 1, "name": "a", "tag": "b", "architecture": "amd64",
             "fsLayers": [], "history": []}  # fmt: skip
    answer = client.manifest("v1", value)
    assert (answer.status, answer.code) == (400, "MANIFEST_INVALID")


def test_mount_shares_the_bytes(client: Client, tmp_path: Path) -> None:
    digest = client.blob(b"shared", "one")
    client("POST", f"/v2/two/blobs/uploads/?mount={digest}&from=one")
    paths = [tmp_path / name / "blobs/sha256" / digest.hex for name in ("one", "two")]
    assert paths[0].stat().st_ino == paths[1].stat().st_ino


def test_mount_copies_where_links_are_impossible(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(18, "cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    digest = client.blob(b"shared" * 1000, "one")
    assert client("POST", f"/v2/two/blobs/uploads/?mount={digest}&from=one").status == 201
    assert client("GET", f"/v2/two/blobs/{digest}").body == b"shared" * 1000
    assert not list(tmp_path.rglob(".imgtools-*"))


def test_leftovers_are_removed_and_live_uploads_are_not(tmp_path: Path) -> None:
    repo = tmp_path / "app"
    repo.mkdir()
    dead, live = repo / ".imgtools-upload-dead", repo / ".imgtools-upload-live"
    for path in (dead, live):
        path.write_bytes(b"half")
    with live.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        store = LayoutsStore(str(tmp_path), writable=True)
        upload = store.start_upload("app")
        assert not dead.exists()
        assert live.exists()
        upload.append(b"x")
        store.close()
    assert [p.name for p in repo.iterdir()] == [live.name]


def test_too_many_uploads(client: Client) -> None:
    for _ in range(500):
        assert client("POST", f"/v2/{REPO}/blobs/uploads/").status == 202
    answer = client("POST", f"/v2/{REPO}/blobs/uploads/")
    assert (answer.status, answer.code) == (429, "TOOMANYREQUESTS")
    assert answer.headers["Retry-After"]


def test_silent_uploads_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgtools.serve.layouts._UPLOAD_SECONDS", -1.0)
    store = LayoutsStore(str(tmp_path), writable=True)
    first = store.start_upload("app")
    store.start_upload("app")
    assert store.upload("app", first.id) is None
    assert len(list((tmp_path / "app").iterdir())) == 1
    store.close()


def in_parallel(count: int, work: Any) -> None:
    barrier = threading.Barrier(count)

    def run(number: int) -> None:
        barrier.wait()
        work(number)

    with ThreadPoolExecutor(count) as pool:
        for future in [pool.submit(run, number) for number in range(count)]:
            future.result()


def test_parallel_pushes_of_one_blob(client: Client, tmp_path: Path) -> None:
    content = b"same" * 50_000

    def push(number: int) -> None:
        client.blob(content, f"repo{number % 2}")

    in_parallel(8, push)
    for name in ("repo0", "repo1"):
        files = [p for p in (tmp_path / name).rglob("*") if p.is_file()]
        assert [p.read_bytes() for p in files] == [content]


def test_parallel_tags_lose_nothing(client: Client, tmp_path: Path) -> None:
    """Several servers in one folder too: the lock is between processes."""
    value = image(client)
    other_store = LayoutsStore(str(tmp_path), writable=True)
    other = Client(RegistryApp(other_store))

    def push(number: int) -> None:
        who = (client, other)[number % 2]
        for step in range(5):
            assert who.manifest(f"t{number}-{step}", value).status == 201

    in_parallel(6, push)
    other_store.close()
    assert len(client("GET", f"/v2/{REPO}/tags/list").json()["tags"]) == 30
