"""Cases 49 to 57: how blobs are taken, by registries and by what stands in front of them."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from imgtools.spec.digest import Digest
from imgtools.testing import images
from imgtools.testing.authority import AuthOptions
from imgtools.testing.connection import Exchange
from imgtools.testing.dialects import DISTRIBUTION_2, GGCR, Dialect
from imgtools.testing.images import Sample
from imgtools.testing.presets import ECR_LIKE
from imgtools.testing.registry import ScriptedRegistry
from tests.bad_input import Outcome, cli, push
from tests.edges.kit import USER, copied, scopes

MB = 1 << 20
IMAGE = images.random_image("uploads", layers=1, size=900_000, compression="none")
LARGE = images.random_image("large", layers=1, size=12 * MB, compression="none")
SESSION = r"/blobs/uploads/."
CHUNKED = 300_000
"""A limit of bodies that makes several chunks of the layer."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Layouts with the images, by "image" and "large"."""
    path = tmp_path_factory.mktemp("layouts")
    names = {}
    with ScriptedRegistry() as registry:
        for key, sample in (("image", IMAGE), ("large", LARGE)):
            names[key] = f"oci:{path}/{key}:1"
            done = copied(path, push(registry, key, sample), names[key])
            assert done.code == 0, done.err
    return names


@pytest.fixture
def source(sources: dict[str, str]) -> str:
    return sources["image"]


def pushed(
    tmp_path: Path, source: str, registry: ScriptedRegistry, *flags: str, name: str = "copy:1"
) -> Outcome:
    return copied(tmp_path, source, f"docker://{registry.host}/{name}", *flags)


def failed(done: Outcome, *words: str) -> None:
    """Assert that it failed as it should; blobs that fail together have a line each."""
    done.refused(*words, lines=len(done.err.splitlines()))


def arrived(registry: ScriptedRegistry, sample: Sample = IMAGE, name: str = "copy") -> bool:
    """Whether the whole sample is there under its tag."""
    there = registry.repository(name)
    blobs = {descriptor.digest: content for descriptor, content in sample.blobs.items()}
    return there.blobs == blobs and there.tags.get("1") == sample.top.digest


def sent(registry: ScriptedRegistry, *methods: str) -> list[Exchange]:
    """The requests about uploads with one of these methods."""
    found = [e for e in registry.requests if "/uploads/" in e.target]
    return [e for e in found if not methods or e.method in methods]


def layer(sample: Sample = IMAGE) -> Digest:
    return max(sample.blobs, key=lambda descriptor: descriptor.size).digest


def put_of(digest: Digest) -> str:
    """A regular expression for the closing PUT of a blob."""
    return f"{SESSION}.*{digest.hex}"


# 49: Location


@pytest.mark.parametrize("body_limit", [None, CHUNKED], ids=["whole", "chunks"])
@pytest.mark.parametrize(
    "form", ["relative", "absolute", "scheme-relative", "path-relative", "state", "encoded"]
)
def test_49_location_in_every_form_whole_and_in_chunks(
    tmp_path: Path, source: str, form: Any, body_limit: int | None
) -> None:
    # Two of the forms change with every answer, and only the newest is good.
    with ScriptedRegistry(dialect=Dialect(location=form, body_limit=body_limit)) as registry:
        done = pushed(tmp_path, source, registry)
        assert done.code == 0, done.err
        assert arrived(registry)
        assert bool(sent(registry, "PATCH")) is (body_limit is not None)
        for exchange in sent(registry, "PUT"):
            query = exchange.target.partition("?")[2]
            assert re.search(r"(^|&)digest=sha256(:|%3A)[0-9a-f]{64}$", query)
            assert ("sig=a%2Bb%2fc%3D%7e&x=%7C&" in query) is (form == "encoded")


def test_49_http_location_behind_a_tls_proxy_is_read_as_https(
    tmp_path: Path, source: str, certificates: Path
) -> None:
    trust = tmp_path / "certs"
    trust.mkdir()
    shutil.copy(certificates / "ca.crt", trust)
    with ScriptedRegistry(
        dialect=Dialect(location="http", body_limit=CHUNKED),
        tls_cert=str(certificates / "server.crt"),
        tls_key=str(certificates / "server.key"),
    ) as registry:
        target = f"docker://{registry.host}/copy:1"
        done = cli(tmp_path, "copy", "-q", "--dest-cert-dir", trust, source, target)
        assert done.code == 0, done.err
        assert arrived(registry)


@pytest.mark.parametrize("location", ["http://[::1/u", "ftp://127.0.0.1/u", "http://", ""])
def test_49_location_that_leads_nowhere_is_an_error(
    tmp_path: Path, source: str, location: str
) -> None:
    with ScriptedRegistry() as registry:
        registry.fail(method="POST", set_headers={"Location": location})
        failed(pushed(tmp_path, source, registry))
        assert registry.repository("copy").tags == {}


# 50: POST and mounts


@pytest.mark.parametrize("mount", ["yes", "no"])
@pytest.mark.parametrize("status", [200, 201, 202])
def test_50_session_is_opened_with_any_status(tmp_path: Path, status: int, mount: Any) -> None:
    with ScriptedRegistry(dialect=Dialect(post_status=status, mount=mount)) as registry:
        name = push(registry, "app", IMAGE)
        done = pushed(tmp_path, name, registry)
        assert done.code == 0, done.err
        assert arrived(registry)
        # The session that a refused mount opens is used, so there is one POST for each blob.
        assert len(sent(registry, "POST")) == 2
        assert len(sent(registry, "PUT")) == (0 if mount == "yes" else 2)


def test_50_status_without_a_session_is_an_error(tmp_path: Path, source: str) -> None:
    with ScriptedRegistry() as registry:
        registry.fail(method="POST", status=200, body="<html><title>Welcome</title></html>")
        failed(pushed(tmp_path, source, registry), "200", "Location")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
def test_50_refused_mount_is_followed_by_a_plain_upload(tmp_path: Path, status: int) -> None:
    with ScriptedRegistry(dialect=Dialect(mount=status)) as registry:
        name = push(registry, "app", IMAGE)
        done = pushed(tmp_path, name, registry)
        assert done.code == 0, done.err
        assert arrived(registry)
        for exchange in sent(registry, "POST"):
            # Without `from`, some registries refuse and others open a session.
            assert ("mount=" in exchange.target) is ("from=" in exchange.target)


def test_50_blob_to_mount_that_is_gone_is_uploaded(tmp_path: Path) -> None:
    # The destination's own repository of that name has other blobs.
    with ScriptedRegistry() as source, ScriptedRegistry() as registry:
        name = push(source, "app", IMAGE)
        registry.push_blob("app", b"something else")
        assert pushed(tmp_path, name, registry).code == 0
        assert arrived(registry)


@pytest.mark.parametrize("dialect", [DISTRIBUTION_2, Dialect(monolithic_post=405)])
def test_50_blobs_are_never_sent_with_post(tmp_path: Path, source: str, dialect: Dialect) -> None:
    # Docker's registry throws them away, and others refuse them.
    with ScriptedRegistry(dialect=dialect) as registry:
        assert pushed(tmp_path, source, registry).code == 0
        assert arrived(registry)
        assert [e.received for e in sent(registry, "POST")] == [0, 0]
        assert not any("digest=" in e.target for e in sent(registry, "POST"))


# 51: what a mount says


@pytest.mark.parametrize("said", ["own", "none", "other"])
def test_51_mount_that_names_another_blob_is_an_error(tmp_path: Path, said: Any) -> None:
    with ScriptedRegistry(dialect=Dialect(mount_digest=said)) as registry:
        name = push(registry, "app", IMAGE)
        done = pushed(tmp_path, name, registry)
        if said == "other":
            failed(done, str(Digest.of(b"another blob")))
            assert registry.repository("copy").tags == {}
        else:
            assert done.code == 0, done.err
            assert arrived(registry)


def test_51_both_scopes_in_one_token_ours_first(tmp_path: Path) -> None:
    auth = AuthOptions(scheme="bearer", anonymous_pull=False)
    with ScriptedRegistry(auth=auth) as registry:
        name = push(registry, "app", IMAGE)
        done = pushed(tmp_path, name, registry, "--src-creds", USER, "--dest-creds", USER)
        assert done.code == 0, done.err
        assert arrived(registry)
        assert ["repository:copy:pull,push", "repository:app:pull"] in scopes(registry)
        assert sent(registry, "PUT") == []


@pytest.mark.parametrize("status", [400, 401, 403])
def test_51_source_that_the_token_may_not_read_is_not_mounted(tmp_path: Path, status: int) -> None:
    auth = AuthOptions(scheme="bearer", anonymous_pull=False)
    with ScriptedRegistry(auth=auth) as registry:
        name = push(registry, "app", IMAGE)
        registry.fail(path=r"/token\?.*copy.*app", status=status)
        done = pushed(tmp_path, name, registry, "--src-creds", USER, "--dest-creds", USER)
        assert done.code == 0, done.err
        assert arrived(registry)


def test_51_token_server_that_grants_the_first_scope_only(tmp_path: Path) -> None:
    auth = AuthOptions(scheme="bearer", anonymous_pull=False, first_scope_only=True)
    with ScriptedRegistry(auth=auth) as registry:
        name = push(registry, "app", IMAGE)
        done = pushed(tmp_path, name, registry, "--src-creds", USER, "--dest-creds", USER)
        assert done.code == 0, done.err
        assert arrived(registry)


# 52: chunks


@pytest.mark.parametrize("status", [200, 201, 202, 204])
@pytest.mark.parametrize("form", ["0-N", "bytes", "none"])
def test_52_chunk_is_accepted_with_any_status_and_range(
    tmp_path: Path, source: str, status: int, form: Any
) -> None:
    dialect = Dialect(patch_status=status, range_form=form, body_limit=CHUNKED)
    with ScriptedRegistry(dialect=dialect) as registry:
        done = pushed(tmp_path, source, registry)
        assert done.code == 0, done.err
        assert arrived(registry)
        ranges = [e.headers["content-range"] for e in sent(registry, "PATCH") if e.status < 300]
        assert ranges[0].startswith("0-")
        for before, after in pairwise(ranges):
            assert int(after.partition("-")[0]) == int(before.partition("-")[2]) + 1


def test_52_range_that_does_not_advance_costs_the_chunks_not_the_upload(
    tmp_path: Path, sources: dict[str, str]
) -> None:
    # The first request is cut, so chunks are tried; their Range then never moves.
    with ScriptedRegistry(dialect=Dialect(range_form="stuck")) as registry:
        registry.fail(method="PUT", path=put_of(layer(LARGE)), nth=1, cut_request=5 * MB)
        done = pushed(tmp_path, sources["large"], registry)
        assert done.code == 0, done.err
        assert arrived(registry, LARGE)


def test_52_range_that_does_not_advance_where_only_chunks_fit_is_an_error(
    tmp_path: Path, source: str
) -> None:
    with ScriptedRegistry(dialect=Dialect(range_form="stuck", body_limit=CHUNKED)) as registry:
        failed(pushed(tmp_path, source, registry))
        assert registry.repository("copy").tags == {}
        assert len(sent(registry)) < 40


@pytest.mark.parametrize("form", ["0-N", "none"])
def test_52_dropped_chunk_is_noticed(tmp_path: Path, sources: dict[str, str], form: Any) -> None:
    dialect = Dialect(dropped_chunks={1}, range_form=form, content_range=False)
    with ScriptedRegistry(dialect=dialect) as registry:
        registry.fail(method="PUT", path=put_of(layer(LARGE)), nth=1, cut_request=5 * MB)
        done = pushed(tmp_path, sources["large"], registry)
        assert done.code == 0, done.err
        assert arrived(registry, LARGE)


@pytest.mark.parametrize("dialect", [DISTRIBUTION_2, GGCR], ids=["killed", "no status"])
def test_52_session_that_died_with_its_request_is_replaced(
    tmp_path: Path, sources: dict[str, str], dialect: Dialect
) -> None:
    with ScriptedRegistry(dialect=dialect) as registry:
        registry.fail(method="PUT", path=put_of(layer(LARGE)), nth=1, cut_request=5 * MB)
        registry.fail(method="PATCH", nth=1, cut_request=2 * MB)
        done = pushed(tmp_path, sources["large"], registry)
        assert done.code == 0, done.err
        assert arrived(registry, LARGE)


def test_52_session_that_lived_is_gone_on_with(tmp_path: Path, sources: dict[str, str]) -> None:
    with ScriptedRegistry() as registry:
        registry.fail(method="PUT", path=put_of(layer(LARGE)), nth=1, cut_request=5 * MB)
        assert pushed(tmp_path, sources["large"], registry).code == 0
        assert arrived(registry, LARGE)
        assert len(sent(registry, "POST")) == 2
        offsets = [e.headers["content-range"].partition("-")[0] for e in sent(registry, "PATCH")]
        assert offsets[0] == str(5 * MB)


@pytest.mark.parametrize("said", ["0-99999999", "junk", "7-9", ""])
def test_52_session_that_says_what_cannot_be_is_replaced(
    tmp_path: Path, sources: dict[str, str], said: str
) -> None:
    with ScriptedRegistry() as registry:
        registry.fail(method="PUT", path=put_of(layer(LARGE)), nth=1, cut_request=5 * MB)
        registry.fail(method="GET", path=SESSION, set_headers={"Range": said})
        assert pushed(tmp_path, sources["large"], registry).code == 0
        assert arrived(registry, LARGE)
        assert len(sent(registry, "POST")) == 3


def test_52_announced_least_chunk_is_kept_to(tmp_path: Path, sources: dict[str, str]) -> None:
    dialect = Dialect(chunk_min=5 * MB, body_limit=6 * MB)
    with ScriptedRegistry(dialect=dialect) as registry:
        done = pushed(tmp_path, sources["large"], registry)
        assert done.code == 0, done.err
        assert arrived(registry, LARGE)
        taken = [e.received for e in sent(registry, "PATCH") if e.status == 202]
        assert all(size >= 5 * MB for size in taken[:-1])


def test_52_all_that_is_told_of_ecr_at_once(tmp_path: Path, sources: dict[str, str]) -> None:
    auth = ECR_LIKE.auth
    creds = f"{auth.username}:{auth.password}"
    with ScriptedRegistry(dialect=ECR_LIKE.dialect, auth=auth) as registry:
        registry.repository("copy")
        registry.fail(method="PUT", path=put_of(layer(LARGE)), nth=1, cut_request=7 * MB)
        done = pushed(tmp_path, sources["large"], registry, "--dest-creds", creds)
        assert done.code == 0, done.err
        assert arrived(registry, LARGE)


# 53: the closing PUT


@pytest.mark.parametrize("body_limit", [None, CHUNKED], ids=["whole", "chunks"])
@pytest.mark.parametrize("status", [200, 201, 204])
def test_53_blob_is_stored_with_any_status(
    tmp_path: Path, source: str, status: int, body_limit: int | None
) -> None:
    dialect = Dialect(close_status=status, created_location=False, body_limit=body_limit)
    with ScriptedRegistry(dialect=dialect) as registry:
        assert pushed(tmp_path, source, registry).code == 0
        assert arrived(registry)


def test_53_bytes_that_the_registry_finds_wrong_are_not_sent_for_ever(
    tmp_path: Path, source: str
) -> None:
    body = json.dumps({"errors": [{"code": "DIGEST_INVALID", "message": "not these"}]})
    with ScriptedRegistry() as registry:
        registry.fail(method="PUT", path=put_of(layer()), status=400, body=body)
        failed(pushed(tmp_path, source, registry), "DIGEST_INVALID", "not these")
        # Once more, as the path may have been at fault; no third time.
        assert registry.count("PUT", put_of(layer())) == 2
        assert registry.repository("copy").tags == {}


def test_53_source_that_is_corrupt_never_goes_out_whole(tmp_path: Path, source: str) -> None:
    original = Path(source.removeprefix("oci:").removesuffix(":1"))
    broken = tmp_path / "broken"
    shutil.copytree(original, broken)
    blob = broken / "blobs" / "sha256" / layer().hex
    content = bytearray(blob.read_bytes())
    content[1000] ^= 1
    blob.write_bytes(content)
    with ScriptedRegistry() as registry:
        failed(pushed(tmp_path, f"oci:{broken}:1", registry), str(layer()))
        puts = [e for e in sent(registry, "PUT") if layer().hex in e.target]
        assert all(e.received < len(content) for e in puts)
        assert len(puts) == 1
        assert layer() not in registry.repository("copy").blobs


@pytest.mark.parametrize("lost", [{"cut_headers": True}, {"status": 504, "processed": True}])
def test_53_lost_answer_is_asked_for_before_anything_is_sent_again(
    tmp_path: Path, source: str, lost: dict[str, Any]
) -> None:
    with ScriptedRegistry() as registry:
        registry.fail(method="PUT", path=put_of(layer()), nth=1, **lost)
        done = pushed(tmp_path, source, registry)
        assert done.code == 0, done.err
        assert arrived(registry)
        assert registry.count("PUT", put_of(layer())) == 1
        assert registry.count("HEAD", f"/blobs/{layer()}") == 1


def test_53_answer_that_names_another_blob_is_an_error(tmp_path: Path, source: str) -> None:
    echo = {"Docker-Content-Digest": "sha256:" + "5" * 64}
    with ScriptedRegistry() as registry:
        registry.fail(method="PUT", path=put_of(layer()), set_headers=echo)
        failed(pushed(tmp_path, source, registry), "5555555")
        assert registry.repository("copy").tags == {}


# 54 and 55: bodies


@pytest.mark.parametrize("limit", [CHUNKED, 600_000, 850_000])
def test_54_body_that_is_too_large_goes_in_parts_that_are_not(
    tmp_path: Path, source: str, limit: int
) -> None:
    with ScriptedRegistry(dialect=Dialect(body_limit=limit)) as registry:
        done = pushed(tmp_path, source, registry)
        assert done.code == 0, done.err
        assert arrived(registry)
        sizes = [int(e.headers["content-length"]) for e in sent(registry, "PATCH", "PUT")]
        # What is found out once is not tried again, and comes down in a few steps.
        assert sum(size > limit for size in sizes) <= 4


def test_54_limit_that_nothing_fits_under_is_reported(tmp_path: Path, source: str) -> None:
    with ScriptedRegistry(dialect=Dialect(body_limit=1000)) as registry:
        failed(pushed(tmp_path, source, registry), "413", "limits the size")


def test_54_limit_below_the_least_chunk_is_reported(
    tmp_path: Path, sources: dict[str, str]
) -> None:
    # The proxy refuses what the registry behind it asks for.
    dialect = Dialect(body_limit=1 * MB, chunk_min=5 * MB)
    with ScriptedRegistry(dialect=dialect) as registry:
        failed(pushed(tmp_path, sources["large"], registry), "413", "limits the size")
        assert len(sent(registry)) < 20


def test_54_nobody_waits_for_100_continue(tmp_path: Path, source: str) -> None:
    with ScriptedRegistry(dialect=Dialect(expect="417", body_limit=CHUNKED)) as registry:
        assert pushed(tmp_path, source, registry).code == 0
        assert not any("expect" in e.headers for e in registry.requests)


@pytest.mark.parametrize("flags", [(), ("--dest-compress-format", "zstd")])
@pytest.mark.parametrize("chunked", [False, 400])
@pytest.mark.parametrize("body_limit", [None, CHUNKED], ids=["whole", "chunks"])
def test_55_every_request_has_a_length(
    tmp_path: Path, source: str, chunked: Any, body_limit: int | None, flags: tuple[str, ...]
) -> None:
    # Also of what is compressed on the way, whose size nobody knows before.
    dialect = Dialect(chunked=chunked, empty_needs_length=True, body_limit=body_limit)
    with ScriptedRegistry(dialect=dialect) as registry:
        done = pushed(tmp_path, source, registry, *flags)
        assert done.code == 0, done.err
        assert bool(flags) or arrived(registry)
        for exchange in registry.requests:
            assert "transfer-encoding" not in exchange.headers
            if exchange.method in ("POST", "PUT", "PATCH"):
                assert exchange.headers["content-length"].isdigit()
                refused = exchange.status == 413
                assert refused or exchange.received == int(exchange.headers["content-length"])


# 56 and 57: repositories


def test_56_layer_of_many_images_is_uploaded_once(tmp_path: Path) -> None:
    index = images.random_index("shared", size=200_000)
    with ScriptedRegistry() as source, ScriptedRegistry() as registry:
        name = push(source, "app", index)
        done = copied(tmp_path, name, f"docker://{registry.host}/copy:1", "--all")
        assert done.code == 0, done.err
        assert arrived(registry, index)
        puts = [e.target.rpartition("%3A")[2] for e in sent(registry, "PUT")]
        assert sorted(puts) == sorted(d.digest.hex for d in index.blobs)
        gets = [e.target for e in source.requests if e.method == "GET" and "/blobs/" in e.target]
        assert len(gets) == len(set(gets)) == len(index.blobs)


@pytest.mark.parametrize("mount", ["yes", "no"])
def test_56_other_repositories_mount_what_one_got(tmp_path: Path, mount: Any) -> None:
    names = [f"app{number}" for number in range(4)]
    with ScriptedRegistry() as source, ScriptedRegistry(dialect=Dialect(mount=mount)) as registry:
        for name in names:
            push(source, name, IMAGE)
        config = tmp_path / "sync.yaml"
        wanted = {source.host: {"tls-verify": False, "images": {name: ["1"] for name in names}}}
        config.write_text(json.dumps(wanted))
        flags = ("--src", "yaml", "--dest", "docker", "--dest-tls-verify=false")
        done = cli(tmp_path, "sync", *flags, config, f"{registry.host}/mirror")
        assert done.code == 0, done.err
        assert all(arrived(registry, name=f"mirror/{name}") for name in names)
        uploads = registry.count("PUT", put_of(layer()))
        assert uploads == (1 if mount == "yes" else len(names))


@pytest.mark.parametrize(
    ("create", "words"),
    [
        (False, ("NAME_UNKNOWN", "must exist")),
        (404, ("404", "must exist")),
        (401, ("401", "login")),
        (403, ("403", "project of copy does not exist")),
    ],
)
def test_57_repository_that_must_exist_first(
    tmp_path: Path, source: str, create: Any, words: tuple[str, ...]
) -> None:
    with ScriptedRegistry(dialect=Dialect(auto_create=create)) as registry:
        done = pushed(tmp_path, source, registry)
        failed(done, *words)
        assert "copy" not in registry.store.content
        # Nothing is sent to a repository that is not there.
        assert all(e.received == 0 for e in sent(registry))
        registry.repository("copy")
        assert pushed(tmp_path, source, registry).code == 0
        assert arrived(registry)


def test_57_wrong_password_is_told_by_the_write_at_the_latest(tmp_path: Path, source: str) -> None:
    # Absence looks like a refusal there, so the refusal to read has not stopped the push.
    for scheme in ("basic", "bearer"):
        auth = AuthOptions(scheme=scheme, anonymous_pull=False)  # type: ignore[arg-type]
        for secretive in ("denied", "unauthorized"):
            dialect = Dialect(not_found=secretive)  # type: ignore[arg-type]
            with ScriptedRegistry(auth=auth, dialect=dialect) as registry:
                wrong = pushed(tmp_path, source, registry, "--dest-creds", "user:wrong")
                failed(wrong, "401", "credentials")
                assert sent(registry, "PUT", "PATCH") == []
                right = pushed(tmp_path, source, registry, "--dest-creds", USER)
                assert right.code == 0, right.err
                assert arrived(registry)


def test_57_missing_repository_is_named_where_absence_is_forbidden_to_see(
    tmp_path: Path, source: str
) -> None:
    dialect = replace(ECR_LIKE.dialect, not_found="denied")
    auth = ECR_LIKE.auth
    creds = f"{auth.username}:{auth.password}"
    with ScriptedRegistry(dialect=dialect, auth=auth) as registry:
        done = pushed(tmp_path, source, registry, "--dest-creds", creds)
        failed(done, "NAME_UNKNOWN")
