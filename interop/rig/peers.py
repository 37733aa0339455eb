"""The other clients, each with the same few verbs.

An image in a registry is HOST/REPOSITORY:TAG or HOST/REPOSITORY@DIGEST for all of them, a layout
is a directory and a name in it.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path

from interop.rig.images import Image, kinds
from tests.rig import REPOSITORY

# What a client cannot do with a kind of test image, whoever wrote it.
CANNOT_PUSH = {("skopeo", "nested-index")}
CANNOT_PULL = {
    ("crane", "foreign"),  # fetches from the URLs, which lead nowhere
    ("skopeo", "docker-list"),  # insists on converting it for oci:
    ("skopeo", "nested-index"),
}

BIN = REPOSITORY / ".venv" / "interop" / "bin"


class Peer(ABC):
    """A client in a home of its own."""

    name: str
    program: Path

    def __init__(self, home: Path) -> None:
        """Use `home` for configuration and caches."""
        self.home = home

    def run(self, *arguments: str | Path, input: bytes = b"") -> bytes:
        """Run it, which has to succeed; what it printed on stdout."""
        done = subprocess.run(
            [self.program, *arguments],
            input=input,
            env={"HOME": str(self.home), "PATH": "/usr/bin:/bin", "TMPDIR": str(self.home)},
            cwd=self.home,
            timeout=60,
            capture_output=True,
            check=False,
        )
        said = done.stderr.decode(errors="replace")
        command = " ".join(map(str, arguments))
        assert done.returncode == 0, f"{self.name} {command}: status {done.returncode}: {said}"
        return done.stdout

    @abstractmethod
    def push(self, image: Image, to: str) -> None:
        """Copy an image with all it consists of to a registry."""

    @abstractmethod
    def push_layout(self, layout: Path, name: str, to: str) -> None:
        """Copy the image `name`, the only one in an OCI layout, to a registry."""

    @abstractmethod
    def pull(self, image: str, layout: Path) -> str:
        """Copy an image from a registry to a new OCI layout; its name for `oci:`."""

    @abstractmethod
    def digest(self, image: str) -> str:
        """The digest of an image's top manifest."""

    @abstractmethod
    def manifest(self, image: str) -> bytes:
        """The top manifest."""

    @abstractmethod
    def tags(self, repository: str) -> list[str]:
        """The tags of HOST/REPOSITORY."""


class Crane(Peer):
    """go-containerregistry's client."""

    name = "crane"
    program = BIN / "crane"

    def push(self, image: Image, to: str) -> None:
        self.push_layout(image.layout, image.kind, to)

    def push_layout(self, layout: Path, name: str, to: str) -> None:
        self.run("push", "--insecure", layout, to)

    def pull(self, image: str, layout: Path) -> str:
        self.run("pull", "--insecure", "--format", "oci", image, layout)
        # It keeps no name, and does not need one.
        return f"oci:{layout}"

    def digest(self, image: str) -> str:
        return self.run("digest", "--insecure", image).decode().strip()

    def manifest(self, image: str) -> bytes:
        return self.run("manifest", "--insecure", image)

    def tags(self, repository: str) -> list[str]:
        return self.run("ls", "--insecure", repository).decode().split()


class Regctl(Peer):
    """regclient's client."""

    name = "regctl"
    program = BIN / "regctl"

    def run(self, *arguments: str | Path, input: bytes = b"") -> bytes:
        registries = {str(a).split("/")[0] for a in arguments if str(a).startswith("127.0.0.1:")}
        hosts = [f"--host=reg={registry},tls=disabled" for registry in sorted(registries)]
        return super().run(*arguments, *hosts, input=input)

    def push(self, image: Image, to: str) -> None:
        self.push_layout(image.layout, image.kind, to)

    def push_layout(self, layout: Path, name: str, to: str) -> None:
        self.run("image", "copy", f"ocidir://{layout}:{name}", to)

    def pull(self, image: str, layout: Path) -> str:
        self.run("image", "copy", image, f"ocidir://{layout}:pulled")
        return f"oci:{layout}:pulled"

    def digest(self, image: str) -> str:
        return self.run("image", "digest", image).decode().strip()

    def manifest(self, image: str) -> bytes:
        return self.run("manifest", "get", "--format", "raw-body", image)

    def tags(self, repository: str) -> list[str]:
        return self.run("tag", "ls", repository).decode().split()

    def referrers(self, image: str) -> dict[str, str]:
        """What refers to an image: digest -> artifact type."""
        answer = self.run("artifact", "list", "--format", "{{json .}}", image)
        found = json.loads(answer)["descriptors"] or []
        return {each["digest"]: each.get("artifactType", "") for each in found}


class Oras(Peer):
    """A client made of ORAS's library."""

    name = "oras"
    program = BIN / "orasgo"

    def push(self, image: Image, to: str) -> None:
        self.push_layout(image.layout, image.kind, to)

    def push_layout(self, layout: Path, name: str, to: str) -> None:
        self.run("copy", f"oci:{layout}:{name}", to)

    def pull(self, image: str, layout: Path) -> str:
        self.run("copy", image, f"oci:{layout}:pulled")
        return f"oci:{layout}:pulled"

    def digest(self, image: str) -> str:
        return str(json.loads(self.run("resolve", image))["digest"])

    def manifest(self, image: str) -> bytes:
        return self.run("manifest", image)

    def tags(self, repository: str) -> list[str]:
        return self.run("tags", repository).decode().split()

    def referrers(self, image: str) -> dict[str, str]:
        """What refers to an image: digest -> artifact type."""
        found = json.loads(self.run("discover", image)) or []
        return {each["digest"]: each.get("artifactType", "") for each in found}


class Skopeo(Peer):
    """Debian's skopeo."""

    name = "skopeo"
    program = Path("/usr/bin/skopeo")

    def run(self, *arguments: str | Path, input: bytes = b"") -> bytes:
        policy = ["--insecure-policy", "--tmpdir", str(self.home)]
        return super().run(*policy, *arguments, input=input)

    def push(self, image: Image, to: str) -> None:
        # Only dir: carries every kind through it as it is.
        self._push(f"dir:{image.directory}", to)

    def push_layout(self, layout: Path, name: str, to: str) -> None:
        self._push(f"oci:{layout}:{name}", to)

    def _push(self, source: str, to: str) -> None:
        flags = ("--all", "--preserve-digests", "--dest-tls-verify=false")
        self.run("copy", *flags, source, f"docker://{to}")

    def pull(self, image: str, layout: Path) -> str:
        flags = ("--all", "--preserve-digests", "--src-tls-verify=false")
        uncompressed = "--dest-oci-accept-uncompressed-layers"
        self.run("copy", *flags, uncompressed, f"docker://{image}", f"oci:{layout}:pulled")
        return f"oci:{layout}:pulled"

    def digest(self, image: str) -> str:
        # Its inspect looks into configurations, which an artifact does not have.
        return "sha256:" + hashlib.sha256(self.manifest(image)).hexdigest()

    def manifest(self, image: str) -> bytes:
        return self.run("inspect", "--tls-verify=false", "--raw", f"docker://{image}")

    def tags(self, repository: str) -> list[str]:
        answer = self.run("list-tags", "--tls-verify=false", f"docker://{repository}")
        return list(json.loads(answer)["Tags"])


PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in (Crane, Regctl, Oras, Skopeo)}


def pairs(but: set[tuple[str, str]]) -> list[tuple[str, str]]:
    """Each client with each kind of test image, those in `but` left out."""
    everything = [(peer, kind) for peer in PEERS for kind in kinds()]
    return [pair for pair in everything if pair not in but]


def make_peer(name: str, home: Path) -> Peer:
    """The client of that name in PEERS, in a new home."""
    home.mkdir(parents=True)
    return PEERS[name](home)
