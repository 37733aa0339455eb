"""Cases 40 to 48: blobs as they come, from registries, object stores and foreign hosts."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import json
import lzma
import random
import threading
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import zstandard

from imgtools.blob.reader import BlobReader
from imgtools.errors import DigestMismatch, SizeMismatch
from imgtools.serve.message import Request, Response
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import Manifest
from imgtools.spec.reference import Reference
from imgtools.testing import images
from imgtools.testing.dialects import Dialect
from imgtools.testing.images import Sample
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.registry.pull.source import RegistrySource
from tests.bad_input import PLAIN, cli, push, tar_of
from tests.edges.kit import USER, copied
from tests.registry_fake import FakeRegistry, open_session, say

IMAGE = images.random_image("downloads", layers=1, size=300_000)
LAYER = next(d for d in IMAGE.blobs if mt.kind(d.media_type) == "layer")
CONTENT = IMAGE.blobs[LAYER]
BLOB = f"/blobs/{LAYER.digest}"
GZIP_OF_NOTHING = "a3ed95caeb02ffe68cdd9fd84406680ae93d633cb16422d00e8a7c22955b46d4"
TAR = tar_of(("etc/motd", b"hello\n"))


def sample_of(
    *layers: tuple[str, bytes], config: tuple[str, bytes] | None = None, urls: tuple[str, ...] = ()
) -> Sample:
    """An image of these layers, each a type and its bytes; `urls` are those of every layer.

    Its config says as much of them as anybody could check without unpacking.
    """
    diff_ids = [str(Digest.of(TAR)) for _ in layers]
    rootfs = {"type": "layers", "diff_ids": diff_ids}
    usual = json.dumps({"os": "linux", "architecture": "amd64", "rootfs": rootfs}).encode()
    blobs: dict[Descriptor, bytes] = {}

    def described(kind: str, content: bytes, urls: tuple[str, ...] = ()) -> Descriptor:
        found = Descriptor(media_type=kind, digest=Digest.of(content), size=len(content), urls=urls)
        blobs[found] = content
        return found

    manifest = Manifest(
        media_type=mt.OCI_MANIFEST,
        config=described(*(config or (mt.OCI_CONFIG, usual))),
        layers=tuple(described(kind, content, urls) for kind, content in layers),
    )
    return Sample(top=manifest.to_raw(), blobs=MappingProxyType(blobs))


def arrived(directory: Path, sample: Sample) -> bool:
    """Whether a dir: has every byte of a sample."""
    there = {d.digest.hex: content for d, content in sample.blobs.items()}
    return (directory / "manifest.json").read_bytes() == sample.top.content and all(
        (directory / name).read_bytes() == content for name, content in there.items()
    )


# 40


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"flip": 1000}, "digest"),
        ({"body_override": CONTENT + b"and more"}, "size"),
        ({"body_override": b"x" * len(CONTENT)}, "digest"),
        ({"truncate": 1000}, f"of {len(CONTENT)} bytes"),
        ({"truncate": 0}, f"of {len(CONTENT)} bytes"),
    ],
    ids=["one byte", "too long", "other bytes", "short every time", "empty every time"],
)
def test_40_digest_and_length_are_checked(
    tmp_path: Path, fault: dict[str, Any], words: str
) -> None:
    with ScriptedRegistry(dialect=Dialect(ranges=False)) as registry:
        name = push(registry, "app", IMAGE)
        registry.fail(method="GET", path=BLOB, **fault)
        copied(tmp_path, name, f"dir:{tmp_path}/d").refused(words)
        assert not (tmp_path / "d" / LAYER.digest.hex).exists()
        assert not (tmp_path / "d" / "manifest.json").exists()


@pytest.mark.parametrize("fault", [{"truncate": 100_000}, {"cut_after": 100_000}])
def test_40_short_read_goes_on_where_it_ended(tmp_path: Path, fault: dict[str, Any]) -> None:
    with ScriptedRegistry() as registry:
        name = push(registry, "app", IMAGE)
        registry.fail(method="GET", path=BLOB, nth=1, **fault)
        assert copied(tmp_path, name, f"dir:{tmp_path}/d").code == 0
        assert arrived(tmp_path / "d", IMAGE)
        asked = [e.headers.get("range") for e in registry.requests if e.path.endswith(BLOB)]
        assert asked == [None, "bytes=100000-"]


@pytest.mark.parametrize("place", ["docker", "dir", "oci"])
@pytest.mark.parametrize(("times", "code"), [(1, 0), (99, 1)])
def test_40_pieces_that_do_not_belong_together_are_fetched_once_more(
    tmp_path: Path, place: str, times: int, code: int
) -> None:
    with ScriptedRegistry() as registry, ScriptedRegistry() as other:
        name = push(registry, "app", IMAGE)
        registry.fail(method="GET", path=BLOB, nth=(1, 3), cut_after=100_000)
        rest = range(2, 2 + 2 * times, 2)
        registry.fail(method="GET", path=BLOB, nth=rest, flip=120_000)
        to = f"docker://{other.host}/app:1" if place == "docker" else f"{place}:{tmp_path}/d"
        done = copied(tmp_path, name, to)
        assert done.code == code, done.err
        # A piece and the rest, twice and no more.
        assert registry.count("GET", BLOB) == 4
        if place == "docker":
            assert (LAYER.digest in other.repository("app").blobs) is (code == 0)
        if code:
            done.refused("digest mismatch")


def test_40_nothing_is_asked_to_be_coded_or_decoded(tmp_path: Path) -> None:
    # The blob is gzip already: who decodes what a header says gets another digest.
    with ScriptedRegistry(dialect=Dialect(content_encoding="label")) as registry:
        name = push(registry, "app", IMAGE)
        assert copied(tmp_path, name, f"dir:{tmp_path}/d").code == 0
        assert arrived(tmp_path / "d", IMAGE)
        assert {e.headers["accept-encoding"] for e in registry.requests} == {"identity"}


def test_40_coding_that_nobody_asked_for_does_not_pass(tmp_path: Path) -> None:
    with ScriptedRegistry(dialect=Dialect(content_encoding="gzip")) as registry:
        name = push(registry, "app", IMAGE)
        done = copied(tmp_path, name, f"dir:{tmp_path}/d")
        # The config as well as the layer may be found wrong.
        said = len(done.err.splitlines())
        done.refused("sha256:", "Content-Encoding: gzip", "proxy", lines=said)


@pytest.mark.parametrize("content", [bytes(300_000), random.Random(1).randbytes(300_000)])
def test_40_coding_is_named_whether_bytes_get_more_or_less(tmp_path: Path, content: bytes) -> None:
    sample = sample_of((mt.OCI_LAYER, content))
    layer = next(d for d in sample.blobs if mt.kind(d.media_type) == "layer")
    with ScriptedRegistry() as registry:
        name = push(registry, "app", sample)
        registry.fail(
            method="GET", path=f"/blobs/{layer.digest}", body_override=gzip.compress(content),
            set_headers={"Content-Encoding": "gzip"},
        )  # fmt: skip
        copied(tmp_path, name, f"dir:{tmp_path}/d").refused("Content-Encoding: gzip", "proxy")


# 41


@pytest.mark.parametrize("ranges", [False, "shifted", "shortened", "unlabelled", "multipart", 416])
def test_41_cut_download_completes_whatever_becomes_of_ranges(tmp_path: Path, ranges: Any) -> None:
    with ScriptedRegistry(dialect=Dialect(ranges=ranges)) as registry:
        name = push(registry, "app", IMAGE)
        cut = registry.fail(method="GET", path=BLOB, nth=1, cut_after=100_000)
        assert copied(tmp_path, name, f"dir:{tmp_path}/d").code == 0
        assert arrived(tmp_path / "d", IMAGE)
        assert registry.faults.applied(cut) == 1
        asked = [e.headers.get("range") for e in registry.requests if e.path.endswith(BLOB)]
        assert asked[:2] == [None, "bytes=100000-"]


@pytest.mark.parametrize("place", ["port", "host"])
def test_41_signed_url_that_expired_is_asked_for_again(tmp_path: Path, place: Any) -> None:
    # Every URL is good for one answer, so that the rest of a cut one needs another.
    dialect = Dialect(presigned=place, presigned_uses=1)
    with ScriptedRegistry(auth="bearer", dialect=dialect) as registry:
        name = push(registry, "app", IMAGE)
        registry.fail(path=f"^/storage/.*{LAYER.digest}", nth=1, cut_after=100_000)
        assert copied(tmp_path, name, f"dir:{tmp_path}/d", "--src-creds", USER).code == 0
        assert arrived(tmp_path / "d", IMAGE)
        signed = [e for e in registry.requests if e.storage and str(LAYER.digest) in e.target]
        assert [e.headers.get("range") for e in signed] == [None, "bytes=100000-"]
        assert len({e.target for e in signed}) == 2
        assert not any("authorization" in e.headers for e in signed)


@pytest.mark.parametrize(("times", "code"), [(1, 0), (9, 1)])
def test_41_storage_that_refuses_is_tried_with_one_new_url(
    tmp_path: Path, times: int, code: int
) -> None:
    with ScriptedRegistry(dialect=Dialect(presigned="port")) as registry:
        name = push(registry, "app", IMAGE)
        expired = "<?xml version='1.0'?><Error><Code>AccessDenied</Code>" \
            "<Message>Request has expired</Message></Error>"  # fmt: skip
        path = f"^/storage/.*{LAYER.digest}"
        registry.fail(path=path, nth=range(1, times + 1), status=403, body=expired)
        done = copied(tmp_path, name, f"dir:{tmp_path}/d")
        assert done.code == code, done.err
        assert registry.count("GET", path) == 2
        assert registry.count("GET", f"^/v2/app{BLOB}") == 2
        if code:
            assert "Request has expired" in done.err
            assert "Signature=…" in done.err


# 42


@pytest.mark.parametrize("lengths", ["none", "chunked", "head-none", "head-wrong"])
@pytest.mark.parametrize("cut", [False, True])
def test_42_lengths_are_missing_or_wrong(tmp_path: Path, lengths: Any, cut: bool) -> None:
    with ScriptedRegistry(dialect=Dialect(lengths=lengths)) as registry:
        name = push(registry, "app", IMAGE)
        if cut:
            registry.fail(method="GET", path=BLOB, nth=1, cut_after=100_000)
        assert copied(tmp_path, name, f"dir:{tmp_path}/d").code == 0
        assert arrived(tmp_path / "d", IMAGE)
        # What is there already is found by HEAD, which may say what it likes of lengths.
        push(registry, "app", images.random_image("other"), "2")
        target = f"docker://{registry.host}/app:2"
        assert copied(tmp_path, f"dir:{tmp_path}/d", target).code == 0
        assert registry.repository("app").tags["2"] == IMAGE.top.digest
        assert registry.count("HEAD", "/blobs/")
        assert registry.count("POST") == 0


@pytest.mark.parametrize("lengths", ["yes", "none", "chunked"])
def test_42_size_is_unknown_as_in_schema_1(lengths: Any) -> None:
    unknown = Descriptor(media_type=mt.OCI_LAYER_GZIP, digest=LAYER.digest, size=-1)
    with ScriptedRegistry(dialect=Dialect(lengths=lengths)) as registry:
        push(registry, "app", IMAGE)
        session = open_session(registry.host)
        try:
            source = RegistrySource(session, Reference.parse(f"{registry.host}/app:1"))
            with source.open_blob(unknown) as reader:
                assert reader.read() == CONTENT
            registry.fail(method="GET", path=BLOB, flip=5)
            with pytest.raises(DigestMismatch), source.open_blob(unknown) as reader:
                reader.read()
        finally:
            session.close()


@pytest.mark.parametrize("size", [0, 1, len(CONTENT) - 1, len(CONTENT) + 1, -1, 1 << 70, 1.5, "9"])
def test_42_sizes_in_manifests_are_held_to(tmp_path: Path, size: Any) -> None:
    document = json.loads(IMAGE.top.content)
    document["layers"][0]["size"] = size
    with ScriptedRegistry() as registry:
        push(registry, "app", IMAGE)
        content = json.dumps(document).encode()
        registry.fail(path="/manifests/", body_override=content,
                      drop_headers=["Docker-Content-Digest"])  # fmt: skip
        name = f"docker://{registry.host}/app:1"
        copied(tmp_path, name, f"dir:{tmp_path}/d").refused()
        assert not (tmp_path / "d" / "manifest.json").exists()


# 43


def test_43_blobs_of_nothing_and_requests_without_body_have_a_length(tmp_path: Path) -> None:
    sample = sample_of((mt.OCI_LAYER, b""), config=(mt.OCI_EMPTY, b"{}"))
    dialect = Dialect(empty_needs_length=True, monolithic_post=False)
    with ScriptedRegistry(dialect=dialect) as registry:
        name = push(registry, "app", sample)
        for target in (f"dir:{tmp_path}/d", f"oci:{tmp_path}/l:1"):
            assert copied(tmp_path, name, target).code == 0
            again = f"docker://{registry.host}/copy-{target[:3].strip(':')}:1"
            done = copied(tmp_path, target, again)
            assert done.code == 0, done.err
            repository = registry.repository(again.split("/")[-1][:-2])
            assert repository.blobs[Digest.of(b"")] == b""
        assert arrived(tmp_path / "d", sample)
        lengths = {
            e.headers.get("content-length")
            for e in registry.requests
            if e.method in ("POST", "PUT", "PATCH") and e.received == 0
        }
        assert lengths == {"0"}


def test_43_gzip_of_an_empty_tar_is_a_layer_like_others(tmp_path: Path) -> None:
    # What docker has long used for steps that change no file.
    content = bytes.fromhex("1f8b080000096e8800ff621805a360148c5800080000ffff2eafb5ef00040000")
    assert hashlib.sha256(content).hexdigest() == GZIP_OF_NOTHING
    assert gzip.decompress(content) == bytes(1024)
    sample = sample_of((mt.DOCKER_LAYER_GZIP, content))
    with ScriptedRegistry() as registry:
        name = push(registry, "app", sample)
        assert copied(tmp_path, name, f"dir:{tmp_path}/d").code == 0
        assert arrived(tmp_path / "d", sample)
        listed = cli(tmp_path, "inspect", PLAIN, "--files", name)
        assert (listed.code, listed.out) == (0, b""), listed.err


def test_43_registry_without_empty_blobs_says_so(tmp_path: Path) -> None:
    sample = sample_of((mt.OCI_LAYER, b""))
    with ScriptedRegistry() as source, ScriptedRegistry(
        dialect=Dialect(empty_blobs=False)
    ) as registry:  # fmt: skip
        name = push(source, "app", sample)
        copied(tmp_path, name, f"docker://{registry.host}/app:1").refused("SIZE_INVALID")
        assert "1" not in registry.repository("app").tags


# 44


SAME = b"the same bytes again and again" * 100
REPEATED = {
    "one layer twice": sample_of((mt.OCI_LAYER_GZIP, SAME), (mt.OCI_LAYER_GZIP, SAME)),
    "two types": sample_of((mt.OCI_LAYER_GZIP, SAME), (mt.OCI_LAYER, SAME)),
    "config is a layer": sample_of(
        ("application/x-other", b"{}"), config=("application/x-config", b"{}")
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REPEATED)
@pytest.mark.parametrize("form", ["dir", "oci", "docker"])
def test_44_same_blob_several_times_is_moved_once(tmp_path: Path, case: str, form: str) -> None:
    sample = REPEATED[case]
    with ScriptedRegistry() as source, ScriptedRegistry() as target:
        name = push(source, "app", sample)
        there = {"docker": f"docker://{target.host}/copy:1"}.get(form, f"{form}:{tmp_path}/there")
        assert copied(tmp_path, name, there).code == 0
        fetched = [e.path for e in source.requests if e.method == "GET" and "/blobs/" in e.path]
        assert len(fetched) == len(set(fetched)) == len({d.digest for d in sample.blobs})
        if form == "docker":
            assert target.repository("copy").tags["1"] == sample.top.digest
            closed = [e for e in target.requests if "digest=sha256" in e.target]
            assert len(closed) == len(fetched)
        else:
            assert copied(tmp_path, there, f"dir:{tmp_path}/back").code == 0
            assert arrived(tmp_path / "back", sample)


# 45


ENCODED: dict[str, Callable[[bytes], bytes]] = {
    "tar": lambda data: data,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
    "xz": lzma.compress,
    "bzip2": bz2.compress,
}
DECLARED = {"gzip": mt.OCI_LAYER_GZIP, "tar": mt.OCI_LAYER, "zstd": mt.OCI_LAYER_ZSTD}


@pytest.mark.parametrize("true", ENCODED)
@pytest.mark.parametrize("declared", DECLARED)
def test_45_wrong_media_types_are_kept_and_seen_through(
    tmp_path: Path, declared: str, true: str
) -> None:
    sample = sample_of((DECLARED[declared], ENCODED[true](TAR)))
    with ScriptedRegistry() as registry:
        name = push(registry, "app", sample)
        # A copy does not care and changes nothing.
        assert copied(tmp_path, name, f"dir:{tmp_path}/d").code == 0
        assert arrived(tmp_path / "d", sample)
        target = f"docker://{registry.host}/copy:1"
        assert copied(tmp_path, f"dir:{tmp_path}/d", target).code == 0
        assert registry.repository("copy").tags["1"] == sample.top.digest
        # Who looks inside goes by what is there.
        found = cli(tmp_path, "inspect", PLAIN, "--cat", "/etc/motd", name)
        assert (found.code, found.out) == (0, b"hello\n"), found.err


# 46


@pytest.fixture
def foreign() -> Sample:
    """An image of a layer that was never to be distributed, without an address yet."""
    return sample_of((mt.OCI_FOREIGN_GZIP, gzip.compress(TAR, mtime=0)))


def with_urls(sample: Sample, *urls: str) -> Sample:
    """The sample with these addresses of its layer."""
    layers = [
        (d.media_type, c) for d, c in sample.blobs.items() if mt.kind(d.media_type) == "layer"
    ]
    return sample_of(*layers, urls=urls)


def push_foreign(registry: ScriptedRegistry, sample: Sample) -> str:
    """A registry that has everything but the layer."""
    name = push(registry, "app", sample)
    layer = next(d for d in sample.blobs if d.urls)
    del registry.repository("app").blobs[layer.digest]
    return name


def test_46_foreign_layers_are_not_moved_between_registries(
    tmp_path: Path, foreign: Sample
) -> None:
    sample = with_urls(foreign, "https://elsewhere.invalid/layer")
    layer = next(d for d in sample.blobs if d.urls)
    with ScriptedRegistry(dialect=Dialect(sparse=True)) as registry:
        name = push_foreign(registry, sample)
        done = copied(tmp_path, name, f"docker://{registry.host}/copy:1")
        assert done.code == 0, done.err
        assert registry.repository("copy").tags["1"] == sample.top.digest
        assert registry.count(path=str(layer.digest)) == 0


def test_46_foreign_layers_are_fetched_from_the_first_good_url(
    tmp_path: Path, foreign: Sample
) -> None:
    content = gzip.compress(TAR, mtime=0)
    answers = {"/gone": say(404), "/layer": say(200, content), "/denied": say(401)}
    with FakeRegistry(lambda r: answers[r.path]) as other, ScriptedRegistry(
        auth="basic"
    ) as registry:  # fmt: skip
        urls = ("ftp://x/y", "file:///etc/passwd", "/layer", "", f"{other.url}/gone",
                f"{other.url}/denied", f"{other.url}/layer", f"{other.url}/never")  # fmt: skip
        sample = with_urls(foreign, *urls)
        name = push_foreign(registry, sample)
        done = copied(tmp_path, name, f"dir:{tmp_path}/d", "--src-creds", USER)
        assert done.code == 0, done.err
        assert arrived(tmp_path / "d", sample)
        assert other.seen == ["GET /gone", "GET /denied", "GET /layer"]
        assert not any(r.authorization or "cookie" in r.headers for r in other.requests)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (say(200, b"something else"), "sha256:"),
        (say(404), "404"),
        (say(200, gzip.compress(TAR, mtime=0) + b"x"), "size"),
    ],
)
def test_46_foreign_layers_are_verified(
    tmp_path: Path, foreign: Sample, answer: Any, words: str
) -> None:
    with FakeRegistry(lambda r: answer) as other, ScriptedRegistry() as registry:
        sample = with_urls(foreign, f"{other.url}/layer")
        name = push_foreign(registry, sample)
        copied(tmp_path, name, f"dir:{tmp_path}/d").refused(words)
        assert not (tmp_path / "d" / "manifest.json").exists()


def test_46_foreign_layers_that_are_wrong_are_fetched_from_a_later_url(
    tmp_path: Path, foreign: Sample
) -> None:
    content = gzip.compress(TAR, mtime=0)
    # Another length is seen at once, other bytes only at their end.
    answers = {
        "/page": say(200, b"<html>no such file"),
        "/long": say(200, content + b"x"),
        "/other": say(200, content[:-1] + b"x"),
        "/layer": say(200, content),
    }
    with FakeRegistry(lambda r: answers[r.path]) as other, ScriptedRegistry() as registry:
        sample = with_urls(foreign, *(other.url + path for path in answers), f"{other.url}/never")
        name = push_foreign(registry, sample)
        done = copied(tmp_path, name, f"dir:{tmp_path}/d")
        assert done.code == 0, done.err
        assert other.seen[:3] == ["GET /page", "GET /long", "GET /other"]
        assert other.seen[3:] == ["GET /page", "GET /long", "GET /layer"]
        assert arrived(tmp_path / "d", sample)


def test_46_foreign_layers_that_are_wrong_everywhere(tmp_path: Path, foreign: Sample) -> None:
    wrong = gzip.compress(TAR, mtime=0)[:-1] + b"x"
    with FakeRegistry(lambda r: say(200, wrong)) as other, ScriptedRegistry() as registry:
        sample = with_urls(foreign, f"{other.url}/one", f"{other.url}/two")
        name = push_foreign(registry, sample)
        copied(tmp_path, name, f"dir:{tmp_path}/d").refused("digest mismatch")
        assert other.seen == ["GET /one", "GET /two"]


def test_46_foreign_layers_without_any_url_of_use(tmp_path: Path, foreign: Sample) -> None:
    with ScriptedRegistry() as registry:
        name = push_foreign(registry, with_urls(foreign, "ftp://a.example/b", "data:,x"))
        copied(tmp_path, name, f"dir:{tmp_path}/d").refused("no http or https URL")


# 47


SKIPPABLE = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"table"
HALF = len(TAR) // 2


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (mt.OCI_LAYER_GZIP, gzip.compress(TAR[:HALF]) + gzip.compress(TAR[HALF:])),
        (mt.OCI_LAYER_GZIP, gzip.compress(TAR) + bytes(1000)),
        (mt.OCI_LAYER_GZIP, gzip.compress(b"") * 3 + gzip.compress(TAR)),
        (mt.OCI_LAYER_ZSTD, ENCODED["zstd"](TAR[:HALF]) + ENCODED["zstd"](TAR[HALF:])),
        (mt.OCI_LAYER_ZSTD, SKIPPABLE + ENCODED["zstd"](TAR) + SKIPPABLE),
        (mt.OCI_LAYER, TAR + bytes(1 << 20)),
    ],
    ids=["members", "padding", "empty members", "frames", "skippable", "zeros"],
)
def test_47_several_members_and_what_is_skipped(tmp_path: Path, kind: str, content: bytes) -> None:
    sample = sample_of((kind, content))
    with ScriptedRegistry() as registry:
        name = push(registry, "app", sample)
        found = cli(tmp_path, "inspect", PLAIN, "--cat", "/etc/motd", name)
        assert (found.code, found.out) == (0, b"hello\n"), found.err
        assert copied(tmp_path, name, f"oci:{tmp_path}/l:1").code == 0


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (mt.OCI_LAYER_GZIP, gzip.compress(TAR) + b"garbage behind the end"),
        (mt.OCI_LAYER_GZIP, gzip.compress(TAR)[:-9]),
        (mt.OCI_LAYER_ZSTD, ENCODED["zstd"](TAR) + b"garbage behind the end"),
        (mt.OCI_LAYER_ZSTD, ENCODED["zstd"](TAR)[:-2]),
        (mt.OCI_LAYER_ZSTD, ENCODED["zstd"](TAR) + SKIPPABLE[:-1]),
    ],
    ids=["gzip and garbage", "cut gzip", "zstd and garbage", "cut zstd", "cut table"],
)
def test_47_garbage_behind_and_streams_that_are_cut(
    tmp_path: Path, kind: str, content: bytes
) -> None:
    sample = sample_of((kind, content))
    with ScriptedRegistry() as registry:
        name = push(registry, "app", sample)
        cli(tmp_path, "inspect", PLAIN, "--cat", "/etc/motd", name).refused()
        # Moving it as it is needs no look inside.
        assert copied(tmp_path, name, f"dir:{tmp_path}/d").code == 0
        assert arrived(tmp_path / "d", sample)


def test_47_window_that_wants_all_memory_is_refused(tmp_path: Path) -> None:
    # A frame header alone: a window of 2 TiB, as no compressor would ask for.
    frame = b"\x28\xb5\x2f\xfd" + b"\x00" + bytes([31 << 3]) + b"\x01\x00\x00"
    sample = sample_of((mt.OCI_LAYER_ZSTD, frame))
    with ScriptedRegistry() as registry:
        name = push(registry, "app", sample)
        cli(tmp_path, "inspect", PLAIN, "--files", name).refused("window")


def test_47_bomb_is_unpacked_in_flat_memory(tmp_path: Path) -> None:
    import tracemalloc

    # 256 KiB that unpack to 256 MiB; what it says it is, it is not.
    bomb = gzip.compress(bytes(1 << 26)) * 4
    sample = sample_of((mt.OCI_LAYER_GZIP, bomb))
    with ScriptedRegistry() as registry:
        name = push(registry, "app", sample)
        tracemalloc.start()
        try:
            done = copied(tmp_path, name, f"docker-archive:{tmp_path}/a.tar:app:1")
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        done.refused("sha256:")
        assert most < 48 << 20
        assert not (tmp_path / "a.tar").exists()


# 48


class Holding(ScriptedRegistry):
    """A registry that takes no body until it is let go on."""

    def __init__(self, until: Callable[[], bool]) -> None:
        super().__init__()
        self._until = until
        self.waited: list[bool] = []

    def _handle(self, request: Request) -> Response:
        if (request.length or 0) > 1_000_000:
            pause = threading.Event()
            reached = False
            for _ in range(500):
                if reached := self._until():
                    break
                pause.wait(0.02)
            self.waited.append(reached)
        return super()._handle(request)


def test_48_slow_destination_does_not_hold_the_source_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Far more than the buffers of two sockets: without a spool the source would never be done.
    monkeypatch.setattr("imgtools.blob.spool.PATIENCE", 0.05)
    content = random.Random(48).randbytes(24_000_000)
    sample = sample_of((mt.OCI_LAYER, content))
    with ScriptedRegistry() as source:
        name = push(source, "app", sample)

        def read_whole() -> bool:
            return any(e.sent == len(content) for e in source.requests)

        with Holding(read_whole) as target:
            done = copied(tmp_path, name, f"docker://{target.host}/app:1")
            assert done.code == 0, done.err
            assert target.waited == [True]
            assert target.repository("app").tags["1"] == sample.top.digest
        assert source.count("GET", f"/blobs/{Digest.of(content)}") == 1
    assert list(tmp_path.iterdir()) == []


def test_48_slow_answer_is_no_slow_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imgtools.blob.spool.PATIENCE", 0.02)
    content = random.Random(50).randbytes(9_000_000)
    layer = Descriptor(media_type=mt.OCI_LAYER, digest=Digest.of(content), size=len(content))
    with ScriptedRegistry(latency=0.2) as registry:
        registry.push_blob("app", content)
        session = open_session(registry.host)
        try:
            source = RegistrySource(session, Reference.parse(f"{registry.host}/app:1"))
            with source.open_blob(layer) as reader:
                assert reader.read() == content
        finally:
            session.close()
        assert registry.count("GET", "/blobs/") == 1


def test_48_slow_reader_may_stop_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever reads the beginning only ends the transfer, and is not told that it is short."""
    monkeypatch.setattr("imgtools.blob.spool.PATIENCE", 0.02)
    content = random.Random(49).randbytes(24_000_000)
    layer = Descriptor(media_type=mt.OCI_LAYER, digest=Digest.of(content), size=len(content))
    with ScriptedRegistry() as registry:
        registry.push_blob("app", content)
        session = open_session(registry.host)
        try:
            source = RegistrySource(session, Reference.parse(f"{registry.host}/app:1"))
            reader: BlobReader = source.open_blob(layer)
            assert reader.read(10) == content[:10]
            reader.abandon()
            reader.close()
            with pytest.raises(SizeMismatch), source.open_blob(
                Descriptor(media_type=mt.OCI_LAYER, digest=layer.digest, size=5_000_000)
            ) as reader:  # fmt: skip
                while reader.read(1 << 20):
                    pass
        finally:
            session.close()
