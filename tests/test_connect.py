"""Connecting: which address of a host, how long each stage may take, and who is told what.

Addresses that hang are loopback ports whose queue of connections is full.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from imgtools.errors import Cancelled
from imgtools.task import CancelToken
from imgtools.transport.options import RegistryOptions, Timeouts, TlsDetails
from imgtools.transport.registry.access.challenge_cache import ChallengeCache, KnownHost
from imgtools.transport.registry.push.replay import KEPT
from imgtools.transport.registry.session import Session
from imgtools.transport.registry.wire import connect, scheme
from imgtools.transport.registry.wire.connect import Address, Check, dial, interleave
from imgtools.transport.registry.wire.connection import Network
from imgtools.transport.registry.wire.exchange import ExchangeFailed
from imgtools.transport.registry.wire.retry import RetryPolicy
from tests.registry_fake import FakeRegistry, Request, open_session, say
from tests.rig.listening import answering_over_tls

V4, V6 = socket.AF_INET, socket.AF_INET6
ONCE = RetryPolicy(attempts=1, connect_attempts=1, first=0.001, longest=0.002)


def four(host: str, port: int = 1) -> Address:
    return Address(V4, (host, port))


def six(host: str, port: int = 1) -> Address:
    return Address(V6, (host, port, 0, 0))


def go_on() -> None:
    """A check that never ends a wait."""


@contextmanager
def hanging() -> Iterator[Address]:
    """An address that does not answer to being connected to."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for client in (first, second):
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield four(*listener.getsockname())


@contextmanager
def listening(host: str = "127.0.0.1") -> Iterator[Address]:
    """An address that answers."""
    with socket.create_server((host, 0)) as listener:
        yield four(*listener.getsockname())


def refusing() -> Address:
    """An address where nobody listens."""
    with listening() as address:
        return address


# Addresses


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        ([four("a"), four("b")], [four("a"), four("b")]),
        ([six("a"), six("b"), four("c"), four("d"), four("e")],
         [six("a"), four("c"), six("b"), four("d"), four("e")]),
        ([four("a"), six("b"), six("c")], [four("a"), six("b"), six("c")]),
        ([four("a"), four("a"), six("b")], [four("a"), six("b")]),
    ],
)  # fmt: skip
def test_families_take_turns(given: list[Address], expected: list[Address]) -> None:
    assert interleave(given) == expected


@pytest.mark.parametrize("dead", ["hangs", "refuses", "unreachable"])
def test_next_address_wins(dead: str) -> None:
    with hanging() as slow, listening() as good:
        first = {"hangs": slow, "refuses": refusing(), "unreachable": six("fe80::1", 9)}[dead]
        with dial([first, good], 10, go_on) as sock:
            assert sock.getpeername() == good.sockaddr
            assert sock.gettimeout() == 10


def test_first_address_wins_where_it_answers() -> None:
    with listening() as first, listening() as second, dial([first, second], 10, go_on) as sock:
        assert sock.getpeername() == first.sockaddr


def test_little_is_on_its_way_to_who_does_not_read() -> None:
    """What a cut loses has to be had from the source again."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        address = Address(socket.AF_INET, listener.getsockname())
        with dial([address], 5.0, go_on) as sock:
            sock.setblocking(False)
            taken = 0
            with suppress(BlockingIOError):
                while True:
                    taken += sock.send(bytes(65536))
    assert 0 < taken < KEPT


def test_no_address_answers() -> None:
    with pytest.raises(ConnectionRefusedError):
        dial([six("fe80::1", 9), refusing(), refusing()], 10, go_on)
    with pytest.raises(socket.gaierror):
        dial([], 10, go_on)
    with hanging() as slow, pytest.raises(TimeoutError, match=r"no connection within 0\.02 s"):
        dial([slow, refusing()], 0.02, go_on)


def test_addresses_are_bounded() -> None:
    dead = refusing()
    with listening() as good:
        many = [four(f"127.0.1.{n}", dead.sockaddr[1]) for n in range(connect.MOST_ADDRESSES)]
        with pytest.raises(ConnectionRefusedError):
            dial([*many, good], 10, go_on)
        dial([*many[1:], good], 10, go_on).close()


def test_connecting_can_be_cancelled() -> None:
    looks: list[int] = []

    def check() -> None:
        looks.append(1)
        if len(looks) > 1:
            raise Cancelled

    with hanging() as slow, pytest.raises(Cancelled):
        dial([slow], 60, check)


def test_resolving() -> None:
    assert connect.resolve("127.0.0.1", 5, 10, go_on) == [four("127.0.0.1", 5)]
    assert connect.resolve("::1", 5, 10, go_on) == [six("::1", 5)]
    assert four("127.0.0.1", 5) in connect.resolve("localhost", 5, 10, go_on)
    for bad in ("a" * 64 + ".test", "a..test", "\udcff.test"):
        with pytest.raises((OSError, ValueError)):
            connect.resolve(bad, 5, 10, go_on)


def test_resolver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    wake = threading.Event()

    def look_up(name: bytes, port: int, flags: int) -> list[Address]:
        if flags:
            raise socket.gaierror(socket.EAI_NONAME, "no number")
        wake.wait(60)
        return []

    monkeypatch.setattr(connect, "_look_up", look_up)
    session = open_session("registry.test", timeouts=Timeouts(connect=0.02))
    session.policy = ONCE
    with pytest.raises(ExchangeFailed, match=r"name was not resolved within 0\.02 s") as caught:
        session.request("GET", "https://registry.test/", repository="a", scopes=())
    assert caught.value.stage == "connect"
    session.close()
    wake.set()


def test_host_name_that_cannot_be_one() -> None:
    for host in ("a" * 64 + ".test", "a..test"):
        session = open_session(host, tls_verify=True)
        with pytest.raises(ExchangeFailed, match="cannot be resolved"):
            session.request("GET", "/v2/", repository="a", scopes=())
        session.close()


# Stages


@pytest.mark.parametrize("through", ["abort", "cancel"])
def test_handshake_can_be_ended(through: str) -> None:
    """The other side has taken the connection and says nothing for a minute."""
    cancel = CancelToken()
    taken = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    session = open_session(
        f"127.0.0.1:{listener.getsockname()[1]}", tls_verify=True, timeouts=Timeouts(connect=60)
    )

    def end() -> None:
        sock, _ = listener.accept()
        with sock:
            sock.recv(1)
            taken.set()
            if through == "cancel":
                cancel.cancel()
            else:
                session.abort()
            # Until the client has ended the connection.
            while sock.recv(65536):
                pass

    thread = threading.Thread(target=end)
    thread.start()
    with pytest.raises(Cancelled):
        session.request("GET", "/v2/", repository="a", scopes=(), cancel=cancel)
    assert taken.is_set()
    thread.join()
    listener.close()
    session.close()


def world(addresses: dict[str, list[Address]]) -> Network:
    """Names that lead where a test says."""

    def look_up(host: str, port: int, seconds: float, check: Check) -> list[Address]:
        return [Address(a.family, (a.ip, port, *a.sockaddr[2:])) for a in addresses[host]]

    return Network(resolve=look_up)


def session_in(network: Network, host: str, **options: object) -> Session:
    """A session in that world, with a registry that is remembered to be on http."""
    cache = ChallengeCache(None)
    cache.put(host, KnownHost(scheme="http"))
    values = {"tls_verify": False, "timeouts": Timeouts(connect=5, first_byte=5, idle=5)}
    given = RegistryOptions(**(values | options))  # type: ignore[arg-type]
    return Session(host, given, cache, ONCE, network=network)


def test_host_with_a_broken_family_and_a_final_dot() -> None:
    with FakeRegistry(lambda r: say(200, b"here")) as fake:
        port = fake.host.rpartition(":")[2]
        host = f"registry.test.:{port}"
        network = world({"registry.test.": [six("fe80::1"), four("127.0.0.1")]})
        session = session_in(network, host)
        with session.request("GET", "/v2/", repository="a", scopes=()) as response:
            assert response.body(10, "answer") == b"here"
        session.close()
        assert fake.requests[0].headers["host"] == host


@contextmanager
def tls_listener(
    certificates: Path, names: list[str | None], *, tls12: bool = False
) -> Iterator[int]:
    """The port of a TLS server that notes the names it is asked for and answers 200."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    if tls12:
        context.maximum_version = ssl.TLSVersion.TLSv1_2

    def asked(sock: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        names.append(name)

    context.sni_callback = asked
    with answering_over_tls(context) as address:
        yield int(address.rpartition(":")[2])


@pytest.mark.parametrize(
    ("host", "sent"),
    [("localhost.", "localhost"), ("localhost", "localhost"), ("127.0.0.1", None)],
)
def test_server_name_has_neither_port_nor_final_dot(
    certificates: Path, host: str, sent: str | None
) -> None:
    names: list[str | None] = []
    with tls_listener(certificates, names) as port:
        network = world({host: [four("127.0.0.1")]})
        ca = str(certificates / "ca.crt")
        session = session_in(network, f"{host}:{port}", tls_verify=True, ca_file=ca)
        session.request("GET", "/v2/", repository="a", scopes=()).close()
        session.close()
    assert names == [sent]


TLS12 = TlsDetails(cipher_suites=("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",))


@pytest.mark.parametrize(
    ("details", "tls12", "words"),
    [
        (TlsDetails(), True, ""),
        (TlsDetails(min_version="1.3"), False, ""),
        (TlsDetails(min_version="1.3"), True, "version"),
        (TLS12, True, ""),
        (TlsDetails(cipher_suites=("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",)), True, ""),
        (TlsDetails(cipher_suites=("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",)), True, "."),
        (TlsDetails(cipher_suites=("TLS_AES_256_GCM_SHA384",)), False, ""),
        (TlsDetails(cipher_suites=("TLS_AES_256_GCM_SHA384",)), True, "version"),
        (TlsDetails(cipher_suites=("TLS_AES_128_GCM_SHA256",)), False,
         "TLS_AES_256_GCM_SHA384, which --tls-details does not allow"),
        (TlsDetails(named_groups=("x25519", "secp256r1")), False, ""),
        (TlsDetails(named_groups=("secp384r1",)), False, ""),
    ],
)  # fmt: skip
def test_details_of_tls(certificates: Path, details: TlsDetails, tls12: bool, words: str) -> None:
    with tls_listener(certificates, [], tls12=tls12) as port:
        session = open_session(f"127.0.0.1:{port}", tls_verify=True, tls=details,
                               ca_file=str(certificates / "ca.crt"))  # fmt: skip
        session.policy = ONCE
        if words:
            with pytest.raises(ExchangeFailed, match=words) as caught:
                session.request("GET", "/v2/", repository="a", scopes=())
            assert caught.value.stage == "tls"
        else:
            session.request("GET", "/v2/", repository="a", scopes=()).close()
        session.close()


@contextmanager
def silent(greeting: bytes = b"") -> Iterator[str]:
    """A server that takes connections, says `greeting` to a request, and nothing more."""
    listener = socket.create_server(("127.0.0.1", 0))
    taken: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                taken.append(listener.accept()[0])
                if greeting:
                    taken[-1].recv(65536)
                    taken[-1].sendall(greeting)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for sock in taken:
            sock.close()


@pytest.mark.parametrize(
    ("url", "greeting", "stage", "words"),
    [
        ("https", b"", "tls", r"timed out: the TLS handshake did not end within 0\.05 s"),
        ("http", b"", "receive", r"timed out: no answer within 0\.06 s"),
        ("http", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", "receive",
         r"timed out: nothing more came for 0\.07 s"),
    ],
)  # fmt: skip
def test_each_stage_has_its_time(url: str, greeting: bytes, stage: str, words: str) -> None:
    with silent(greeting) as host:
        session = open_session(host, timeouts=Timeouts(connect=0.05, first_byte=0.06, idle=0.07))
        session.policy = ONCE
        with (
            pytest.raises(ExchangeFailed, match=words) as caught,
            session.anonymous_request("GET", f"{url}://{host}/", {}) as response,
        ):
            response.body(100, "answer")
        assert caught.value.stage == stage
        session.close()


def test_http_where_tls_is_met_with_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """An http server may wait for the rest of what is a TLS greeting."""
    monkeypatch.setattr(scheme, "_TLS_PATIENCE", 0.05)
    listener = socket.create_server(("127.0.0.1", 0))
    taken: list[socket.socket] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                taken.append(listener.accept()[0])
                if taken[-1].recv(1, socket.MSG_PEEK) == b"G":
                    taken[-1].recv(65536)
                    taken[-1].sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    session = open_session(f"127.0.0.1:{listener.getsockname()[1]}")
    assert session.request("GET", "/v2/", repository="a", scopes=()).status == 200
    assert session.base.startswith("http://")
    session.close()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()
    for sock in taken:
        sock.close()


def test_all_idle_connections_that_ended_cost_one_try() -> None:
    """A server that restarts ends every kept connection; the next request is sent once more."""
    barrier = threading.Barrier(3)

    def script(request: Request) -> object:
        if request.path == "/v2/together":
            barrier.wait(20)
        return say(200)

    with FakeRegistry(script) as fake:  # type: ignore[arg-type]
        session = open_session(fake.host)
        threads = [
            threading.Thread(target=lambda: session.anonymous_request(
                "GET", f"{fake.url}/v2/together", {}).close())
            for _ in range(3)
        ]  # fmt: skip
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        fake._connections.close()
        fake._connections._closed = False
        session.policy = RetryPolicy(attempts=2)
        assert session.anonymous_request("GET", f"{fake.url}/v2/after", {}).status == 200
        session.close()
