"""Proves the rig with tools that are not ours: skopeo against every registry, http.client raw.

What these tests hold is that the servers, the proxy and the images mean what they say; the rest
of the suite builds on it.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import subprocess
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import pytest
import zstandard

from tests.rig import Exchange, Head, LoggingProxy, RegistryServer, Reply, RunCli, TokenServer
from tests.rig.testdata import PASSWORD, TESTDATA, USERNAME

Skopeo = Callable[..., subprocess.CompletedProcess[str]]
Preload = Callable[[RegistryServer, str, str], str]
MakeProxy = Callable[..., LoggingProxy]

DIGESTS: dict[str, dict[str, Any]] = json.loads((TESTDATA / "digests.json").read_text())


@pytest.fixture(params=["plain", "tls", "htpasswd", "token"])
def registry(request: pytest.FixtureRequest) -> RegistryServer:
    """Every registry in turn."""
    server = request.getfixturevalue(f"registry_{request.param}")
    assert isinstance(server, RegistryServer)
    return server


@pytest.mark.parametrize("kind", DIGESTS)
def test_every_kind_of_image_is_accepted_by_a_registry(
    registry_plain: RegistryServer, preload: Preload, repository: str, kind: str
) -> None:
    """What the registry has afterwards has the digest that digests.json has."""
    name = "test/schema1:latest" if kind == "schema1" else f"{repository}:{kind}"
    assert preload(registry_plain, kind, name) == DIGESTS[kind]["digest"]
    answer = registry_plain.manifest(*name.split(":"))
    assert answer.headers["docker-content-digest"] == DIGESTS[kind]["digest"]
    assert answer.headers["content-type"] == DIGESTS[kind]["mediaType"]


def test_skopeo_reads_the_signed_schema1_image(
    registry_plain: RegistryServer, images_dir: Path, skopeo: Skopeo, tmp_path: Path
) -> None:
    """A second reader: its digest of the payload, and its conversion of the history."""
    manifest = images_dir / "dir" / "schema1" / "manifest.json"
    assert skopeo("manifest-digest", manifest).stdout.strip() == DIGESTS["schema1"]["digest"]
    skopeo("copy", f"dir:{images_dir}/dir/schema1", f"oci:{tmp_path}/converted:latest")


def test_layers_hold_what_their_media_types_say(images_dir: Path) -> None:
    """Unpacked, every layer has the diff id that its configuration gives."""
    blobs = images_dir / "blobs" / "sha256"

    def load(descriptor: dict[str, Any]) -> Any:
        return json.loads((blobs / descriptor["digest"][7:]).read_bytes())

    unpack: dict[str, Callable[[bytes], bytes]] = {
        "gzip": gzip.decompress,
        "zstd": lambda data: zstandard.ZstdDecompressor().decompress(data),
        "tar": bytes,
    }
    seen = set()
    for kind in ("oci", "oci-zstd", "oci-uncompressed", "docker", "repeated", "empty-layer"):
        manifest = load(DIGESTS[kind])
        for layer, diff_id in zip(
            manifest["layers"], load(manifest["config"])["rootfs"]["diff_ids"], strict=True
        ):
            packing = layer["mediaType"].replace("+", ".").rsplit(".", 1)[1]
            content = unpack[packing]((blobs / layer["digest"][7:]).read_bytes())
            assert "sha256:" + hashlib.sha256(content).hexdigest() == diff_id
            seen.add(packing)
    assert seen == set(unpack)


def test_skopeo_pushes_to_and_pulls_from_every_registry(
    registry: RegistryServer, repository: str, images_dir: Path, skopeo: Skopeo
) -> None:
    """Certificates, credentials and tokens are those that an independent client understands."""
    target = f"docker://{registry.host}/{repository}:index"
    skopeo(
        "copy",
        "--all",
        "--preserve-digests",
        *registry.skopeo_flags("dest"),
        f"dir:{images_dir}/dir/index",
        target,
    )
    shown = skopeo("inspect", "--raw", *registry.skopeo_flags(), target)
    digest = "sha256:" + hashlib.sha256(shown.stdout.encode()).hexdigest()
    assert digest == DIGESTS["index"]["digest"]
    assert registry.tags(repository) == ["index"]


@pytest.mark.parametrize("kind", ["htpasswd", "token"])
def test_wrong_password_is_refused(
    kind: str, request: pytest.FixtureRequest, repository: str, skopeo: Skopeo
) -> None:
    """The registries with credentials mean it."""
    registry: RegistryServer = request.getfixturevalue(f"registry_{kind}")
    flags = [flag for flag in registry.skopeo_flags() if "creds" not in flag]
    name = f"docker://{registry.host}/{repository}"
    refused = skopeo("inspect", *flags, "--creds=tester:wrong", name, check=False)
    assert refused.returncode != 0
    assert "unauthorized" in refused.stderr.lower()


def test_manifests_can_be_deleted(
    registry_plain: RegistryServer, preload: Preload, repository: str
) -> None:
    """Deleting is switched on."""
    digest = preload(registry_plain, "oci", f"{repository}:oci")
    deleted = registry_plain.request("DELETE", f"/v2/{repository}/manifests/{digest}")
    assert deleted.status == 202
    assert registry_plain.manifest(repository, "oci").status == 404


# Tokens


def ask(
    tokens: TokenServer,
    method: str = "GET",
    authorization: str = "",
    **fields: str | list[str],
) -> tuple[int, Any]:
    """One request to a token server, as query or as form."""
    realm = urlsplit(tokens.url)
    connection = http.client.HTTPConnection(realm.netloc, timeout=10)
    headers = {"Authorization": authorization} if authorization else {}
    encoded = urlencode(fields, doseq=True)
    try:
        if method == "GET":
            connection.request("GET", f"{realm.path}?{encoded}", headers=headers)
        else:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            connection.request("POST", realm.path, encoded, headers)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


BASIC = "Basic " + b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()


@pytest.mark.parametrize("key", ["token", "token-rsa"])
@pytest.mark.parametrize("header", ["x5c", "kid"])
def test_registry_accepts_tokens_signed_either_way(
    tmp_path: Path, certificates: Path, key: Any, header: Any
) -> None:
    """Both key types and both ways to name the key."""
    with (
        TokenServer(certificates, key=key, header=header, anonymous_pull=True) as tokens,
        RegistryServer("token", tmp_path / "registry", certificates, tokens=tokens) as registry,
    ):
        registry.put_blob("some/repo", b"content")
        scope = "repository:some/repo:pull,push"
        status, body = ask(tokens, service=tokens.service, scope=scope)
        assert status == 200
        bearer = {"Authorization": f"Bearer {body['token']}"}
        digest = "sha256:" + hashlib.sha256(b"content").hexdigest()
        path = f"/v2/some/repo/blobs/{digest}"
        assert registry.request("GET", path, headers=bearer).body == b"content"
        upload = registry.request("POST", "/v2/some/repo/blobs/uploads/", headers=bearer)
        assert upload.status == 401, "an anonymous token must not allow a push"
        assert "insufficient_scope" in upload.headers["www-authenticate"]


def test_expired_token_is_refused(registry_token: RegistryServer, repository: str) -> None:
    """The lifetime holds on the registry's clock: its leeway is taken off."""
    tokens = registry_token.tokens
    assert tokens is not None
    tokens.lifetime = -1
    try:
        refused = registry_token.request("GET", f"/v2/{repository}/tags/list")
    finally:
        tokens.lifetime = 300
    assert refused.status == 401
    assert registry_token.request("GET", f"/v2/{repository}/tags/list").status == 404


def test_token_server_speaks_both_dialects(certificates: Path) -> None:
    """Basic GET gives a refresh token on demand; OAuth2 takes it, and keeps the log."""
    with TokenServer(certificates) as tokens:
        scopes = ["repository:127.0.0.1:5000/a/b:pull,push", "repository:c:pull"]
        service = {"service": tokens.service}
        status, body = ask(
            tokens, authorization=BASIC, scope=scopes, offline_token="true", **service
        )
        assert (status, body["expires_in"]) == (200, 300)
        refresh = {
            "grant_type": "refresh_token",
            "client_id": "test",
            "refresh_token": body["refresh_token"],
        }
        status, body = ask(tokens, "POST", scope=" ".join(scopes), **service, **refresh)
        assert (status, body["scope"]) == (200, " ".join(scopes))
        refresh["refresh_token"] = "made up"
        assert ask(tokens, "POST", **service, **refresh)[0] == 401
        assert ask(tokens, authorization="Basic " + b64encode(b"a:b").decode(), **service)[0] == 401
        noted = [(r.method, r.account, r.grant, r.status) for r in tokens.requests]
    assert noted == [
        ("GET", USERNAME, "basic", 200),
        ("POST", USERNAME, "refresh_token", 200),
        ("POST", None, "refresh_token", 401),
        ("GET", "a", "basic", 401),
    ]
    assert tokens.requests[0].scopes == tuple(scopes) == tokens.requests[1].scopes


# The proxy


def test_proxy_passes_a_whole_copy_and_counts_it(
    registry: RegistryServer,
    repository: str,
    images_dir: Path,
    skopeo: Skopeo,
    make_proxy: MakeProxy,
) -> None:
    """The registry builds its upload addresses for the proxy, so nothing goes round it."""
    proxy = make_proxy(registry)
    target = f"docker://{proxy.host}/{repository}:oci"
    flags = registry.skopeo_flags("dest")
    skopeo("copy", *flags, f"oci:{images_dir}:oci", target)
    exchanges = proxy.take()
    manifest = json.loads(registry.manifest(repository, "oci").body)
    sent = {e.path.split("&")[0]: e for e in exchanges if e.request_bytes}
    sizes = [manifest["config"]["size"], *(layer["size"] for layer in manifest["layers"])]
    uploads = [e.request_bytes for e in sent.values() if "/uploads/" in e.path]
    # Chunked framing adds a little where skopeo does not know the size before.
    assert len(uploads) == len(sizes)
    for size, measured in zip(sorted(sizes), sorted(uploads), strict=True):
        assert size <= measured <= size + 100
    puts = [e for e in exchanges if e.method == "PUT" and "/manifests/" in e.path]
    assert [e.status for e in puts] == [201]
    assert {e.connection for e in exchanges} <= set(range(1, proxy.connections + 1))


def fetch(proxy: LoggingProxy, *paths: str, method: str = "GET") -> list[tuple[int, bytes]]:
    """Several requests on one connection."""
    connection = http.client.HTTPConnection(proxy.host, timeout=10)
    answers = []
    try:
        for path in paths:
            connection.request(method, path)
            response = connection.getresponse()
            answers.append((response.status, response.read()))
    finally:
        connection.close()
    return answers


def test_proxy_keeps_connections_and_counts_bodies(
    registry_plain: RegistryServer, repository: str, make_proxy: MakeProxy
) -> None:
    """Three requests, one connection; HEAD has a length and no body."""
    content = bytes(range(256)) * 5000
    path = f"/v2/{repository}/blobs/{registry_plain.put_blob(repository, content)}"
    proxy = make_proxy(registry_plain)
    assert fetch(proxy, path, "/v2/", path) == [(200, content), (200, b"{}"), (200, content)]
    assert fetch(proxy, path, path, method="HEAD") == [(200, b""), (200, b"")]
    noted = [(e.connection, e.method, e.status, e.response_bytes) for e in proxy.take()]
    assert noted == [
        (1, "GET", 200, len(content)),
        (1, "GET", 200, 2),
        (1, "GET", 200, len(content)),
        (2, "HEAD", 200, 0),
        (2, "HEAD", 200, 0),
    ]


def test_proxy_hooks_answer_and_edit(registry_plain: RegistryServer, make_proxy: MakeProxy) -> None:
    """A reply in the registry's place, a request header taken off, a response header put on."""

    def on_request(head: Head) -> Head | Reply | None:
        if head.target == "/limited":
            return Reply(status=429, headers=(("Retry-After", "1"),), body=b"slow down")
        return head.without("Accept-Encoding")

    def on_response(exchange: Exchange, head: Head) -> Head | None:
        return head.with_header("X-Seen", exchange.path)

    proxy = make_proxy(registry_plain, on_request=on_request, on_response=on_response)
    assert fetch(proxy, "/limited", "/v2/") == [(429, b"slow down"), (200, b"{}")]
    limited, version = proxy.take()
    assert limited.response is not None
    assert limited.response.get("retry-after") == "1"
    assert version.response is not None
    assert version.response.get("x-seen") == "/v2/"


def test_proxy_can_cut_a_body_short(
    registry_plain: RegistryServer, repository: str, make_proxy: MakeProxy
) -> None:
    """The client gets the bytes up to there and no more; the next connection is whole again."""
    content = bytes(range(256)) * 5000
    path = f"/v2/{repository}/blobs/{registry_plain.put_blob(repository, content)}"

    def cut_first(exchange: Exchange, head: Head) -> None:
        exchange.cut_after = 1000 if exchange.connection == 1 else None

    proxy = make_proxy(registry_plain, on_response=cut_first)
    with pytest.raises(http.client.IncompleteRead) as caught:
        fetch(proxy, path)
    assert caught.value.partial == content[:1000]
    assert fetch(proxy, path) == [(200, content)]
    assert [e.response_bytes for e in proxy.take()] == [1000, len(content)]


def test_proxy_latency_comes_before_the_request_goes_on(
    registry_plain: RegistryServer, make_proxy: MakeProxy
) -> None:
    """No answer is there sooner than the latency."""
    proxy = make_proxy(registry_plain, latency=0.05)
    fetch(proxy, "/v2/", "/v2/")
    for exchange in proxy.take():
        assert exchange.ended - exchange.started >= 0.05


def test_proxy_before_a_registry_that_is_gone_cuts_the_connection(
    tmp_path: Path, certificates: Path
) -> None:
    """The client sees what it would see without the proxy, and nothing is left behind."""
    with RegistryServer("plain", tmp_path / "registry", certificates) as registry:
        upstream = registry.host
    with LoggingProxy(upstream) as proxy, pytest.raises((http.client.HTTPException, OSError)):
        fetch(proxy, "/v2/")


# The command line


def test_run_cli_starts_from_an_empty_home(run_cli: RunCli) -> None:
    """Nothing of the tester's environment gets through but PATH, and no store."""
    assert list(run_cli.home.iterdir()) == []
    assert set(run_cli.env) == {
        "CONTAINERS_STORAGE_CONF",
        "HOME",
        "LC_ALL",
        "PATH",
        "TMPDIR",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_RUNTIME_DIR",
    }
    assert run_cli.command("inspect", Path("a"))[1:] == ["-m", "imgtools", "inspect", "a"]


def test_upload_location_keeps_its_state(registry_plain: RegistryServer, repository: str) -> None:
    """An empty blob and one with every byte value go in and come out."""
    for content in (b"", bytes(range(256))):
        digest = registry_plain.put_blob(repository, content)
        path = f"/v2/{repository}/blobs/{quote(digest)}"
        assert registry_plain.request("GET", path).body == content
