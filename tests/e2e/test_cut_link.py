"""A large image over a link that is cut again and again: it arrives, and little goes twice.

IMGTOOLS_E2E_MB is the size in MiB; from 500 on the link is cut twenty times. `pytest -s` prints
what passed.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from imgtools.copy import copy_by_name
from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.options import (
    DestinationOptions,
    RegistryOptions,
    SourceOptions,
    Timeouts,
)
from tests.rig import RegistryServer
from tests.rig.cutting import CuttingProxy, Direction

MB = int(os.environ.get("IMGTOOLS_E2E_MB", "32"))
SIZE = MB << 20
CUTS = 20 if MB >= 500 else 8
OPTIONS = RegistryOptions(tls_verify=False, timeouts=Timeouts(connect=5, first_byte=20, idle=20))


def make_layout(path: Path, size: int = SIZE) -> str:
    """An OCI layout with one image of one layer of `size` random bytes; its name."""
    blobs = path / "blobs" / "sha256"
    blobs.mkdir(parents=True)

    def blob(content: bytes, media_type: str) -> dict[str, object]:
        digest = Digest.of(content)
        (blobs / digest.hex).write_bytes(content)
        return {"mediaType": media_type, "digest": str(digest), "size": len(content)}

    generator = random.Random(MB)
    hasher = hashlib.sha256()
    with (blobs / "layer").open("wb") as file:
        for _ in range(size >> 20):
            piece = generator.randbytes(1 << 20)
            hasher.update(piece)
            file.write(piece)
    digest = Digest("sha256", hasher.hexdigest())
    (blobs / "layer").rename(blobs / digest.hex)
    layer = {"mediaType": mt.OCI_LAYER_GZIP, "digest": str(digest), "size": size}
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "config": blob(json.dumps(config).encode(), mt.OCI_CONFIG),
        "layers": [layer],
    }
    top = blob(json.dumps(manifest).encode(), mt.OCI_MANIFEST)
    top["annotations"] = {"org.opencontainers.image.ref.name": "v1"}
    (path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [top]}))
    (path / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return f"oci:{path}:v1"


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_layout(tmp_path_factory.mktemp("large") / "layout")


@pytest.fixture(params=["docker-registry", "imgtools"])
def host(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "docker-registry":
        server: RegistryServer = request.getfixturevalue("registry_plain")
        yield server.host
        return
    with ScriptedRegistry() as scripted:
        yield scripted.host


Link = Callable[..., CuttingProxy]


@pytest.fixture
def link() -> Iterator[Link]:
    """Puts a bad link before a host; says in the end what passed over it."""
    with ExitStack() as stack:

        @contextmanager
        def told(proxy: CuttingProxy, way: Direction) -> Iterator[None]:
            yield
            extra = proxy.passed[way] / SIZE - 1
            print(f"\n{way}: {MB} MiB, {proxy.made} cuts, {extra:+.3%}")

        def make(host: str, way: Direction, cuts: int = CUTS) -> CuttingProxy:
            proxy = CuttingProxy(host, cuts=cuts, over=SIZE, direction=way, seed=MB)
            stack.enter_context(proxy)
            stack.enter_context(told(proxy, way))
            return proxy

        yield make


def copy(source: str, destination: str) -> str:
    done = copy_by_name(
        source,
        destination,
        source_options=SourceOptions(registry=OPTIONS),
        destination_options=DestinationOptions(registry=OPTIONS),
    )
    return str(done.top.digest)


def check(proxy: CuttingProxy, way: Direction) -> None:
    """Five in a hundred of a large image; of a small one what a cut may cost, which is what
    was on its way in buffers and does not depend on the size."""
    assert proxy.made == CUTS
    assert proxy.passed[way] - SIZE < max(SIZE // 20, CUTS << 20)


def test_download(layout: str, host: str, link: Link, repository: str, tmp_path: Path) -> None:
    digest = copy(layout, f"docker://{host}/{repository}:v1")
    proxy = link(host, "down")
    assert copy(f"docker://{proxy.host}/{repository}:v1", f"oci:{tmp_path}/out:v1") == digest
    check(proxy, "down")


def test_upload(layout: str, link: Link, tmp_path: Path) -> None:
    with ScriptedRegistry() as there:
        proxy = link(there.host, "up")
        digest = copy(layout, f"docker://{proxy.host}/there:v1")
        check(proxy, "up")
        assert copy(f"docker://{there.host}/there:v1", f"oci:{tmp_path}/out:v1") == digest


def test_upload_where_a_cut_ends_the_session(
    layout: str, registry_plain: RegistryServer, link: Link, repository: str, tmp_path: Path
) -> None:
    """docker-registry forgets an upload whose request was cut, so all of it goes again."""
    name = f"{repository}:v1"
    proxy = link(registry_plain.host, "up", cuts=2)
    digest = copy(layout, f"docker://{proxy.host}/{name}")
    assert proxy.made == 2
    assert copy(f"docker://{registry_plain.host}/{name}", f"oci:{tmp_path}/out:v1") == digest


def test_between_registries(
    layout: str, registry_plain: RegistryServer, link: Link, repository: str, tmp_path: Path
) -> None:
    digest = copy(layout, f"docker://{registry_plain.host}/{repository}:v1")
    down = link(registry_plain.host, "down")
    with ScriptedRegistry() as there:
        up = link(there.host, "up")
        source, target = f"{down.host}/{repository}:v1", f"{up.host}/there:v1"
        assert copy(f"docker://{source}", f"docker://{target}") == digest
        check(down, "down")
        check(up, "up")
        assert copy(f"docker://{there.host}/there:v1", f"oci:{tmp_path}/out:v1") == digest
