"""What `verify` is told to trust is checked before any image is: a key that cannot be read is
no verdict about an image, and no signature has to be there to find that out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bad_input import PLAIN, cli
from tests.sign.attest_rig import Rig, rig
from tests.sign.ground import IMAGE

BY = ("--certificate-oidc-issuer", "https://issuer.test")
WHO = ("--certificate-identity", "user@example.test")


@pytest.fixture
def unsigned(tmp_path: Path) -> Iterator[Rig]:
    """An image that nobody signed, and files that are no keys."""
    with rig(tmp_path, IMAGE) as made:
        (tmp_path / "text").write_text("this is no key\n")
        yield made


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--key", "none.pub"), ("there is no key file", "none.pub")),
        (("--key", "text"), ("text is no PEM file",)),
        (("--key", "app.private"), ("app.private", "private key; name the file with its public")),
        (("--key", "app.pub", "--key", "none.pub"), ("there is no key file", "none.pub")),
        (("--key", "app.pub", "--rekor-key", "text"), ("text is no PEM file",)),
        (("--key", "app.pub", "--trusted-root", "text"), ("trusted root is not valid JSON",)),
        (("--gpg-keyring", "none.gpg"), ("there is no key file", "none.gpg")),
        (("--gpg-keyring", "app.pub"), ("there is no OpenPGP public key in it",)),
        ((*WHO, *BY, "--trusted-root", "text"), ("trusted root is not valid JSON",)),
        (("--certificate-identity-regexp", "(", *BY), ("regular expression",)),
        (("--attestation", "spdxjson", "--key", "none.pub"), ("there is no key file", "none.pub")),
        (("--key", "none.pub", "--json"), ("there is no key file", "none.pub")),
    ],
)
def test_trust_is_checked_first(
    unsigned: Rig, flags: tuple[str, ...], words: tuple[str, ...]
) -> None:
    files = ("none.pub", "none.gpg", "text", "app.pub", "app.private")
    named = [unsigned.path / flag if flag in files else flag for flag in flags]
    done = cli(unsigned.path, "verify", PLAIN, *named, unsigned.name)
    done.refused(*words)
    assert done.out == b""
    assert "signed: " not in done.err
    assert not unsigned.registry.requests


def test_a_good_key_finds_that_nothing_is_signed(unsigned: Rig) -> None:
    unsigned.verify().refused("is not signed", lines=2)
