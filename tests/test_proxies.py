"""Proxies of every kind: HTTP CONNECT, TLS to the proxy, SOCKS 5, and what they refuse.

The proxies are real ones on loopback, in threads; names that nobody can resolve prove that the
proxy was asked to do it.
"""

from __future__ import annotations

import base64
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from imgtools.errors import InvalidInput, Unsupported
from imgtools.transport.options import Proxies
from imgtools.transport.registry.access.challenge_cache import ChallengeCache, KnownHost
from imgtools.transport.registry.session import Session
from imgtools.transport.registry.wire.exchange import ExchangeFailed
from imgtools.transport.registry.wire.proxies import bypasses, parse_proxy, proxy_for
from imgtools.transport.registry.wire.retry import RetryPolicy
from imgtools.transport.registry.wire.url import Origin
from tests.registry_fake import FakeRegistry, open_session, say
from tests.rig import RegistryServer
from tests.rig.listening import listening
from tests.rig.sockets import Connections

Talk = Callable[["Client", list[Any]], tuple[str, int] | None]
"""Speaks with a client until it is to be connected, and says to what; None to hang up."""


class Client:
    """A client's connection, read exactly."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.sock.recv(size - len(data))
            if not more:
                raise ConnectionResetError
            data += more
        return data

    def head(self) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            data += self.exactly(1)
        return data


@contextmanager
def proxy(
    talk: Talk, seen: list[Any], *, certificates: Path | None = None, target: str = ""
) -> Iterator[str]:
    """A proxy at the address yielded; `target` is where every connection really goes."""
    connections = Connections()
    context = None
    if certificates is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificates / "server.crt", certificates / "server.key")

    def pump(here: socket.socket, there: socket.socket) -> None:
        with suppress(OSError, ValueError):
            while data := here.recv(65536):
                there.sendall(data)
        with suppress(OSError):
            there.shutdown(socket.SHUT_WR)

    def serve(plain: socket.socket) -> None:
        # The two directions of a TLS socket cannot be in two threads without care, so one side
        # of a pair of plain sockets stands between.
        with suppress(OSError):
            sock = context.wrap_socket(plain, server_side=True) if context else plain
            with sock:
                wanted = talk(Client(sock), seen)
                if wanted is None:
                    return
                host, _, port = target.rpartition(":")
                goal = (host.strip("[]"), int(port)) if target else wanted
                with socket.create_connection(goal) as server:
                    connections.add(server)
                    back = threading.Thread(target=pump, args=(server, sock))
                    back.start()
                    pump(sock, server)
                    back.join()

    with listening(serve) as address:
        try:
            yield address
        finally:
            connections.close()


def connects(answer: bytes = b"HTTP/1.1 200 fine\r\n\r\n", *, stays: bool = True) -> Talk:
    """CONNECT with a fixed answer."""

    def talk(client: Client, seen: list[Any]) -> tuple[str, int] | None:
        head = client.head()
        seen.append(head)
        client.sock.sendall(answer)
        host, _, port = head.split()[1].decode().rpartition(":")
        return (host, int(port)) if stays else None

    return talk


def socks(*, login: bytes = b"", reply: int = 0, method: int | None = None) -> Talk:
    """SOCKS 5; `login` is the user name and password it wants, as `name:password`."""

    def talk(client: Client, seen: list[Any]) -> tuple[str, int] | None:
        version, count = client.exactly(2)
        offered = client.exactly(count)
        wanted = method if method is not None else 2 if login else 0
        assert version == 5
        client.sock.sendall(bytes((5, wanted if wanted in offered else 255)))
        if wanted not in offered:
            return None
        if wanted == 2:
            assert client.exactly(1) == b"\x01"
            name = client.exactly(client.exactly(1)[0])
            password = client.exactly(client.exactly(1)[0])
            seen.append(name + b":" + password)
            client.sock.sendall(bytes((1, seen[-1] != login)))
            if seen[-1] != login:
                return None
        assert client.exactly(3) == b"\x05\x01\x00"
        kind = client.exactly(1)[0]
        if kind == 3:
            host = client.exactly(client.exactly(1)[0]).decode()
        else:
            family, size = ((socket.AF_INET, 4), (socket.AF_INET6, 16))[kind == 4]
            host = socket.inet_ntop(family, client.exactly(size))
        port = int.from_bytes(client.exactly(2), "big")
        seen.append((kind, host, port))
        # Its own address is a name, an IPv4 or an IPv6 address.
        client.sock.sendall(bytes((5, reply, 0)) + b"\x03\x02ab" + b"\0\0")
        return None if reply else (host, port)

    return talk


def ask(session: Session) -> tuple[int, bytes]:
    with session.request("GET", "/v2/", repository="a", scopes=()) as response:
        return response.status, response.body(1 << 20, "answer")


def once(host: str, url: str, **options: Any) -> Session:
    """A session through the proxy at `url` that tries connecting once."""
    options.setdefault("tls_verify", True)
    session = open_session(host, proxies=Proxies(https=url, http=url), **options)
    session.policy = RetryPolicy(connect_attempts=1)
    return session


def plain_session(host: str, url: str) -> Session:
    """A session with a registry that is known to be on http."""
    cache = ChallengeCache(None)
    cache.put(host, KnownHost(scheme="http"))
    return open_session(host, cache, proxies=Proxies(https=url, http=url))


# What an environment says


@pytest.mark.parametrize(
    ("url", "shown", "headers"),
    [
        ("proxy", "proxy http://proxy:80", None),
        ("proxy:3128", "proxy http://proxy:3128", None),
        ("HTTPS://Proxy", "proxy https://proxy:443", None),
        ("socks5://proxy", "proxy socks5://proxy:1080", None),
        ("socks5h://[::1]:9", "proxy socks5h://[::1]:9", None),
        ("http://u:p%40x@proxy", "proxy http://proxy:80", "u:p@x"),
        ("http://u@proxy", "proxy http://proxy:80", "u:"),
    ],
)
def test_proxy_urls(url: str, shown: str, headers: str | None) -> None:
    found = parse_proxy(url)
    assert str(found) == shown
    expected = {}
    if headers is not None:
        encoded = base64.b64encode(headers.encode()).decode()
        expected = {"Proxy-Authorization": f"Basic {encoded}"}
    assert found.headers() == expected
    assert "p@x" not in repr(found)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("ftp://proxy", Unsupported),
        ("socks4://u:secret@proxy", Unsupported),
        ("http://u:secret@", InvalidInput),
        ("http://u:secret@proxy:99999", InvalidInput),
        ("http://[::1", InvalidInput),
        ("http://u:secret@[::1", InvalidInput),
        # As typed by whoever does not know that these have to be encoded.
        ("http://u:secret/x@proxy:3128", InvalidInput),
        ("http://u:secret?x@proxy:3128", InvalidInput),
        ("http://u:secret#x@proxy:3128", InvalidInput),
        ("http://u:3128/secret@proxy:3128", InvalidInput),
        ("u:x/secret@proxy:3128", InvalidInput),
        ("http://u:secret@x/@proxy:3128", InvalidInput),
    ],
)
def test_proxy_urls_that_are_none(url: str, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        proxy_for(Origin.of("https://registry.test"), Proxies(https=url))
    error: BaseException | None = caught.value
    while error is not None:
        assert "secret" not in str(error)
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize(
    ("url", "rule", "expected"),
    [
        ("https://r.example", "*", True),
        ("https://r.example", "example", True),
        ("https://r.example", ".example", True),
        ("https://example", ".example", False),
        ("https://r.example", "*.example", True),
        ("https://notexample", "example", False),
        ("https://r.example.", "r.example", True),
        ("https://r.example", "r.example.", True),
        ("https://r.example:5000", "r.example:5000", True),
        ("https://r.example", "r.example:443", True),
        ("http://r.example", "r.example:443", False),
        ("https://10.1.2.3", "10.0.0.0/8", True),
        ("https://10.1.2.3:1", "10.1.2.3:1", True),
        ("https://10.1.2.3", "10.1.2.3:1", False),
        ("https://11.1.2.3", "10.0.0.0/8", False),
        ("https://[fd00::1]", "fd00::/8", True),
        ("https://[fd00::1]:5000", "[fd00::1]:5000", True),
        ("https://[fd00::1]", "fd00::1", True),
        ("https://[fd00::1]", "fd00::2", False),
        ("https://[::1]", "", True),
        ("https://127.9.9.9", "", True),
        ("https://localhost", "", True),
        ("https://r.example", ":5000", False),
        ("https://r.example", "300.0.0.0/8", False),
    ],
)
def test_no_proxy(url: str, rule: str, expected: bool) -> None:
    assert bypasses(Origin.of(url), (rule,)) is expected


# Through them


def test_connect_and_what_each_side_sees(registry_tls: RegistryServer) -> None:
    seen: list[Any] = []
    with proxy(connects(), seen, target=registry_tls.host) as address:
        session = once("registry.test:5000", f"http://me:pass@{address}", tls_verify=False)
        assert ask(session)[0] == 200
        assert ask(session)[0] == 200
        session.close()
    assert len(seen) == 1
    assert seen[0].startswith(b"CONNECT registry.test:5000 HTTP/1.1\r\nHost: registry.test:5000")
    assert b"Proxy-Authorization: Basic bWU6cGFzcw==\r\n" in seen[0]


def test_tls_in_tls(registry_tls: RegistryServer, certificates: Path) -> None:
    seen: list[Any] = []
    with proxy(connects(), seen, certificates=certificates, target=registry_tls.host) as address:
        session = once(
            "localhost.test:5000",
            f"https://{address}",
            ca_file=str(certificates / "ca.crt"),
            tls_verify=False,
        )
        # Several requests, so that the stream is kept and read to its end.
        for _ in range(3):
            assert ask(session) == (200, b"{}")
        session.close()
    assert len(seen) == 1


def test_proxy_with_a_certificate_of_nobody(certificates: Path) -> None:
    with proxy(connects(), [], certificates=certificates) as address:
        session = once("registry.test", f"https://{address}")
        with pytest.raises(ExchangeFailed, match="cannot establish TLS with proxy https://"):
            ask(session)
        session.close()


def test_large_body_through_tls_in_tls(certificates: Path) -> None:
    """More than fits into any buffer, in both directions."""
    from imgtools.transport.registry.wire.exchange import Body

    content = bytes(range(256)) * 8192
    inner = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inner.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    listener = socket.create_server(("127.0.0.1", 0))
    received: list[bytes] = []

    def serve() -> None:
        plain, _ = listener.accept()
        with plain, inner.wrap_socket(plain, server_side=True) as tls:
            client = Client(tls)
            client.head()
            received.append(client.exactly(len(content)))
            answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n"
            tls.sendall(answer.encode() + content)
            with suppress(OSError):
                tls.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    target = f"127.0.0.1:{listener.getsockname()[1]}"
    with proxy(connects(), [], certificates=certificates, target=target) as address:
        session = once("registry.test", f"https://{address}", tls_verify=False)
        response = session.request(
            "PUT", "https://registry.test/x", repository="a", scopes=(), body=Body.of(content)
        )
        assert response.body(1 << 24, "answer") == content
        session.close()
    thread.join()
    listener.close()
    assert received == [content]


def test_http_through_an_https_proxy(certificates: Path) -> None:
    """Requests for http go to the proxy whole, inside its TLS."""

    def talk(client: Client, seen: list[Any]) -> None:
        seen.append(client.head())
        client.sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")

    seen: list[Any] = []
    with proxy(talk, seen, certificates=certificates) as address:
        session = plain_session("registry.test", f"https://u:p@{address}")
        assert ask(session) == (200, b"hi")
        session.close()
    assert seen[0].startswith(b"GET http://registry.test/v2/ HTTP/1.1\r\nHost: registry.test\r\n")
    assert b"Proxy-Authorization: Basic dTpw\r\n" in seen[0]


@pytest.mark.parametrize("scheme", ["socks5", "socks5h"])
@pytest.mark.parametrize("login", ["", "me:pass"])
def test_socks_resolves_names_at_the_proxy(
    registry_tls: RegistryServer, scheme: str, login: str
) -> None:
    seen: list[Any] = []
    talk = socks(login=login.encode())
    with proxy(talk, seen, target=registry_tls.host) as address:
        user = f"{login}@" if login else ""
        session = once("registry.test:5000", f"{scheme}://{user}{address}", tls_verify=False)
        assert ask(session)[0] == 200
        session.close()
    assert seen == [login.encode()] * bool(login) + [(3, "registry.test", 5000)]


@pytest.mark.parametrize(
    ("host", "kind", "name"),
    [("[fd00::9]:5000", 4, "fd00::9"), ("192.0.2.9:5000", 1, "192.0.2.9")],
)
def test_socks_with_addresses_and_plain_http(host: str, kind: int, name: str) -> None:
    seen: list[Any] = []
    with (
        FakeRegistry(lambda r: say(200, b"plain")) as fake,
        proxy(socks(), seen, target=fake.host) as address,
    ):
        session = plain_session(host, f"socks5://{address}")
        assert ask(session) == (200, b"plain")
        session.close()
        assert fake.seen == ["GET /v2/"]
        assert "proxy-authorization" not in fake.requests[0].headers
    assert seen == [(kind, name, 5000)]


def test_proxy_credentials_stay_with_the_proxy() -> None:
    """A plain registry that is reached directly sees none of them."""
    with FakeRegistry(lambda r: say(200, b"direct")) as fake:
        session = open_session(fake.host, proxies=Proxies(http="http://me:pass@127.0.0.1:1"))
        assert ask(session) == (200, b"direct")
        session.close()
        assert "proxy-authorization" not in fake.requests[0].headers


# What they refuse


@pytest.mark.parametrize(
    ("url", "talk", "words", "hint"),
    [
        ("http://{}", connects(b"HTTP/1.1 407 Auth\r\n\r\n", stays=False), "407", "USER:PASSWORD"),
        ("http://u:secret@{}", connects(b"HTTP/1.1 407 Auth\r\n\r\n", stays=False), "407",
         "does not accept"),
        ("http://{}", connects(b"HTTP/1.1 403 No\r\n\r\n", stays=False), "403", "NO_PROXY"),
        ("http://{}", connects(b"HTTP/1.1 502 Bad\r\n\r\n", stays=False), "502", ""),
        ("http://{}", connects(b"SSH-2.0\r\n\r\n", stays=False), "does not speak HTTP", "PROXY"),
        ("http://{}", connects(b"HTTP/1.1 200 a\r\n\r\nx", stays=False), "data of its own", ""),
        ("http://{}", lambda c, s: None, "closed the connection", ""),
        ("http://{}", connects(b"HTTP/1.1 200" + b"a" * 99999, stays=False), "no end", ""),
        ("socks5://{}", socks(reply=2), "rules", ""),
        ("socks5://{}", socks(reply=4), "resolve", ""),
        ("socks5://{}", socks(reply=99), "code 99", ""),
        ("socks5://{}", socks(login=b"a:b"), "another way to log in", "USER:PASSWORD"),
        ("socks5://u:secret@{}", socks(login=b"a:b"), "does not accept", ""),
        ("socks5://u:secret@{}", socks(method=9), "another way to log in", ""),
        (f"socks5://u:{'secret' * 60}@{{}}", socks(login=b"a:b"), "255 bytes", ""),
        ("socks5://{}", connects(b"HTTP/1.1 400 Bad\r\n\r\n", stays=False), "", ""),
    ],
)  # fmt: skip
def test_refusals(url: str, talk: Talk, words: str, hint: str) -> None:
    if url == "socks5://{}" and not words:

        def talk(client: Client, seen: list[Any]) -> None:
            client.exactly(3)
            client.sock.sendall(b"HT")

        words = "does not speak SOCKS"
    with proxy(talk, []) as address:
        session = once("registry.test", url.format(address))
        with pytest.raises(ExchangeFailed, match=words) as caught:
            ask(session)
        assert "registry.test" in caught.value.message
        assert "secret" not in caught.value.message + (caught.value.hint or "")
        assert hint in (caught.value.hint or "")
        assert caught.value.stage == "connect"
        session.close()


def test_proxy_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
    session = once("registry.test", f"http://u:secret@{address}")
    with pytest.raises(ExchangeFailed, match=f"proxy http://{address}: connection refused"):
        ask(session)
    session.close()


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_silent_proxy_times_out(scheme: str) -> None:
    from imgtools.transport.options import Timeouts

    listener = socket.create_server(("127.0.0.1", 0))
    timeouts = Timeouts(connect=0.05, first_byte=5, idle=5)
    with listener:
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        session = once("registry.test", url, timeouts=timeouts)
        with pytest.raises(ExchangeFailed, match=r"did not answer within 0\.05 s"):
            ask(session)
        session.close()
