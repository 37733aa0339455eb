"""Reading requests from a socket: framing, its limits, and what is refused."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgtools.errors import ConnectionFailed, Error, InvalidInput, LimitExceeded
from imgtools.serve.ranges import Unsatisfiable, chunk_range, requested_range
from imgtools.serve.wire import RequestBody, SocketReader, body_length, read_head


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, SocketReader]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield theirs, SocketReader(ours)


def feed(data: bytes) -> SocketReader:
    """A reader whose peer has sent `data` and closed."""

    class Fake:
        left = data

        def recv(self, size: int) -> bytes:
            part, self.left = self.left[: min(size, 7)], self.left[min(size, 7) :]
            return part

    return SocketReader(Fake())  # type: ignore[arg-type]


def read_all(body: RequestBody) -> bytes:
    parts = []
    while data := body.read(5):
        parts.append(data)
    return b"".join(parts)


def test_known_length_leaves_the_next_request() -> None:
    reader = feed(b"0123456789GET / HTTP/1.1\r\n\r\n")
    body = RequestBody(reader, 10)
    assert read_all(body) == b"0123456789"
    assert (body.exhausted, body.received) == (True, 10)
    assert read_head(reader) == ("GET", "/", "HTTP/1.1", {})


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=6), st.binary(max_size=9))
def test_chunked_round_trip(parts: list[bytes], rest: bytes) -> None:
    wire = b"".join(b"%X;ext=1\r\n%b\r\n" % (len(part), part) for part in parts)
    reader = feed(wire + b"0\r\nTrailer: x\r\n\r\n" + rest)
    body = RequestBody(reader, None)
    assert read_all(body) == b"".join(parts)
    assert body.exhausted
    assert reader.read(100) == rest


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", ConnectionFailed),
        (b"5\r\nab", ConnectionFailed),
        (b"2\r\nabX\r\n", InvalidInput),
        (b"-1\r\n", InvalidInput),
        (b"0x5\r\nhello\r\n", InvalidInput),
        (b"1_0\r\n", InvalidInput),
        (b"\r\n", InvalidInput),
        (b"F" * 17 + b"\r\n", InvalidInput),
        (b"5;" + b"x" * 5000 + b"\r\n", InvalidInput),
        (b"0\r\n" + b"A: b\r\n" * 20_000, InvalidInput),
        (b"0\r\nA: b", InvalidInput),
    ],
)
def test_malformed_chunks(data: bytes, error: type[Error]) -> None:
    with pytest.raises(error):
        read_all(RequestBody(feed(data), None))


def test_an_early_end_is_an_error() -> None:
    with pytest.raises(ConnectionFailed):
        read_all(RequestBody(feed(b"abc"), 4))


def test_a_silent_peer_is_an_error(pair: tuple[socket.socket, SocketReader]) -> None:
    peer, reader = pair
    reader._socket.settimeout(0.01)
    peer.sendall(b"ab")
    body = RequestBody(reader, 4)
    assert body.read(10) == b"ab"
    with pytest.raises(ConnectionFailed):
        body.read(10)


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ({}, 0),
        ({"content-length": "0"}, 0),
        ({"content-length": " 12 "}, 12),
        ({"transfer-encoding": "Chunked"}, None),
    ],
)
def test_body_length(headers: dict[str, str], length: int | None) -> None:
    assert body_length(headers) == length


@pytest.mark.parametrize(
    "headers",
    [
        {"content-length": "-1"},
        {"content-length": "+1"},
        {"content-length": "1, 2"},
        {"content-length": "0x10"},
        {"content-length": "9" * 5000},
        {"content-length": "١"},
        {"transfer-encoding": "gzip, chunked"},
        {"transfer-encoding": "chunked", "content-length": "5"},
    ],
)
def test_ambiguous_length(headers: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        body_length(headers)


@pytest.mark.parametrize(
    "data",
    [
        b"GET /\r\n\r\n",
        b"GET / HTTP/2\r\n\r\n",
        b"GET  HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nSpace : x\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: b",
        b"x" * 70_000,
    ],
)
def test_malformed_head(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_head(feed(data))


def test_head_limits_and_repeated_headers() -> None:
    assert read_head(feed(b"")) is None
    head = read_head(feed(b"GET / HTTP/1.1\r\nA: 1\r\na: 2\r\n\r\n"))
    assert head is not None
    assert head[3] == {"a": "1, 2"}
    with pytest.raises(LimitExceeded):
        read_head(feed(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000))


@given(st.text(max_size=30), st.integers(0, 100))
def test_any_range_header_is_understood_or_ignored(text: str, size: int) -> None:
    try:
        found = requested_range({"range": text}, size, "e")
    except Unsatisfiable:
        return
    if found is not None:
        offset, length = found
        assert 0 <= offset < size
        assert 0 < length <= size - offset


@given(st.integers(0, 10**17), st.integers(1, 10**9))
def test_chunk_range(start: int, length: int) -> None:
    assert chunk_range(f"{start}-{start + length - 1}") == (start, length)
