"""What is said of signatures that hold and have another name than the one that is asked for, and
of names that nobody is going to ask for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from imgtools.testing.images import Sample
from tests.bad_input import PLAIN, Outcome, cli
from tests.sign.attest_rig import Rig, new_key, rig
from tests.sign.ground import IMAGE, INDEX
from tests.sign.openpgp_home import Keys

REPOSITORY = "imgtools: --signed-identity repository accepts a name without a tag\n"
NAME = "imgtools: --signed-identity NAME:TAG accepts what was signed by that name, if copied\n"


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Rig]:
    with rig(tmp_path, IMAGE) as found:
        yield found


def sign(made: Rig, name: str, *flags: str) -> Outcome:
    return cli(made.path, "sign", PLAIN, "--key", made.private, *flags, name)


def verify(made: Rig, name: str, *flags: str) -> Outcome:
    return cli(made.path, "verify", PLAIN, "--key", made.public, *flags, name)


def test_a_digest_alone_is_a_name_that_few_ask_for(made: Rig) -> None:
    """Who signs in CI has the digest, and who pulls has the tag."""
    tagged, digest = made.name, f"@{made.digest}"
    alone = tagged.removesuffix(":1") + digest
    done = sign(made, alone)
    assert done.code == 0
    assert done.err.startswith("imgtools: warning: ")
    assert "is signed by its digest alone" in done.err
    assert "NAME:TAG@DIGEST" in done.err
    assert verify(made, alone).code == 0
    refused = verify(made, tagged)
    refused.refused("by its digest alone, not for", lines=3)
    assert refused.err.endswith(REPOSITORY)
    assert verify(made, tagged, "--signed-identity", "repository").code == 0


@pytest.mark.parametrize("how", ["both", "identity"])
def test_a_tag_makes_it_a_name(made: Rig, how: str) -> None:
    name = f"{made.name}@{made.digest}"
    flags: tuple[str, ...] = ()
    if how == "identity":
        flags = ("--sign-identity", made.name.removeprefix("docker://"))
        name = name.replace(":1@", "@")
    done = sign(made, name, *flags)
    assert (done.code, done.err) == (0, "")
    assert verify(made, made.name).code == 0


def test_copies_have_another_name(made: Rig) -> None:
    assert sign(made, made.name).code == 0
    sides = ("--src-tls-verify=false", "--dest-tls-verify=false")
    copy, layout = made.name.replace("/app:1", "/copy:2"), f"oci:{made.path}/gap:2"
    for place in (copy, layout):
        assert cli(made.path, "copy", "--referrers", *sides, made.name, place).code == 0
    refused = verify(made, copy)
    refused.refused("(another repository)", lines=3)
    assert refused.err.endswith(NAME)
    key = ("--key", made.public)
    refused = cli(made.path, "verify", *key, layout)
    refused.refused("has no name to compare with it", lines=3)
    assert refused.err.endswith(NAME)
    signed = ("--signed-identity", made.name.removeprefix("docker://"))
    assert cli(made.path, "verify", *key, *signed, layout).code == 0


def test_another_tag_is_no_copy(made: Rig) -> None:
    """What was signed by another tag may be older, and nothing is advised."""
    assert sign(made, made.name, "--sign-identity", "h.example/app:old").code == 0
    host = made.name.removeprefix("docker://").removesuffix(":1")
    assert sign(made, made.name, "--sign-identity", f"{host}:old").code == 0
    refused = verify(made, made.name)
    refused.refused(f"not for {host}:1\n", "not for", lines=4)
    assert "repository accepts" not in refused.err


def test_advice_is_given_once(tmp_path: Path) -> None:
    with rig(tmp_path, INDEX) as made:
        assert sign(made, made.name, "--sign-identity", "h.example/app:1").code == 0
        refused = verify(made, made.name, "--all")
        assert refused.code == 1
        assert refused.err.count(NAME) == 1
        assert refused.err.endswith(NAME)


@pytest.mark.parametrize("identity", ["", "h.example/app:1", "app:1"])
def test_the_dry_run_of_a_copy_names_what_would_be_signed(made: Rig, identity: str) -> None:
    copy = made.name.replace("/app:1", "/copy:2")
    signing: tuple[str | Path, ...] = ("--sign-by-sigstore-private-key", made.private)
    if identity:
        signing = (*signing, "--sign-identity", identity)
    words = ("copy", "--dry-run", "--src-tls-verify=false", "--dest-tls-verify=false")
    done = cli(made.path, *words, *signing, made.name, copy)
    wanted = {"app:1": "docker.io/library/app:1"}.get(identity, identity) or copy.removeprefix(
        "docker://"
    )
    assert done.out.decode().endswith(f"  sign sigstore as {wanted}\n")
    done = cli(made.path, *words, *signing, "--json", made.name, copy)
    assert json.loads(done.out)["sign"] == {"identity": wanted, "formats": ["sigstore"]}
    done = cli(made.path, *words, "--json", made.name, copy)
    assert "sign" not in json.loads(done.out)
    assert "PUT" not in {exchange.method for exchange in made.registry.requests}
    done = cli(made.path, "copy", *words[2:], *signing, made.name, copy)
    assert done.code == 0, done.err
    assert b"sign" not in cli(made.path, *words, *signing, made.name, copy).out
    done = cli(made.path, *words, *signing, "--json", made.name, copy)
    assert json.loads(done.out)["sign"] == {"identity": wanted, "formats": []}


@pytest.mark.parametrize("sample", [IMAGE, INDEX], ids=["image", "index"])
def test_a_copy_signs_nothing_twice_alike(tmp_path: Path, sample: Sample) -> None:
    """A job may copy every night, and readers take a hundred and twenty-eight signatures."""
    with rig(tmp_path, sample) as made:
        words = ("copy", "--all", "--src-tls-verify=false", "--dest-tls-verify=false")
        signing = ("--sign-by-sigstore-private-key", made.private)
        copy = made.name.replace("/app:1", "/copy:1")
        assert "1 new sigstore" in cli(made.path, *words, *signing, made.name, copy).err
        before = dict(made.registry.repository("copy").tags)
        again = cli(made.path, *words, *signing, made.name, copy)
        assert again.code == 0
        assert "new sigstore" not in again.err
        assert made.registry.repository("copy").tags == before
        # By another name, and by another key, it says something else.
        other = f"{copy.rpartition(':')[0]}:2"
        for place, key in ((other, made.private), (copy, new_key(tmp_path, "second")[0])):
            signing = ("--sign-by-sigstore-private-key", key)
            assert "1 new sigstore" in cli(made.path, *words, *signing, made.name, place).err
        for place in (copy, other):
            assert verify(made, place, "--all", "--strict").code == 0


def test_a_copy_signs_nothing_twice_with_gpg(
    tmp_path: Path, gpg_keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GNUPGHOME", str(gpg_keys.home.path))
    with rig(tmp_path, IMAGE) as made:
        (tmp_path / "registries.d").mkdir()
        (tmp_path / "registries.d" / "a.yaml").write_text(
            f"default-docker:\n  lookaside: file://{tmp_path}/signatures\n"
        )
        copy = made.name.replace("/app:1", "/copy:1")
        for _ in range(2):
            done = cli(
                tmp_path, "--registries.d", tmp_path / "registries.d", "copy",
                "--src-tls-verify=false", "--dest-tls-verify=false",
                "--sign-by", "p256@example.com", made.name, copy,
            )  # fmt: skip
            assert done.code == 0, done.err
        assert len(list((tmp_path / "signatures").rglob("signature-*"))) == 1
