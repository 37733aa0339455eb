"""A web server on loopback that answers by a function, and a registry behind it if need be."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True, slots=True)
class Request:
    """What came in; `path` has the query too."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes out."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Answer = Callable[[Request], Reply]


@contextmanager
def web_server(answer: Answer) -> Iterator[str]:
    """Answers every request by `answer`; gives HOST:PORT."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 20
        # Head and body in one segment: the other side would wait before it confirms the first.
        wbufsize = 1 << 16

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = self._chunks()
            reply = answer(Request(self.command, self.path, dict(self.headers), body))
            self.send_response_only(reply.status)
            names = {name.lower() for name in reply.headers}
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if "content-length" not in names and reply.status != 204:
                self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)

        do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = handle_any  # noqa: N815

        def _chunks(self) -> bytes:
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def forwarded(upstream: str, request: Request) -> Reply:
    """The answer of the server at `upstream`, HOST:PORT, to `request`."""
    connection = http.client.HTTPConnection(upstream, timeout=20)
    try:
        dropped = ("transfer-encoding", "content-length", "connection")
        headers = {k: v for k, v in request.headers.items() if k.lower() not in dropped}
        connection.request(request.method, request.path, request.body or None, headers)
        response = connection.getresponse()
        content = response.read()
        kept = {
            name: value
            for name, value in response.getheaders()
            if name.lower() not in ("transfer-encoding", "connection")
        }
        return Reply(response.status, content, kept)
    finally:
        connection.close()
