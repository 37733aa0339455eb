"""The image proxy: against skopeo's where both have a method, and against its own promises."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from imgtools.errors import ConnectionFailed, Error, ImageNotFound, InvalidInput, RegistryError
from imgtools.imageproxy import Services, serve
from imgtools.imageproxy.message import (
    PACKET_LIMIT,
    ClientGone,
    Request,
    error_code,
    failure_packet,
    number,
    pipe_error,
)
from imgtools.imageproxy.server import adopt_socket
from imgtools.inspect.survey import read_image
from imgtools.spec.platform import Platform
from imgtools.task import CancelToken, Task
from imgtools.testing.images import AMD64, random_image
from imgtools.testing.registry import ScriptedRegistry
from imgtools.transport.options import SourceOptions
from imgtools.transport.table import Transports
from tests.imageproxy_client import ProxyClient, ProxyRefused
from tests.local_images import write
from tests.registry_fake import FakeRegistry, say
from tests.registry_fake import Request as Asked
from tests.rig import RegistryServer, RunCli

Start = Callable[..., ProxyClient]
KINDS = (
    "annotations", "artifact", "docker", "docker-list", "empty-layer", "foreign", "index",
    "nested-index", "oci", "oci-uncompressed", "oci-zstd", "repeated", "schema1", "zero-layers",
)  # fmt: skip
PLATFORM = ("--override-os", "linux", "--override-arch", "amd64")


@pytest.fixture
def start(run_cli: RunCli) -> Iterator[Start]:
    """start("--flag", ...) starts our proxy in a clean home."""
    with contextlib.ExitStack() as stack:

        def begin(*flags: str | Path) -> ProxyClient:
            command = run_cli.command("experimental-image-proxy", *PLATFORM, *flags)
            client = stack.enter_context(ProxyClient(command, env=run_cli.env))
            assert client.call("Initialize") == "0.2.8"
            return client

        yield begin


@pytest.fixture
def start_skopeo(tmp_path: Path) -> Iterator[Start]:
    """The same for Debian's skopeo, which speaks version 0.2.3."""
    env = {
        "HOME": str(tmp_path),
        "PATH": "/usr/bin:/bin",
        "REGISTRY_AUTH_FILE": str(tmp_path / "none.json"),
    }
    with contextlib.ExitStack() as stack:

        def begin(*flags: str | Path) -> ProxyClient:
            command = [
                "skopeo", "--insecure-policy", *PLATFORM, "experimental-image-proxy", *flags,
            ]  # fmt: skip
            client = stack.enter_context(ProxyClient(command, env=env))
            assert client.call("Initialize").startswith("0.2.")
            return client

        yield begin


@contextlib.contextmanager
def served(
    services: Services | None = None, *, patience: float = 60
) -> Iterator[tuple[ProxyClient, list[BaseException | None]]]:
    """A proxy in a thread of this process; what it ended with is in the list afterwards."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client = ProxyClient.__new__(ProxyClient)
    client.socket = ours
    ours.settimeout(60)
    ended: list[BaseException | None] = []

    def run() -> None:
        cancel = CancelToken()
        try:
            with theirs, Transports(cancel) as transports:
                serve(
                    theirs,
                    services or services_of(transports),
                    task=Task(cancel=cancel),
                    patience=patience,
                )
        except BaseException as e:  # noqa: BLE001 - the test looks at it
            ended.append(e)
        else:
            ended.append(None)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield client, ended
    finally:
        ours.close()
        thread.join(30)
        assert not thread.is_alive()


def services_of(transports: Transports, platform: Platform = AMD64) -> Services:
    """Services without policy."""
    from imgtools.cli.verbs.experimental_image_proxy import _oci_config

    return Services(
        open_source=lambda name: transports.open_source(name, SourceOptions()),
        read_image=lambda source: read_image(source, platform, config=False),
        oci_config=_oci_config,
    )


def outcome(call: Callable[..., Any], *args: Any) -> Any:
    """What a call gave, or that it was refused."""
    try:
        return call(*args)
    except ProxyRefused:
        return "refused"


def look(client: ProxyClient, name: str) -> list[Any]:
    """Everything that every version of the protocol says about an image."""
    image = outcome(client.call, "OpenImage", name)
    if image == "refused":
        return [image]
    found: list[Any] = [
        outcome(client.read, method, image)
        for method in ("GetManifest", "GetFullConfig", "GetConfig")
    ]
    if found[0] != "refused":
        for layer in json.loads(found[0][1])["layers"]:
            size = layer["size"]
            found.append(outcome(client.read, "GetBlob", image, layer["digest"], size))
            found.append(outcome(client.read, "GetBlob", image, layer["digest"], size + 1))
    found.append(outcome(client.read, "GetBlob", image, "sha256:" + "0" * 64, 3))
    found.append(outcome(client.read, "GetBlob", image, "sha256:0", 3))
    found.append(client.call("CloseImage", image))
    found.append(outcome(client.call, "CloseImage", image))
    return found


def test_says_what_skopeo_says(start: Start, start_skopeo: Start, images_dir: Path) -> None:
    ours, theirs = start(), start_skopeo()
    for kind in KINDS:
        name = f"dir:{images_dir}/dir/{kind}"
        assert look(ours, name) == look(theirs, name), kind
    # The layout's Docker manifests are left out: Debian's skopeo does not read them there.
    for kind in ("oci", "index", "oci-zstd", "annotations", "nothing"):
        name = f"oci:{images_dir}:{kind}"
        assert look(ours, name) == look(theirs, name), kind
    for name in ("", "busybox", "nothing:here", "oci:", "dir:/not/there", "docker:x"):
        assert look(ours, name) == look(theirs, name) == ["refused"], name


def test_says_what_skopeo_says_of_a_registry(
    start: Start,
    start_skopeo: Start,
    registry_token: RegistryServer,
    repository: str,
    preload: Callable[..., str],
) -> None:
    flags = registry_token.skopeo_flags()
    ours, theirs = start(*flags), start_skopeo(*flags)
    for kind in ("oci", "docker", "index", "docker-list"):
        digest = preload(registry_token, kind, f"{repository}:{kind}")
        name = f"docker://{registry_token.host}/{repository}:{kind}"
        found = look(ours, name)
        assert found == look(theirs, name), kind
        assert (found[0][0] == digest) == (kind in ("oci", "docker"))
    assert look(ours, f"docker://{registry_token.host}/{repository}:nothing") == ["refused"]


def test_newer_methods(start: Start, images_dir: Path, registry_plain: RegistryServer) -> None:
    client = start("--tls-verify=false")
    image = client.call("OpenImageOptional", f"dir:{images_dir}/dir/docker")
    stored = json.loads((images_dir / "dir/docker/manifest.json").read_text())
    layers = [
        {"digest": layer["digest"], "size": layer["size"], "media_type": layer["mediaType"]}
        for layer in stored["layers"]
    ]
    assert client.call("GetLayerInfo", image) == layers
    assert json.loads(client.read("GetLayerInfoPiped", image)[1]) == layers
    for layer in layers:
        size, content, error = client.read_raw(image, layer["digest"])
        assert (size, error) == (layer["size"], None)
        assert "sha256:" + hashlib.sha256(content).hexdigest() == layer["digest"]
    with pytest.raises(ProxyRefused):
        client.read_raw(image, "sha256:" + "0" * 64)
    missing = f"docker://{registry_plain.host}/no/such"
    assert client.call("OpenImageOptional", missing) == 0
    assert client.call("OpenImageOptional", f"oci:{images_dir}:no-such") == 0
    with pytest.raises(ProxyRefused) as caught:
        client.call("OpenImageOptional", "docker://127.0.0.1:1/nobody/there")
    assert caught.value.reply["error_code"] == "retryable"


def test_config_of_a_docker_image_is_the_one_its_manifest_names(
    start: Start, images_dir: Path
) -> None:
    client = start()
    image = client.call("OpenImage", f"dir:{images_dir}/dir/docker")
    config = json.loads(client.read("GetManifest", image)[1])["config"]
    content = client.read("GetFullConfig", image)[1]
    assert config["digest"] == "sha256:" + hashlib.sha256(content).hexdigest()
    assert client.read("GetBlob", image, config["digest"], config["size"]) == (
        len(content),
        content,
    )
    assert client.read_raw(image, config["digest"]) == (len(content), content, None)
    stored = json.loads((images_dir / "dir/docker/manifest.json").read_text())["config"]
    assert client.read("GetBlob", image, stored["digest"], stored["size"])[0] == stored["size"]


def test_corrupt_blob_is_told(start: Start, images_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "image"
    shutil.copytree(images_dir / "dir/oci", copy)
    layer = json.loads((copy / "manifest.json").read_text())["layers"][0]
    path = copy / layer["digest"].removeprefix("sha256:")
    path.write_bytes(bytes(layer["size"]))
    client = start()
    image = client.call("OpenImage", f"dir:{copy}")
    with pytest.raises(ProxyRefused, match="digest mismatch"):
        client.read("GetBlob", image, layer["digest"], layer["size"])
    size, content, error = client.read_raw(image, layer["digest"])
    assert (size, len(content)) == (layer["size"], layer["size"])
    assert error is not None
    assert error["code"] == "other"
    assert "digest mismatch" in error["message"]


@pytest.mark.parametrize(
    "packet",
    [
        b"x",
        b"null",
        b"[]",
        b"{}",
        b'{"method":3}',
        b'{"method":"OpenImage","args":{}}',
        b'{"method":"OpenImage","args":[]}',
        b'{"method":"OpenImage","args":[1]}',
        b'{"method":"OpenImage","args":["dir:x","y"]}',
        b'{"method":"OpenImage","method":"Initialize"}',
        b'{"method":"GetManifest","args":[true]}',
        b'{"method":"GetManifest","args":[1.5]}',
        b'{"method":"GetManifest","args":[-1]}',
        b'{"method":"GetManifest","args":[1e999]}',
        b'{"method":"GetManifest","args":[9007199254740993]}',
        b'{"method":"GetManifest","args":[0]}',
        b'{"method":"GetManifest","args":[NaN]}',
        b'{"method":"FinishPipe","args":[1]}',
        b'{"method":"FinishPipe"}',
        b'{"method":"GetBlob","args":[1,"sha256:x"]}',
        b'{"method":"Nothing","args":[]}',
        b'{"method":"_open_image","args":["dir:x"]}',
        b'{"method":"Initialize","args":[]}',
        b'{"method":"' + b"x" * 31_000 + b'"}',
        b'{"method":"OpenImage","args":["dir:' + b"x" * 31_000 + b'"]}',
        b"[" * 30_000,
        b" " * (PACKET_LIMIT + 1),
        b'{"method":"Initialize","args":[]}' + b" " * 40_000,
        b'"\xff"',
    ],
    ids=range(29),
)
def test_bad_request_is_refused_and_forgotten(packet: bytes) -> None:
    with served() as (client, _):
        client.call("Initialize")
        client.send(packet)
        answer = client.receive()
        assert not answer.reply["success"]
        assert answer.reply["error"]
        assert answer.reply["error_code"] == "other"
        assert (answer.fds, answer.reply["value"], answer.reply["pipeid"]) == ([], None, 0)
        assert client.call("OpenImageOptional", "oci:/not/there") == 0


def test_nothing_goes_before_initialize() -> None:
    with served() as (client, ended):
        for method in ("OpenImage", "OpenImageOptional", "CloseImage", "GetBlob", "FinishPipe"):
            with pytest.raises(ProxyRefused, match="must invoke Initialize"):
                client.call(method, "x")
        client.send(b'{"method":"Initialize","args":null}')
        assert client.receive().value == "0.2.8"
        with pytest.raises(ProxyRefused, match="already initialized"):
            client.call("Initialize")
        client.send(b'{"method":"Shutdown","args":[]}')
        with pytest.raises(EOFError):
            client.receive()
    assert ended == [None]


def test_requests_are_served_while_pipes_are_full(start: Start, tmp_path: Path) -> None:
    sample = random_image("large", layers=3, size=3_000_000)
    write(f"oci:{tmp_path}/layout:x", sample)
    client = start()
    image = client.call("OpenImage", f"oci:{tmp_path}/layout:x")
    layers = json.loads(client.read("GetManifest", image)[1])["layers"]
    unread = [client.ask("GetBlob", image, each["digest"], each["size"]) for each in layers]
    raw = client.ask("GetRawBlob", image, layers[0]["digest"])
    for each in layers:
        assert client.read("GetBlob", image, each["digest"], each["size"])[0] == each["size"]
    # The image can be closed while its blobs are still on their way.
    client.call("CloseImage", image)
    with pytest.raises(ProxyRefused):
        client.read("GetManifest", image)
    last = b""
    while len(last) < layers[2]["size"]:
        last += os.read(unread[2].fds[0], 1 << 20)
    client.call("FinishPipe", unread[2].reply["pipeid"])
    assert os.read(unread[2].fds[0], 1) == b""
    assert "sha256:" + hashlib.sha256(last).hexdigest() == layers[2]["digest"]
    # One that is dropped is no trouble, and is told apart from failures.
    unread[1].close()
    with pytest.raises(ProxyRefused) as caught:
        client.call("FinishPipe", unread[1].reply["pipeid"])
    assert caught.value.reply["error_code"] == "EPIPE"
    # Leaving with unread pipes ends the proxy, and well.
    client.socket.close()
    assert client.process.wait(20) == 0
    for called in (unread[0], unread[2], raw):
        called.close()


def test_no_descriptor_is_left(images_dir: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with served() as (client, ended):
        client.call("Initialize")
        for kind in ("oci", "docker", "index"):
            image = client.call("OpenImage", f"dir:{images_dir}/dir/{kind}")
            config = json.loads(client.read("GetManifest", image)[1])["config"]
            client.read_raw(image, config["digest"])
            with pytest.raises(ProxyRefused):
                client.read("GetBlob", image, config["digest"], config["size"] + 1)
            client.ask("GetBlob", image, config["digest"], config["size"]).close()
            client.ask("GetFullConfig", image).close()
        client.call("OpenImage", f"oci:{images_dir}:oci")
    assert ended == [None]
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_finish_pipe_does_not_wait_for_ever(tmp_path: Path) -> None:
    write(f"oci:{tmp_path}/layout:x", random_image("slow", layers=1, size=3_000_000))
    with served(patience=0.2) as (client, ended):
        client.call("Initialize")
        image = client.call("OpenImage", f"oci:{tmp_path}/layout:x")
        layer = client.call("GetLayerInfo", image)[0]
        called = client.ask("GetBlob", image, layer["digest"], layer["size"])
        with pytest.raises(ProxyRefused, match="does not read") as caught:
            client.call("FinishPipe", called.reply["pipeid"])
        assert caught.value.reply["error_code"] == "EPIPE"
        called.close()
        client.call("CloseImage", image)
    assert ended == [None]


def test_long_lists_of_layers_need_the_pipe(tmp_path: Path) -> None:
    write(f"oci:{tmp_path}/layout:x", random_image("many", layers=300, size=1))
    with served() as (client, _):
        client.call("Initialize")
        image = client.call("OpenImage", f"oci:{tmp_path}/layout:x")
        with pytest.raises(ProxyRefused, match="larger than the limit"):
            client.call("GetLayerInfo", image)
        assert len(json.loads(client.read("GetLayerInfoPiped", image)[1])) == 300


def test_too_many_pipes_are_refused(images_dir: Path) -> None:
    with served() as (client, ended):
        client.call("Initialize")
        image = client.call("OpenImage", f"dir:{images_dir}/dir/oci")
        with contextlib.ExitStack() as stack:
            for _ in range(200):
                stack.callback(client.ask("GetManifest", image).close)
            for method in ("GetManifest", "GetFullConfig"):
                with pytest.raises(ProxyRefused, match="open pipes"):
                    client.ask(method, image)
            client.call("FinishPipe", 1)
            stack.callback(client.ask("GetManifest", image).close)
    assert ended == [None]


def test_shutdown_and_a_closed_socket_at_once_are_success(start: Start) -> None:
    for packets in ([], [b'{"method":"Shutdown","args":[]}'], [b'{"method":"GetBlob"}'] * 3):
        client = start()
        for packet in packets:
            client.send(packet)
        client.socket.close()
        assert client.process.wait(20) == 0
        assert client.process.stderr is not None
        assert client.process.stderr.read() == b""


def test_client_that_goes_ends_what_is_done_for_it(start: Start) -> None:
    asked, silence = threading.Event(), threading.Event()

    def script(request: Asked) -> Any:
        asked.set()
        silence.wait(60)
        return say(404)

    with FakeRegistry(script) as registry:
        try:
            client = start("--tls-verify=false")
            request = {"method": "OpenImage", "args": [f"docker://{registry.host}/app"]}
            client.send(json.dumps(request).encode())
            assert asked.wait(20)
            client.socket.close()
            assert client.process.wait(20) == 0
        finally:
            silence.set()


def test_registry_that_falls_silent_does_not_hold_the_end(start: Start) -> None:
    sample = random_image("stalled", layers=1, size=2_000_000)
    with ScriptedRegistry() as registry:
        for content in sample.blobs.values():
            registry.push_blob("app", content)
        registry.push_manifest("app", sample.top.content, sample.top.media_type, tags=["v1"])
        registry.fail(path="/blobs/", stall_after=1000)
        client = start("--tls-verify=false")
        image = client.call("OpenImage", f"docker://{registry.host}/app:v1")
        layer = client.call("GetLayerInfo", image)[0]
        opened = client.ask("GetBlob", image, layer["digest"], layer["size"])
        client.call("CloseImage", image)
        client.send(b'{"method":"Shutdown"}')
        assert client.process.wait(20) == 0
        opened.close()


def test_large_blob_that_is_missing_is_told_at_once(start: Start) -> None:
    """Not only by the end of a pipe, however late a copy would ask for it."""
    digest = "sha256:" + "1" * 64
    with ScriptedRegistry() as registry:
        sample = random_image("large")
        for blob in sample.blobs.values():
            registry.push_blob("app", blob)
        registry.push_manifest("app", sample.top.content, sample.top.media_type, tags=["v1"])
        client = start("--tls-verify=false")
        image = client.call("OpenImage", f"docker://{registry.host}/app:v1")
        with pytest.raises(ProxyRefused, match="is not in"):
            client.call("GetBlob", image, digest, 8 * 1024 * 1024)


def test_registry_that_lies_is_found_out(start: Start) -> None:
    sample = random_image("flipped", layers=1, size=100_000)
    with ScriptedRegistry() as registry:
        for content in sample.blobs.values():
            registry.push_blob("app", content)
        registry.push_manifest("app", sample.top.content, sample.top.media_type, tags=["v1"])
        client = start("--tls-verify=false")
        image = client.call("OpenImage", f"docker://{registry.host}/app:v1")
        layer = client.call("GetLayerInfo", image)[0]
        registry.fail(path="/blobs/", flip=50_000)
        with pytest.raises(ProxyRefused, match="digest mismatch"):
            client.read("GetBlob", image, layer["digest"], layer["size"])
        error = client.read_raw(image, layer["digest"])[2]
        assert error is not None
        assert error["code"] == "other"


def test_signals_end_it(start: Start) -> None:
    for number_, code in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        client = start()
        client.process.send_signal(number_)
        assert client.process.wait(20) == code


def test_policy_decides_what_is_opened(start: Start, images_dir: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.json"
    rules = {"dir": {"": [{"type": "insecureAcceptAnything"}]}}
    policy.write_text(json.dumps({"default": [{"type": "reject"}], "transports": rules}))
    client = start("--policy", policy)
    assert client.call("OpenImage", f"dir:{images_dir}/dir/oci") == 1
    for method in ("OpenImage", "OpenImageOptional"):
        with pytest.raises(ProxyRefused, match="reject"):
            client.call(method, f"oci:{images_dir}:oci")


def test_platform_is_the_command_line_s(run_cli: RunCli, images_dir: Path) -> None:
    index = json.loads((images_dir / "dir/index/manifest.json").read_text())
    arm = next(m for m in index["manifests"] if m["platform"]["architecture"] == "arm64")
    command = run_cli.command("--override-arch", "arm64", "experimental-image-proxy")
    with ProxyClient(command, env=run_cli.env) as client:
        client.call("Initialize")
        image = client.call("OpenImage", f"dir:{images_dir}/dir/index")
        assert client.read("GetManifest", image)[0] == arm["digest"]


def test_socket_is_standard_input_by_default(run_cli: RunCli) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours:
        with theirs:
            process = subprocess.Popen(
                run_cli.command("experimental-image-proxy"), env=run_cli.env, stdin=theirs.fileno()
            )
        ours.send(b'{"method":"Initialize","args":[]}')
        assert json.loads(ours.recv(PACKET_LIMIT))["value"] == "0.2.8"
    assert process.wait(20) == 0


@pytest.mark.parametrize("flags", [[], ["--sockfd", "77"], ["--sockfd", "1"]])
def test_what_is_no_socket_is_refused(run_cli: RunCli, flags: list[str]) -> None:
    done = run_cli("experimental-image-proxy", *flags)
    assert done.returncode == 1
    assert "is not a socket" in done.stderr
    assert "Traceback" not in done.stderr


def test_other_sockets_are_refused() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs, pytest.raises(InvalidInput, match="SOCK_SEQPACKET"):
        adopt_socket(theirs.fileno())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConnectionFailed("cut", host="h"), "retryable"),
        (RegistryError(method="GET", url="u", status=503), "retryable"),
        (RegistryError(method="GET", url="u", status=429), "retryable"),
        (RegistryError(method="GET", url="u", status=400), "other"),
        (ImageNotFound("gone"), "other"),
        (ClientGone("closed"), "EPIPE"),
    ],
)
def test_error_codes(error: Error, code: str) -> None:
    assert error_code(error) == code
    assert json.loads(failure_packet(error))["error_code"] == code
    assert json.loads(pipe_error(error))["code"] == code


def test_errors_fit_a_packet_and_a_pipe() -> None:
    error = Error("\x01" * 100_000)
    assert len(failure_packet(error)) <= PACKET_LIMIT
    assert len(pipe_error(Error("\x01" * 100_000))) <= 8192


@pytest.mark.parametrize("value", [0, 7, 7.0, 2**53 - 1])
def test_numbers(value: float) -> None:
    assert number(value, "size") == value


def test_request_may_have_properties_that_we_do_not_know() -> None:
    assert Request.parse(b'{"method":"x","args":[1],"id":7}') == Request(method="x", args=[1])


def test_everything_is_imported_late() -> None:
    script = "import sys, imgtools.cli.main; print('imgtools.imageproxy' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, encoding="utf-8"
    )
    assert done.stdout == "False\n"
