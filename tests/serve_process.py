"""`imgtools serve` as a process for tests, and skopeo as its client."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from imgtools.spec.digest import Digest


class Served:
    """A running process and its address."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url
        self.host = url.partition("//")[2]

    def request(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.host, timeout=20)
        try:
            fields = {k.replace("_", "-"): v for k, v in headers.items()}
            connection.request(method, path, body, fields)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()
        finally:
            connection.close()

    def connect(self) -> socket.socket:
        host, _, port = self.host.partition(":")
        return socket.create_connection((host, int(port)), timeout=20)

    def push_blob(self, repo: str, content: bytes) -> str:
        digest = str(Digest.of(content))
        path = f"/v2/{repo}/blobs/uploads/?digest={digest}"
        assert self.request("POST", path, content)[0] == 201
        return digest


@contextmanager
def serve(directory: Path, *arguments: str) -> Iterator[Served]:
    command = [sys.executable, "-m", "imgtools", "serve", str(directory), "--listen=127.0.0.1:0"]
    with subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert re.fullmatch(r"https?://127\.0\.0\.1:\d+", url), process.communicate()
            yield Served(process, url)
        finally:
            if process.poll() is None:
                process.terminate()
            process.communicate(timeout=20)


def skopeo(*arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        ["skopeo", "--insecure-policy", *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def make_dir_image(directory: Path) -> None:
    directory.mkdir()
    layer = os.urandom(1000)
    diff = "sha256:" + hashlib.sha256(layer).hexdigest()
    rootfs = {"type": "layers", "diff_ids": [diff]}
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": rootfs}).encode()
    parts = []
    for content, kind in ((config, "config.v1+json"), (layer, "layer.v1.tar")):
        name = hashlib.sha256(content).hexdigest()
        (directory / name).write_bytes(content)
        media_type = f"application/vnd.oci.image.{kind}"
        parts.append({"mediaType": media_type, "digest": f"sha256:{name}", "size": len(content)})
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": parts[0],
        "layers": parts[1:],
    }
    (directory / "manifest.json").write_text(json.dumps(manifest))
    (directory / "version").write_text("Directory Transport Version: 1.1\n")
