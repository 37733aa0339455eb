"""The registry client against real registries: what works, and in how many requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from imgtools.errors import Denied, ImageNotFound
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Index, Manifest, RawManifest, parse
from imgtools.spec.reference import Reference
from imgtools.task import Task, WorkerPool
from imgtools.transport.base import BlobOutcome
from imgtools.transport.options import Credentials, RegistryOptions
from imgtools.transport.registry.pool import SessionPool
from imgtools.transport.registry.pull.source import RegistrySource
from imgtools.transport.registry.pull.tags import list_tags
from imgtools.transport.registry.push.destination import RegistryDestination
from imgtools.transport.registry.wire.exchange import ExchangeFailed
from tests.rig import LoggingProxy, RegistryServer

Preload = Callable[[RegistryServer, str, str], str]
KINDS = ("plain", "tls", "htpasswd", "token")


@pytest.fixture
def pool() -> Iterator[SessionPool]:
    with SessionPool() as sessions:
        yield sessions


@pytest.fixture(params=KINDS)
def registry(request: pytest.FixtureRequest) -> RegistryServer:
    server = request.getfixturevalue(f"registry_{request.param}")
    assert isinstance(server, RegistryServer)
    return server


def options(server: RegistryServer, **more: Any) -> RegistryOptions:
    if server.kind in ("htpasswd", "token"):
        more.setdefault(
            "credentials", Credentials(username=server.username, password=server.password)
        )
    if server.tls:
        return RegistryOptions(cert_dir=str(server.cert_dir), **more)
    return RegistryOptions(tls_verify=False, **more)


def source(
    pool: SessionPool, server: RegistryServer, name: str, *, host: str = "", **more: Any
) -> RegistrySource:
    reference = Reference.parse(f"{host or server.host}/{name}")
    return RegistrySource(pool.session(reference.registry, options(server, **more)), reference)


def destination(
    pool: SessionPool, server: RegistryServer, name: str, *, host: str = "", **more: Any
) -> RegistryDestination:
    reference = Reference.parse(f"{host or server.host}/{name}")
    session = pool.session(reference.registry, options(server, **more))
    return RegistryDestination(session, reference)


def copy(here: RegistrySource, there: RegistryDestination) -> list[BlobOutcome]:
    """All of an image: blobs and children first, in four threads."""
    outcomes: list[BlobOutcome] = []

    def put(descriptor: Descriptor, task: Task) -> None:
        outcomes.append(
            there.put_blob(
                descriptor,
                lambda: here.open_blob(descriptor),
                mount_from=[here.origin],
                task=task,
            )
        )

    def walk(raw: RawManifest, *, top: bool) -> None:
        value = parse(raw)
        if isinstance(value, Index):
            for child in value.manifests:
                walk(here.manifest(child), top=False)
        else:
            assert isinstance(value, Manifest)
            with WorkerPool(Task(jobs=4)) as workers:
                for blob in value.blobs():
                    workers.submit(lambda blob=blob: put(blob, workers.task))  # type: ignore[misc]
        there.put_manifest(raw, top=top)

    there.current()
    walk(here.top(), top=True)
    there.commit()
    return outcomes


@pytest.mark.parametrize("kind", ["oci", "docker", "index"])
def test_copy_keeps_every_byte(
    pool: SessionPool, registry: RegistryServer, preload: Preload, repository: str, kind: str,
    images_dir: Path,
) -> None:  # fmt: skip
    names = {path.name for path in (images_dir / "dir").iterdir()}
    assert kind in names, names
    digest = preload(registry, kind, f"{repository}/src:v1")
    here = source(pool, registry, f"{repository}/src:v1")
    assert str(here.resolve().digest) == digest
    outcomes = copy(here, destination(pool, registry, f"{repository}/dst:v1"))
    # Layers that instances share are there when the second one asks.
    assert set(outcomes) <= {"mounted", "present"}
    assert "mounted" in outcomes
    before = registry.manifest(f"{repository}/src", "v1")
    after = registry.manifest(f"{repository}/dst", "v1")
    assert after.body == before.body
    assert after.headers["content-type"] == before.headers["content-type"]


def test_between_registries(
    pool: SessionPool,
    registry_tls: RegistryServer,
    registry_token: RegistryServer,
    preload: Preload,
    repository: str,
) -> None:
    digest = preload(registry_tls, "oci", f"{repository}:v1")
    here = source(pool, registry_tls, f"{repository}:v1")
    outcomes = copy(here, destination(pool, registry_token, f"{repository}:v1"))
    assert set(outcomes) == {"stored"}
    assert registry_token.manifest(repository, "v1").headers["docker-content-digest"] == digest
    back = source(pool, registry_token, f"{repository}@{digest}")
    value = parse(back.top())
    assert isinstance(value, Manifest)
    for blob in value.blobs():
        with back.open_blob(blob) as reader:
            content = reader.read()
        assert back.read_range(blob, 1, 10) == content[1:11]


def requests_of(proxy: LoggingProxy) -> list[str]:
    return [f"{e.method} {e.path.partition('?')[0].rpartition('/')[2][:9]}" for e in proxy.take()]


def test_request_counts(
    pool: SessionPool,
    registry_token: RegistryServer,
    make_proxy: Callable[..., LoggingProxy],
    preload: Preload,
    repository: str,
    tmp_path: Path,
) -> None:
    digest = preload(registry_token, "oci", f"{repository}/src:v1")
    proxy = make_proxy(registry_token)
    assert registry_token.tokens is not None
    tokens = registry_token.tokens.requests
    name, cache = f"{repository}/src:v1", str(tmp_path / "challenges")

    def look(sessions: SessionPool) -> int:
        here = source(sessions, registry_token, name, host=proxy.host, challenge_cache=cache)
        value = parse(here.top())
        assert isinstance(value, Manifest)
        with here.open_blob(value.config) as reader:
            reader.read()
        return len(value.blobs())

    before = len(tokens)
    with SessionPool() as first:
        blobs = look(first)
        # The 401 that carries the challenge, then manifest and config.
        assert requests_of(proxy) == [
            "GET v1",
            "GET v1",
            f"GET {digest_of_config(registry_token, name)}",
        ]
        assert len(tokens) - before == 1
        look(first)
        assert len(requests_of(proxy)) == 2
        assert len(tokens) - before == 1
    with SessionPool() as second:
        look(second)
        assert len(requests_of(proxy)) == 2
        assert len(tokens) - before == 2

        here = source(second, registry_token, name, host=proxy.host, challenge_cache=cache)
        copy(here, destination(second, registry_token, f"{repository}/dst:v1", host=proxy.host,
                               challenge_cache=cache))  # fmt: skip
        # HEAD of the destination, the source's manifest, a mount each, PUT.
        seen = proxy.take()
        assert sum(e.method == "POST" for e in seen) == blobs
        assert len(seen) == blobs + 3
        assert sum(e.request_bytes + e.response_bytes for e in seen if e.method != "GET") < 20_000

    # Another registry as the source: no mount, so two requests per blob, HEAD and PUT.
    with SessionPool() as third:
        here = source(third, registry_token, name)
        target = destination(third, registry_token, f"{repository}/cold:v1", host=proxy.host,
                             challenge_cache=cache)  # fmt: skip
        copy(here, target)
        seen = proxy.take()
        assert sorted(e.method for e in seen) == sorted(["POST", "PUT"] * blobs + ["HEAD", "PUT"])
        copy(here, target)
        assert here.resolve() == target.current()
        assert str(here.resolve().digest) == digest


def digest_of_config(server: RegistryServer, name: str) -> str:
    repository, _, tag = name.rpartition(":")
    return str(server.manifest(repository, tag).json()["config"]["digest"])[:9]


def test_missing_and_empty(pool: SessionPool, registry: RegistryServer, repository: str) -> None:
    nothing = source(pool, registry, f"{repository}:v1")
    with pytest.raises(ImageNotFound):
        nothing.resolve()
    with pytest.raises(ImageNotFound, match=r"MANIFEST_UNKNOWN|NAME_UNKNOWN"):
        nothing.top()
    there = destination(pool, registry, f"{repository}:v1")
    assert there.current() is None
    missing = Descriptor(media_type="", digest=Digest.of(b"missing"), size=7)
    assert not there.has_blob(missing)
    assert not there.has_manifest(missing)
    with pytest.raises(ImageNotFound):
        list_tags(pool.session(registry.host, options(registry)), repository)


def test_tags(
    pool: SessionPool, registry_plain: RegistryServer, preload: Preload, repository: str
) -> None:
    for tag in ("b", "a", "c"):
        preload(registry_plain, "oci", f"{repository}:{tag}")
    session = pool.session(registry_plain.host, options(registry_plain))
    assert sorted(list_tags(session, repository)) == ["a", "b", "c"]
    assert len(list_tags(session, repository, 2)) == 2


def test_referrers(
    pool: SessionPool, registry_plain: RegistryServer, preload: Preload, repository: str
) -> None:
    digest = Digest.parse(preload(registry_plain, "oci", f"{repository}:v1"))
    there = destination(pool, registry_plain, f"{repository}:v1")
    config = Descriptor(media_type=mt.OCI_EMPTY, digest=Digest.of(b"{}"), size=2, data=b"{}")
    here = source(pool, registry_plain, f"{repository}:v1")
    there.put_blob(config, lambda: here.open_blob(config), task=Task())
    attached = Manifest(
        media_type=mt.OCI_MANIFEST,
        config=config,
        layers=(),
        artifact_type="application/x-test",
        subject=here.resolve(),
    ).to_raw()
    assert list(here.referrers(digest)) == []
    there.put_manifest(attached, top=False)
    there.commit()
    found = list(here.referrers(digest))
    assert [(d.digest, d.artifact_type) for d in found] == [(attached.digest, "application/x-test")]


@pytest.mark.parametrize("kind", ["htpasswd", "token"])
@pytest.mark.parametrize(
    "credentials", [None, Credentials(username="tester", password="s3cr3t")], ids=["none", "wrong"]
)
def test_denied(
    pool: SessionPool,
    request: pytest.FixtureRequest,
    kind: str,
    credentials: Credentials | None,
    repository: str,
) -> None:
    server: RegistryServer = request.getfixturevalue(f"registry_{kind}")
    here = source(pool, server, f"{repository}:v1", credentials=credentials)
    with pytest.raises(Denied) as caught:
        here.top()
    assert caught.value.host == server.host
    assert f"imgtools login {server.host}" in (caught.value.hint or "")
    assert "s3cr3t" not in caught.value.message


def test_certificates(registry_tls: RegistryServer, preload: Preload, repository: str) -> None:
    preload(registry_tls, "oci", f"{repository}:v1")
    reference = Reference.parse(f"{registry_tls.host}/{repository}:v1")
    good = (
        RegistryOptions(ca_file=str(registry_tls.ca_file)),
        RegistryOptions(cert_dir=str(registry_tls.cert_dir)),
        RegistryOptions(tls_verify=False),
    )
    with SessionPool() as pool:
        for trusting in good:
            session = pool.session(registry_tls.host, trusting)
            assert session.base.startswith("https://")
            RegistrySource(session, reference).resolve()
        strict = pool.session(registry_tls.host, RegistryOptions())
        with pytest.raises(ExchangeFailed, match="not trusted") as caught:
            RegistrySource(strict, reference).resolve()
        assert "--cert-dir" in (caught.value.hint or "")


def test_expired_tokens_are_replaced(
    registry_token: RegistryServer, pool: SessionPool, preload: Preload, repository: str
) -> None:
    preload(registry_token, "oci", f"{repository}:v1")
    assert registry_token.tokens is not None
    here = source(pool, registry_token, f"{repository}:v1")
    before, registry_token.tokens.lifetime = registry_token.tokens.lifetime, -1
    try:
        with pytest.raises(Denied):
            here.top()
    finally:
        registry_token.tokens.lifetime = before
    assert here.top().size > 0


def test_interrupted_download(
    registry_plain: RegistryServer,
    make_proxy: Callable[..., LoggingProxy],
    pool: SessionPool,
    preload: Preload,
    repository: str,
) -> None:
    preload(registry_plain, "oci", f"{repository}:v1")
    cuts = iter((5, 6, 7))

    def cut(exchange: Any, head: Any) -> None:
        if "/blobs/" in exchange.path:
            exchange.cut_after = next(cuts, None)

    proxy = make_proxy(registry_plain, on_response=cut)
    here = source(pool, registry_plain, f"{repository}:v1", host=proxy.host)
    value = parse(here.top())
    assert isinstance(value, Manifest)
    with here.open_blob(value.config) as reader:
        assert len(reader.read()) == value.config.size
    ranges = [e.request.get("Range") for e in proxy.take() if "/blobs/" in e.path]
    assert ranges == ["", "bytes=5-", "bytes=11-", "bytes=18-"]
