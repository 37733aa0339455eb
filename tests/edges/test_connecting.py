"""Cases 23, 24, 68 and 70: https or http, whose certificates count, and clocks."""

from __future__ import annotations

import datetime
import os
import shutil
import socket
import ssl
import threading
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imgtools.testing import images
from imgtools.testing.authority import AuthOptions
from imgtools.testing.dialects import Dialect
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.options import Proxies
from imgtools.transport.registry.wire import scheme
from tests.bad_input import PLAIN, cli, push
from tests.edges.kit import USER, copied, raw, token_requests
from tests.rig import RunCli
from tests.rig.listening import listening
from tests.test_registry_tls import tls_server
from tests.test_tls_errors import DAY, NOW, certify

IMAGE = images.random_image("connecting")


def pass_on(sock: socket.socket, port: int) -> None:
    """Be the server on that port for a connection."""

    def pump(here: socket.socket, there: socket.socket) -> None:
        with suppress(OSError):
            while data := here.recv(65536):
                there.sendall(data)
        with suppress(OSError):
            there.shutdown(socket.SHUT_RDWR)

    with socket.create_connection(("127.0.0.1", port)) as server:
        back = threading.Thread(target=pump, args=(server, sock))
        back.start()
        pump(sock, server)
        back.join()


def encrypted(certificates: Path, **more: Any) -> ScriptedRegistry:
    """A registry on TLS, for localhost and 127.0.0.1."""
    pair = str(certificates / "server.crt"), str(certificates / "server.key")
    return ScriptedRegistry(tls_cert=pair[0], tls_key=pair[1], **more)


def certs_d(root: Path, name: str, certificates: Path, **files: str) -> tuple[str]:
    """A certs.d with one registry's directory; `files` are names there (with _ for the dot)
    and the certificates that they are copies of."""
    directory = root / name
    directory.mkdir(parents=True, exist_ok=True)
    for file, original in files.items():
        shutil.copy(certificates / original, directory / file.replace("_", "."))
    return (str(root),)


# 23


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("flag", [None, "--tls-verify", "--tls-verify=true"])
def test_23_http_is_for_nobody_who_did_not_ask(tmp_path: Path, host: str, flag: str | None) -> None:
    """Not for this machine's own addresses either: nothing readable is sent to them."""
    received: list[bytes] = []

    def hear(sock: socket.socket) -> None:
        received.append(sock.recv(65536))
        sock.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    with listening(hear) as there:
        name = f"docker://{host}:{there.rpartition(':')[2]}/app:1"
        done = cli(tmp_path, "inspect", *([flag] if flag else []), "--creds", USER, name)
        done.refused("it does not speak TLS", "--tls-verify=false")
    assert received
    assert {data[:1] for data in received} == {b"\x16"}


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_23_https_is_taken_where_it_answers(tmp_path: Path, certificates: Path, host: str) -> None:
    """Also by --tls-verify=false, which no certificate can disturb."""
    with encrypted(certificates) as registry:
        push(registry, "app", IMAGE)
        name = f"docker://{host}:{registry.port}/app:1"
        assert cli(tmp_path, "inspect", PLAIN, "--raw", name).out == IMAGE.top.content


def test_23_http_is_found_and_remembered(tmp_path: Path) -> None:
    """The first command tries TLS once, the next ones know."""
    greetings: list[bytes] = []
    with ScriptedRegistry() as registry:
        push(registry, "app", IMAGE)

        def relay(sock: socket.socket) -> None:
            first = sock.recv(1, socket.MSG_PEEK)
            greetings.append(first)
            if first == b"\x16":
                return
            pass_on(sock, registry.port)

        with listening(relay) as there:
            name = f"docker://{there}/app:1"
            for _ in range(3):
                done = cli(tmp_path, "inspect", PLAIN, "--raw", name,
                           cache_dir=str(tmp_path / "cache"))  # fmt: skip
                assert done.out == IMAGE.top.content, done.err
    assert greetings.count(b"\x16") == 1
    assert greetings[0] == b"\x16"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"", id="closes"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", id="answers 400"),
        pytest.param(b"\x15\x03\x01\x00\x02\x02\x28", id="alert"),
        pytest.param(b"220 mail.example ESMTP\r\n", id="other protocol"),
    ],
)
def test_23_whatever_a_plain_server_says_to_a_tls_greeting(tmp_path: Path, answer: bytes) -> None:
    with ScriptedRegistry() as registry:
        push(registry, "app", IMAGE)

        def serve(sock: socket.socket) -> None:
            if sock.recv(1, socket.MSG_PEEK) == b"\x16":
                sock.recv(65536)
                sock.sendall(answer)
                return
            pass_on(sock, registry.port)

        with listening(serve) as there:
            found = cli(tmp_path, "inspect", PLAIN, "--raw", f"docker://{there}/app:1")
            assert found.out == IMAGE.top.content, found.err
            verified = cli(tmp_path, "inspect", "--raw", f"docker://{there}/app:1")
            verified.refused(there)


def test_23_silence_is_not_waited_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some plain servers wait for the rest of what is a TLS greeting."""
    assert scheme._TLS_PATIENCE < 10
    monkeypatch.setattr(scheme, "_TLS_PATIENCE", 0.1)
    with ScriptedRegistry() as registry:
        push(registry, "app", IMAGE)

        def serve(sock: socket.socket) -> None:
            if sock.recv(1, socket.MSG_PEEK) == b"\x16":
                while sock.recv(65536):
                    pass
                return
            pass_on(sock, registry.port)

        with listening(serve) as there:
            found = cli(tmp_path, "inspect", PLAIN, "--raw", f"docker://{there}/app:1")
            assert found.out == IMAGE.top.content, found.err


@pytest.mark.parametrize("refusal", ["400", "close"])
def test_23_registry_that_moved_to_tls_is_found_again(
    tmp_path: Path, certificates: Path, refusal: Any
) -> None:
    """What was remembered is http; a TLS port answers "Client sent an HTTP request to an
    HTTPS server", or not at all."""
    cache = tmp_path / "cache"
    with encrypted(certificates, dialect=Dialect(http_on_tls=refusal)) as registry:
        name = push(registry, "app", IMAGE)
        assert raw(tmp_path, name, cache_dir=str(cache)).code == 0
        (remembered,) = cache.iterdir()
        text = remembered.read_text()
        assert '"https"' in text
        remembered.write_text(text.replace('"https"', '"http"'))
        assert raw(tmp_path, name, cache_dir=str(cache)).out == IMAGE.top.content
        assert '"https"' in remembered.read_text()


def test_23_registry_that_moved_to_http_is_found_again(tmp_path: Path, certificates: Path) -> None:
    cache = tmp_path / "cache"
    with ScriptedRegistry() as registry:
        name = push(registry, "app", IMAGE)
        assert raw(tmp_path, name, cache_dir=str(cache)).code == 0
        (remembered,) = cache.iterdir()
        remembered.write_text(remembered.read_text().replace('"http"', '"https"'))
        assert raw(tmp_path, name, cache_dir=str(cache)).out == IMAGE.top.content
        # And who verifies is not led to http by what was remembered.
        cli(tmp_path, "inspect", name, cache_dir=str(cache)).refused("--tls-verify=false")


# 24


def test_24_ca_is_read_from_the_directory_of_that_very_name(
    tmp_path: Path, certificates: Path
) -> None:
    with encrypted(certificates) as registry:
        push(registry, "app", IMAGE)
        port = registry.port
        right, wrong = f"localhost:{port}", f"127.0.0.1:{port}"
        dirs = certs_d(tmp_path / "certs.d", right, certificates, ca_crt="ca.crt")
        found = cli(tmp_path, "inspect", "--raw", f"docker://{right}/app:1", certs_dirs=dirs)
        assert found.out == IMAGE.top.content, found.err
        refused = cli(tmp_path, "inspect", f"docker://{wrong}/app:1", certs_dirs=dirs)
        refused.refused("not trusted", f"{dirs[0]}/{wrong}/ca.crt")


@pytest.mark.parametrize(
    ("directory", "registry", "used"),
    [
        ("r.example", "r.example", True),
        ("r.example:443", "r.example:443", True),
        ("r.example", "r.example:443", False),
        ("r.example:443", "r.example", False),
        ("r.example:5000", "r.example:5000", True),
        ("r.example", "r.example:5000", False),
        ("docker.io", "docker.io", True),
        ("registry-1.docker.io", "docker.io", False),
        ("[::1]:5000", "[::1]:5000", True),
        ("example", "r.example", False),
    ],
)
def test_24_names_of_directories_are_exact(
    tmp_path: Path, certificates: Path, directory: str, registry: str, used: bool
) -> None:
    """A directory that is read is seen by the half of a pair in it, before anything is sent."""
    dirs = certs_d(tmp_path / "certs.d", directory, certificates, a_cert="client.crt")
    with listening(lambda sock: None) as nobody:
        # No such name is looked up: a proxy is asked for it, and hangs up.
        proxies = Proxies(https=f"http://{nobody}")
        name = f"docker://{registry}/app:1"
        done = cli(tmp_path, "inspect", name, certs_dirs=dirs, proxies=proxies)
        done.refused("missing key a.key" if used else "proxy")


def test_24_only_the_first_directory_counts(tmp_path: Path, certificates: Path) -> None:
    with encrypted(certificates) as registry:
        push(registry, "app", IMAGE)
        first = certs_d(tmp_path / "first", registry.host, certificates)
        second = certs_d(tmp_path / "second", registry.host, certificates, ca_crt="ca.crt")
        name = f"docker://{registry.host}/app:1"
        cli(tmp_path, "inspect", name, certs_dirs=first + second).refused("not trusted")
        none = (str(tmp_path / "absent"),)
        assert cli(tmp_path, "inspect", "--raw", name, certs_dirs=none + second).code == 0


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"a_cert": "client.crt"}, "missing key a.key"),
        ({"a_key": "client.key"}, "missing client certificate a.cert"),
        ({"a_cert": "client.crt", "b_key": "client.key"}, "missing"),
        ({"a_cert": "client.crt", "a_key": "server.key"}, "not a certificate and its key"),
        ({"a_cert": "client.key", "a_key": "client.key"}, "not a certificate and its key"),
        ({"ca_crt": "ca.key"}, "no CA certificate"),
    ],
)
@pytest.mark.parametrize("flags", [(), (PLAIN,)])
def test_24_halves_of_pairs_are_errors(
    tmp_path: Path, certificates: Path, files: dict[str, str], words: str, flags: tuple[str, ...]
) -> None:
    with encrypted(certificates) as registry:
        name = f"docker://{registry.host}/app:1"
        dirs = certs_d(tmp_path / "certs.d", registry.host, certificates, **files)
        cli(tmp_path, "inspect", *flags, name, certs_dirs=dirs).refused(words)
        given = f"--cert-dir={dirs[0]}/{registry.host}"
        cli(tmp_path, "inspect", *flags, given, name).refused(words)
        assert registry.requests == []


def test_24_ca_stands_beside_the_others(tmp_path: Path, certificates: Path) -> None:
    """Several CAs, and files that are none of our business."""
    with encrypted(certificates) as registry:
        name = push(registry, "app", IMAGE)
        dirs = certs_d(tmp_path / "certs.d", registry.host, certificates,
                       a_crt="other-ca.crt", b_crt="ca.crt", c_pem="server.key")  # fmt: skip
        (Path(dirs[0]) / registry.host / "README").write_text("nothing")
        (Path(dirs[0]) / registry.host / "sub").mkdir()
        found = cli(tmp_path, "inspect", "--raw", name, certs_dirs=dirs)
        assert found.out == IMAGE.top.content, found.err


def test_24_directory_that_is_not_for_us_says_nothing(
    tmp_path: Path, certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for who is not root; who runs the tests may be."""
    with encrypted(certificates) as registry:
        name = push(registry, "app", IMAGE)
        dirs = certs_d(tmp_path / "certs.d", registry.host, certificates, a_cert="client.crt")
        true, denied = os.listdir, f"{dirs[0]}/{registry.host}"

        def listdir(path: Any = ".") -> list[str]:
            if path == denied:
                raise PermissionError(13, "Permission denied", path)
            return true(path)

        monkeypatch.setattr(os, "listdir", listdir)
        found = cli(tmp_path, "inspect", PLAIN, "--raw", name, certs_dirs=dirs)
        assert found.out == IMAGE.top.content, found.err
        monkeypatch.undo()
        cli(tmp_path, "inspect", PLAIN, "--raw", name, certs_dirs=dirs).refused("a.key")


# 68


def old_tls(sock: socket.socket) -> None:
    """Speaks TLS 1.1 at most: refuses what it is offered as such servers do."""
    sock.recv(65536)
    sock.sendall(b"\x15\x03\x02\x00\x02\x02\x46")


def test_68_versions_before_1_2_are_not_spoken(tmp_path: Path) -> None:
    with listening(old_tls) as there:
        done = cli(tmp_path, "inspect", f"docker://{there}/app:1")
        done.refused("version of TLS", "TLS 1.2 is the lowest")


def test_68_version_1_2_is_enough(tmp_path: Path, certificates: Path) -> None:
    with encrypted(certificates, tls_maximum=ssl.TLSVersion.TLSv1_2) as registry:
        name = push(registry, "app", IMAGE)
        flag = f"--cert-dir={certificates / 'trust'}"
        assert cli(tmp_path, "inspect", "--raw", flag, name).out == IMAGE.top.content


@pytest.mark.parametrize(
    ("host", "sent"), [("localhost", "localhost"), ("LocalHost", "localhost"), ("127.0.0.1", "")]
)
def test_68_server_name_is_without_port(
    tmp_path: Path, certificates: Path, host: str, sent: str
) -> None:
    with encrypted(certificates) as registry:
        push(registry, "app", IMAGE)
        name = f"docker://{host}:{registry.port}/app:1"
        flag = f"--cert-dir={certificates / 'trust'}"
        found = cli(tmp_path, "inspect", "--raw", flag, name)
        assert found.out == IMAGE.top.content, found.err
        assert set(registry.server_names) == {sent}
        # The port is in Host, where it belongs.
        assert {e.headers["host"].lower() for e in registry.requests} == {
            f"{host}:{registry.port}".lower()
        }


def test_68_client_certificates_are_for_the_registry_alone(
    tmp_path: Path, certificates: Path
) -> None:
    seen: list[object] = []
    with (
        encrypted(certificates, client_ca=str(certificates / "ca.crt")) as registry,
        tls_server(certificates, seen) as elsewhere,
    ):
        name = push(registry, "app", IMAGE)
        dirs = certs_d(tmp_path / "certs.d", registry.host, certificates, ca_crt="ca.crt",
                       me_cert="client.crt", me_key="client.key")  # fmt: skip
        found = cli(tmp_path, "inspect", "--raw", name, certs_dirs=dirs)
        assert found.out == IMAGE.top.content, found.err
        # Another host asks for a certificate as well, and gets none.
        other = f"localhost:{elsewhere.rpartition(':')[2]}"
        registry.fail(path="/blobs/", redirect=f"https://{other}/blob")
        done = cli(tmp_path, "copy", "-q", name, f"dir:{tmp_path}/d", certs_dirs=dirs)
        assert done.code == 1
        assert seen
        assert not any(seen)
        # Nor is a certificate in one registry's directory for another registry.
        (tmp_path / "certs.d" / elsewhere).mkdir()
        shutil.copy(certificates / "ca.crt", tmp_path / "certs.d" / elsewhere / "ca.crt")
        cli(tmp_path, "inspect", f"docker://{elsewhere}/app:1", certs_dirs=dirs)
        assert not any(seen)


def test_68_missing_client_certificate_is_named(tmp_path: Path, certificates: Path) -> None:
    with encrypted(certificates, client_ca=str(certificates / "ca.crt")) as registry:
        dirs = certs_d(tmp_path / "certs.d", registry.host, certificates, ca_crt="ca.crt")
        done = cli(tmp_path, "inspect", f"docker://{registry.host}/app:1", certs_dirs=dirs)
        done.refused("client.cert", f"{dirs[0]}/{registry.host}")


@pytest.mark.parametrize("way", ["SSL_CERT_FILE", "SSL_CERT_DIR", "--cert-dir", "none"])
def test_68_private_authorities(
    run_cli: RunCli, tmp_path: Path, certificates: Path, way: str
) -> None:
    hashed = tmp_path / "hashed"
    hashed.mkdir()
    name_hash = ssl_hash(certificates / "ca.crt")
    shutil.copy(certificates / "ca.crt", hashed / f"{name_hash}.0")
    env = {"SSL_CERT_FILE": str(certificates / "ca.crt"), "SSL_CERT_DIR": str(hashed)}
    with encrypted(certificates) as registry:
        name = push(registry, "app", IMAGE)
        flag = [f"--cert-dir={certificates / 'trust'}"] if way == "--cert-dir" else []
        chosen = {way: env[way]} if way in env else {}
        done = run_cli("inspect", "--raw", *flag, name, env=chosen)
        if way == "none":
            assert done.returncode == 1
            assert "(it is signed by imgtools test authority)" in done.stderr
        else:
            assert done.stdout.encode() == IMAGE.top.content, done.stderr


def ssl_hash(certificate: Path) -> str:
    """The name under which OpenSSL looks for an authority in a directory."""
    import subprocess

    command = ["openssl", "x509", "-hash", "-noout", "-in", str(certificate)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


# 70


@pytest.mark.parametrize(
    ("begin", "end", "words"),
    [
        (NOW + DAY, NOW + 2 * DAY, ("is not valid yet", "check this machine's clock")),
        (NOW - 2 * DAY, NOW - DAY, ("expired on", f"clock, which says {NOW:%Y-%m-%d}")),
    ],
)
def test_70_certificates_out_of_time_point_at_the_clock(
    tmp_path: Path,
    certificates: Path,
    begin: datetime.datetime,
    end: datetime.datetime,
    words: tuple[str, ...],
) -> None:
    pair = certify(tmp_path / "pair", signer=certificates, begin=begin, end=end)
    with encrypted(pair) as registry:
        name = push(registry, "app", IMAGE)
        flag = f"--cert-dir={certificates / 'trust'}"
        cli(tmp_path, "inspect", flag, name).refused(*words)
        # --tls-verify=false looks at no date.
        assert raw(tmp_path, name).code == 0


@pytest.mark.parametrize("offset", [-400, -1, 1, 400])
@pytest.mark.parametrize("lifetime", [1, 300])
def test_70_life_of_tokens_is_measured_here(tmp_path: Path, offset: int, lifetime: int) -> None:
    """By days wrong, their clock or ours: issued_at tells nothing."""
    issued = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=offset)
    claims = {"issued_at": issued.strftime("%Y-%m-%dT%H:%M:%SZ"), "expires_in": lifetime}
    options = AuthOptions(scheme="bearer", anonymous_pull=False, claims=claims)
    with ScriptedRegistry(auth=options) as registry:
        name = push(registry, "app", IMAGE)
        assert copied(tmp_path, name, f"dir:{tmp_path}/d", "--src-creds", USER).code == 0
        assert len(token_requests(registry)) == 1
        assert len([e for e in registry.requests if e.status == 401]) == 1


@pytest.mark.parametrize("years", [-40, 40])
def test_70_clock_that_jumps_in_between_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, years: int
) -> None:
    """Tokens, pauses and remembered hosts live by the monotonic clock or not at all."""
    options = AuthOptions(scheme="bearer", anonymous_pull=False)
    with ScriptedRegistry(auth=options) as registry:
        name = push(registry, "app", IMAGE)
        cache = str(tmp_path / "cache")
        true = time.time
        for shift in (0, years, 0):
            jumped = shift * 365 * 86400
            monkeypatch.setattr(time, "time", lambda by=jumped: true() + by)
            registry.fail(path="/manifests/1", nth=2, status=429, retry_after=0)
            found = raw(tmp_path, name, "--creds", USER, cache_dir=cache)
            assert found.out == IMAGE.top.content, found.err
            registry.faults.clear()
        registry.authority.options = replace(options, claims={"issued_at": "not a date"})
        assert raw(tmp_path, name, "--creds", USER, cache_dir=cache).code == 0
