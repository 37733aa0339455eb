"""Reading ahead of a slow consumer."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.blob.reader import CHUNK
from imgtools.blob.spool import Spool, _Buffer
from imgtools.errors import ConnectionFailed
from imgtools.spec import media_type as mt
from imgtools.spec.descriptor import Descriptor
from imgtools.spec.digest import Digest
from imgtools.spec.reference import Reference
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.options import Timeouts
from imgtools.transport.registry.pull.source import RegistrySource
from tests.registry_fake import Answer, FakeRegistry, Request, open_session

CONTENT = random.Random(1).randbytes(5_000_000)
QUICK = 0.05


class Carrier:
    """A source that says when it has been read to its end."""

    def __init__(self, content: bytes = CONTENT, error: Exception | None = None) -> None:
        self._content, self._error, self._at = content, error, 0
        self.drained = threading.Event()
        self.moved = 0

    def read(self, size: int, /) -> bytes:
        data = self._content[self._at : self._at + size]
        self._at += len(data)
        if self._at == len(self._content):
            self.drained.set()
        if not data and self._error is not None:
            raise self._error
        return data


class Movable(Carrier):
    def skip(self, count: int, /) -> None:
        self._at += count
        self.moved += count


def never() -> None:
    raise AssertionError("nobody waits for the source")


@contextlib.contextmanager
def spooled(carrier: Carrier, **more: Any) -> Iterator[Spool]:
    spool = Spool(carrier, **{"abort": lambda: None, "patience": QUICK, **more})
    try:
        yield spool
    finally:
        spool.close()


def read_all(spool: Spool, size: int = CHUNK) -> bytes:
    return b"".join(iter(lambda: spool.read(size), b""))


def test_a_quick_reader_reads_straight() -> None:
    with spooled(Carrier(), patience=60, abort=never) as spool:
        assert read_all(spool) == CONTENT
        assert not spool.spooling


@pytest.mark.parametrize("memory", [0, 1000, 1 << 20, 1 << 30])
@pytest.mark.parametrize("first", [0, 1, 100_000])
def test_a_slow_reader_is_read_ahead_of(tmp_path: Path, memory: int, first: int) -> None:
    carrier = Carrier()
    with spooled(carrier, memory=memory, tmpdir=str(tmp_path)) as spool:
        begin = spool.read(first)
        assert carrier.drained.wait(10)
        assert spool.spooling
        assert begin + read_all(spool, 70_000) == CONTENT
        assert spool.read(1) == b""
    assert list(tmp_path.iterdir()) == []


def test_a_bounded_spool_holds_the_source_back(tmp_path: Path) -> None:
    carrier = Carrier()
    with spooled(carrier, memory=1 << 20, disk=1 << 20, tmpdir=str(tmp_path)) as spool:
        assert not carrier.drained.wait(6 * QUICK)
        assert read_all(spool) == CONTENT


def test_an_error_comes_after_the_bytes() -> None:
    carrier = Carrier(error=ConnectionFailed("cut", host="h"))
    with spooled(carrier) as spool:
        assert carrier.drained.wait(10)
        assert b"".join(spool.read(CHUNK) for _ in range(20)) == CONTENT
        for _ in range(2):
            with pytest.raises(ConnectionFailed):
                spool.read(CHUNK)


@pytest.mark.parametrize("kind", [Carrier, Movable])
@pytest.mark.parametrize("slow", [True, False])
def test_skipping(kind: type[Carrier], slow: bool) -> None:
    carrier = kind()
    with spooled(carrier, patience=QUICK if slow else 60, memory=1 << 30) as spool:
        if slow:
            assert carrier.drained.wait(10)
        spool.skip(3_000_000)
        assert read_all(spool) == CONTENT[3_000_000:]
    assert carrier.moved == (3_000_000 if kind is Movable and not slow else 0)


def test_closing_ends_a_read_that_waits() -> None:
    waiting, ended = threading.Event(), threading.Event()

    class Stuck(Carrier):
        def read(self, size: int, /) -> bytes:
            waiting.set()
            assert ended.wait(10)
            raise ConnectionFailed("aborted", host="h")

    with spooled(Stuck(), abort=ended.set):
        assert waiting.wait(10)
    assert ended.is_set()


def test_closing_ends_a_wait_for_room() -> None:
    with spooled(Carrier(), memory=1000, disk=0) as spool:
        assert spool.read(10) == CONTENT[:10]
        while not spool.spooling:
            threading.Event().wait(QUICK)


@pytest.mark.parametrize("fill", ["no space", "no directory"])
def test_a_full_disk_holds_the_source_back(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fill: str,
) -> None:
    written = 0
    real = os.pwrite

    def pwrite(fd: int, data: Any, offset: int) -> int:
        nonlocal written
        if written > 300_000:
            raise OSError(28, "No space left on device")
        written += len(data[:100_000])
        return real(fd, data[:100_000], offset)

    monkeypatch.setattr("imgtools.blob.spool.os.pwrite", pwrite)
    where = str(tmp_path / "absent" if fill == "no directory" else tmp_path)
    carrier = Carrier()
    with (
        caplog.at_level(logging.WARNING),
        spooled(carrier, memory=1 << 20, tmpdir=where) as spool,
    ):
        assert not carrier.drained.wait(6 * QUICK)
        assert read_all(spool) == CONTENT
    assert "TMPDIR" in caplog.text
    assert where in caplog.text


@given(
    st.lists(st.integers(1, 50), max_size=30),
    st.lists(st.integers(1, 50), min_size=1, max_size=30),
    st.integers(0, 60),
    st.integers(1, 90),
)
def test_bytes_keep_their_order(puts: list[int], takes: list[int], memory: int, disk: int) -> None:
    content = CONTENT[: sum(puts)]
    buffer = _Buffer(memory, disk, None)

    def fill() -> None:
        at = 0
        for count in puts:
            assert buffer.put(content[at : at + count])
            at += count
        buffer.end(None)

    thread = threading.Thread(target=fill)
    thread.start()
    got = b""
    while data := buffer.take(takes[len(got) % len(takes)]):
        got += data
    thread.join()
    buffer.close()
    assert got == content


# Where a registry is read


def test_a_registry_is_read_ahead_of_a_slow_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry cuts whoever makes it wait; one answer is enough all the same."""
    monkeypatch.setattr("imgtools.blob.spool.PATIENCE", QUICK)
    content = random.Random(2).randbytes(30_000_000)
    layer = Descriptor(media_type=mt.OCI_LAYER, digest=Digest.of(content), size=len(content))
    with ScriptedRegistry() as registry:
        registry.push_blob("a/b", content)
        session = open_session(registry.host)
        try:
            image = RegistrySource(session, Reference.parse(f"{registry.host}/a/b:v1"))
            hasher = hashlib.sha256()
            with image.open_blob(layer) as reader:
                hasher.update(reader.read(1000))
                while registry.requests[-1].sent < len(content):
                    threading.Event().wait(QUICK)
                while data := reader.read(CHUNK):
                    hasher.update(data)
            assert reader.verified
            assert hasher.hexdigest() == layer.digest.hex
            with image.open_blob(layer) as reader:
                reader.read(1000)
                threading.Event().wait(3 * QUICK)
                reader.abandon()
        finally:
            session.close()
        assert registry.count("GET", "/blobs/") == 2


def test_closing_ends_a_request_for_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who gives a blob up does not wait for a registry that does not answer."""
    monkeypatch.setattr("imgtools.blob.spool.PATIENCE", QUICK)
    layer = Descriptor(media_type=mt.OCI_LAYER, digest=Digest.of(CONTENT), size=len(CONTENT))
    asked, given_up, in_time = threading.Event(), threading.Event(), []

    def script(request: Request) -> Answer:
        if "range" not in request.headers:
            return Answer(body=CONTENT, cut=1_000_000)
        asked.set()
        in_time.append(given_up.wait(10))
        return Answer(status=404)

    with FakeRegistry(script) as fake:
        patience = Timeouts(connect=60, first_byte=60, idle=60)
        session = open_session(fake.host, timeouts=patience)
        try:
            image = RegistrySource(session, Reference.parse(f"{fake.host}/a/b:v1"))
            with image.open_blob(layer) as reader:
                reader.read(1000)
                assert asked.wait(10)
                reader.abandon()
            given_up.set()
        finally:
            session.close()
    assert in_time == [True]
