"""What the tests of `imgtools sync` share: two registries in memory, and runs between them."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from dataclasses import dataclass
from typing import Any

from imgtools.spec.manifest import RawManifest
from imgtools.testing.images import Sample
from imgtools.testing.registry import ScriptedRegistry
from tests.rig import RunCli

PLAIN = ("--src-tls-verify=false", "--dest-tls-verify=false")


def load(registry: ScriptedRegistry, repository: str, sample: Sample, *tags: str) -> RawManifest:
    """Put an image into a registry without a request."""
    for descriptor, content in sample.blobs.items():
        registry.push_blob(repository, content, algorithm=descriptor.digest.algorithm)
    for manifest in sample.manifests:
        registry.push_manifest(repository, manifest.content, manifest.media_type)
    return registry.push_manifest(repository, sample.top.content, sample.top.media_type, tags=tags)


@dataclass
class Sync:
    """Runs the verb from ns/app in one registry to mirror/app in another."""

    cli: RunCli
    source: ScriptedRegistry
    target: ScriptedRegistry

    def __call__(
        self, *flags: str, image: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """One run; only its own requests are in the logs afterwards."""
        self.source.forget_requests()
        self.target.forget_requests()
        return self.cli(
            "sync", "--src", "docker", "--dest", "docker", *PLAIN, *flags,
            f"{self.source.host}/ns/app{image}", f"{self.target.host}/mirror", check=check,
        )  # fmt: skip

    def result(self, *flags: str, image: str = "", check: bool = True) -> Any:
        """What --json says in the end."""
        done = self("--json", *flags, image=image, check=check)
        return json.loads(done.stdout.splitlines()[-1])

    def outcomes(self, *flags: str, image: str = "", check: bool = True) -> dict[str, str]:
        """The outcome by the last part of the source's name, without referrers."""
        found = self.result(*flags, image=image, check=check)["images"]
        return {
            each["source"].rpartition("/")[2]: each["outcome"]
            for each in found
            if not each["referrer"]
        }

    def tags(self) -> dict[str, str]:
        """The tags of the mirror with what they point at."""
        found = self.target.repository("mirror/app").tags
        return {tag: str(digest) for tag, digest in found.items()}

    def asked(self) -> tuple[Counter[str], Counter[str]]:
        """The kinds of requests that each side got."""
        return _kinds(self.source), _kinds(self.target)


def _kinds(registry: ScriptedRegistry) -> Counter[str]:
    counts: Counter[str] = Counter()
    for exchange in registry.requests:
        parts = exchange.target.partition("?")[0].split("/")
        kinds = ("manifests", "blobs", "tags", "referrers", "token")
        kind = next((part for part in parts if part in kinds), "other")
        counts[f"{exchange.method} {kind}"] += 1
    return counts
