"""Commands that sign keyless: a registry with an image, a sigstore, and files for both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from unittest import mock

from imgtools.spec.descriptor import Descriptor
from imgtools.testing import images
from imgtools.testing.images import Sample
from imgtools.testing.sigstore import LocalSigstore
from tests.bad_input import PLAIN, QUICK, Outcome, cli
from tests.sign.ground import Ground, ground

IMAGE = images.random_image("keyless", layers=1)
WHO = "user@example.test"
SUBJECT: Descriptor = IMAGE.top.descriptor()


@dataclass(frozen=True)
class Keyless:
    """An image at app:1 that nobody has signed, and who would certify signers."""

    place: Ground
    sigstore: LocalSigstore
    path: Path

    @property
    def name(self) -> str:
        """The name that is signed."""
        return self.place.name.removeprefix("docker://")

    @property
    def repository(self) -> Any:
        """What is in the registry."""
        return self.place.registry.repository("app")

    @property
    def pushed(self) -> list[str]:
        """The requests that would change the registry."""
        reading = ("GET", "HEAD")
        requests = self.place.registry.requests
        return [f"{e.method} {e.path}" for e in requests if e.method not in reading]

    def token_file(self, identity: str = WHO, **options: Any) -> Path:
        """A file with a token of somebody."""
        path = self.path / "token"
        path.write_text(self.sigstore.token(identity, **options) + "\n")
        return path

    def config(self, rekor: Literal[1, 2] = 1) -> Path:
        """The ClientTrustConfig."""
        path = self.path / f"config{rekor}.json"
        path.write_text(json.dumps(self.sigstore.client_trust_config(rekor=rekor)))
        return path

    def root(self) -> Path:
        """The trusted_root.json."""
        path = self.path / "root.json"
        path.write_bytes(self.sigstore.trusted_root_json())
        return path

    def sign(self, *flags: str | Path, rekor: Literal[1, 2] = 1, **settings: Any) -> Outcome:
        """Sign app:1 as the trust config says, with the token in a file unless `settings` or
        flags have one."""
        given = "projected_token" in settings or "identity_token" in settings
        if not given and not any(str(flag).startswith("--identity-token") for flag in flags):
            flags = ("--identity-token-file", self.token_file(), *flags)
        words = ("--keyless", "--trust-config", self.config(rekor), *flags)
        return self.run("sign", PLAIN, *words, self.place.name, **settings)

    def verify(self, *flags: str | Path, who: str = WHO, issuer: str = "") -> Outcome:
        """Verify app:1 by a certificate's name and issuer."""
        words = ("--certificate-identity", who, "--trusted-root", self.root())
        by = ("--certificate-oidc-issuer", issuer or self.sigstore.issuer.url)
        return self.run("verify", PLAIN, *words, *by, *flags, self.place.name)

    def run(self, *words: str | Path, **settings: Any) -> Outcome:
        """A command line, whose services are asked again without waiting."""
        with mock.patch("imgtools.sign.keyless.web._POLICY", QUICK):
            return cli(self.path, *words, **settings)


@contextmanager
def keyless(path: Path, sample: Sample = IMAGE) -> Iterator[Keyless]:
    """A registry and a sigstore, both on loopback."""
    with ground(path, sample) as place, LocalSigstore() as sigstore:
        yield Keyless(place, sigstore, path)
