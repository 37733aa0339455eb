"""A registry with images and indexes, a policy with one key, and commands that meet both."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imgtools.sign.checks import SIGNATURE_ANNOTATION
from imgtools.sign.model import SIMPLE_SIGNING_LAYER
from imgtools.spec import media_type as mt
from imgtools.spec.digest import Digest
from imgtools.spec.manifest import RawManifest
from imgtools.testing import images
from imgtools.testing.images import Sample
from imgtools.testing.registry import ScriptedRegistry
from tests.bad_input import PLAIN, Outcome, cli, push
from tests.sign.judging import Signer

_EMPTY = b"{}"
IMAGE = images.random_image("alone", layers=1)
INDEX = images.random_index("signed", platforms=images.PLATFORMS[:2], layers=1)
"""Of an image for this machine (amd64) and one for another."""

HERE, THERE = INDEX.manifests
"""The instances, in their order."""


def tag_of(digest: Digest) -> str:
    """Where the attachment of a manifest is."""
    return f"sha256-{digest.hex}.sig"


@dataclass(frozen=True)
class Ground:
    """Where commands run: `registry` with app:1, and whose signatures are good."""

    registry: ScriptedRegistry
    path: Path
    signer: Signer

    @property
    def name(self) -> str:
        """The image as a command names it."""
        return f"docker://{self.registry.host}/app:1"

    @property
    def copied(self) -> Any:
        """The repository that copies go to."""
        return self.registry.repository("copy")

    def push(self, sample: Sample) -> None:
        """Put a sample at app:1."""
        push(self.registry, "app", sample)

    def sign(
        self,
        *digests: Digest,
        signer: Signer | None = None,
        name: str = "",
        repository: str = "app",
    ) -> None:
        """Sign manifests as app:1."""
        for digest in digests:
            by = signer or self.signer
            payload = by.payload(digest, name or self.name.removeprefix("docker://"))
            text = base64.b64encode(by.raw(payload)).decode()
            self.put_attachment(digest, [(payload, text)], repository=repository)

    def put_attachment(
        self, digest: Digest, layers: list[tuple[bytes, str]], *, repository: str = "app"
    ) -> RawManifest:
        """An attachment with these payloads and signatures."""
        self.registry.push_blob(repository, _EMPTY)
        described = []
        for payload, text in layers:
            found = self.registry.push_blob(repository, payload)
            described.append(
                {
                    "mediaType": SIMPLE_SIGNING_LAYER,
                    "digest": str(found),
                    "size": len(payload),
                    "annotations": {SIGNATURE_ANNOTATION: text},
                }
            )
        config = {"mediaType": mt.OCI_CONFIG, "digest": str(Digest.of(_EMPTY)), "size": 2}
        value = {"schemaVersion": 2, "mediaType": mt.OCI_MANIFEST, "config": config}
        content = json.dumps({**value, "layers": described}).encode()
        return self.registry.push_manifest(repository, content, "", tags=[tag_of(digest)])

    def policy(self, *requirements: dict[str, Any]) -> Path:
        """A policy file: these requirements, or one for the signer's key."""
        path = self.path / "policy.json"
        found = list(requirements) or [self.signer.requirement()]
        path.write_text(json.dumps({"default": found}))
        return path

    def copy(self, *flags: str, policy: Path | None = None, to: str = "") -> Outcome:
        """Copy app:1 to copy:1 under the policy."""
        target = to or f"docker://{self.registry.host}/copy:1"
        sides = ("--src-tls-verify=false", "--dest-tls-verify=false")
        used = sides if target.startswith("docker:") else sides[:1]
        chosen = str(policy or self.policy())
        return cli(self.path, "--policy", chosen, "copy", "-q", *used, *flags, self.name, target)

    def verify(self, *flags: str) -> Outcome:
        """Verify app:1 by the key."""
        key = self.path / "key.pub"
        key.write_bytes(self.signer.pem)
        return cli(self.path, "verify", PLAIN, "--key", str(key), *flags, self.name)


@contextmanager
def ground(path: Path, sample: Sample = INDEX) -> Iterator[Ground]:
    """A registry with `sample`, which nobody has signed yet."""
    with ScriptedRegistry() as registry:
        found = Ground(registry, path, Signer())
        found.push(sample)
        yield found
