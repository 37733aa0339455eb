"""`imgtools serve` in front of layouts that a peer made, and peers on layouts it made itself.

That clients can push to it and pull from it is in the other files: it is one of their registries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from interop.conftest import Imgtools
from interop.rig import PEERS, Image, Peer, Registry, blobs_below, named

KINDS = ["oci", "docker", "index", "nested-index", "artifact", "oci-zstd"]


@pytest.fixture
def served(tmp_path: Path, certificates: Path) -> Iterator[Registry]:
    """A folder of its own being served; its `storage` is the folder."""
    with Registry("imgtools-serve", tmp_path / "served", certificates) as server:
        yield server


@pytest.mark.parametrize("writer", ["regctl", "oras"])
def test_a_layout_of_a_peer_is_a_repository(
    writer: str,
    served: Registry,
    any_registry: Registry,
    images: dict[str, Image],
    repository: str,
    peer_named: Callable[[str], Peer],
    tmp_path: Path,
) -> None:
    """Put there while it runs, with everything in it for every client."""
    clients = {name: peer_named(name) for name in PEERS}
    layout = served.storage / "made" / "by" / "peer"
    layout.mkdir(parents=True)
    for kind in KINDS:
        name = f"{any_registry.host}/{repository}:{kind}"
        clients["regctl"].push(images[kind], name)
        if writer == "oras":
            clients["oras"].run("copy", name, f"oci:{layout}:{kind}")
        else:
            clients["regctl"].run("image", "copy", name, f"ocidir://{layout}:{kind}")
    place = f"{served.host}/made/by/peer"
    for client in clients.values():
        assert sorted(client.tags(place)) == sorted(KINDS)
        for kind in KINDS:
            assert client.digest(f"{place}:{kind}") == images[kind].digest
            if (client.name, kind) != ("skopeo", "nested-index"):
                target = tmp_path / "pulled" / client.name / kind
                target.parent.mkdir(parents=True, exist_ok=True)
                client.pull(f"{place}:{kind}", target)
                assert blobs_below(target, images[kind].digest) == images[kind].blobs


@pytest.mark.parametrize("pusher", PEERS)
def test_what_a_peer_pushed_is_a_layout_for_others(
    pusher: str,
    served: Registry,
    any_registry: Registry,
    images: dict[str, Image],
    repository: str,
    peer_named: Callable[[str], Peer],
) -> None:
    """On disk, without the server."""
    kinds = [kind for kind in KINDS if (pusher, kind) != ("skopeo", "nested-index")]
    client = peer_named(pusher)
    for kind in kinds:
        client.push(images[kind], f"{served.host}/some/where:{kind}")
    layout = served.storage / "some" / "where"
    for kind in kinds:
        assert named(layout, kind) == images[kind].digest
        assert blobs_below(layout, images[kind].digest) == images[kind].blobs
    for name in ("regctl", "oras"):
        reader = client if name == pusher else peer_named(name)
        for kind in kinds:
            target = f"{any_registry.host}/{repository}/{name}:{kind}"
            reader.push_layout(layout, kind, target)
            assert reader.digest(target) == images[kind].digest


def test_crane_deletes_and_retags(
    served: Registry,
    images: dict[str, Image],
    peer_named: Callable[[str], Peer],
    imgtools: Imgtools,
) -> None:
    """Tags come and go; the image stays while one is left."""
    place = f"{served.host}/re/tag"
    crane = peer_named("crane")
    crane.push(images["index"], f"{place}:one")
    crane.run("tag", "--insecure", f"{place}:one", "two")
    crane.run("delete", "--insecure", f"{place}:one")
    assert crane.tags(place) == ["two"]
    assert imgtools("inspect", "--raw", f"docker://{place}:two") == images["index"].manifest
    crane.run("delete", "--insecure", f"{place}@{images['index'].digest}")
    assert crane.tags(place) == []


def test_blobs_are_mounted_between_served_repositories(
    served: Registry,
    images: dict[str, Image],
    peer_named: Callable[[str], Peer],
) -> None:
    """crane and regctl copy within the registry."""
    first = f"{served.host}/mount/first:tag"
    crane, regctl = peer_named("crane"), peer_named("regctl")
    crane.push(images["index"], first)
    crane.run("copy", "--insecure", first, f"{served.host}/mount/second:tag")
    regctl.run("image", "copy", first, f"{served.host}/mount/third:tag")
    for name in ("second", "third"):
        layout = served.storage / "mount" / name
        assert blobs_below(layout, images["index"].digest) == images["index"].blobs
