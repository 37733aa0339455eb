"""Cases 10 to 14: what may be deleted and cancelled, and who is shown credentials."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.testing import images
from imgtools.testing.authority import AuthOptions
from imgtools.testing.dialects import Dialect
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.registry.wire.connection import Network
from tests.bad_input import PLAIN, Outcome, cli, push
from tests.edges.kit import USER, copied, raw, scopes, shown, token_requests
from tests.registry_fake import Answer, FakeRegistry, Request, say

IMAGE = images.random_image("trust", layers=2)
BIG = images.random_image("big", layers=1, size=3_000_000)
BEARER = AuthOptions(scheme="bearer", anonymous_pull=False)
BASIC = AuthOptions(scheme="basic")
QUAY = frozenset({"pull", "push", "*"})
OURS, ALL = "repository:app:pull,push,delete", "repository:app:*"
UPLOADS = "/blobs/uploads/"


@pytest.mark.parametrize(
    ("switches", "asked"),
    [
        ({}, [[OURS]]),
        ({"delete_action": "*"}, [[OURS], [OURS, ALL]]),
        ({"delete_action": "*", "scope_status": 403}, [[OURS], [OURS, ALL]]),
        ({"known_actions": QUAY, "unknown_action_status": 400}, [[OURS], [ALL]]),
        ({"known_actions": QUAY, "unknown_action_status": 401}, [[OURS], [ALL]]),
        ({"known_actions": QUAY, "unknown_action_status": 403}, [[OURS], [ALL]]),
    ],
)
def test_10_the_scope_that_deletes_is_asked_for_by_its_names(
    tmp_path: Path, switches: dict[str, Any], asked: list[list[str]]
) -> None:
    with ScriptedRegistry(auth=replace(BEARER, **switches)) as registry:
        name = push(registry, "app", IMAGE)
        done = cli(tmp_path, "delete", PLAIN, "--creds", USER, name)
        assert done.code == 0, done.err
        assert registry.repository("app").tags == {}
        assert scopes(registry) == asked


@pytest.mark.parametrize("refusal", ["401", "403", 401, 403, 404, 405, 500])
def test_11_a_session_that_may_not_be_given_up_fails_nothing(
    tmp_path: Path, refusal: str | int
) -> None:
    # The first session of a large blob is given up: it does not say what became of the body.
    dialect = Dialect(
        body_limit=1_000_000,
        upload_status=False,
        cancel=refusal if isinstance(refusal, int) else None,
    )
    auth = BEARER
    if isinstance(refusal, str):
        auth = replace(BEARER, cancel_needs_delete=True, scope_status=int(refusal))
    with ScriptedRegistry() as source, ScriptedRegistry(auth=auth, dialect=dialect) as registry:
        name = push(source, "app", BIG)
        done = copied(tmp_path, name, f"docker://{registry.host}/copy:1", "--dest-creds", USER)
        assert (done.code, done.err) == (0, "")
        cancelled = {e.status for e in registry.requests if e.method == "DELETE"}
        assert cancelled == {int(refusal)}
        assert registry.repository("copy").blobs == source.repository("app").blobs


# Credentials stay where they belong


def nothing_shown(other: ScriptedRegistry | FakeRegistry) -> bool:
    """Whether a server was asked something, and not shown anything of another's."""
    return bool(other.requests) and not any(
        "authorization" in request.headers or "cookie" in request.headers
        for request in other.requests
    )


@pytest.mark.parametrize("auth", [BASIC, BEARER], ids=["basic", "bearer"])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("path", ["/manifests/", "/blobs/sha256"])
def test_12_redirects_take_no_credentials_to_another_port(
    tmp_path: Path, auth: AuthOptions, status: int, path: str
) -> None:
    with ScriptedRegistry() as other, ScriptedRegistry(auth=auth) as registry:
        push(other, "app", IMAGE)
        name = push(registry, "app", IMAGE)
        # What is redirected was let in before.
        done = raw(tmp_path, name, "--creds", USER)
        assert done.code == 0, done.err
        registry.fail(path=f"{path}.*", redirect=other.url + "{target}", status=status,
                      headers={"Set-Cookie": "session=secret; Path=/"})  # fmt: skip
        done = copied(tmp_path, name, f"dir:{tmp_path}/d", "--src-creds", USER)
        assert done.code == 0, done.err
        assert nothing_shown(other)


@pytest.mark.parametrize("auth", [BASIC, BEARER], ids=["basic", "bearer"])
def test_12_uploads_at_another_port_have_no_credentials(tmp_path: Path, auth: AuthOptions) -> None:
    with (
        FakeRegistry(lambda request: say(201)) as other,
        ScriptedRegistry() as source,
        ScriptedRegistry(auth=auth, dialect=Dialect(sparse=True)) as registry,
    ):
        name = push(source, "app", IMAGE)
        location = {"Location": f"{other.url}/elsewhere?state=1"}
        registry.fail(method="POST", path=UPLOADS, nth=range(2, 99), status=202, headers=location)
        copied(tmp_path, name, f"docker://{registry.host}/copy:1", "--dest-creds", USER)
        assert {request.method for request in other.requests} >= {"PUT"}
        assert nothing_shown(other)
        # The registry itself was shown them, so there was something to leak.
        assert shown(registry.requests)


@pytest.mark.parametrize("auth", [BASIC, BEARER], ids=["basic", "bearer"])
def test_12_pages_do_not_go_on_at_another_port(tmp_path: Path, auth: AuthOptions) -> None:
    with ScriptedRegistry() as other, ScriptedRegistry(auth=auth) as registry:
        for each in (other, registry):
            push(each, "app", IMAGE)
        link = {"Link": f'<{other.url}/v2/app/tags/list?last=x>; rel="next"'}
        registry.fail(path="/tags/list", set_headers=link)
        name = f"docker://{registry.host}/app"
        cli(tmp_path, "list-tags", PLAIN, "--creds", USER, name).refused("another host")
        assert other.requests == []


def test_12_foreign_layers_are_fetched_without_credentials(tmp_path: Path) -> None:
    value = json.loads(IMAGE.top.content)
    layer = value["layers"][0]
    with ScriptedRegistry() as other, ScriptedRegistry(auth="basic") as registry:
        push(other, "app", IMAGE)
        push(registry, "app", IMAGE)
        layer |= {
            "mediaType": mt.OCI_FOREIGN_GZIP,
            "urls": [f"{other.url}/v2/app/blobs/{layer['digest']}"],
        }
        registry.push_manifest("app", json.dumps(value).encode(), mt.OCI_MANIFEST, tags=["f"])
        del registry.repository("app").blobs[Digest.parse(layer["digest"])]
        name = f"docker://{registry.host}/app:f"
        done = copied(tmp_path, name, f"dir:{tmp_path}/d", "--src-creds", USER)
        assert done.code == 0, done.err
        assert (tmp_path / "d" / layer["digest"].partition(":")[2]).is_file()
        assert nothing_shown(other)


@pytest.mark.parametrize("verify", [True, False])
def test_12_a_token_server_without_tls_is_not_used_by_a_registry_with_tls(
    tmp_path: Path, certificates: Path, verify: bool
) -> None:
    with ScriptedRegistry(auth="bearer") as other:
        realm = f"{other.url}/token"
        certificate = {f"tls_{k}": str(certificates / f"server.{e}")
                       for k, e in (("cert", "crt"), ("key", "key"))}  # fmt: skip
        options = AuthOptions(scheme="bearer", realm=realm)
        with ScriptedRegistry(auth=options, **certificate) as registry:
            name = push(registry, "app", IMAGE)
            trust = ("--cert-dir", str(certificates / "trust"), f"--tls-verify={verify}".lower())
            done = cli(tmp_path, "inspect", "--raw", *trust, "--creds", USER, name)
            if verify:
                done.refused("leaves TLS")
                assert other.requests == []
            else:
                # Who verifies nothing has nothing to lose, and test set-ups look like this.
                assert len(token_requests(other)) > 0


# Pre-signed URLs and redirects


@pytest.mark.parametrize("auth", [BASIC, BEARER], ids=["basic", "bearer"])
@pytest.mark.parametrize("status", [302, 307])
@pytest.mark.parametrize("place", ["port", "host"])
def test_13_signed_urls_are_asked_plainly(
    tmp_path: Path, auth: AuthOptions, status: int, place: Any
) -> None:
    dialect = Dialect(presigned=place, presigned_head=True, redirect_status=status)
    with ScriptedRegistry(auth=auth, dialect=dialect) as registry:
        name = push(registry, "app", IMAGE)
        done = copied(tmp_path, name, f"dir:{tmp_path}/d", "--src-creds", USER)
        assert done.code == 0, done.err
        stored = [e for e in registry.requests if e.storage]
        assert {e.status for e in stored} == {200}
        for exchange in stored:
            names = set(exchange.headers)
            assert not {n for n in names if n.startswith("docker-")} | names & {"authorization"}
            assert exchange.headers.get("accept", "*/*") == "*/*"


def test_13_head_of_a_blob_is_redirected_too(tmp_path: Path) -> None:
    dialect = Dialect(presigned="port", presigned_head=True)
    with ScriptedRegistry() as source, ScriptedRegistry(auth=BASIC, dialect=dialect) as registry:
        name = push(source, "app", IMAGE)
        # Whether a blob is stored whose answer was lost, HEAD tells.
        registry.fail(method="PUT", path=UPLOADS, status=502, processed=True)
        done = copied(tmp_path, name, f"docker://{registry.host}/copy:1", "--dest-creds", USER)
        assert done.code == 0, done.err
        assert {(e.method, e.status) for e in registry.requests if e.storage} == {("HEAD", 200)}
        assert registry.repository("copy").tags["1"] == IMAGE.top.digest


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_13_redirects_of_uploads_keep_method_and_body(
    tmp_path: Path, method: str, status: int
) -> None:
    dialect = Dialect(body_limit=1_000_000 if method == "PATCH" else None)
    with ScriptedRegistry() as source, ScriptedRegistry(auth=BASIC, dialect=dialect) as registry:
        name = push(source, "app", BIG)
        once = registry.fail(method=method, path=UPLOADS, nth=2, status=status, redirect="{target}")
        done = copied(tmp_path, name, f"docker://{registry.host}/copy:1", "--dest-creds", USER,
                      "--image-parallel-copies=1")  # fmt: skip
        assert done.code == 0, done.err
        assert registry.faults.applied(once) == 1
        redirected = next(i for i, e in enumerate(registry.requests) if e.status == status)
        before, after = registry.requests[redirected : redirected + 2]
        assert (before.method, before.target) == (after.method, after.target)
        length = "content-length"
        assert before.headers[length] == after.headers[length] == str(after.received)
        # The same place, so the same credentials.
        assert before.headers["authorization"] == after.headers["authorization"]
        assert registry.repository("copy").blobs == source.repository("app").blobs


@pytest.mark.parametrize("status", [301, 302, 303])
def test_13_no_body_is_turned_into_another_request(tmp_path: Path, status: int) -> None:
    with ScriptedRegistry() as source, ScriptedRegistry() as registry:
        name = push(source, "app", IMAGE)
        registry.fail(method="PUT", path=UPLOADS, status=status, redirect="/somewhere")
        target = f"docker://{registry.host}/copy:1"
        done = copied(tmp_path, name, target, "--image-parallel-copies=1")
        done.refused(f"PUT {registry.url}", f" {status}")
        assert registry.count(path="^/somewhere") == 0
        assert registry.repository("copy").manifests == {}


# Redirects without an end, and inwards


@pytest.mark.parametrize("path", ["/manifests/", "/blobs/sha256"])
def test_14_redirects_end_after_ten(tmp_path: Path, path: str) -> None:
    with ScriptedRegistry() as first, ScriptedRegistry() as second:
        push(second, "app", IMAGE)
        name = push(first, "app", IMAGE)
        first.fail(path=path, redirect=second.url + "{target}")
        second.fail(path=path, redirect=first.url + "{target}")
        done = copied(tmp_path, name, f"dir:{tmp_path}/d", "--image-parallel-copies=1")
        done.refused("more than 10 redirects")
        asked = [e for each in (first, second) for e in each.requests if e.fault]
        assert 0 < len(asked) <= 22  # HEAD and GET, eleven requests each


@contextmanager
def kinds(monkeypatch: pytest.MonkeyPatch, **others: Any) -> Iterator[None]:
    """127.0.0.1 counts as public here, and 127.0.0.2 as `other`."""
    known = {"127.0.0.1": "public", "127.0.0.2": others["other"]}
    network = Network(classify=lambda address: known[address])  # type: ignore[arg-type,return-value]
    with monkeypatch.context() as patched:
        patched.setattr("imgtools.transport.registry.wire.http.Network", lambda: network)
        yield


def lead(tmp_path: Path, way: str, other: FakeRegistry, *flags: str) -> Outcome:
    """A registry leads to `other` in one way or another."""
    auth: Any = AuthOptions(scheme="bearer", realm=f"{other.url}/token")
    with ScriptedRegistry(auth=auth if way == "realm" else "none") as registry:
        name = push(registry, "app", IMAGE)
        if way == "redirect":
            registry.fail(path="/blobs/sha256", redirect=other.url + "{target}")
        if way == "location":
            location = {"Location": f"{other.url}/up"}
            registry.fail(method="POST", path=UPLOADS, status=202, headers=location)
            layout = f"oci:{tmp_path}/layout:1"
            assert copied(tmp_path, name, layout).code == 0
            return copied(tmp_path, layout, f"docker://{registry.host}/copy:1", *flags)
        return copied(tmp_path, name, f"dir:{tmp_path}/d", *flags)


@pytest.mark.parametrize("way", ["redirect", "location", "realm"])
@pytest.mark.parametrize("kind", ["private", "loopback", "link-local", "metadata"])
def test_14_a_public_registry_does_not_lead_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, kind: str
) -> None:
    def script(request: Request) -> Answer:
        return say(200, {"token": "t"})

    with FakeRegistry(script, address="127.0.0.2") as other, kinds(monkeypatch, other=kind):
        done = lead(tmp_path, way, other, "--image-parallel-copies=1")
        done.refused(f"127.0.0.2, which is a {kind}")
        assert ("--allow-private" in done.err) is (kind in ("private", "loopback"))
        assert other.requests == []


@pytest.mark.parametrize("way", ["redirect", "location", "realm"])
def test_14_it_may_lead_to_what_is_public(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    with (
        FakeRegistry(lambda request: say(404), address="127.0.0.2") as other,
        kinds(monkeypatch, other="public"),
    ):
        assert "which is a" not in lead(tmp_path, way, other).err
        assert other.requests
