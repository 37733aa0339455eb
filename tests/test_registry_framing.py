"""What is around the body of an answer: interim answers, sizes of chunks, trailers.

The answers are bytes on a wire, because no decent server sends most of them.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from imgtools.transport.options import RegistryOptions, Timeouts
from imgtools.transport.registry.wire.exchange import ExchangeFailed
from imgtools.transport.registry.wire.http import HttpClient
from tests.rig.sockets import Connections

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"


@contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """The URL of a server that says `answers`, one after each request on one connection."""
    connections = Connections()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connections.add(connection)
            for answer in answers:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    more = connection.recv(1)
                    if not more:
                        return
                    head += more
                connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                pass

    def serve_quietly() -> None:
        try:
            serve()
        except OSError:
            # The client does not stay for the end of what is too much.
            return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve_quietly)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/x"
        finally:
            connections.close()
            thread.join()


@contextmanager
def client() -> Iterator[HttpClient]:
    options = RegistryOptions(timeouts=Timeouts(connect=5, first_byte=5, idle=5))
    made = HttpClient(options)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (HINTS + OK, b"ok"),
        (b"HTTP/1.1 102 Processing\r\n\r\n" * 3 + HINTS + OK, b"ok"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok"),
        (CHUNKED + b"2\r\nab\r\n0\r\n\r\n", b"ab"),
        (CHUNKED + b"2 \r\nab\r\n00\r\nDigest: x\r\n\r\n", b"ab"),
        (CHUNKED + b"A;name=value\r\n0123456789\r\n0;end\r\n\r\n", b"0123456789"),
    ],
)
def test_what_is_around_a_body_is_passed_over(answer: bytes, body: bytes) -> None:
    """The connection is in step afterwards: the next answer is that to the next request."""
    with answering(answer, OK) as url, client() as http:
        for expected in (body, b"ok"):
            with http.exchange("GET", url, {}) as response:
                assert response.status == 200
                assert response.body(100, "answer") == expected


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 1000 + OK, "interim answers"),
        (HINTS * 1000 + OK, "interim answers"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n" + OK, "nobody asked"),
        (CHUNKED + b"-1\r\n" + b"x" * 1000, r"\(0 bytes read\)"),
        (CHUNKED + b"-10\r\n" + b"x" * 1000, r"\(0 bytes read\)"),
        (CHUNKED + b"0x2\r\nab\r\n0\r\n\r\n", "incomplete"),
        (CHUNKED + b"+2\r\nab\r\n0\r\n\r\n", "incomplete"),
        (CHUNKED + b"1_0\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n", "incomplete"),
        (CHUNKED + b"f" * 16 + b"\r\nx", "incomplete"),
        (CHUNKED + b"2;" + b"x" * 5000 + b"\r\nab\r\n0\r\n\r\n", "incomplete"),
        (CHUNKED + b"0\r\n" + b"a: b\r\n" * 1000 + b"\r\n", "trailers"),
        (CHUNKED + b"0\r\n" + b"a" * 5000 + b"\r\n\r\n", "trailer"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000 + b"\r\n", "headers"),
        (b"HTTP/1.1 200 OK\r\na: " + b"b" * 100_000 + b"\r\n\r\n", "header"),
    ],
)
def test_what_has_no_end_or_no_sense_is_refused(answer: bytes, reason: str) -> None:
    with (
        answering(answer) as url,
        client() as http,
        pytest.raises(ExchangeFailed, match=rf"(?i)no complete answer from .*{reason}"),
        http.exchange("GET", url, {}) as response,
    ):
        response.body(1_000_000, "answer")
