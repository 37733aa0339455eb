"""Every verb that brings an image in asks policy, and every one that gives a name signs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgtools.testing import images
from imgtools.testing.registry import ScriptedRegistry
from tests.bad_input import push
from tests.build.cli_builds import Builds

PASSPHRASE = "of the key"


class Site:
    """A registry with signed and unsigned images, a key, a policy, and a store."""

    def __init__(self, directory: Path, registry: ScriptedRegistry) -> None:
        self.builds, self.registry = Builds(directory), registry
        self.work = self.builds.work
        (self.work / "pass").write_text(PASSPHRASE + "\n")
        self.ok("generate-sigstore-key", "--output-prefix", "k", "--passphrase-file", "pass")
        policy = {
            "default": [{"type": "insecureAcceptAnything"}],
            "transports": {
                "docker": {
                    registry.host: [{"type": "sigstoreSigned", "keyPath": f"{self.work}/k.pub"}]
                }
            },
        }
        (self.work / "policy.json").write_text(json.dumps(policy))
        for name in ("good", "bad"):
            push(registry, name, images.random_image(name, layers=1))
        self.ok("sign", "--tls-verify=false", *self.key, self.name("good"))

    @property
    def key(self) -> tuple[str, ...]:
        return ("--sign-by-sigstore-private-key", "k.private", "--sign-passphrase-file", "pass")

    def name(self, repository: str, tag: str = "1") -> str:
        return f"docker://{self.registry.host}/{repository}:{tag}"

    def run(self, *words: str, stdin: bytes = b"") -> tuple[int, str]:
        import subprocess

        done = subprocess.run(
            self.builds.runs.cli.command(*words),
            input=stdin,
            capture_output=True,
            env=self.builds.env,
            cwd=self.work,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stderr.decode()

    def ok(self, *words: str, stdin: bytes = b"") -> None:
        code, err = self.run(*words, stdin=stdin)
        assert code == 0, err

    @property
    def store(self) -> tuple[str, ...]:
        runs = self.builds.runs
        return ("--root", str(runs.root), "--runroot", str(runs.runroot))

    def signed(self, name: str) -> bool:
        return self.run("verify", "--tls-verify=false", "--key", "k.pub", name)[0] == 0


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One for all tests, which use names of their own."""
    with ScriptedRegistry() as registry:
        yield Site(tmp_path_factory.mktemp("site"), registry)


READERS = {
    "copy": "copy --src-tls-verify=false {} dir:{out}",
    "pull": "pull {store} --tls-verify=false {short}",
    "run": "run {store} --tls-verify=false --pull always {short} /true",
    "from": "from {store} --tls-verify=false --pull-always {short}",
    "build": "build {store} --tls-verify=false --pull-always -f - .",
    "manifest": "manifest add {store} --tls-verify=false list {}",
}


@pytest.mark.parametrize("verb", READERS)
def test_an_image_that_nobody_signed_is_refused(site: Site, verb: str, tmp_path: Path) -> None:
    """With one line that names the requirement; the signed one goes through."""
    if verb == "manifest":
        site.ok("manifest", "create", *site.store, "list")
    for repository in ("bad", "good"):
        name = site.name(repository)
        short = name.removeprefix("docker://")
        words = [
            part
            for word in READERS[verb].split()
            for part in (site.store if word == "{store}" else [word])
        ]
        argv = [w.format(name, short=short, out=tmp_path / repository) for w in words]
        stdin = f"FROM {short}\nENV A=b\n".encode() if verb == "build" else b""
        code, err = site.run("--policy", "policy.json", *argv, stdin=stdin)
        if repository == "bad":
            assert code != 0
            assert "is not admitted: sigstoreSigned: a signature was required" in err
        else:
            # What has random bytes for its files cannot run, but it was admitted.
            assert "is not admitted" not in err, err


def test_copies_of_builds_are_signed(site: Site) -> None:
    """--push, push and commit to a registry sign by the name that they give."""
    plain = ("--tls-verify=false", *site.store)
    built = site.name("built").removeprefix("docker://")
    site.ok("build", *plain, "--push", "-t", built, *site.key, "-f", "-", ".",
            stdin=b"FROM scratch\nLABEL a=b\n")  # fmt: skip
    assert site.signed(site.name("built"))
    site.ok("push", *plain, *site.key, built, site.name("pushed"))
    assert site.signed(site.name("pushed"))
    site.ok("from", *plain, "--name", "working", "scratch")
    site.ok("commit", *plain, *site.key, "working", site.name("committed"))
    assert site.signed(site.name("committed"))


@pytest.mark.parametrize("verb", ["build", "commit"])
def test_images_of_the_store_are_not_signed(site: Site, verb: str) -> None:
    """Said at once, instead of an image without the signature that was asked for."""
    words = {"build": ("build", "-t", "x", "."), "commit": ("commit", "none", "x")}[verb]
    code, err = site.run(words[0], *site.store, *site.key, *words[1:])
    assert code != 0
    assert "images of the store are not signed" in err


def test_a_sync_signs_every_name_and_judges_each(site: Site, tmp_path: Path) -> None:
    """Names that share content too; what nobody signed fails alone, and nothing is signed
    twice."""
    source = tmp_path / "source.yml"
    host = site.registry.host
    source.write_text(f"{host}:\n  tls-verify: false\n  images:\n    good: ['1']\n    bad: ['1']\n")
    words = ("sync", "--src", "yaml", "--dest", "docker", "--dest-tls-verify=false",
             "--keep-going", *site.key, str(source), f"{host}/mirror")  # fmt: skip
    code, err = site.run("--policy", "policy.json", *words)
    assert code == 1
    assert "bad:1" in err, err
    assert "is not admitted" in err
    assert site.signed(site.name("mirror/good"))
    assert site.registry.repository("mirror/bad").tags == {}
    site.ok("--insecure-policy", *words)
    assert site.signed(site.name("mirror/bad"))
    before = dict(site.registry.repository("mirror/good").tags)
    site.ok("--insecure-policy", *words)
    assert site.registry.repository("mirror/good").tags == before
