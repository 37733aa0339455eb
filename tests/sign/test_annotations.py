"""What signers say of their own in signatures: `sign --annotations`, and who asks for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from imgtools.sign.payload import parse_payload
from tests.bad_input import PLAIN, Outcome
from tests.sign.key_makers import private_pem, public_pem
from tests.sign.keyless_rig import IMAGE, Keyless, keyless

KEY = ec.generate_private_key(ec.SECP256R1())
FORMS = ("sigstore", "bundle")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Keyless]:
    """An unsigned image, a sigstore, and files of a key."""
    with keyless(tmp_path) as found:
        (tmp_path / "key").write_bytes(private_pem(KEY))
        (tmp_path / "key.pub").write_bytes(public_pem(KEY))
        yield found


def sign(site: Keyless, *flags: str | Path) -> bytes:
    """Sign by the key; what is printed."""
    done = site.run("sign", PLAIN, "--key", site.path / "key", *flags, site.place.name)
    assert done.code == 0, done.err
    return bytes(done.out)


def verify(site: Keyless, *flags: str | Path) -> Outcome:
    """Verify by the key."""
    words = ("verify", PLAIN, "--key", site.path / "key.pub", *flags)
    return site.run(*words, site.place.name)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_said_can_be_asked_for(site: Keyless, form: str) -> None:
    sign(site, "--format", form, "-a", "stage=prod", "--annotations", "team=a=b")
    for said in ((), ("stage=prod",), ("stage=prod", "team=a=b")):
        flags = [word for each in said for word in ("--annotations", each)]
        done = verify(site, "--json", *flags)
        assert done.code == 0, done.err
    (signature,) = json.loads(done.out)["manifests"][0]["signatures"]
    said = signature["annotations"]
    assert (said["stage"], said["team"]) == ("prod", "a=b")
    for other in ("stage=test", "stage=", "Stage=prod", "more=x"):
        verify(site, "--annotations", other).refused(f"it does not say {other}", lines=2)
    verify(site, "--annotations", "stage=prod", "--annotations", "more=x").refused("more", lines=2)


@pytest.mark.parametrize("form", FORMS)
def test_other_words_are_another_signature(site: Keyless, form: str) -> None:
    assert sign(site, "--format", form).startswith(b"signed ")
    assert sign(site, "--format", form, "-a", "a=1").startswith(b"signed ")
    assert sign(site, "--format", form, "-a", "a=1").startswith(b"present ")
    assert sign(site, "--format", form, "-a", "a=2").startswith(b"signed ")
    assert sign(site, "--format", form).startswith(b"present ")
    assert verify(site, "--annotations", "a=1").code == 0
    assert verify(site, "--annotations", "a=2").code == 0


@pytest.mark.parametrize("form", FORMS)
def test_certificates_have_words_too(site: Keyless, form: str) -> None:
    for state in (b"signed ", b"present "):
        done = site.sign("--format", form, "-a", "a=1")
        assert done.out.startswith(state), done.err
    assert site.verify("--format", form, "--annotations", "a=1").code == 0
    assert site.verify("--format", form, "--annotations", "a=2").code == 1


def test_the_payload_is_in_order(site: Keyless) -> None:
    sign(site, "-a", "zone=z", "-a", "app=b")
    there = site.repository
    digest = IMAGE.top.digest
    raw = there.manifests[there.tags[f"sha256-{digest.hex}.sig"]]
    (layer,) = json.loads(raw.content)["layers"]
    (content,) = (blob for key, blob in there.blobs.items() if str(key) == layer["digest"])
    assert list(json.loads(content)["optional"]) == ["app", "creator", "timestamp", "zone"]
    assert dict(parse_payload(content, kind="sigstore").annotations) == {"app": "b", "zone": "z"}


def test_the_companion_asks_for_words(site: Keyless) -> None:
    requirement: dict[str, Any] = {
        "type": "signed",
        "keys": [{"keyPath": str(site.path / "key.pub")}],
        "annotations": {"stage": "prod"},
    }
    companion = site.path / "companion.json"
    companion.write_text(json.dumps({"default": [requirement]}))
    copy = ("--policy-companion", companion, "copy", "-q", "--src-tls-verify=false")
    target = f"dir:{site.path / 'copy'}"
    sign(site, "-a", "stage=test")
    site.run(*copy, site.place.name, target).refused("it does not say stage=prod")
    sign(site, "-a", "stage=prod")
    done = site.run(*copy, site.place.name, target)
    assert done.code == 0, done.err
    told = site.run("--policy-companion", companion, "policy", "explain", site.place.name)
    assert "saying stage=prod" in told.out.decode()


@pytest.mark.parametrize(
    ("verb", "flags", "word"),
    [
        ("sign", ("--key", "key", "-a", "stage"), "expected NAME=VALUE"),
        ("sign", ("--key", "key", "-a", "=x"), "expected NAME=VALUE"),
        ("sign", ("--key", "key", "-a", "creator=x"), "what signatures say themselves"),
        ("sign", ("--key", "key", "-a", "docker-reference=x"), "what signatures say themselves"),
        ("sign", ("--key", "key", "-a", "a=1", "-a", "a=2"), "two values"),
        ("verify", ("--annotations", "a=1"), "needs --key or --certificate-identity"),
        ("verify", ("--key", "key.pub", "--annotations", "a"), "expected NAME=VALUE"),
        ("verify", ("--gpg-keyring", "key.pub", "--annotations", "a=1"), "--gpg-keyring"),
        ("verify", ("--key", "key.pub", "--rekor-key", "key.pub", "--annotations", "a=1"),
         "--rekor-key"),
        ("verify", ("--key", "key.pub", "--attestation", "spdx", "--annotations", "a=1"),
         "not of attestations"),
    ],
)  # fmt: skip
def test_words_that_mean_nothing_are_errors(
    site: Keyless, verb: str, flags: tuple[str, ...], word: str
) -> None:
    absolute = [str(site.path / flag) if flag.startswith("key") else flag for flag in flags]
    site.run(verb, PLAIN, *absolute, site.place.name).refused(word)
    assert not site.place.registry.requests
