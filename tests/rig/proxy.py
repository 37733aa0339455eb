"""A reverse proxy on loopback that writes down every exchange and can make each one slower.

Bytes pass through as they are, Host header included, so a registry behind it builds its absolute
addresses for the proxy. Bodies are streamed, connections kept alive one to one, and both
directions run at once. A hook may answer in the registry's place or change a head.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.rig.messages import CHUNK, Head, Reply, body_of, read_head

HEAD_LIMIT = 1024 * 1024


@dataclass(slots=True, kw_only=True)
class Exchange:
    """A request and what came back; sizes are those of the bodies, with chunk framing if any.

    An on_response hook may set `cut_after`: the connection ends after so many bytes of the body.
    """

    connection: int
    method: str
    path: str
    request: Head
    started: float
    status: int = 0
    response: Head | None = None
    request_bytes: int = 0
    response_bytes: int = 0
    ended: float = 0.0
    cut_after: int | None = None


OnRequest = Callable[[Head], Head | Reply | None]
OnResponse = Callable[[Exchange, Head], Head | None]


@dataclass(slots=True)
class _Link:
    """A client's connection, its connection to the registry, and the exchanges under way."""

    number: int
    client_reader: asyncio.StreamReader
    client_writer: asyncio.StreamWriter
    server_reader: asyncio.StreamReader
    server_writer: asyncio.StreamWriter
    pending: asyncio.Queue[tuple[Exchange | None, Reply | None] | None] = field(
        default_factory=asyncio.Queue
    )


class LoggingProxy:
    """One proxy with an event loop in a thread of its own; use it in a `with` block."""

    def __init__(
        self,
        upstream: str,
        *,
        latency: float = 0.0,
        certificates: Path | None = None,
        on_request: OnRequest | None = None,
        on_response: OnResponse | None = None,
    ) -> None:
        """Stand before `upstream`, HOST:PORT.

        `latency` seconds are slept before a request goes on; with `certificates` (see
        make_certificates) both sides speak TLS. Hooks return None for "as it is"; they run in the
        proxy's thread. `latency` and hooks may be changed while it runs.
        """
        self.upstream = upstream
        self.latency = latency
        self.certificates = certificates
        self.on_request = on_request
        self.on_response = on_response
        self.exchanges: list[Exchange] = []
        self.connections = 0
        self.port = 0
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="logging proxy")

    @property
    def host(self) -> str:
        """HOST:PORT as in a reference."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The address without a path."""
        return f"{'https' if self.certificates else 'http'}://{self.host}"

    def take(self) -> list[Exchange]:
        """The exchanges since the last call."""
        taken, self.exchanges = self.exchanges, []
        return taken

    def __enter__(self) -> Self:
        """Listen."""
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            self._thread.join()
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening and cut every connection."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as e:  # noqa: BLE001  # re-raised in the test's thread
            self._failure = e
        finally:
            self._ready.set()

    def _tls(self) -> tuple[ssl.SSLContext | None, ssl.SSLContext | None]:
        """The contexts of the listening side and of the registry's."""
        if self.certificates is None:
            return None, None
        listening = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        listening.load_cert_chain(
            self.certificates / "server.crt", self.certificates / "server.key"
        )
        onward = ssl.create_default_context(cafile=str(self.certificates / "ca.crt"))
        return listening, onward

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        links: set[asyncio.Task[None]] = set()
        listening, onward = self._tls()

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            task = asyncio.create_task(self._link(self.connections, reader, writer, onward))
            links.add(task)
            task.add_done_callback(links.discard)

        server = await asyncio.start_server(
            connected, "127.0.0.1", 0, ssl=listening, limit=HEAD_LIMIT
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in links:
            task.cancel()
        outcomes = await asyncio.gather(*links, return_exceptions=True)
        await server.wait_closed()
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    async def _link(
        self,
        number: int,
        client_reader: asyncio.StreamReader,
        client_writer: asyncio.StreamWriter,
        onward: ssl.SSLContext | None,
    ) -> None:
        """Serve one client's connection until either side ends it."""
        host, _, port = self.upstream.rpartition(":")
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(_close, client_writer)
            try:
                server_reader, server_writer = await asyncio.open_connection(
                    host, int(port), ssl=onward, limit=HEAD_LIMIT
                )
            except OSError:
                # The registry is gone: the client sees its connection end.
                return
            stack.push_async_callback(_close, server_writer)
            link = _Link(number, client_reader, client_writer, server_reader, server_writer)
            requests = asyncio.create_task(self._requests(link))
            responses = asyncio.create_task(self._responses(link))
            try:
                # The responses' end is the link's: a registry may answer before it has read all.
                await responses
            finally:
                requests.cancel()
                responses.cancel()
                await asyncio.gather(requests, responses, return_exceptions=True)

    async def _requests(self, link: _Link) -> None:
        """Client to registry."""
        try:
            while raw := await read_head(link.client_reader):
                if not raw[:1].isalpha():
                    await self._tunnel(link, raw)
                    return
                head = Head.parse(raw)
                exchange = Exchange(
                    connection=link.number,
                    method=head.method,
                    path=head.target,
                    request=head,
                    started=time.monotonic(),
                )
                self.exchanges.append(exchange)
                if self.latency:
                    await asyncio.sleep(self.latency)
                hooked = self.on_request(head) if self.on_request else None
                if isinstance(hooked, Reply):
                    async for piece in body_of(link.client_reader, head, at_eof=False):
                        exchange.request_bytes += len(piece)
                    link.pending.put_nowait((exchange, hooked))
                    continue
                link.pending.put_nowait((exchange, None))
                link.server_writer.write(hooked.encode() if hooked else raw)
                async for piece in body_of(link.client_reader, head, at_eof=False):
                    exchange.request_bytes += len(piece)
                    link.server_writer.write(piece)
                    await link.server_writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            # Cut off on either side; what the registry still has to say is passed on.
            await self._abandon(link)
        finally:
            link.pending.put_nowait(None)

    async def _tunnel(self, link: _Link, begun: bytes) -> None:
        """Pass on what is no HTTP, such as TLS tried on a plain port: the registry's to answer."""
        link.pending.put_nowait((None, None))
        while begun:
            link.server_writer.write(begun)
            await link.server_writer.drain()
            begun = await link.client_reader.read(CHUNK)

    async def _abandon(self, link: _Link) -> None:
        """Let the registry see that no more will come, and throw away what the client sends."""
        with contextlib.suppress(OSError):
            if link.server_writer.can_write_eof():
                link.server_writer.write_eof()
            while await link.client_reader.read(CHUNK):
                pass

    async def _responses(self, link: _Link) -> None:
        """Registry to client."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while (pending := await link.pending.get()) is not None:
                exchange, reply = pending
                if exchange is None:
                    while piece := await link.server_reader.read(CHUNK):
                        link.client_writer.write(piece)
                        await link.client_writer.drain()
                    return
                if reply is not None:
                    exchange.status, exchange.response = reply.status, reply.head()
                    body = b"" if exchange.method == "HEAD" else reply.body
                    exchange.response_bytes = len(body)
                    exchange.ended = time.monotonic()
                    link.client_writer.write(reply.head().encode() + body)
                    await link.client_writer.drain()
                elif not await self._response(link, exchange):
                    return

    async def _response(self, link: _Link, exchange: Exchange) -> bool:
        """Pass one response on; whether another may follow on this connection."""
        while True:
            raw = await read_head(link.server_reader)
            if not raw:
                return False
            head = Head.parse(raw)
            if head.status >= 200:
                break
            link.client_writer.write(raw)
        hooked = self.on_response(exchange, head) if self.on_response else None
        sent = hooked or head
        exchange.status, exchange.response = sent.status, sent
        exchange.ended = time.monotonic()
        link.client_writer.write(hooked.encode() if hooked else raw)
        until_eof = not (head.get("Content-Length") or head.get("Transfer-Encoding"))
        if exchange.method != "HEAD" and head.status not in (204, 304):
            async for piece in body_of(link.server_reader, head, at_eof=True):
                if exchange.cut_after is not None:
                    piece = piece[: exchange.cut_after - exchange.response_bytes]
                exchange.response_bytes += len(piece)
                exchange.ended = time.monotonic()
                link.client_writer.write(piece)
                await link.client_writer.drain()
                if exchange.response_bytes == exchange.cut_after:
                    return False
        else:
            until_eof = False
        await link.client_writer.drain()
        return not until_eof and head.get("Connection").lower() != "close"


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close without minding how the other side took it."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
