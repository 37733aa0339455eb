"""`imgtools serve` as a process: real sockets, streaming, signals, TLS."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from imgtools.spec.digest import Digest
from tests.serve_process import Served, serve


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Served]:
    with serve(folder, "--writable") as served:
        yield served


def raw(server: Served, data: bytes) -> bytes:
    """Send bytes, and read until the server closes."""
    with server.connect() as sock:
        sock.sendall(data)
        answer = b""
        while part := sock.recv(65536):
            answer += part
        return answer


def memory(pid: int) -> int:
    """The most memory a process ever had, in bytes."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+) kB", text)[0]) * 1024


# --- streaming ---------------------------------------------------------------------------------


def zeros(size: int) -> Iterator[bytes]:
    for _ in range(size // 65536):
        yield bytes(65536)


def test_large_blob_in_flat_memory(server: Served) -> None:
    """Known length and chunked, up and down, whole and in part."""
    size = 192 * 1024 * 1024
    digest = hashlib.sha256()
    for part in zeros(size):
        digest.update(part)
    name = f"sha256:{digest.hexdigest()}"
    for headers in ({"Content_Length": str(size)}, {"Transfer_Encoding": "chunked"}):
        location = server.request("POST", "/v2/big/blobs/uploads/")[1]["Location"]
        body = zeros(size)
        if "Transfer_Encoding" in headers:
            body = (b"%X\r\n%b\r\n" % (len(p), p) for p in zeros(size))
            with server.connect() as sock:
                head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                sock.sendall(head.encode())
                for part in body:
                    sock.sendall(part)
                sock.sendall(b"0\r\n\r\n")
                assert sock.recv(4096).startswith(b"HTTP/1.1 202 ")
            done = server.request("PUT", f"{location}?digest={name}")
        else:
            done = server.request("PUT", f"{location}?digest={name}", body, **headers)
        assert done[0] == 201
    for header, expected in ((None, size), ("bytes=1000-150000000", 149_999_001)):
        connection = http.client.HTTPConnection(server.host, timeout=20)
        connection.request(
            "GET", f"/v2/big/blobs/{name}", headers={"Range": header} if header else {}
        )
        response = connection.getresponse()
        assert response.getheader("Content-Length") == str(expected)
        total = 0
        while part := response.read(1 << 20):
            total += len(part)
        assert total == expected
        connection.close()
    assert memory(server.process.pid) < 60 * 1024 * 1024


# --- the wire ----------------------------------------------------------------------------------


def test_connection_is_kept(server: Served) -> None:
    connection = http.client.HTTPConnection(server.host, timeout=20)
    connection.connect()
    before = connection.sock
    for method, path, body, status in [
        ("GET", "/v2/", None, 200),
        ("GET", "/v2/none/manifests/x", None, 404),
        ("PUT", "/v2/BAD/manifests/x", b"x" * 100_000, 400),
        ("HEAD", "/v2/", None, 200),
        ("POST", "/v2/kept/blobs/uploads/", None, 202),
        ("PATCH", "/v2/none/blobs/uploads/x", iter([b"a" * 1000] * 10), 404),
        ("GET", "/v2/", None, 200),
    ]:
        connection.request(method, path, body)
        response = connection.getresponse()
        response.read()
        assert response.status == status, (method, path)
        assert connection.sock is before
    connection.close()


@pytest.mark.parametrize(
    "request_head",
    [
        b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n",
        b"POST /v2/a/blobs/uploads/ HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n",
        b"PUT /v2/a/manifests/x HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n",
        b"GET /v2/?" + b"a=1&" * 2000 + b" HTTP/1.1\r\nHost: x\r\n",
        b"NONSENSE\r\n",
        b"GET /v2/ HTTP/9.9\r\nHost: x\r\n",
        b"GET /v2/ HTTP/1.1\r\nA: " + b"x" * 100_000 + b"\r\n",
    ],
)
def test_malformed_requests(server: Served, request_head: bytes) -> None:
    answer = raw(server, request_head + b"Connection: close\r\n\r\n")
    assert re.match(rb"HTTP/1.1 (400|413|505) ", answer), answer[:200]
    assert server.request("GET", "/v2/")[0] == 200


def test_malformed_chunk(server: Served) -> None:
    location = server.request("POST", "/v2/a/blobs/uploads/")[1]["Location"]
    head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = raw(server, head.encode() + b"ffffffffffffffff1\r\nabc")
    assert answer.startswith(b"HTTP/1.1 400 ")


def test_refused_body_does_not_reset_the_connection(server: Served) -> None:
    """A client that writes everything before it reads still gets its answer."""
    body = b"x" * 4_000_000
    head = f"PUT /v2/BAD/manifests/x HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    answer = raw(server, head.encode() + body)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"NAME_INVALID" in answer
    assert b"Connection: close" in answer


def test_expect_continue(server: Served) -> None:
    with server.connect() as sock:
        digest = Digest.of(b"hello")
        sock.sendall(
            f"POST /v2/exp/blobs/uploads/?digest={digest} HTTP/1.1\r\nHost: x\r\n"
            "Content-Length: 5\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        assert sock.recv(4096).startswith(b"HTTP/1.1 100 ")
        sock.sendall(b"hello")
        assert sock.recv(4096).startswith(b"HTTP/1.1 201 ")


def test_cut_upload_can_be_resumed(server: Served) -> None:
    location = server.request("POST", "/v2/cut/blobs/uploads/")[1]["Location"]
    content = os.urandom(300_000)
    with server.connect() as sock:
        head = f"PATCH {location} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n\r\n"
        sock.sendall(head.encode() + content[:100_000])
    for _ in range(200):
        status, headers, _body = server.request("GET", location)
        if status == 204 and headers["Range"] == "0-99999":
            break
        time.sleep(0.02)
    assert (status, headers["Range"]) == (204, "0-99999")
    rest = server.request("PATCH", location, content[100_000:], Content_Range="100000-299999")
    assert rest[0] == 202
    done = server.request("PUT", f"{location}?digest={Digest.of(content)}")
    assert done[0] == 201
    assert server.request("GET", done[1]["Location"])[2] == content


def test_path_escapes(server: Served, folder: Path) -> None:
    (folder / "outside").write_text("secret")
    for path in ("/v2/../outside", "/v2/%2e%2e/blobs/sha256:x", "/v2/a%2f..%2f../tags/list",
                 "//etc/passwd", "/v2/a/manifests/..%2f..%2foutside"):  # fmt: skip
        status, _, body = server.request("GET", path)
        assert status in (400, 404)
        assert b"secret" not in body
    digest = server.push_blob("esc", b"escaped")
    assert server.request("GET", f"/v2/esc/blobs/{digest.replace(':', '%3A')}")[2] == b"escaped"


def test_many_clients(server: Served) -> None:
    def work(number: int) -> None:
        content = os.urandom(50_000)
        digest = server.push_blob(f"par/r{number % 3}", content)
        assert server.request("GET", f"/v2/par/r{number % 3}/blobs/{digest}")[2] == content

    with ThreadPoolExecutor(24) as pool:
        list(pool.map(work, range(72)))


# --- life --------------------------------------------------------------------------------------


def test_read_only_and_access_log(tmp_path: Path) -> None:
    with serve(tmp_path, "-v") as server:
        status, headers, body = server.request("POST", "/v2/a/blobs/uploads/")
        assert (status, headers["Allow"]) == (405, "GET, HEAD")
        assert json.loads(body)["errors"][0]["code"] == "UNSUPPORTED"
        server.process.send_signal(signal.SIGTERM)
        _, errors = server.process.communicate(timeout=20)
    assert "127.0.0.1 POST /v2/a/blobs/uploads/ 405 in=0 out=" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    with serve(tmp_path, "--writable") as server:
        location = server.request("POST", "/v2/a/blobs/uploads/")[1]["Location"]
        server.request("PATCH", location, b"half")
        assert list(tmp_path.rglob(".imgtools-upload-*"))
        server.process.send_signal(number)
        _, errors = server.process.communicate(timeout=20)
        assert (server.process.returncode, errors) == (0, "")
    assert not list(tmp_path.rglob(".imgtools-*"))


def test_tls(tmp_path: Path, certificates: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    key, cert = certificates / "server.key", certificates / "server.crt"
    with serve(folder, "--writable", f"--tls-cert={cert}", f"--tls-key={key}") as server:
        assert server.url.startswith("https://")
        context = ssl.create_default_context(cafile=str(certificates / "ca.crt"))
        connection = http.client.HTTPSConnection(server.host, context=context, timeout=20)
        content = os.urandom(3_000_000)
        digest = Digest.of(content)
        for method, path, body in [
            ("POST", f"/v2/t/blobs/uploads/?digest={digest}", content),
            ("GET", f"/v2/t/blobs/{digest}", None),
        ]:
            connection.request(method, path, body)
            response = connection.getresponse()
            got = response.read()
            assert response.status in (200, 201)
        assert got == content
        connection.close()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such file or directory"),
        ([".", "--listen=localhost"], "invalid address 'localhost'"),
        ([".", "--listen=127.0.0.1:99999"], "invalid address"),
        ([".", "--listen=127.0.0.1:{taken}"], "cannot listen on 127.0.0.1:"),
        ([".", "--tls-cert=x"], "--tls-cert and --tls-key must be given together"),
        ([".", "--tls-cert=x", "--tls-key=y"], "no such file"),
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: list[str], message: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "imgtools", "serve", *[a.format(taken=port) for a in arguments]],
            cwd=tmp_path, capture_output=True, text=True, timeout=20,
        )  # fmt: skip
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
