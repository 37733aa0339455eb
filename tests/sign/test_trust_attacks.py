"""What a registry may try on a user who has a policy: each test is named after the attack."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from imgtools.testing import images
from imgtools.testing.registry import ScriptedRegistry
from tests.sign.test_policy_everywhere import Site

PLAIN = "--tls-verify=false"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ScriptedRegistry() as registry:
        yield Site(tmp_path, registry)


def test_a_digest_by_head_that_is_another_image(site: Site) -> None:
    """HEAD names another image by its digest than GET answers, which is signed: it must not be
    taken from the store for that other one, by whoever names this by digest."""
    other = images.random_image("another", layers=1).top.digest
    site.registry.fail(
        method="HEAD",
        path="/good/manifests/1$",
        set_headers={"Docker-Content-Digest": str(other)},
    )
    short = site.name("good").removeprefix("docker://")
    pinned = f"{short.removesuffix(':1')}@{other}"
    for _ in range(2):  # what is stored, and then is up to date
        site.ok("--policy", "policy.json", "pull", *site.store, PLAIN, short)
        code, err = site.run(
            "--policy", "policy.json", "build", *site.store, PLAIN, "-f", "-", ".",
            stdin=f"FROM {pinned}\nLABEL a=b\n".encode(),
        )  # fmt: skip
        assert code != 0
        assert "does not exist" in err, err


def test_no_policy_with_only_what_is_signed(site: Site) -> None:
    """Of two options that contradict each other the one that asks for less does not win."""
    options = ("--insecure-policy", "--require-signed")
    for repository in ("bad", "good"):
        to = f"dir:{site.work}/{repository}"
        code, err = site.run(*options, "copy", "--src-tls-verify=false", site.name(repository), to)
        assert code != 0
        assert "--require-signed" in err, err
        assert not (site.work / repository).exists()
