"""Lookaside storage: directories, web servers, and what is in them that must not be there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from imgtools.errors import (
    ConnectionFailed,
    Denied,
    InvalidDigest,
    InvalidInput,
    InvalidReference,
    InvalidSignature,
    LimitExceeded,
    RegistryError,
    StorageError,
    UnsafePath,
    Unsupported,
)
from imgtools.sign.model import PAYLOAD_LIMIT, SigstoreSignature, SimpleSignature
from imgtools.sign.registries_d import StorePlaces
from imgtools.sign.stores import lookaside_web
from imgtools.sign.stores.lookaside import Lookaside
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.reference import Reference
from imgtools.transport.options import Credentials, RegistryOptions, Timeouts
from imgtools.transport.registry.wire.retry import RetryPolicy
from tests.sign.web import Reply, Request, web_server

DIGEST = Digest.parse(f"sha256:{'ab' * 32}")
SUBJECT = Descriptor(media_type="application/vnd.oci.image.manifest.v1+json", digest=DIGEST, size=9)
REFERENCE = Reference.parse("registry.example:5000/ns/app:v1")
FOLDER = f"ns/app@sha256={'ab' * 32}"


def store(read: str, write: str = "file:///nowhere", **options: object) -> Lookaside:
    """A lookaside storage at these URLs."""
    places = StorePlaces(lookaside_read=read, lookaside_write=write)
    timeouts = Timeouts(connect=5, first_byte=5, idle=5)
    return Lookaside(places, REFERENCE, RegistryOptions(timeouts=timeouts, **options))  # type: ignore[arg-type]


def local(directory: Path) -> Lookaside:
    """A lookaside storage in `directory`."""
    return store(f"file://{directory}", f"file://{directory}")


def blob(text: str) -> bytes:
    """What begins like a simple signature."""
    return b"\xa3\x01" + text.encode()


def simple(*texts: str) -> list[SimpleSignature]:
    """Simple signatures, apart by their texts."""
    return [SimpleSignature(blob=blob(text)) for text in texts]


def blobs(found: Lookaside) -> list[bytes]:
    """What it has for the manifest."""
    signatures = found.signatures(DIGEST)
    assert all(isinstance(s, SimpleSignature) for s in signatures)
    return [s.blob for s in signatures if isinstance(s, SimpleSignature)]


@contextmanager
def serving(files: dict[str, Reply], seen: list[Request] | None = None) -> Iterator[str]:
    """A web server with `files` below /base; gives the URL of that."""

    def answer(request: Request) -> Reply:
        if seen is not None:
            seen.append(request)
        return files.get(request.path.removeprefix("/base/"), Reply(404))

    with web_server(answer) as host:
        yield f"http://{host}/base"


def numbered(count: int) -> dict[str, Reply]:
    """So many signatures as files of a web server."""
    return {f"{FOLDER}/signature-{n}": Reply(200, blob(str(n))) for n in range(1, count + 1)}


def test_what_is_not_there_is_no_signature(tmp_path: Path) -> None:
    assert local(tmp_path / "none").signatures(DIGEST) == ()
    (tmp_path / "ns").mkdir()
    assert local(tmp_path).signatures(DIGEST) == ()
    (tmp_path / FOLDER).mkdir()
    assert local(tmp_path).signatures(DIGEST) == ()
    with serving({}) as url:
        assert store(url).signatures(DIGEST) == ()


def test_files_are_read_up_to_the_first_gap(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    for number in (1, 2, 4):
        (folder / f"signature-{number}").write_bytes(blob(str(number)))
    (folder / "signature-03").write_bytes(blob("3"))
    found = local(tmp_path).signatures(DIGEST)
    assert [s.where for s in found] == [
        f"file://{folder}/signature-1",
        f"file://{folder}/signature-2",
    ]
    assert blobs(local(tmp_path)) == [blob("1"), blob("2")]
    # The name of a directory may have what URLs have to escape.
    spaced = tmp_path / "a b%"
    (spaced / FOLDER).mkdir(parents=True)
    (spaced / FOLDER / "signature-1").write_bytes(blob("x"))
    assert blobs(store(f"file://{tmp_path}/a%20b%25")) == [blob("x")]


def test_a_web_server_is_asked_until_404(caplog: pytest.LogCaptureFixture) -> None:
    files = numbered(5)
    del files[f"{FOLDER}/signature-4"]
    files[f"{FOLDER}/signature-2"] = Reply(200, blob("2"), {"Content-Type": "text/html; x=y"})
    seen: list[Request] = []
    with serving(files, seen) as url:
        credentials = Credentials(username="u", password="secret")
        found = blobs(store(f"{url}/", credentials=credentials))
    assert found == [blob("1"), blob("2"), blob("3")]
    assert [r.path for r in seen] == [f"/base/{FOLDER}/signature-{n}" for n in range(1, 5)]
    assert all(r.method == "GET" and "Authorization" not in r.headers for r in seen)
    warnings = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "signature-2 is sent as text/html" in warnings[0]


@pytest.mark.parametrize("status", [204, 206, 301, 400, 401, 403, 405, 410, 429, 500, 503])
def test_s61_any_other_answer_is_an_error(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also behind signatures that were read already."""
    monkeypatch.setattr(lookaside_web, "RetryPolicy", lambda: RetryPolicy(attempts=1))
    files = numbered(1)
    for number in (1, 2):
        files[f"{FOLDER}/signature-{number}"] = Reply(status)
        with serving(files) as url, pytest.raises((RegistryError, Denied), match=str(status)) as e:
            store(url).signatures(DIGEST)
        assert isinstance(e.value, Denied) == (status in (401, 403))
        files = numbered(1)


def test_s61_no_server_and_a_cut_answer_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        lookaside_web, "RetryPolicy", lambda: RetryPolicy(attempts=1, connect_attempts=1)
    )
    with serving({}) as url:
        pass
    with pytest.raises(ConnectionFailed):
        store(url).signatures(DIGEST)
    cut = {f"{FOLDER}/signature-1": Reply(200, blob("x"), {"Content-Length": "100",
                                                            "Connection": "close"})}  # fmt: skip
    with serving(cut) as url, pytest.raises(ConnectionFailed):
        store(url).signatures(DIGEST)


def test_redirects_are_followed() -> None:
    with serving(numbered(1)) as there:
        files = {
            f"{FOLDER}/signature-{n}": Reply(
                302, b"", {"Location": f"{there}/{FOLDER}/signature-{n}"}
            )
            for n in (1, 2)
        }
        with serving(files) as here:
            assert blobs(store(here)) == [blob("1")]


def test_a_query_stays_behind_the_path() -> None:
    seen: list[Request] = []
    with serving({f"{FOLDER}/signature-1?sig=x": Reply(200, blob("1"))}, seen) as url:
        assert blobs(store(f"{url}?sig=x")) == [blob("1")]


@pytest.mark.parametrize("content", [b"", b"junk", b"<html>", b"-----BEGIN PGP", b"\0x\n"])
def test_what_is_no_signature_is_an_error_also_beside_a_good_one(
    tmp_path: Path, content: bytes
) -> None:
    local(tmp_path).put(SUBJECT, simple("good"))
    (tmp_path / FOLDER / "signature-2").write_bytes(content)
    with pytest.raises(InvalidSignature, match="signature-2"):
        local(tmp_path).signatures(DIGEST)
    files = {**numbered(1), f"{FOLDER}/signature-2": Reply(200, content)}
    with serving(files) as url, pytest.raises(InvalidSignature, match="signature-2"):
        store(url).signatures(DIGEST)


def test_s38_number_and_size_are_bounded(tmp_path: Path) -> None:
    folder = tmp_path / FOLDER
    folder.mkdir(parents=True)
    for number in range(1, 129):
        (folder / f"signature-{number}").write_bytes(blob(str(number)))
    assert len(blobs(local(tmp_path))) == 128
    with pytest.raises(LimitExceeded):
        local(tmp_path).put(SUBJECT, simple("one too many"))
    (folder / "signature-129").write_bytes(blob("129"))
    with pytest.raises(LimitExceeded, match="128 signatures"):
        local(tmp_path).signatures(DIGEST)
    with serving(numbered(129)) as url, pytest.raises(LimitExceeded, match="128 signatures"):
        store(url).signatures(DIGEST)
    with (folder / "signature-1").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(LimitExceeded):
        local(tmp_path).signatures(DIGEST)
    large = {f"{FOLDER}/signature-1": Reply(200, blob("") + bytes(PAYLOAD_LIMIT))}
    with serving(large) as url, pytest.raises(LimitExceeded):
        store(url).signatures(DIGEST)


def test_s65_nothing_is_read_or_written_outside_the_base(tmp_path: Path) -> None:
    for name in ("registry.example/../x", "registry.example/ns/..", "registry.example/a//b"):
        with pytest.raises(InvalidReference):
            Reference.parse(name)
    for text in ("sha256:../../x", "sha256:" + "AB" * 32, "../x:" + "ab" * 32):
        with pytest.raises(InvalidDigest):
            Digest.parse(text)
    outside, base = tmp_path / "outside", tmp_path / "base"
    outside.mkdir()
    (outside / "signature-1").write_bytes(blob("x"))
    (base / "ns").mkdir(parents=True)
    (base / FOLDER).symlink_to(outside)
    with pytest.raises(UnsafePath):
        local(base).signatures(DIGEST)
    with pytest.raises(UnsafePath):
        local(base).put(SUBJECT, simple("y"))
    (base / FOLDER).unlink()
    (base / FOLDER).mkdir()
    (base / FOLDER / "signature-1").symlink_to(outside / "signature-1")
    with pytest.raises(UnsafePath):
        local(base).signatures(DIGEST)
    assert (outside / "signature-1").read_bytes() == blob("x")
    assert [p.name for p in outside.iterdir()] == ["signature-1"]


def test_what_is_put_joins_what_is_there_each_once(tmp_path: Path) -> None:
    base = tmp_path / "new" / "base"
    kept = local(base)
    kept.preflight()
    assert kept.holds == {"simple"}
    assert kept.put(SUBJECT, simple("a", "b", "a")) == 2
    assert kept.put(SUBJECT, simple("b", "c")) == 1
    assert kept.put(SUBJECT, simple("a", "c")) == 0
    assert kept.put(SUBJECT, []) == 0
    assert blobs(kept) == [blob("a"), blob("b"), blob("c")]
    assert sorted(p.name for p in (base / FOLDER).iterdir()) == [
        f"signature-{n}" for n in (1, 2, 3)
    ]
    assert (base / FOLDER / "signature-1").stat().st_mode & 0o777 == 0o644
    assert (base / FOLDER).stat().st_mode & 0o777 == 0o755


def test_what_was_hidden_behind_a_gap_does_not_come_back(tmp_path: Path) -> None:
    local(tmp_path).put(SUBJECT, simple("a", "b", "c", "d"))
    (tmp_path / FOLDER / "signature-2").unlink()
    (tmp_path / FOLDER / "other").write_bytes(b"")
    local(tmp_path).put(SUBJECT, simple("new"))
    assert blobs(local(tmp_path)) == [blob("a"), blob("new")]
    assert sorted(p.name for p in (tmp_path / FOLDER).iterdir()) == [
        "other", "signature-1", "signature-2",
    ]  # fmt: skip


def test_s70_who_writes_at_the_same_time_loses_nothing(tmp_path: Path) -> None:
    texts = [f"t{n}" for n in range(12)]
    threads = [
        threading.Thread(target=local(tmp_path).put, args=(SUBJECT, simple(text))) for text in texts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(blobs(local(tmp_path))) == sorted(map(blob, texts))


def test_reading_and_writing_may_be_in_two_places(tmp_path: Path) -> None:
    with serving(numbered(1)) as url:
        both = store(url, f"file://{tmp_path}")
        assert both.put(SUBJECT, simple("new")) == 1
        assert blobs(both) == [blob("1")]
    assert blobs(local(tmp_path)) == [blob("new")]


def test_s68_where_nothing_can_be_written_is_said_before(tmp_path: Path) -> None:
    read_only = store("http://127.0.0.1:1/x", "http://127.0.0.1:1/x")
    with pytest.raises(Unsupported, match="only file: URLs"):
        read_only.preflight()
    with pytest.raises(Unsupported):
        read_only.put(SUBJECT, simple("a"))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot be written"):
        local(tmp_path / "file" / "base").preflight()
    with pytest.raises(Unsupported):
        local(tmp_path).put(SUBJECT, [SigstoreSignature(payload=b"{}")])
    assert not (tmp_path / "ns").exists()


@pytest.mark.parametrize(
    "url",
    ["", "/var/lib", "ftp://x/y", "file:relative", "file://host/x", "http://", "https:///x",
     "http://user:secret@host/x", "http://[x", "file:///a%00b"],
)  # fmt: skip
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="lookaside URL") as caught:
        store(url)
    assert "secret" not in str(caught.value)
