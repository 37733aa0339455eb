"""One client connection of the test registry: HTTP/1.1 with control over every byte.

Faults act here, below the application: what is sent may contradict its own headers, end
early, or never come.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from typing import Literal
from urllib.parse import unquote

from imgtools.blob.reader import Readable
from imgtools.errors import ConnectionFailed, Error
from imgtools.frozen import dataclass
from imgtools.serve.message import Request, Response
from imgtools.serve.wire import RequestBody, SocketReader, body_length, read_head
from imgtools.serve.wsgi import parse_query
from imgtools.testing.faults import Fault, changed_answer, own_answer
from imgtools.testing.wire_request import WireRequest

_DRAIN_LIMIT = 1 << 30


class Cut(Exception):
    """The connection ends here, on purpose."""


@dataclass(slots=True)
class Exchange:
    """A request as it came and what was sent for it; `target` is path and query as sent.

    `lines` are the header lines one by one, names in lower case, where `headers` joins what
    is repeated. `received` and `sent` are bytes of the bodies; `connection` numbers the
    connection; `status` is 0 when nothing was sent; `fault` is what was done to it, if
    anything; `storage` is whether it came to the storage that blobs are redirected to.
    """

    method: str
    target: str
    headers: dict[str, str]
    connection: int
    status: int = 0
    received: int = 0
    sent: int = 0
    response_headers: dict[str, str] | None = None
    fault: Fault | None = None
    lines: tuple[tuple[str, str], ...] = ()
    storage: bool = False

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manners:
    """How a server treats its connections.

    `keep_alive` closes, without notice, after that many answers. `expect` says what
    `Expect: 100-continue` gets: the interim answer, a refusal, or nothing.
    """

    keep_alive: int | None = None
    expect: Literal["100", "417", "ignored"] = "100"


class Connection:
    """Serves one socket until it ends."""

    def __init__(
        self,
        sock: socket.socket,
        number: int,
        *,
        handle: Callable[[Request], Response],
        choose: Callable[[str, str], Fault | None],
        record: Callable[[Exchange], object],
        latency: Callable[[], float],
        closing: threading.Event,
        manners: Manners,
        storage: bool = False,
    ) -> None:
        self._socket = sock
        self._number = number
        self._reader = _HeadReader(sock)
        self._manners = manners
        self._storage = storage
        self._answered = 0
        self._handle = handle
        self._choose = choose
        self._record = record
        self._latency = latency
        self._closing = closing

    def serve(self) -> None:
        """Answer requests until the client, a fault or the end of the test stops it."""
        try:
            while not self._closing.is_set() and self._one():
                continue
        except (OSError, Cut, Error):
            # The client left, or a fault has said that the connection ends.
            return

    def _one(self) -> bool:
        self._reader.lines.clear()
        head = read_head(self._reader)
        if head is None:
            return False
        method, target, version, headers = head
        exchange = Exchange(method, target, headers, self._number)
        exchange.lines = _fields(self._reader.lines)
        exchange.storage = self._storage
        exchange.fault = self._choose(method, target)
        self._record(exchange)
        body = RequestBody(self._reader, body_length(headers))
        if headers.get("expect", "").lower() == "100-continue":
            self._interim(exchange)
        try:
            response = self._response(exchange, body)
            exchange.received = body.received
            try:
                self._send(exchange, response)
            finally:
                response.close()
            keep = headers.get("connection", "").lower() != "close" and version != "HTTP/1.0"
            keep = keep and response.headers.get("Connection") != "close"
            self._answered += 1
            keep = keep and self._answered != self._manners.keep_alive
            return keep and body.drain(_DRAIN_LIMIT)
        finally:
            exchange.received = body.received

    # --- before the answer ----------------------------------------------------------------

    def _interim(self, exchange: Exchange) -> None:
        """What Expect gets before the body is read."""
        if self._manners.expect == "100":
            self._socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        elif self._manners.expect == "417":
            exchange.status = 417
            self._socket.sendall(
                b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            )
            raise Cut

    def _response(self, exchange: Exchange, body: RequestBody) -> Response:
        fault = exchange.fault or Fault()
        self._pause(self._latency() + fault.stall)
        if fault.cut_request is not None:
            self._cut_request(exchange, body, fault)
        if fault.early is not None:
            self._answer_early(exchange, body, fault)
        if fault.answers and not fault.processed:
            return own_answer(fault, exchange.target)
        response = self._handle(_request(exchange, body, fault))
        if fault.cut_headers:
            response.close()
            self._end(reset=fault.reset)
        if fault.answers:
            response.close()
            return own_answer(fault, exchange.target)
        return changed_answer(response, fault)

    def _answer_early(self, exchange: Exchange, body: RequestBody, fault: Fault) -> None:
        """Answer after the first bytes of the body and hang up, whatever else is coming."""
        left = fault.early or 0
        while left > 0 and (data := body.read(min(left, 65536))):
            left -= len(data)
        exchange.received = body.received
        self._send(exchange, own_answer(fault, exchange.target))
        self._end(reset=fault.reset)

    def _cut_request(self, exchange: Exchange, body: RequestBody, fault: Fault) -> None:
        """Give the application the first bytes of the body only, then close."""
        request = _request(exchange, body, fault)
        limited = _Limited(body, fault.cut_request or 0)
        self._handle(replace(request, body=limited)).close()
        self._end(reset=fault.reset)

    # --- the answer -----------------------------------------------------------------------

    def _send(self, exchange: Exchange, response: Response) -> None:
        fault = exchange.fault or Fault()
        dropped = {name.lower() for name in fault.drop_headers}
        headers = [(n, v) for n, v in _sent_headers(response) if n.lower() not in dropped]
        exchange.response_headers = {name.lower(): value for name, value in headers}
        exchange.status = response.status
        lines = [f"HTTP/1.1 {response.status} {_phrase(response.status)}"]
        lines += [f"{name}: {value}" for name, value in headers]
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        if response.body is None or exchange.method == "HEAD":
            return
        chunked = exchange.response_headers.get("transfer-encoding") == "chunked"
        limit = fault.cut_after if fault.cut_after is not None else fault.stall_after
        for data in response.body:
            part = data if limit is None else data[: limit - exchange.sent]
            exchange.sent += len(part)
            self._socket.sendall(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
            if limit is not None and exchange.sent >= limit:
                break
        if fault.cut_after is not None:
            self._end(reset=fault.reset)
        if fault.stall_after is not None:
            self._wait_for_client()
        if chunked:
            self._socket.sendall(b"0\r\n\r\n")
        elif exchange.sent < _announced(exchange.response_headers):
            # The end of the connection is the end of the body: it has no length, or a wrong one.
            self._end(reset=False)

    def _pause(self, seconds: float) -> None:
        if seconds > 0 and self._closing.wait(seconds):
            raise Cut

    def _wait_for_client(self) -> None:
        """Send nothing until the client closes or the test ends."""
        self._socket.settimeout(None)
        while self._socket.recv(65536):
            continue
        raise Cut

    def _end(self, *, reset: bool) -> None:
        if reset:
            linger = struct.pack("ii", 1, 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        raise Cut


class _Limited:
    """The first bytes of a body, then a cut connection."""

    def __init__(self, body: Readable, limit: int) -> None:
        self._body = body
        self._left = limit

    def read(self, size: int, /) -> bytes:
        if not self._left:
            raise ConnectionFailed("cut by a fault", host="client")
        data = self._body.read(min(size, self._left))
        self._left -= len(data)
        return data


class _HeadReader(SocketReader):
    """A reader that keeps the lines that it has given out, for the header lines."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.lines: list[bytes] = []

    def readline(self, limit: int = 65536) -> bytes:
        """A line, which is remembered as well."""
        line = super().readline(limit)
        self.lines.append(line)
        return line


def _fields(lines: list[bytes]) -> tuple[tuple[str, str], ...]:
    """Names and values of header lines, after the request line."""
    split = (line.decode("latin-1").partition(":") for line in lines[1:] if line.strip())
    return tuple((name.lower(), value.strip()) for name, _, value in split)


def _announced(headers: dict[str, str]) -> int:
    """The length that a client waits for; more than anything when it is not told one."""
    text = headers.get("content-length", "")
    return int(text) if text.isdecimal() and text.isascii() else 1 << 62


def _sent_headers(response: Response) -> list[tuple[str, str]]:
    """The header lines: a value of several lines makes several, an empty one makes none."""
    complete = response.complete_headers()
    if response.headers.get("Transfer-Encoding"):
        complete = [(n, v) for n, v in complete if n.lower() != "content-length"]
    return [(n, line) for n, v in complete for line in v.split("\n") if line]


def _request(exchange: Exchange, body: RequestBody, fault: Fault) -> Request:
    path, _, query = exchange.target.partition("?")
    headers = dict(exchange.headers)
    if fault.ignore_range:
        headers.pop("range", None)
    if fault.shift_range and "range" in headers:
        first, dash, last = headers["range"].removeprefix("bytes=").partition("-")
        headers["range"] = f"bytes={int(first) + fault.shift_range}{dash}{last}"
    return WireRequest(
        target=exchange.target,
        lines=exchange.lines,
        method=exchange.method,
        path=unquote(path, "latin-1"),
        query=parse_query(query),
        headers=headers,
        body=body,
        length=body_length(exchange.headers),
    )


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
