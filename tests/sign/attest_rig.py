"""An image in a registry, a key in a file, and commands that attest and attach."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from imgtools.sign.bundles.make import make_envelope
from imgtools.sign.keys.private import load_private_key
from imgtools.sign.predicates import Predicate, attestation
from imgtools.spec.digest import Digest
from imgtools.testing.dialects import Dialect
from imgtools.testing.images import Sample
from imgtools.testing.registry import ScriptedRegistry
from tests.bad_input import PLAIN, Outcome, cli, push
from tests.sign.key_makers import private_pem, public_pem

SLSA = {"buildDefinition": {"buildType": "https://example.test/build"}, "runDetails": {}}
SPDX = {"spdxVersion": "SPDX-2.3", "name": "app", "packages": []}


def new_key(path: Path, name: str) -> tuple[Path, Path]:
    """A private and a public key, in files."""
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = path / f"{name}.private", path / f"{name}.pub"
    private.write_bytes(private_pem(key))
    public.write_bytes(public_pem(key))
    return private, public


@dataclass(frozen=True)
class Rig:
    """`registry` with app:1."""

    registry: ScriptedRegistry
    path: Path
    sample: Sample
    private: Path
    public: Path

    @property
    def name(self) -> str:
        """The image as a command names it."""
        return f"docker://{self.registry.host}/app:1"

    @property
    def repository(self) -> Any:
        """What is in the registry."""
        return self.registry.repository("app")

    @property
    def digest(self) -> Digest:
        """Of the image."""
        return self.sample.top.digest

    def file(self, content: Any, name: str = "predicate.json") -> Path:
        """A file with a document or bytes."""
        path = self.path / name
        path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return path

    def attest(self, *flags: str | Path, predicate: Any = None, kind: str = "spdxjson") -> Outcome:
        """Attest something of app:1 with the key, unless flags say how else."""
        file = self.file(SPDX if predicate is None else predicate)
        by: tuple[str | Path, ...] = ("--key", self.private)
        if "--key" in flags:
            by = ()
        return self.run("attest", PLAIN, *by, "--type", kind, "--predicate", file, *flags)

    def attach(self, kind: str, *flags: str | Path) -> Outcome:
        """Attach something to app:1."""
        return cli(self.path, "attach", kind, PLAIN, self.name, *flags)

    def verify(self, *flags: str | Path) -> Outcome:
        """Verify app:1 by the public key."""
        return self.run("verify", PLAIN, "--key", self.public, *flags)

    def run(self, *words: str | Path) -> Outcome:
        """A command about app:1."""
        return cli(self.path, *words, self.name)

    def envelope(self, digest: Digest | None = None, kind: str = "https://example.test/p") -> bytes:
        """An attestation as cosign 2 made them, by the key."""
        predicate = Predicate(type=kind, body={"a": 1})
        payload = attestation(predicate, digest or self.digest, "example.test/app")
        return make_envelope(payload, self.key())

    def key(self) -> Any:
        """The private key."""
        return load_private_key(self.private.read_bytes(), lambda: b"", "a test's key")


@contextmanager
def rig(path: Path, sample: Sample, dialect: Dialect | None = None) -> Iterator[Rig]:
    """A registry that speaks `dialect`, with `sample`."""
    private, public = new_key(path, "app")
    with ScriptedRegistry(dialect=dialect) as registry:
        push(registry, "app", sample)
        yield Rig(registry, path, sample, private, public)
