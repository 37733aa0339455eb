"""Runs Debian's docker-registry as a process on loopback, open, on TLS, or asking for credentials.

The registry binds port 0 and tells the port in its log, so two of them never want the same one.
It also speaks enough of the protocol itself to put a test image in and to look at what is there;
nothing of imgtools is used for that.
"""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import ssl
import string
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import quote

from tests.rig.testdata import PASSWORD, TESTDATA, USERNAME
from tests.rig.tokens import TokenServer

Kind = Literal["plain", "tls", "htpasswd", "token"]

ALL_MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a registry said; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class RegistryServer:
    """One registry process; use it in a `with` block."""

    def __init__(
        self,
        kind: Kind,
        directory: Path,
        certificates: Path,
        *,
        tokens: TokenServer | None = None,
    ) -> None:
        """Describe a registry that keeps its files in `directory`.

        `certificates` is what make_certificates made; a "token" registry needs a running `tokens`.
        """
        self.kind = kind
        self.directory = directory
        self.storage = directory / "storage"
        self.certificates = certificates
        self.tokens = tokens
        self.username = USERNAME
        self.password = PASSWORD
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def tls(self) -> bool:
        """Whether it speaks TLS."""
        return self.kind in ("tls", "htpasswd")

    @property
    def host(self) -> str:
        """HOST:PORT as in a reference."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The address without a path."""
        return f"{'https' if self.tls else 'http'}://{self.host}"

    @property
    def ca_file(self) -> Path:
        """The certificate of the authority that vouches for it."""
        return self.certificates / "ca.crt"

    @property
    def cert_dir(self) -> Path:
        """A directory with that certificate alone, for --cert-dir."""
        return self.certificates / "trust"

    @property
    def log(self) -> str:
        """What the process has printed until now."""
        return (self.directory / "log").read_text()

    def __enter__(self) -> Self:
        """Start and wait until it listens."""
        self.storage.mkdir(parents=True)
        template = string.Template((TESTDATA / "config" / f"{self.kind}.yml").read_text())
        values = {"storage": self.storage, "certificates": self.certificates}
        if self.kind == "token":
            assert self.tokens is not None, "a token registry needs a token server"
            realm, service, issuer = self.tokens.url, self.tokens.service, self.tokens.issuer
            text = template.substitute(values, realm=realm, service=service, issuer=issuer)
        else:
            text = template.substitute(values)
        config = self.directory / "config.yml"
        config.write_text(text)
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                # The registry ends with the tests even if they are killed.
                ["setpriv", "--pdeathsig", "KILL", "docker-registry", "serve", config],
                env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.directory)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self.port = self._await_port()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait()
            self._process = None

    def _await_port(self) -> int:
        """The port, from the line in which the registry says where it listens."""
        assert self._process is not None
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for line in self.log.splitlines():
                message = str(json.loads(line).get("msg", "")) if line.endswith("}") else ""
                if message.startswith("listening on "):
                    return int(message.removesuffix(", tls").rsplit(":", 1)[1])
            assert self._process.poll() is None, f"docker-registry ended:\n{self.log}"
            time.sleep(0.02)
        raise AssertionError(f"docker-registry does not listen after 30 s:\n{self.log}")

    def skopeo_flags(self, side: str = "") -> list[str]:
        """What skopeo needs to reach it: `side` is "src", "dest" or empty (inspect, delete)."""
        prefix = f"--{side}-" if side else "--"
        flags = [f"{prefix}cert-dir={self.cert_dir}"] if self.tls else [f"{prefix}tls-verify=false"]
        if self.kind in ("htpasswd", "token"):
            flags.append(f"{prefix}creds={self.username}:{self.password}")
        return flags

    def authorization(self, repository: str) -> dict[str, str]:
        """Request headers that allow everything on `repository`."""
        if self.kind == "htpasswd":
            pair = base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
            return {"Authorization": f"Basic {pair}"}
        if self.tokens is not None:
            access = [("repository", repository, ("pull", "push", "delete"))]
            return {"Authorization": f"Bearer {self.tokens.mint(self.username, access)}"}
        return {}

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send one authorised request; `path` begins with /v2/ (or is an absolute Location)."""
        path = path.removeprefix(self.url)
        repository = path.removeprefix("/v2/").split("/blobs/")[0].split("/manifests/")[0]
        repository = repository.removesuffix("/tags/list")
        if self.tls:
            context = ssl.create_default_context(cafile=str(self.ca_file))
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                self.host, context=context, timeout=30
            )
        else:
            connection = http.client.HTTPConnection(self.host, timeout=30)
        try:
            everything = {**self.authorization(repository), **(headers or {})}
            connection.request(method, path, body=body or None, headers=everything)
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Answer(status=response.status, headers=fields, body=response.read())
        finally:
            connection.close()

    def manifest(self, repository: str, reference: str) -> Answer:
        """GET a manifest of any kind."""
        path = f"/v2/{repository}/manifests/{reference}"
        return self.request("GET", path, headers={"Accept": ALL_MANIFESTS})

    def has_blob(self, repository: str, digest: str) -> bool:
        """Whether a blob is there."""
        return self.request("HEAD", f"/v2/{repository}/blobs/{digest}").status == 200

    def tags(self, repository: str) -> list[str]:
        """The tags of a repository, none if there is no such repository."""
        answer = self.request("GET", f"/v2/{repository}/tags/list")
        return sorted(answer.json().get("tags") or []) if answer.status == 200 else []

    def put_blob(self, repository: str, content: bytes) -> str:
        """Upload a blob; its digest."""
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        begun = self.request("POST", f"/v2/{repository}/blobs/uploads/")
        assert begun.status == 202, begun
        location = f"{begun.headers['location']}&digest={quote(digest)}"
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(len(content))}
        done = self.request("PUT", location, body=content, headers=headers)
        assert done.status == 201, done
        return digest

    def put_manifest(self, repository: str, reference: str, content: bytes, kind: str) -> str:
        """Put a manifest of media type `kind`; the digest that the registry gives it."""
        path = f"/v2/{repository}/manifests/{reference}"
        done = self.request("PUT", path, body=content, headers={"Content-Type": kind})
        assert done.status == 201, done
        return done.headers["docker-content-digest"]

    def push(self, directory: Path, name: str) -> str:
        """Put an image as make_images writes it (images/dir/KIND) in as `name`, REPOSITORY:TAG.

        Everything arrives byte for byte; returns the digest of the top manifest.
        """
        repository, _, tag = name.partition(":")
        for blob in directory.iterdir():
            if blob.suffix == "" and blob.name != "version":
                self.put_blob(repository, blob.read_bytes())
        return self._push_manifest(directory, "manifest.json", repository, tag or "latest")

    def _push_manifest(self, directory: Path, file: str, repository: str, reference: str) -> str:
        content = (directory / file).read_bytes()
        value = json.loads(content)
        for child in value.get("manifests", []):
            stem = child["digest"].removeprefix("sha256:")
            self._push_manifest(directory, f"{stem}.manifest.json", repository, child["digest"])
        if value["schemaVersion"] == 1:
            # A signed manifest carries the name it was made for, which a registry insists on.
            assert (value["name"], value["tag"]) == (repository, reference), value["name"]
            media_type = "application/vnd.docker.distribution.manifest.v1+prettyjws"
        else:
            media_type = value["mediaType"]
        return self.put_manifest(repository, reference, content, media_type)
