"""Gets a connection passed through a proxy: CONNECT of HTTP, and SOCKS 5.

Both leave the socket at the first byte of the origin. The proxy's credentials go to the proxy
and nowhere else, and a refusal says which proxy it was and what it wants. Sources: RFC 9110
section 9.3.6, RFC 1928, RFC 1929.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Protocol

from imgtools.transport.registry.wire.exchange import ExchangeFailed
from imgtools.transport.registry.wire.guard import literal
from imgtools.transport.registry.wire.url import Origin, clean

if TYPE_CHECKING:
    from imgtools.transport.registry.wire.proxies import Proxy

_HEAD_LIMIT = 64 * 1024
_SOCKS_ERRORS = {
    1: "it failed",
    2: "its rules do not allow the connection",
    3: "the network is unreachable from it",
    4: "it cannot reach or resolve the host",
    5: "the host refuses the connection",
    6: "its packets expired on the way",
    7: "it does not know CONNECT",
    8: "it does not know addresses of this type",
}
# Those that may be otherwise in a moment.
_SOCKS_PASSING = frozenset({1, 3, 4, 6})


class ByteStream(Protocol):
    """What is needed of a socket, or of TLS on one, to speak with a proxy."""

    def sendall(self, data: bytes, /) -> object:
        """Send all bytes."""

    def recv(self, size: int, /) -> bytes:
        """At most `size` bytes, b"" at the end."""

    def settimeout(self, seconds: float, /) -> object:
        """Seconds until an operation fails."""


def connect_through(
    stream: ByteStream, proxy: Proxy, origin: Origin, *, seconds: float, user_agent: str
) -> None:
    """Have `proxy`, to which `stream` leads, pass everything on to `origin`.

    Raises ExchangeFailed when the proxy does not, OSError when the connection ends.
    """
    conversation = _Conversation(stream, seconds)
    if proxy.socks:
        _socks(conversation, proxy, origin)
    else:
        _connect(conversation, proxy, origin, user_agent)


class _Conversation:
    """Bytes to and from a proxy, within a time for all of it."""

    def __init__(self, stream: ByteStream, seconds: float) -> None:
        self._stream = stream
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds

    def send(self, data: bytes) -> None:
        self._stream.settimeout(self._left())
        try:
            self._stream.sendall(data)
        except ConnectionError:
            raise _ended() from None

    def receive(self, size: int) -> bytes:
        self._stream.settimeout(self._left())
        try:
            data = self._stream.recv(size)
        except ConnectionError:
            raise _ended() from None
        if not data:
            raise _ended()
        return data

    def exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self.receive(size - len(data))
        return data

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(None, f"it did not answer within {self._seconds:g} s")
        return left


def _ended() -> ConnectionResetError:
    return ConnectionResetError(None, "it closed the connection")


def _refused(
    proxy: Proxy, origin: Origin, reason: str, *, final: bool = True, hint: str | None = None
) -> ExchangeFailed:
    return ExchangeFailed(
        f"cannot connect to {origin}: {proxy}: {clean(reason)}",
        host=proxy.authority,
        stage="connect",
        final=final,
        hint=hint,
    )


def _connect(talk: _Conversation, proxy: Proxy, origin: Origin, user_agent: str) -> None:
    name = f"[{origin.host}]" if ":" in origin.host else origin.host
    target = f"{name}:{origin.port}"
    headers = {"Host": target, "User-Agent": user_agent, **proxy.headers()}
    lines = [f"CONNECT {target} HTTP/1.1", *(f"{k}: {v}" for k, v in headers.items()), "", ""]
    talk.send("\r\n".join(lines).encode("latin-1"))
    head = b""
    while b"\r\n\r\n" not in head:
        head += talk.receive(4096)
        if len(head) > _HEAD_LIMIT:
            raise _refused(proxy, origin, "its answer to CONNECT has no end")
    head, _, rest = head.partition(b"\r\n\r\n")
    version, _, said = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
    code, _, words = said.partition(" ")
    if not version.startswith("HTTP/") or not (code.isascii() and code.isdigit()):
        raise _refused(
            proxy, origin, "it does not speak HTTP", hint="check HTTPS_PROXY and HTTP_PROXY"
        )
    if not code.startswith("2"):
        raise _refused(
            proxy,
            origin,
            f"CONNECT was refused: {code} {words}",
            final=not code.startswith("5"),
            hint=_connect_hint(code, proxy, origin),
        )
    if rest:
        raise _refused(proxy, origin, "it sent data of its own into the tunnel")


def _connect_hint(code: str, proxy: Proxy, origin: Origin) -> str | None:
    if code == "407" and proxy.username is None:
        return "the proxy wants credentials: write them in its URL, http://USER:PASSWORD@HOST:PORT"
    if code == "407":
        return "the proxy does not accept the user name and password in its URL"
    if code in ("403", "405"):
        return (
            f"the proxy does not let us connect to {origin.host} port {origin.port}; "
            "NO_PROXY lists hosts that are reached without it"
        )
    return None


def _socks(talk: _Conversation, proxy: Proxy, origin: Origin) -> None:
    talk.send(b"\x05\x01\x00" if proxy.username is None else b"\x05\x02\x00\x02")
    version, method = talk.exactly(2)
    if version != 5:
        raise _refused(proxy, origin, "it does not speak SOCKS 5")
    if method == 2 and proxy.username is not None:
        _socks_login(talk, proxy, origin)
    elif method != 0:
        hint = "write credentials in its URL, socks5://USER:PASSWORD@HOST:PORT"
        raise _refused(
            proxy, origin, "it wants another way to log in than it was offered",
            hint=hint if proxy.username is None else None,
        )  # fmt: skip
    talk.send(b"\x05\x01\x00" + _socks_address(proxy, origin) + origin.port.to_bytes(2, "big"))
    version, reply, _, kind = talk.exactly(4)
    if version != 5 or reply:
        raise _refused(
            proxy,
            origin,
            _SOCKS_ERRORS.get(reply, f"it refused with code {reply}"),
            final=reply not in _SOCKS_PASSING,
        )
    # Its own address on the way, which nobody needs.
    length = {1: 4, 4: 16}.get(kind) or talk.exactly(1)[0]
    talk.exactly(length + 2)


def _socks_login(talk: _Conversation, proxy: Proxy, origin: Origin) -> None:
    username, password = (proxy.username or "").encode(), proxy.password.encode()
    if not 0 < len(username) < 256 or len(password) > 255:
        raise _refused(proxy, origin, "its user name and password have to be of 1 to 255 bytes")
    talk.send(bytes((1, len(username))) + username + bytes((len(password),)) + password)
    if talk.exactly(2)[1]:
        raise _refused(proxy, origin, "it does not accept the user name and password in its URL")


def _socks_address(proxy: Proxy, origin: Origin) -> bytes:
    """The host as an address if it is one, else as a name for the proxy to resolve."""
    address = literal(origin.host)
    if address is not None and address == origin.host:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        packed = socket.inet_pton(family, address.partition("%")[0])
        return (b"\x01" if len(packed) == 4 else b"\x04") + packed
    name = origin.host.encode()
    if len(name) > 255:
        raise _refused(proxy, origin, "the host's name is too long for SOCKS")
    return bytes((3, len(name))) + name
