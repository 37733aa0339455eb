"""A sync signs what was there already, too: in --dry-run, in what it tells, and when it fails."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imgtools.testing import images
from imgtools.testing.images import Sample
from imgtools.testing.registry import ScriptedRegistry
from tests.bad_input import PLAIN, Outcome, cli, push
from tests.sign.attest_rig import new_key

TAGS = ("1", "2", "3")
SAMPLES = {tag: images.random_image(f"sync-signing-{tag}", layers=1) for tag in TAGS}


@dataclass(frozen=True)
class Mirror:
    """A repository with three images, and a mirror that has them without signatures."""

    registry: ScriptedRegistry
    path: Path
    private: Path
    public: Path

    def sync(self, *flags: str | Path) -> Outcome:
        """Sync again, with the key unless it is empty."""
        sides = ("--src-tls-verify=false", "--dest-tls-verify=false", "--retry-times", "0")
        places = (f"{self.registry.host}/app", f"{self.registry.host}/mirror")
        words = ("sync", "--src", "docker", "--dest", "docker")
        return cli(self.path, *words, *sides, *flags, *places)

    def sign(self, *flags: str | Path) -> Outcome:
        """Sync and sign."""
        return self.sync("--sign-by-sigstore-private-key", self.private, *flags)

    def name(self, tag: str) -> str:
        """An image of the mirror."""
        return f"docker://{self.registry.host}/mirror/app:{tag}"

    def signed(self) -> list[str]:
        """The tags of the mirror whose signatures hold."""
        key = ("--key", self.public)
        return [t for t in TAGS if cli(self.path, "verify", PLAIN, *key, self.name(t)).code == 0]


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[Mirror]:
    private, public = new_key(tmp_path, "team")
    with ScriptedRegistry() as registry:
        for tag, sample in SAMPLES.items():
            push(registry, "app", sample, tag)
        made = Mirror(registry, tmp_path, private, public)
        assert made.sync().code == 0
        assert made.signed() == []
        yield made


def signature(sample: Sample) -> str:
    """What is asked for when the signature of an image is put."""
    return f"/manifests/{str(sample.top.digest).replace(':', '-')}.sig"


def events(done: Outcome) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.out.splitlines()]


def test_what_was_signed_is_told(mirror: Mirror) -> None:
    done = mirror.sign()
    assert done.code == 0, done.err
    for sample in SAMPLES.values():
        assert f"{sample.top.digest}: 1 new sigstore signature(s)" in done.err
    assert mirror.signed() == list(TAGS)
    again = mirror.sign()
    assert again.code == 0
    assert "new sigstore" not in again.err


def test_nothing_is_told_with_quiet(mirror: Mirror) -> None:
    done = mirror.sign("--quiet")
    assert (done.code, done.out, done.err) == (0, b"", "")
    assert mirror.signed() == list(TAGS)


def test_a_dry_run_shows_what_would_be_signed(mirror: Mirror) -> None:
    before = len(mirror.registry.requests)
    done = mirror.sign("--dry-run")
    assert done.code == 0, done.err
    for tag in TAGS:
        assert f'Would have signed "{mirror.name(tag)}"\n' in done.out.decode()
    (found,) = events(mirror.sign("--dry-run", "--json"))
    assert [image["sign"] for image in found["images"]] == [True] * 3
    wrote = {e.method for e in mirror.registry.requests[before:]} - {"GET", "HEAD"}
    assert not wrote
    assert mirror.sign().code == 0
    assert b"signed" not in mirror.sign("--dry-run").out
    (found,) = events(mirror.sign("--dry-run", "--json"))
    assert [image["sign"] for image in found["images"]] == [False] * 3
    (found,) = events(mirror.sync("--dry-run", "--json"))
    assert "sign" not in found["images"][0]


def test_a_dry_run_shows_that_new_images_would_be_signed(mirror: Mirror) -> None:
    push(mirror.registry, "app", images.random_image("one more", layers=1), "4")
    done = mirror.sign("--dry-run")
    assert done.code == 0, done.err
    assert f'Would have signed "{mirror.name("4")}"\n' in done.out.decode()


def test_a_dry_run_fails_where_signatures_cannot_be_read(mirror: Mirror) -> None:
    mirror.registry.fail(path=signature(SAMPLES["2"]), status=403)
    done = mirror.sign("--dry-run")
    assert done.code == 1
    assert f'Cannot sign "{mirror.name("2")}": ' in done.out.decode()
    assert f'Would have signed "{mirror.name("1")}"\n' in done.out.decode()


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_one_that_cannot_be_signed_fails_alone(mirror: Mirror, more: tuple[str, ...]) -> None:
    mirror.registry.fail(method="PUT", path=signature(SAMPLES["2"]), status=403)
    done = mirror.sign("--keep-going", *more)
    assert done.code == 1
    assert "app:2" in done.err
    assert "403" in done.err
    assert mirror.signed() == ["1", "3"]
    if more:
        result = events(done)[-1]
        assert result["event"] == "result"
        outcomes = {image["destination"][-1]: image["outcome"] for image in result["images"]}
        assert outcomes == {"1": "same", "2": "failed", "3": "same"}
    else:
        assert "Synced 2 images from 1 sources: 2 same, 1 failed" in done.err


def test_without_keep_going_the_first_failure_ends_it(mirror: Mirror) -> None:
    for sample in SAMPLES.values():
        mirror.registry.fail(method="PUT", path=signature(sample), status=403)
    digests = mirror.path / "digests"
    done = mirror.sign("--digestfile", digests)
    assert done.code == 1
    assert "Error copying ref" in done.err
    assert "1 sources" in done.err
    assert mirror.signed() == []
    assert digests.read_text() == ""


def test_two_names_of_one_image_do_not_meet(mirror: Mirror) -> None:
    for repository in ("app", "mirror/app"):
        push(mirror.registry, repository, SAMPLES["1"], "also")
    assert mirror.sign().code == 0
    key = ("--key", mirror.public)
    for tag in ("1", "also"):
        assert cli(mirror.path, "verify", PLAIN, *key, mirror.name(tag)).code == 0


def test_what_policy_does_not_admit_is_not_signed_for_being_there(mirror: Mirror) -> None:
    """An image that got into the mirror without policy, such as by whoever may write there, is
    the source's, and nobody signed that: our signature would be what makes it trusted."""
    _, public = new_key(mirror.path, "upstream")
    asked = [{"type": "sigstoreSigned", "keyPath": str(public)}]
    scopes = {"docker": {f"{mirror.registry.host}/app": asked}}
    policy = {"default": [{"type": "insecureAcceptAnything"}], "transports": scopes}
    (mirror.path / "policy.json").write_text(json.dumps(policy))
    flags = ("--policy", mirror.path / "policy.json")
    done = mirror.sign(*flags, "--dry-run")
    assert done.code == 1
    assert done.out.decode().count("is not admitted: sigstoreSigned") == len(TAGS)
    done = mirror.sign(*flags, "--keep-going")
    assert done.code == 1
    assert "3 failed" in done.err
    assert mirror.signed() == []


def test_the_tag_that_moves_before_it_is_signed(mirror: Mirror) -> None:
    """The mirror says by HEAD that it has the image, and by GET that the tag is another one."""
    evil = images.random_image("evil", layers=1)
    push(mirror.registry, "mirror/app", evil, "evil")
    mirror.registry.fail(
        method="GET",
        path="/mirror/app/manifests/1$",
        body_override=evil.top.content,
        set_headers={"Docker-Content-Digest": str(evil.top.digest)},
    )
    assert mirror.sign().code == 0
    mirror.registry.faults.clear()
    assert mirror.signed() == list(TAGS)
    assert mirror.registry.count("PUT", str(evil.top.digest).replace(":", "-")) == 0
