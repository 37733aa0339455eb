"""One client connection of the test registry: HTTP/1.1 with control over every byte.

Faults act here, below the application: what is sent may contradict its own headers, end
early, or never come.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus
from urllib.parse import unquote

from imgtools.blob.reader import Readable
from imgtools.errors import ConnectionFailed, Error
from imgtools.serve.message import BytesBody, Request, Response, error_response, json_response
from imgtools.serve.wire import RequestBody, SocketReader, body_length, read_head
from imgtools.serve.wsgi import parse_query
from imgtools.testing.faults import Fault

_DRAIN_LIMIT = 1 << 30


class Cut(Exception):
    """The connection ends here, on purpose."""


@dataclass(slots=True)
class Exchange:
    """A request as it came and what was sent for it; `target` is path and query as sent.

    `received` and `sent` are bytes of the bodies; `connection` numbers the connection;
    `status` is 0 when nothing was sent; `fault` is what was done to it, if anything.
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

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]


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
    ) -> None:
        self._socket = sock
        self._number = number
        self._reader = SocketReader(sock)
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
        head = read_head(self._reader)
        if head is None:
            return False
        method, target, version, headers = head
        exchange = Exchange(method, target, headers, self._number)
        exchange.fault = self._choose(method, target)
        self._record(exchange)
        body = RequestBody(self._reader, body_length(headers))
        if headers.get("expect", "").lower() == "100-continue":
            self._socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            response = self._response(exchange, body)
            exchange.received = body.received
            try:
                self._send(exchange, response)
            finally:
                response.close()
            keep = headers.get("connection", "").lower() != "close" and version != "HTTP/1.0"
            keep = keep and response.headers.get("Connection") != "close"
            return keep and body.drain(_DRAIN_LIMIT)
        finally:
            exchange.received = body.received

    # --- before the answer ----------------------------------------------------------------

    def _response(self, exchange: Exchange, body: RequestBody) -> Response:
        fault = exchange.fault or Fault()
        self._pause(self._latency() + fault.stall)
        if fault.cut_request is not None:
            self._cut_request(exchange, body, fault)
        if fault.answers and not fault.processed:
            return _own_answer(fault, exchange.target)
        response = self._handle(_request(exchange, body, fault))
        if fault.cut_headers:
            response.close()
            self._end(reset=fault.reset)
        if fault.answers:
            response.close()
            return _own_answer(fault, exchange.target)
        return _changed(response, fault)

    def _cut_request(self, exchange: Exchange, body: RequestBody, fault: Fault) -> None:
        """Give the application the first bytes of the body only, then close."""
        request = _request(exchange, body, fault)
        limited = _Limited(body, fault.cut_request or 0)
        self._handle(replace(request, body=limited)).close()
        self._end(reset=fault.reset)

    # --- the answer -----------------------------------------------------------------------

    def _send(self, exchange: Exchange, response: Response) -> None:
        fault = exchange.fault or Fault()
        lines = [f"HTTP/1.1 {response.status} {_phrase(response.status)}"]
        headers = response.complete_headers()
        dropped = {name.lower() for name in fault.drop_headers}
        headers = [(n, v) for n, v in headers if n.lower() not in dropped]
        lines += [f"{name}: {value}" for name, value in headers]
        exchange.response_headers = {name.lower(): value for name, value in headers}
        exchange.status = response.status
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        if response.body is None or exchange.method == "HEAD":
            return
        limit = fault.cut_after if fault.cut_after is not None else fault.stall_after
        for data in response.body:
            part = data if limit is None else data[: limit - exchange.sent]
            exchange.sent += len(part)
            self._socket.sendall(part)
            if limit is not None and exchange.sent >= limit:
                break
        if fault.cut_after is not None:
            self._end(reset=fault.reset)
        if fault.stall_after is not None:
            self._wait_for_client()
        if "content-length" in dropped:
            # Without a length the end of the connection is the end of the body.
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


def _request(exchange: Exchange, body: RequestBody, fault: Fault) -> Request:
    path, _, query = exchange.target.partition("?")
    headers = dict(exchange.headers)
    if fault.ignore_range:
        headers.pop("range", None)
    if fault.shift_range and "range" in headers:
        first, dash, last = headers["range"].removeprefix("bytes=").partition("-")
        headers["range"] = f"bytes={int(first) + fault.shift_range}{dash}{last}"
    return Request(
        method=exchange.method,
        path=unquote(path, "latin-1"),
        query=parse_query(query),
        headers=headers,
        body=body,
        length=body_length(exchange.headers),
    )


def _own_answer(fault: Fault, target: str) -> Response:
    """The answer that a fault gives instead of the application."""
    headers = dict(fault.headers)
    if fault.retry_after is not None:
        headers["Retry-After"] = str(fault.retry_after)
    if fault.redirect is not None:
        headers["Location"] = fault.redirect.replace("{target}", target)
    status = fault.status if fault.status is not None else 307
    body = fault.body.encode() if isinstance(fault.body, str) else fault.body
    if body:
        kinds = {b"<": "text/html", b"{": "application/json"}
        headers.setdefault("Content-Type", kinds.get(body[:1], "text/plain"))
        response = Response(status=status, body=BytesBody(body))
    elif status >= 400:
        response = error_response(status, _code(status), "scripted fault")
    else:
        response = json_response({}, status=status)
    response.headers.update(headers)
    return response


def _changed(response: Response, fault: Fault) -> Response:
    """The application's answer with the changes that a fault asks for."""
    if fault.body_override is not None:
        response.close()
        response.body = BytesBody(fault.body_override)
        response.headers.pop("Content-Length", None)
    if fault.truncate is not None and response.body is not None:
        response.body = response.body.narrow(0, min(fault.truncate, response.body.length))
        response.headers.pop("Content-Length", None)
    if fault.flip is not None and response.body is not None:
        content = bytearray(b"".join(response.body))
        if fault.flip < len(content):
            content[fault.flip] ^= 0xFF
        response.close()
        response.body = BytesBody(bytes(content))
    response.headers.update(fault.set_headers)
    return response


def _code(status: int) -> str:
    codes = {401: "UNAUTHORIZED", 403: "DENIED", 404: "NAME_UNKNOWN", 429: "TOOMANYREQUESTS"}
    return codes.get(status, "UNSUPPORTED")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
