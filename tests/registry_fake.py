"""A registry that says what a test tells it to: one function from request to answer.

It keeps every request with its body, can cut an answer short, and refuses TLS at once, so that
a client that tries TLS first is not kept waiting.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import parse_qs, urlsplit

from imgtools.transport.options import RegistryOptions, Timeouts
from imgtools.transport.registry.access.challenge_cache import ChallengeCache
from imgtools.transport.registry.session import Session
from imgtools.transport.registry.wire.retry import RetryPolicy
from tests.rig.sockets import Connections


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request as it came; header names are in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, list[str]]:
        """The query, decoded."""
        return parse_qs(urlsplit(self.target).query, keep_blank_values=True)

    @property
    def authorization(self) -> str:
        """The Authorization header, "" without."""
        return self.headers.get("authorization", "")

    def __str__(self) -> str:
        return f"{self.method} {self.target}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the fake says. `cut` ends the connection after so many bytes of the body, or with
    `drip` lets a byte go every so many seconds from there; without `length` the end of the
    connection is the end of the body."""

    status: int = 200
    headers: Iterable[tuple[str, str]] = ()
    body: bytes = b""
    cut: int | None = None
    drip: float = 0.0
    length: bool = True


def say(status: int = 200, body: bytes | object = b"", /, **headers: str) -> Answer:
    """An answer; a body that is not bytes is sent as JSON, `_` in header names is `-`."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(
        status=status,
        headers=[(name.replace("_", "-"), value) for name, value in headers.items()],
        body=content,
    )


Script = Callable[[Request], Answer]


@dataclass
class FakeRegistry:
    """One fake; use it in a `with` block."""

    script: Script
    requests: list[Request] = field(default_factory=list)
    address: str = "127.0.0.1"

    def __enter__(self) -> Self:
        self._connections = Connections()
        handler = type("Handler", (_Handler,), {"fake": self, "connections": self._connections})
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        server = type("Server", (ThreadingHTTPServer,), {"address_family": family})
        self._server = server((self.address, 0), handler)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._connections.close()
        self._server.server_close()
        self._thread.join()

    @property
    def host(self) -> str:
        """HOST:PORT."""
        address = f"[{self.address}]" if ":" in self.address else self.address
        return f"{address}:{self._server.server_port}"

    @property
    def url(self) -> str:
        """The address without a path."""
        return f"http://{self.host}"

    @property
    def seen(self) -> list[str]:
        """The requests as `METHOD target`."""
        return [str(request) for request in self.requests]


class _Handler(BaseHTTPRequestHandler):
    fake: FakeRegistry
    connections: Connections
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        self.connections.add(self.request)
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.connections.discard(self.request)

    def handle(self) -> None:
        try:
            if self.request.recv(1, socket.MSG_PEEK) != b"\x16":
                super().handle()
        except OSError:
            return

    def _answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        request = Request(
            method=self.command,
            target=self.path,
            headers={name.lower(): value for name, value in self.headers.items()},
            body=self.rfile.read(length),
        )
        self.fake.requests.append(request)
        answer = self.fake.script(request)
        self.send_response_only(answer.status)
        names = set()
        for name, value in answer.headers:
            names.add(name.lower())
            self.send_header(name, value)
        if "content-length" not in names and answer.length:
            self.send_header("Content-Length", str(len(answer.body)))
        if not answer.length:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body[: answer.cut])
            for byte in answer.body[answer.cut :] if answer.drip else b"":
                time.sleep(answer.drip)
                self.wfile.write(bytes([byte]))
        if answer.cut is not None:
            self.close_connection = True

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815

    def log_message(self, format: str, *args: object) -> None:
        """The requests are in FakeRegistry.requests."""


QUICK = RetryPolicy(first=0.001, longest=0.002)
"""The retry policy of tests: as many tries, no waiting."""


def open_session(host: str, cache: ChallengeCache | None = None, **options: object) -> Session:
    """A session that gives up quickly; `options` are those of RegistryOptions."""
    values: dict[str, object] = {
        "tls_verify": False,
        "timeouts": Timeouts(connect=5, first_byte=5, idle=5),
        **options,
    }
    return Session(host, RegistryOptions(**values), cache or ChallengeCache(None), QUICK)  # type: ignore[arg-type]
