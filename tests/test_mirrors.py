"""Mirrors of registries.conf against registries on loopback: failover object by object."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from imgtools.copy import CopyOptions, copy_image
from imgtools.errors import (
    BlobNotFound,
    Cancelled,
    ConnectionFailed,
    Denied,
    DigestMismatch,
    ImageNotFound,
    Rejected,
)
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.spec.reference import Reference
from imgtools.spec.strict_json import dumps
from imgtools.task import Task
from imgtools.testing.contract import CASES, Case, names
from imgtools.testing.contract_kit import Endpoint
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.base import Source
from imgtools.transport.options import (
    Credentials,
    DestinationOptions,
    RegistriesFiles,
    RegistryOptions,
    SourceOptions,
)
from imgtools.transport.registry.endpoints import Health
from imgtools.transport.registry.pull.failover import FailoverSource
from imgtools.transport.registry.pull.source import RegistrySource
from imgtools.transport.table import Transports

BLOB = os.urandom(300_000)
LAYER = Descriptor(media_type=mt.OCI_LAYER_GZIP, digest=Digest.of(BLOB), size=len(BLOB))
CONFIG = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
NAME = "example.test/app"


def manifest(*, subject: RawManifest | None = None, layer: bool = True) -> RawManifest:
    value = {
        "schemaVersion": 2,
        "mediaType": mt.OCI_MANIFEST,
        "config": {
            "mediaType": mt.OCI_CONFIG,
            "digest": str(Digest.of(CONFIG)),
            "size": len(CONFIG),
        },
        "layers": [LAYER.to_json()] if layer else [],
    }
    if subject is not None:
        value["subject"] = subject.descriptor().to_json()
    return RawManifest.of(dumps(value), mt.OCI_MANIFEST)


RAW = manifest()


def fill(registry: ScriptedRegistry, name: str = "app", *, tag: str = "v1") -> None:
    registry.push_blob(name, CONFIG)
    registry.push_blob(name, BLOB)
    registry.push_manifest(name, RAW.content, RAW.media_type, tags=[tag])


class Site:
    """A primary that holds `example.test/app`, mirrors, and a configuration that says so."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stack = ExitStack()
        self.primary = self.registry()
        self.options = RegistryOptions(registries=RegistriesFiles(main=(f"{directory}/r.conf",)))
        self.transports = self._stack.enter_context(Transports())

    def registry(self, auth: str = "none", *, filled: bool = True) -> ScriptedRegistry:
        found = self._stack.enter_context(
            ScriptedRegistry(auth=auth)  # type: ignore[arg-type]
        )
        if filled:
            fill(found)
        return found

    def configure(
        self,
        *mirrors: ScriptedRegistry | str,
        more: str = "",
        each: str = "insecure = true",
        primary: str = "insecure = true",
    ) -> None:
        hosts = [m if isinstance(m, str) else m.host for m in mirrors]
        lines = [
            f'[[registry]]\nprefix = "example.test"\nlocation = "{self.primary.host}"\n{primary}',
            *(f'[[registry.mirror]]\nlocation = "{host}"\n{each}' for host in hosts),
            more,
        ]
        (self.directory / "r.conf").write_text("\n".join(lines) + "\n")

    def source(self, name: str = f"{NAME}:v1", **more: object) -> Source:
        options = replace(self.options, **more)  # type: ignore[arg-type]
        return self.transports.open_source(f"docker://{name}", SourceOptions(registry=options))

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site, closed at the end."""
    found = Site(tmp_path)
    try:
        yield found
    finally:
        found.close()


def dead_port() -> str:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"127.0.0.1:{listener.getsockname()[1]}"


def read(source: Source) -> bytes:
    with source.open_blob(LAYER) as reader:
        return reader.read()


def methods(registry: ScriptedRegistry) -> list[str]:
    return [f"{e.method} {e.target.split('/')[-2]}" for e in registry.requests]


# Choice


def test_without_mirrors_there_is_nothing_around_the_source(site: Site) -> None:
    site.configure()
    source = site.source()
    assert isinstance(source, RegistrySource)
    assert source.top() == RAW
    assert source.origin.name == f"docker://{NAME}:v1"
    assert (source.origin.registry, source.origin.repository) == (site.primary.host, "app")
    assert site.primary.lines() == ["GET /v2/app/manifests/v1 200"]


def test_the_first_mirror_serves_everything(site: Site) -> None:
    mirror = site.registry()
    site.configure(mirror)
    source = site.source()
    assert isinstance(source, FailoverSource)
    assert source.resolve() == RAW.descriptor()
    assert source.top() == source.manifest(RAW.descriptor()) == RAW
    assert read(source) == BLOB
    assert source.read_range(LAYER, 7, 9) == BLOB[7:16]
    assert source.origin.name == f"docker://{NAME}:v1"
    assert (source.origin.registry, source.origin.repository) == (site.primary.host, "app")
    assert site.primary.requests == []


def test_no_mirrors(site: Site) -> None:
    mirror = site.registry()
    site.configure(mirror)
    assert site.source(mirrors=False).top() == RAW
    assert mirror.requests == []


def test_locations_of_mirrors_are_rewritten(site: Site) -> None:
    mirror = site.registry(filled=False)
    fill(mirror, "deep/cache/app")
    site.configure(f"{mirror.host}/deep/cache")
    assert site.source().top() == RAW
    assert mirror.lines() == ["GET /v2/deep/cache/app/manifests/v1 200"]


@pytest.mark.parametrize(
    ("pull", "tag", "digest"),
    [("digest-only", False, True), ("tag-only", True, False), ("all", True, True)],
)
def test_mirrors_for_one_kind_of_reference(site: Site, pull: str, tag: bool, digest: bool) -> None:
    mirror = site.registry()
    site.configure(mirror, each=f'insecure = true\npull-from-mirror = "{pull}"')
    assert site.source().top() == RAW
    assert bool(mirror.requests) == tag
    mirror.forget_requests()
    assert site.source(f"{NAME}@{RAW.digest}").top() == RAW
    assert bool(mirror.requests) == digest
    mirror.forget_requests()
    assert site.transports.list_tags(Reference.parse(NAME), site.options) == ["v1"]
    assert bool(mirror.requests) == tag


# Failover


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 404},
        {"status": 401},
        {"status": 403},
        {"status": 500},
        {"status": 503},
        {"status": 429},
        {"cut_headers": True},
        {"cut_after": 10},
        {"flip": 30},
        {"body_override": b"<html>a page</html>"},
    ],
    ids=str,
)
def test_a_manifest_that_a_mirror_does_not_give(site: Site, fault: dict[str, object]) -> None:
    mirror = site.registry()
    mirror.fail(path="/manifests/", **fault)
    site.configure(mirror)
    source = site.source()
    assert source.top() == RAW
    assert source.resolve() == RAW.descriptor()
    mirror.forget_requests()
    # Blobs come from where the manifest was.
    assert read(source) == BLOB
    assert mirror.requests == []


def test_a_mirror_that_nobody_hears_is_left_alone(site: Site) -> None:
    mirror = site.registry()
    site.configure(mirror, dead_port())
    port = mirror.host
    mirror.fail(cut_headers=True)
    assert site.source().resolve() == RAW.descriptor()
    asked = len(mirror.requests)
    for _ in range(3):
        source = site.source()
        assert source.top() == RAW
        assert read(source) == BLOB
    assert len(mirror.requests) == asked, port


def test_rest_ends() -> None:
    now = [100.0]
    health = Health(lambda: now[0])
    health.failed("m", "no answer")
    assert (health.resting("m"), health.resting("n")) == ("no answer", "")
    now[0] += 59
    assert health.resting("m")
    now[0] += 2
    assert not health.resting("m")


def test_the_end_of_the_command_is_no_failure_of_a_mirror(site: Site) -> None:
    site.configure(site.registry())
    source = site.source()
    site.transports.sessions.abort()
    with pytest.raises(Cancelled):
        source.top()
    with pytest.raises(Cancelled):
        source.open_blob(LAYER)


def test_a_second_mirror_comes_before_the_primary(site: Site) -> None:
    empty, full = site.registry(filled=False), site.registry()
    site.configure(empty, full)
    source = site.source()
    assert source.top() == RAW
    assert read(source) == BLOB
    assert (methods(empty), methods(full)) == (["GET manifests"], ["GET manifests", "GET blobs"])
    assert site.primary.requests == []


def test_a_blob_that_a_mirror_lacks(site: Site) -> None:
    mirror = site.registry()
    del mirror.repository("app").blobs[LAYER.digest]
    site.configure(mirror)
    source = site.source()
    assert source.top() == RAW
    assert read(source) == BLOB
    assert source.read_range(LAYER, 0, 5) == BLOB[:5]
    assert methods(site.primary) == ["GET blobs", "GET blobs"]


def test_a_mirror_that_dies_in_the_middle_of_a_blob(site: Site) -> None:
    mirror = site.registry()
    mirror.fail(path="/blobs/", cut_after=100_000)
    site.configure(mirror)
    source = site.source()
    with source.open_blob(LAYER) as reader:
        assert reader.read() == BLOB
        assert reader.pieced
    (request,) = site.primary.requests
    start = int(str(request.headers["range"]).removeprefix("bytes=").removesuffix("-"))
    assert 0 < start <= 100_000
    assert mirror.count("GET", "/blobs/") == 1


LARGE = os.urandom(8 * 1024 * 1024)
LARGE_LAYER = Descriptor(media_type=mt.OCI_LAYER, digest=Digest.of(LARGE), size=len(LARGE))


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("skipped", [0, 5_000_000])
def test_a_large_blob_is_asked_for_late_and_found_elsewhere(
    site: Site, skipped: int, early: bool
) -> None:
    mirror = site.registry()
    site.primary.push_blob("app", LARGE)
    site.configure(mirror)
    with site.source().open_blob(LARGE_LAYER) as reader:
        assert mirror.requests == []
        if early:
            reader.start()
        reader.skip(skipped)
        assert reader.read() == LARGE[skipped:]
    first = {f"bytes={skipped}-"} if skipped and not early else {None}
    assert {e.headers.get("range") for e in mirror.requests} == first
    assert site.primary.requests[-1].headers.get("range") == (
        f"bytes={skipped}-" if skipped else None
    )
    assert mirror.count("GET", "/blobs/") == 1


def test_a_large_blob_that_nobody_has(site: Site) -> None:
    mirror = site.registry()
    site.configure(mirror)
    with pytest.raises(BlobNotFound) as caught, site.source().open_blob(LARGE_LAYER) as reader:
        reader.skip(5_000_000)
        reader.read(1)
    assert "mirrors failed too" in caught.value.message
    # What was left out counts for nothing: nobody is asked twice.
    assert (mirror.count(path="/blobs/"), site.primary.count(path="/blobs/")) == (1, 1)


def test_a_mirror_that_is_found_dead_by_a_large_blob_rests(site: Site) -> None:
    site.primary.push_blob("app", LARGE)
    mirror = site.registry()
    mirror.fail(path="/blobs/", cut_headers=True)
    site.configure(mirror)
    source = site.source()
    for _ in range(2):
        with source.open_blob(LARGE_LAYER) as reader:
            assert reader.read() == LARGE
    assert mirror.count("GET", "/blobs/") == 1


def test_endpoints_that_all_cut_are_asked_again_while_that_helps(site: Site) -> None:
    mirror = site.registry()
    mirror.fail(path="/blobs/", cut_after=120_000)
    site.primary.fail(path="/blobs/", status=404)
    site.configure(mirror)
    assert read(site.source()) == BLOB


def test_endpoints_that_bring_nothing_more_are_an_error(site: Site) -> None:
    mirror = site.registry()
    mirror.fail(path="/blobs/", cut_after=100)
    site.primary.fail(path="/blobs/", status=404)
    site.configure(mirror)
    with pytest.raises(BlobNotFound) as caught:
        read(site.source())
    assert mirror.host in caught.value.message
    assert "mirrors failed too" in caught.value.message


def test_a_corrupt_blob_is_read_elsewhere_the_second_time(site: Site) -> None:
    mirror = site.registry()
    mirror.fail(path="/blobs/", flip=1000)
    site.configure(mirror)
    source = site.source()
    with pytest.raises(DigestMismatch) as caught:
        read(source)
    assert caught.value.again
    assert read(source) == read(site.source()) == BLOB
    assert mirror.count("GET", "/blobs/") == 1
    site.primary.fail(path="/blobs/", flip=1000)
    with pytest.raises(DigestMismatch) as caught:
        read(source)
    assert not caught.value.again


def test_a_small_corrupt_blob_is_no_error_at_all(site: Site) -> None:
    mirror = site.registry()
    mirror.fail(path="/blobs/", flip=10)
    site.configure(mirror)
    descriptor = Descriptor(media_type=mt.OCI_CONFIG, digest=Digest.of(CONFIG), size=len(CONFIG))
    with site.source().open_blob(descriptor) as reader:
        assert reader.read() == CONFIG
    assert (methods(mirror), methods(site.primary)) == (["GET blobs"], ["GET blobs"])


def test_copy_gets_over_a_corrupt_mirror(site: Site, tmp_path: Path) -> None:
    mirror, target = site.registry(), site.registry(filled=False)
    mirror.fail(method="GET", path=f"/blobs/{LAYER.digest}", flip=1000)
    site.configure(mirror)
    for name in (f"oci:{tmp_path}/layout:v1", f"docker://{target.host}/copied:v1"):
        options = DestinationOptions(registry=RegistryOptions(tls_verify=False))
        with site.transports.open_destination(name, options) as destination:
            copy_image(site.source(), destination, CopyOptions(), task=Task())
        with site.transports.open_source(
            name, SourceOptions(registry=RegistryOptions(tls_verify=False))
        ) as copied:
            assert read(copied) == BLOB


def test_a_mirror_without_ranges(site: Site) -> None:
    mirror = site.registry()
    mirror.fail(path="/blobs/", ignore_range=True)
    site.configure(mirror)
    source = site.source()
    assert source.read_range(LAYER, 10, 20) == BLOB[10:30]
    assert source.read_range(LAYER, 20, 20) == BLOB[20:40]
    assert mirror.count("GET", "/blobs/") == 1
    site.primary.fail(path="/blobs/", ignore_range=True)
    assert source.read_range(LAYER, 10, 20) is None


def test_blobs_of_descriptors_cost_nothing(site: Site) -> None:
    mirror = site.registry()
    site.configure(mirror)
    inline = Descriptor(
        media_type=mt.OCI_CONFIG, digest=Digest.of(CONFIG), size=len(CONFIG), data=CONFIG
    )
    with site.source().open_blob(inline) as reader:
        assert reader.read() == CONFIG
    assert mirror.requests == site.primary.requests == []


def test_referrers_and_tags_fail_over(site: Site) -> None:
    mirror = site.registry()
    referrer = manifest(subject=RAW, layer=False)
    site.primary.push_manifest("app", referrer.content, referrer.media_type)
    site.configure(mirror)
    found = list(site.source().referrers(RAW.digest))
    assert [d.digest for d in found] == [referrer.digest]
    mirror.fail(path="/tags/list", status=500)
    assert site.transports.list_tags(Reference.parse(f"{NAME}:x"), site.options) == ["v1"]
    site.primary.fail(status=403)
    assert list(site.source().referrers(RAW.digest)) == []


def test_tags_of_the_mirror(site: Site) -> None:
    mirror = site.registry()
    site.configure(mirror)
    assert site.transports.list_tags(Reference.parse(NAME), site.options, 1) == ["v1"]
    assert site.primary.requests == []


@pytest.mark.parametrize("case", CASES, ids=names(CASES))
def test_sources_with_mirrors_keep_the_contract(site: Site, case: Case) -> None:
    """An image that no mirror has is read as if there were none."""
    name, empty = f"docker://{site.primary.host}/contract:v1", site.registry(filled=False)
    (site.directory / "r.conf").write_text(
        f'[[registry]]\nlocation = "{site.primary.host}"\ninsecure = true\n'
        f'[[registry.mirror]]\nlocation = "{empty.host}"\ninsecure = true\n'
    )
    case(
        Endpoint(
            destination=lambda: site.transports.open_destination(
                name, DestinationOptions(registry=site.options)
            ),
            source=lambda: site.transports.open_source(name, SourceOptions(registry=site.options)),
        )
    )


# Errors


def test_the_error_is_the_primarys(site: Site) -> None:
    mirror = site.registry()
    mirror.fail(status=403)
    del site.primary.repository("app").tags["v1"]
    site.configure(mirror, dead_port())
    with pytest.raises(ImageNotFound) as caught:
        site.source().top()
    message = caught.value.message
    assert message.startswith(f"{site.primary.host}/app:v1 does not exist")
    assert f"[{mirror.host}/app: " in message
    assert "403" in message
    assert "connection refused" in message


def test_a_blocked_registry_is_refused_before_any_request(site: Site) -> None:
    site.configure(primary="insecure = true\nblocked = true")
    with pytest.raises(Rejected, match=r"is blocked in .*r\.conf"):
        site.source()
    with pytest.raises(Rejected):
        site.transports.list_tags(Reference.parse(NAME), site.options)
    for push in (True, False):
        with pytest.raises(Rejected):
            site.transports.repository(Reference.parse(NAME), site.options, push=push)
    with pytest.raises(Rejected):
        site.transports.open_destination(
            f"docker://{NAME}:v2", DestinationOptions(registry=site.options)
        )
    assert site.primary.connections == 0


def test_a_blocked_primary_with_a_mirror(site: Site) -> None:
    mirror = site.registry()
    site.configure(mirror, primary="insecure = true\nblocked = true")
    source = site.source()
    assert source.top() == RAW
    assert read(source) == BLOB
    mirror.fail(status=404)
    with pytest.raises(Rejected) as caught:
        site.source().top()
    assert "is blocked in" in caught.value.message
    assert mirror.host in caught.value.message
    assert site.primary.connections == 0


def test_insecure_is_per_endpoint(site: Site) -> None:
    mirror = site.registry()
    site.configure(mirror, each="insecure = false")
    assert site.source().top() == RAW
    assert mirror.requests == []
    site.configure(mirror, primary="insecure = false")
    with Transports() as transports:
        source = transports.open_source(f"docker://{NAME}:v1", SourceOptions(registry=site.options))
        assert source.top() == RAW
    assert len(mirror.requests) == 1


def test_tls_verify_that_was_given_wins(site: Site) -> None:
    site.configure()
    with pytest.raises(ConnectionFailed):
        site.source(tls_verify_given=True).top()
    assert site.primary.requests == []


# Writing


def test_pushes_go_to_the_registry_of_the_name(site: Site) -> None:
    """As in the reference implementation: no mirror, no other location, but insecure counts."""
    mirror, moved = site.registry(filled=False), site.registry(filled=False)
    (site.directory / "r.conf").write_text(
        f'[[registry]]\nprefix = "{site.primary.host}"\nlocation = "{moved.host}/x"\n'
        f'insecure = true\n[[registry.mirror]]\nlocation = "{mirror.host}"\n'
    )
    name = f"{site.primary.host}/app"
    with site.transports.open_destination(
        f"docker://{name}:v2", DestinationOptions(registry=site.options)
    ) as destination:
        destination.put_manifest(RAW, top=True)
        destination.commit()
    repository = site.transports.repository(Reference.parse(name), site.options, push=True)
    with repository.manifest("HEAD", "v2") as response:
        assert response.status == 200
    assert "v2" in site.primary.repository("app").tags
    assert mirror.requests == moved.requests == []


# Credentials


def test_given_credentials_are_not_for_mirrors(site: Site) -> None:
    mirror = site.registry("basic")
    site.primary = site.registry("basic")
    site.configure(mirror)
    source = site.source(credentials=Credentials(username="user", password="secret"))
    assert source.top() == RAW
    assert [e.headers.get("authorization") for e in mirror.requests] == [None]
    assert "authorization" in site.primary.requests[-1].headers


def test_mirrors_use_auth_files_under_their_own_name(site: Site) -> None:
    mirror = site.registry("basic")
    site.configure(mirror)
    auth = site.directory / "auth.json"
    auth.write_text(
        f'{{"auths": {{"{mirror.host}": {{"username": "user", "password": "secret"}},'
        '"example.test": {"username": "other", "password": "wrong"}}}'
    )
    assert site.source(auth_files=(str(auth),)).top() == RAW
    assert site.primary.requests == []


def test_a_mirror_that_wants_credentials_that_we_lack(site: Site) -> None:
    mirror = site.registry("basic")
    site.primary = site.registry("basic")
    site.configure(mirror)
    with pytest.raises(Denied) as caught:
        site.source().top()
    assert caught.value.host == site.primary.host
    assert mirror.host in caught.value.message


# The reference implementation


@pytest.mark.parametrize(
    "layout", ["mirror", "empty mirror", "digest-only", "rewritten", "blocked", "first version"]
)
def test_skopeo_asks_the_same_endpoints(site: Site, layout: str) -> None:
    mirror = site.registry(filled=layout != "empty mirror")
    each = "insecure = true"
    more = "insecure = true"
    if layout == "digest-only":
        more += "\nmirror-by-digest-only = true"
    if layout == "blocked":
        more += "\nblocked = true"
    fill(site.primary, "deep/app")
    name, location = site.primary.host, site.primary.host
    if layout == "rewritten":
        location += "/deep"
    text = (
        f'[[registry]]\nprefix = "{name}"\nlocation = "{location}"\n{more}\n'
        f'[[registry.mirror]]\nlocation = "{mirror.host}"\n{each}\n'
    )
    if layout in ("blocked", "rewritten"):
        text = text.partition("[[registry.mirror]]")[0]
    if layout == "first version":
        text = f'[registries.insecure]\nregistries = ["{name}"]\n'
    path = site.directory / "r.conf"
    path.write_text(text)

    def asked() -> list[tuple[str, str]]:
        found = [
            (which, exchange.target)
            for which, registry in (("primary", site.primary), ("mirror", mirror))
            for exchange in registry.requests
            if "/manifests/" in exchange.target
        ]
        site.primary.forget_requests()
        mirror.forget_requests()
        return found

    done = subprocess.run(
        [
            "skopeo",
            f"--registries-conf={path}",
            "inspect",
            "--raw",
            f"docker://{name}/app:v1",
        ],
        env={"PATH": os.environ["PATH"], "HOME": str(site.directory)},
        capture_output=True,
        check=False,
    )
    theirs = asked()
    if done.returncode:
        with pytest.raises(Rejected):
            site.source(f"{name}/app:v1")
    else:
        assert site.source(f"{name}/app:v1").top().content == done.stdout
    assert (layout == "blocked") == bool(done.returncode), done.stderr
    assert asked() == theirs


def test_skopeo_writes_where_we_do(site: Site) -> None:
    """Reads go to the configured location, writes to the registry of the name."""
    fill(site.primary, "deep/app", tag="deep")
    name = site.primary.host
    path = site.directory / "r.conf"
    path.write_text(f'[[registry]]\nprefix = "{name}"\nlocation = "{name}/deep"\ninsecure = true\n')
    source, target = f"docker://{name}/app:deep", f"docker://{name}/app:copied"
    subprocess.run(
        ["skopeo", f"--registries-conf={path}", "--insecure-policy", "copy", source, target],
        env={"PATH": os.environ["PATH"], "HOME": str(site.directory)},
        capture_output=True,
        check=True,
    )
    repository = site.primary.repository("app")
    assert repository.tags.pop("copied") == RAW.digest
    with site.transports.open_destination(
        target, DestinationOptions(registry=site.options)
    ) as destination:
        copy_image(site.source(f"{name}/app:deep"), destination, CopyOptions(), task=Task())
    assert repository.tags["copied"] == RAW.digest
    assert "copied" not in site.primary.repository("deep/app").tags
