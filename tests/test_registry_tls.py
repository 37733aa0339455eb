"""TLS and proxies: certificates from directories, client identity, CONNECT, changed schemes."""

from __future__ import annotations

import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from imgtools.errors import InvalidInput
from imgtools.transport.options import Credentials, Proxies, RegistryOptions
from imgtools.transport.registry.access.challenge_cache import ChallengeCache, KnownHost
from imgtools.transport.registry.pool import SessionPool
from imgtools.transport.registry.session import Session
from imgtools.transport.registry.wire.exchange import ExchangeFailed
from imgtools.transport.registry.wire.tls import certificates_for, make_context
from tests.registry_fake import FakeRegistry, open_session, say
from tests.rig import RegistryServer, RunCli


def ask(session: Session) -> int:
    response = session.request("GET", "/v2/", repository="a", scopes=())
    response.drain()
    return response.status


def make_dir(tmp_path: Path, certificates: Path, names: dict[str, str]) -> str:
    """A directory with copies of certificates under the names given."""
    for name, original in names.items():
        shutil.copy(certificates / original, tmp_path / name)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ({"a.cert": "server.crt"}, "missing key a.key"),
        ({"a.key": "server.key"}, "missing client certificate a.cert"),
        ({"a.crt": "server.key"}, "no CA certificate"),
        ({"a.cert": "server.crt", "a.key": "token.key"}, "not a certificate and its key"),
        ({"a.cert": "server.key", "a.key": "server.key"}, "not a certificate and its key"),
    ],
)
def test_broken_directories(
    tmp_path: Path, certificates: Path, names: dict[str, str], words: str
) -> None:
    options = RegistryOptions(cert_dir=make_dir(tmp_path, certificates, names))
    with pytest.raises(InvalidInput, match=words):
        make_context(options, client_identity=True)


def test_directories_that_say_nothing(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "missing"):
        context = make_context(RegistryOptions(cert_dir=str(directory)), client_identity=True)
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
    (tmp_path / "README").write_text("not a certificate")
    make_context(RegistryOptions(cert_dir=str(tmp_path)), client_identity=True)


FINE = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@contextmanager
def tls_server(
    certificates: Path,
    seen: list[object],
    *,
    required: bool = False,
    answer: bytes = FINE,
    address: str = "127.0.0.1",
) -> Iterator[str]:
    """Says `answer` to a request, and notes the client's certificate, which it asks for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
    context.load_verify_locations(certificates / "ca.crt")
    context.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
    listener = socket.create_server((address, 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                plain, _ = listener.accept()
                with plain, suppress(OSError), context.wrap_socket(plain, server_side=True) as tls:
                    if not tls.recv(65536):
                        continue
                    seen.append(tls.getpeercert())
                    tls.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"{address}:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def test_client_identity_is_for_the_registry_only(tmp_path: Path, certificates: Path) -> None:
    names = {"ca.crt": "ca.crt", "client.cert": "client.crt", "client.key": "client.key"}
    directory = make_dir(tmp_path, certificates, names)
    seen: list[object] = []
    with tls_server(certificates, seen) as host:
        session = open_session(host, tls_verify=True, cert_dir=directory)
        assert ask(session) == 200
        port = host.rpartition(":")[2]
        elsewhere = session.anonymous_request("GET", f"https://localhost:{port}/", {})
        assert elsewhere.status == 200
        elsewhere.close()
        session.close()
    assert seen[0]
    assert not seen[1]


@pytest.mark.parametrize(
    ("status", "header"),
    [
        (307, "Location: https://{elsewhere}/x"),
        (401, 'WWW-Authenticate: Bearer realm="https://{elsewhere}/token",service="s"'),
    ],
)
def test_hosts_that_a_registry_leads_to_are_verified_too(
    certificates: Path, status: int, header: str
) -> None:
    """The other host has the right authority's certificate, but of another name."""
    others: list[object] = []
    with tls_server(certificates, others, address="127.0.0.2") as elsewhere:
        head = f"HTTP/1.1 {status} X\r\n{header.format(elsewhere=elsewhere)}\r\n"
        answer = f"{head}Content-Length: 0\r\nConnection: close\r\n\r\n".encode()
        with tls_server(certificates, [], answer=answer) as host:
            session = open_session(
                host,
                tls_verify=True,
                ca_file=str(certificates / "ca.crt"),
                credentials=Credentials(username="me", password="secret"),
            )
            with pytest.raises(ExchangeFailed, match=r"TLS with 127\.0\.0\.2"):
                ask(session)
            session.close()
    assert others == []


def test_insecure_session_changes_nothing_for_a_verifying_one(certificates: Path) -> None:
    seen: list[object] = []
    with tls_server(certificates, seen) as host, SessionPool() as pool:
        insecure = RegistryOptions(tls_verify=False)
        assert ask(pool.session(host, insecure)) == 200
        with pytest.raises(ExchangeFailed, match="not trusted"):
            ask(pool.session(host, replace(insecure, tls_verify=True)))
        assert ask(pool.session(host, insecure)) == 200
    assert len(seen) == 2


def test_client_certificate_that_is_missing(certificates: Path) -> None:
    with tls_server(certificates, [], required=True) as host:
        session = open_session(host, tls_verify=True, ca_file=str(certificates / "ca.crt"))
        with pytest.raises(ExchangeFailed, match="certificate") as caught:
            ask(session)
        assert ".cert" in (caught.value.hint or "")
        session.close()


def test_certificate_for_another_name(certificates: Path) -> None:
    seen: list[object] = []
    with tls_server(certificates, seen) as host:
        other = "127.0.0.2:" + host.rpartition(":")[2]
        session = open_session(other, tls_verify=True, ca_file=str(certificates / "ca.crt"))
        with pytest.raises(ExchangeFailed):
            ask(session)
        session.close()


def test_remembered_http_where_tls_is_now(registry_tls: RegistryServer) -> None:
    cache = ChallengeCache(None)
    cache.put(registry_tls.host, KnownHost(scheme="http"))
    session = open_session(registry_tls.host, cache)
    assert ask(session) == 200
    assert session.base.startswith("https://")
    session.close()
    assert cache.get(registry_tls.host) == KnownHost(scheme="https")


def test_remembered_http_is_no_way_around_tls() -> None:
    with FakeRegistry(lambda r: say(200)) as fake:
        cache = ChallengeCache(None)
        cache.put(fake.host, KnownHost(scheme="http"))
        session = open_session(fake.host, cache, tls_verify=True)
        with pytest.raises(ExchangeFailed, match="TLS"):
            ask(session)
        session.close()
        assert fake.requests == []


@contextmanager
def connect_proxy(target: str, seen: list[bytes], answer: bytes) -> Iterator[str]:
    """A proxy that takes one CONNECT, says `answer`, and passes bytes to `target`."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pass_on(here: socket.socket, there: socket.socket) -> None:
        with suppress(OSError):
            while data := here.recv(65536):
                there.sendall(data)
        with suppress(OSError):
            there.shutdown(socket.SHUT_RDWR)

    def serve() -> None:
        client, _ = listener.accept()
        with client:
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(65536)
            seen.append(head)
            client.sendall(answer)
            if b" 200 " not in answer:
                return
            host, _, port = target.rpartition(":")
            with socket.create_connection((host, int(port))) as server:
                back = threading.Thread(target=pass_on, args=(server, client))
                back.start()
                pass_on(client, server)
                back.join()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        thread.join()
        listener.close()


def test_tls_through_a_proxy(certificates: Path) -> None:
    seen: list[bytes] = []
    proxied: list[object] = []
    ok = b"HTTP/1.1 200 Connection established\r\n\r\n"
    with tls_server(certificates, proxied) as host, connect_proxy(host, seen, ok) as proxy:
        session = open_session(
            "registry.test:5000",
            tls_verify=False,
            proxies=Proxies(https=f"http://user:secret@{proxy}"),
        )
        assert ask(session) == 200
        session.close()
    assert seen[0].startswith(b"CONNECT registry.test:5000 HTTP/1.")
    assert b"Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=" in seen[0]
    assert len(proxied) == 1


def test_proxy_that_refuses() -> None:
    seen: list[bytes] = []
    refusal = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    with connect_proxy("", seen, refusal) as proxy:
        options = {"tls_verify": True, "proxies": Proxies(https=f"http://u:secret@{proxy}")}
        session = open_session("registry.test", **options)
        session.policy = type(session.policy)(connect_attempts=1)
        with pytest.raises(ExchangeFailed, match="407") as caught:
            ask(session)
        assert "secret" not in caught.value.message
        session.close()


def test_certs_d_has_a_directory_for_the_host_to_the_letter(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (first / "a:1", second / "a:1", second / "b"):
        directory.mkdir(parents=True)
    options = RegistryOptions(certs_dirs=(str(first), str(second), str(tmp_path / "absent")))
    assert certificates_for("a:1", options) == str(first / "a:1")
    assert certificates_for("b", options) == str(second / "b")
    assert certificates_for("a", options) is None
    given = RegistryOptions(certs_dirs=(str(first),), cert_dir="/given")
    assert certificates_for("a:1", given) == "/given"


def test_certs_d_is_trusted_without_an_option(
    run_cli: RunCli, registry_tls: RegistryServer, certificates: Path, repository: str
) -> None:
    name = f"docker://{registry_tls.host}/{repository}"
    assert "certificate is not trusted" in run_cli("list-tags", name).stderr
    directory = run_cli.home / ".config/containers/certs.d" / registry_tls.host
    directory.mkdir(parents=True)
    shutil.copy(certificates / "ca.crt", directory / "ca.crt")
    assert "certificate" not in run_cli("list-tags", name).stderr
