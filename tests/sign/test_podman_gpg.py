"""Simple signatures between us and Debian's podman, and the policies that `podman image trust`
writes. Its sigstore signatures are off by a change of Debian's, so that there is only GPG.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.rig import RegistryServer, RunCli
from tests.sign.openpgp_home import Keys

Preload = Callable[[RegistryServer, str, str], str]

SETTINGS = """\
[engine]
lock_type = "file"
events_logger = "none"
cgroup_manager = "cgroupfs"
"""


@dataclass(frozen=True, slots=True)
class Podman:
    """podman with a home and a store below `root`, and the test's keys."""

    keys: Keys
    root: Path

    @property
    def registries_d(self) -> Path:
        """Where it says where signatures are kept."""
        return self.root / "h" / ".config" / "containers" / "registries.d"

    def __call__(self, *words: str | Path, accept: bool = True) -> str:
        """Run it; what it printed, or why it failed."""
        flags = ("--root", self.root / "r", "--runroot", self.root / "x", "--tmpdir",
                 self.root / "t", "--storage-driver", "vfs")  # fmt: skip
        done = subprocess.run(
            ["podman", *flags, *words],
            env={
                "CONTAINERS_CONF": str(self.root / "containers.conf"),
                "GNUPGHOME": str(self.keys.home.path),
                "HOME": str(self.root / "h"),
                "PATH": os.defpath,
                "TMPDIR": str(self.root),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        assert (done.returncode == 0) == accept, done.stderr
        return done.stdout if accept else done.stderr

    def policy(self, requirement: dict[str, str]) -> Path:
        """A policy for everything."""
        path = self.root / "policy.json"
        path.write_text(json.dumps({"default": [requirement]}))
        return path

    def ring(self, key: str) -> Path:
        """The file with a public key."""
        path = self.root / f"{key}.gpg"
        path.write_bytes(self.keys.public[key])
        return path

    def signed_by(self, key: str) -> Path:
        """A policy that asks for signatures of a key."""
        ring = str(self.ring(key))
        return self.policy({"type": "signedBy", "keyType": "GPGKeys", "keyPath": ring})

    def pull(self, name: str, policy: Path, *, accept: bool = True) -> str:
        """Pull an image that it has not."""
        self("rmi", "--all", "--force")
        flags = ("--quiet", "--tls-verify=false", "--signature-policy", policy)
        return self("pull", *flags, name, accept=accept)


@pytest.fixture
def podman(gpg_keys: Keys) -> Iterator[Podman]:
    """podman."""
    # Not below pytest's directories: the path of --runroot has 50 characters at most.
    root = Path(tempfile.mkdtemp(prefix="podman-"))
    made = Podman(gpg_keys, root)
    made.registries_d.mkdir(parents=True)
    lookaside = f"file://{root}/lookaside"
    (made.registries_d / "all.yaml").write_text(
        f"default-docker:\n  sigstore: {lookaside}\n  sigstore-staging: {lookaside}\n"
    )
    (root / "containers.conf").write_text(SETTINGS)
    yield made
    shutil.rmtree(root)


def test_what_one_signs_the_other_admits(
    podman: Podman, registry_plain: RegistryServer, repository: str, preload: Preload,
    run_cli: RunCli,
) -> None:  # fmt: skip
    """`push --sign-by` and `sign --sign-by`, then a pull and a copy under a policy."""
    preload(registry_plain, "oci", f"{repository}:plain")
    place = f"{registry_plain.host}/{repository}"
    anything = podman.policy({"type": "insecureAcceptAnything"})
    podman.pull(f"{place}:plain", anything)
    podman("tag", f"{place}:plain", f"{place}-theirs:v1")
    fingerprint = podman.keys.fingerprint["rsa"]
    podman("push", "--tls-verify=false", "--sign-by", fingerprint, f"{place}-theirs:v1")
    flags = ("--registries.d", podman.registries_d)
    signing = ("sign", "--tls-verify=false", "--sign-by", fingerprint)
    home = {"GNUPGHOME": str(podman.keys.home.path)}
    preload(registry_plain, "oci", f"{repository}-ours:v1")
    run_cli(*flags, *signing, f"docker://{place}-ours:v1", env=home, check=True)

    out = run_cli.work / "out"
    copy = ("copy", "--remove-signatures", "--src-tls-verify=false")
    for name in (f"{place}-theirs:v1", f"{place}-ours:v1"):
        policy = podman.signed_by("rsa")
        podman.pull(name, policy)
        run_cli("--policy", policy, *flags, *copy, f"docker://{name}", f"dir:{out}", check=True)
        verify = ("verify", "--tls-verify=false", "--gpg-keyring", podman.ring("rsa"))
        said = run_cli(*flags, *verify, f"docker://{name}", check=True).stdout
        assert f"signed by GPG key {fingerprint} as {name} (simple)" in said
        policy = podman.signed_by("p256")
        assert "rejected" in podman.pull(name, policy, accept=False)
        refused = run_cli("--policy", policy, *flags, *copy, f"docker://{name}", f"dir:{out}2")
        assert refused.returncode == 1
        assert "not among those given" in refused.stderr
    policy = podman.signed_by("rsa")
    refusal = podman.pull(f"{place}:plain", policy, accept=False)
    assert "no signature exists" in refusal
    refused = run_cli("--policy", policy, *flags, *copy, f"docker://{place}:plain", f"dir:{out}3")
    assert refused.returncode == 1
    assert "there is no simple signature" in refused.stderr


def test_policies_of_image_trust(podman: Podman, run_cli: RunCli) -> None:
    """What `podman image trust set` writes says the same to us."""
    policy = podman.policy({"type": "insecureAcceptAnything"})
    ring, flags = podman.ring("rsa"), ("image", "trust", "set", "--policypath", policy)
    podman(*flags, "--type", "signedBy", "--pubkeysfile", ring, "registry.example/ns")
    podman(*flags, "--type", "reject", "registry.example/ns/bad")
    podman(*flags, "--type", "reject", "default")
    told = ("--policy", policy, "--registries.d", podman.registries_d, "policy")
    assert run_cli(*told, "check", check=True).stdout == f"{policy}: good\n"
    rows = {
        "registry.example/ns/app:v1": ("docker: 'registry.example/ns'", "signedBy: "),
        "registry.example/ns/bad:v1": ("docker: 'registry.example/ns/bad'", "reject"),
        "registry.example/other:v1": ("default", "reject"),
    }
    for name, (scope, requirement) in rows.items():
        text = run_cli(*told, "explain", f"docker://{name}", check=True).stdout
        assert f"  decided by  {policy}, {scope}\n" in text
        assert f"  requires    {requirement}" in text
    said = run_cli(*told, "explain", "docker://registry.example/ns/app:v1", check=True).stdout
    assert str(ring) in said
    assert f"file://{podman.root}/lookaside" in said


def test_debians_podman_has_no_sigstore_signatures(
    podman: Podman, registry_plain: RegistryServer, repository: str, preload: Preload,
    run_cli: RunCli,
) -> None:  # fmt: skip
    """It finds ours, and says why it does not look at it. Once it does there is more to test."""
    preload(registry_plain, "oci", f"{repository}:v1")
    name = f"{registry_plain.host}/{repository}:v1"
    empty = {"COSIGN_PASSWORD": ""}
    run_cli("generate-sigstore-key", "--output-prefix", "k", env=empty, check=True)
    signing = ("sign", "--tls-verify=false", "--key", "k.private")
    run_cli(*signing, f"docker://{name}", env=empty, check=True)
    key = run_cli.work / "k.pub"
    (podman.registries_d / "all.yaml").write_text(
        "default-docker:\n  use-sigstore-attachments: true\n"
    )
    policy = podman.policy({"type": "sigstoreSigned", "keyPath": str(key)})
    assert "Debian-local change: sigstore disabled" in podman.pull(name, policy, accept=False)
    run_cli("--policy", policy, "copy", "--remove-signatures", "--src-tls-verify=false",
            f"docker://{name}", "dir:out", check=True)  # fmt: skip
