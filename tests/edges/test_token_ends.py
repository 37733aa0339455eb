"""Cases 8 and 9: tokens that end in the middle of things, and many threads that need one."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from imgtools.testing import images
from imgtools.testing.authority import AuthOptions
from imgtools.testing.dialects import Dialect
from imgtools.testing.registry import ScriptedRegistry
from tests.bad_input import push
from tests.edges.kit import USER, copied, token_requests
from tests.registry_fake import open_session

IMAGE = images.random_image("token ends", layers=3)
BIG = images.random_image("big", layers=1, size=6_000_000)
BEARER = AuthOptions(scheme="bearer", anonymous_pull=False)
BOTH = ("--src-creds", USER, "--dest-creds", USER)


@pytest.mark.parametrize("uses", [1, 2, 3, 4])
@pytest.mark.parametrize("limit", [None, 2_000_000], ids=["PUT", "PATCH"])
def test_08_tokens_that_end_during_an_upload_are_replaced(
    tmp_path: Path, uses: int, limit: int | None
) -> None:
    options = replace(BEARER, requests_per_token=uses)
    with (
        ScriptedRegistry() as source,
        ScriptedRegistry(auth=options, dialect=Dialect(body_limit=limit)) as registry,
    ):
        name = push(source, "app", BIG)
        done = copied(tmp_path, name, f"docker://{registry.host}/copy:1", "--dest-creds", USER,
                      "--image-parallel-copies=1")  # fmt: skip
        assert done.code == 0, done.err
        sent = {e.method for e in registry.requests if e.status == 401 and e.received}
        used = {e.method for e in registry.requests if e.received > 100_000}
        assert ("PATCH" in used) is (limit is not None)
        assert len(registry.tokens) > 1
        assert uses != 1 or sent >= used - {"PATCH"}
        assert registry.repository("copy").blobs == source.repository("app").blobs


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize(("method", "limit"), [("PUT", None), ("PATCH", 2_000_000)])
def test_08_a_401_before_the_end_of_the_body_is_read_and_the_body_sent_again(
    tmp_path: Path, method: str, limit: int | None, reset: bool
) -> None:
    with (
        ScriptedRegistry() as source,
        ScriptedRegistry(auth=BEARER, dialect=Dialect(body_limit=limit)) as registry,
    ):
        name = push(source, "app", BIG)
        challenge = f'Bearer realm="{registry.url}/token",service="s",error="invalid_token"'
        early = registry.fail(method=method, path="/blobs/uploads/.*", nth=2 if limit else 1,
                              status=401, early=100_000, reset=reset,
                              headers={"WWW-Authenticate": challenge})  # fmt: skip
        done = copied(tmp_path, name, f"docker://{registry.host}/copy:1", "--dest-creds", USER)
        assert done.code == 0, done.err
        assert registry.faults.applied(early) == 1
        assert registry.repository("copy").blobs == source.repository("app").blobs


@pytest.mark.parametrize("status", [404, 400])
def test_08_a_session_that_went_with_its_token_is_begun_again(tmp_path: Path, status: int) -> None:
    with ScriptedRegistry() as source, ScriptedRegistry(auth=BEARER) as registry:
        name = push(source, "app", BIG)
        challenge = f'Bearer realm="{registry.url}/token",service="s",error="invalid_token"'
        registry.fail(method="PUT", path="/blobs/uploads/", nth=1, status=401, early=100_000,
                      headers={"WWW-Authenticate": challenge})  # fmt: skip
        lost = registry.fail(method="PUT", path="/blobs/uploads/", nth=2, status=status)
        done = copied(tmp_path, name, f"docker://{registry.host}/copy:1", "--dest-creds", USER,
                      "--image-parallel-copies=1")  # fmt: skip
        assert done.code == 0, done.err
        assert registry.faults.applied(lost) == 1
        sessions = [e.path for e in registry.requests if e.method == "PUT" and e.received]
        assert len(set(sessions[:3])) == 2
        assert registry.repository("copy").blobs == source.repository("app").blobs


@pytest.mark.parametrize("first", ["nothing is known", "the token has ended"])
def test_09_sixteen_threads_make_one_token_request(first: str) -> None:
    with ScriptedRegistry(auth="bearer", latency=0.02) as registry:
        push(registry, "app", IMAGE)
        session = open_session(registry.host)
        together = threading.Barrier(16)
        statuses: list[int] = []

        def ask() -> None:
            one = {"repository": "app", "scopes": ["repository:app:pull"]}
            with session.request("GET", "/v2/app/manifests/1", **one) as response:
                statuses.append(response.status)

        def ask_together() -> None:
            together.wait()
            ask()

        if first == "the token has ended":
            ask()
            registry.authority.expire_all()
        before = len(token_requests(registry))
        threads = [threading.Thread(target=ask_together) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        session.close()
        assert set(statuses) == {200}
        assert len(token_requests(registry)) == before + 1


def test_09_a_copy_with_sixteen_transfers_has_one_token_for_each_side(tmp_path: Path) -> None:
    sample = images.random_image("sixteen", layers=16, size=10)
    with (
        ScriptedRegistry(auth=BEARER, latency=0.005) as source,
        ScriptedRegistry(auth=BEARER, latency=0.005) as target,
    ):
        name = push(source, "app", sample)
        done = copied(tmp_path, name, f"docker://{target.host}/copy:1", *BOTH,
                      "--image-parallel-copies", "16")  # fmt: skip
        assert done.code == 0, done.err
        assert (len(source.tokens), len(target.tokens)) == (1, 1)
