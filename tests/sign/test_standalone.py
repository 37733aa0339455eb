"""standalone-sign and standalone-verify, beside skopeo's."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rig import RunCli
from tests.sign.openpgp_home import MANIFEST, PASSPHRASE, REFERENCE, Keys

DIGEST = f"sha256:{hashlib.sha256(MANIFEST).hexdigest()}"
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(run_cli: RunCli, gpg_keys: Keys) -> Run:
    """The command line with the keys in the user's key ring, and the manifest in `m`."""
    (run_cli.work / "m").write_bytes(MANIFEST)
    environment = {"GNUPGHOME": str(gpg_keys.home.path), "TZ": "UTC"}

    def call(*words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run_cli(*words, env=environment, check=check)

    return call


@pytest.fixture
def peer(run_cli: RunCli, gpg_keys: Keys) -> Run:
    """skopeo in the same place."""
    environment = {"GNUPGHOME": str(gpg_keys.home.path), "HOME": str(run_cli.home),
                   "PATH": os.defpath, "TZ": "UTC"}  # fmt: skip

    def call(*words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["skopeo", *words], env=environment, cwd=run_cli.work, timeout=30,
            capture_output=True, encoding="utf-8", check=check,
        )  # fmt: skip

    return call


def verified(fingerprint: str) -> str:
    """What is printed when the signature is good."""
    return f"Signature verified using fingerprint {fingerprint}, digest {DIGEST}\n"


def test_what_one_signs_the_other_verifies(run: Run, peer: Run, gpg_keys: Keys) -> None:
    key = gpg_keys.fingerprint["rsa"]
    assert run("standalone-sign", "m", REFERENCE, key, "-o", "ours").stdout == ""
    peer("standalone-verify", "m", REFERENCE, key, "ours")
    peer("standalone-sign", "m", REFERENCE, key, "-o", "theirs")
    for signature in ("ours", "theirs"):
        done = run("standalone-verify", "m", REFERENCE, key, signature)
        assert done.stdout == verified(key)
        assert done.stderr == ""


def test_a_file_of_public_keys_takes_the_place_of_the_key_ring(
    run: Run, run_cli: RunCli, gpg_keys: Keys
) -> None:
    """With any of its keys, or some of them by name."""
    key, other = gpg_keys.fingerprint["p256"], gpg_keys.fingerprint["other"]
    run("standalone-sign", "m", REFERENCE, "p256@example.com", "--output=s")
    ring = run_cli.work / "ring"
    ring.write_bytes(gpg_keys.home("--armor", "--export", key, other))
    for listed in ("any", key, f"{other},{key}", key.lower()):
        done = run_cli("standalone-verify", "m", REFERENCE, listed, "s",
                       "--public-key-file", ring, check=True)  # fmt: skip
        assert done.stdout == verified(key)
    ring.write_bytes(gpg_keys.public["other"])
    for listed in ("any", key):
        done = run("standalone-verify", "--public-key-file", ring, "m", REFERENCE, listed, "s",
                   check=False)  # fmt: skip
        assert (done.returncode, done.stdout) == (1, "")
        assert "not among those given" in done.stderr


def test_s45_a_subkey_may_be_named_as_well(run: Run, gpg_keys: Keys) -> None:
    run("standalone-sign", "m", REFERENCE, gpg_keys.fingerprint["sub"], "-o", "s")
    for key in (gpg_keys.fingerprint["sub"], gpg_keys.signing["sub"]):
        assert run("standalone-verify", "m", REFERENCE, key, "s").stdout == verified(key)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (
            ("m", "registry.example/ns/app:v2", "RSA", "s"),
            "and not of 'registry.example/ns/app:v",
        ),
        (("m", "registry.example/ns/app", "RSA", "s"), "and not of 'registry.example/ns/app'"),
        (("m", REFERENCE, "OTHER", "s"), "not among those given"),
        (("m2", REFERENCE, "RSA", "s"), "is of the manifest sha256:"),
        (("m", REFERENCE, "RSA", "m"), "no OpenPGP message"),
        (("m", REFERENCE, "RSA", "none"), "no such file"),
        (("none", REFERENCE, "RSA", "s"), "no such file"),
        (("m", REFERENCE, "any", "s"), "keys of --public-key-file only"),
        (("m", REFERENCE, "0123", "s"), "not the fingerprint of a key"),
        (("m", REFERENCE, "0" * 40, "s"), "has no key 0000"),
        (("m", "UPPER", "RSA", "s"), "invalid reference"),
        (("m", REFERENCE, "s"), "usage: standalone-verify MANIFEST"),
    ],
)
def test_what_does_not_fit_is_refused(
    run: Run, run_cli: RunCli, gpg_keys: Keys, words: tuple[str, ...], reason: str
) -> None:
    signature = gpg_keys.home.sign(
        json.dumps(
            {
                "critical": {
                    "identity": {"docker-reference": REFERENCE},
                    "image": {"docker-manifest-digest": DIGEST},
                    "type": "atomic container signature",
                },
                "optional": {},
            }
        ).encode(),
        "rsa",
    )
    (run_cli.work / "s").write_bytes(signature)
    (run_cli.work / "m2").write_bytes(MANIFEST + b"\n")
    named = [{"RSA": gpg_keys.fingerprint["rsa"], "OTHER": gpg_keys.fingerprint["other"]}.get(w, w)
             for w in words]  # fmt: skip
    done = run("standalone-verify", *named, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert reason in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_passphrase_comes_from_the_first_line_of_a_file(
    run: Run, run_cli: RunCli, gpg_keys: Keys
) -> None:
    file = run_cli.work / "passphrase"
    words = ("standalone-sign", "m", REFERENCE, gpg_keys.fingerprint["locked"], "-o", "s",
             "--passphrase-file", file)  # fmt: skip
    file.write_text("wrong\n")
    done = run(*words, check=False)
    assert done.returncode == 1
    assert "gpg cannot sign with the key" in done.stderr
    assert not (run_cli.work / "s").exists()
    file.write_text(f"{PASSPHRASE}\nand no more\n")
    run(*words)
    run("standalone-verify", "m", REFERENCE, gpg_keys.fingerprint["locked"], "s")


@pytest.mark.parametrize(
    "words",
    [
        ("m", REFERENCE, "rsa@example.com"),
        ("m", REFERENCE, "-o", "s"),
        ("none", REFERENCE, "rsa@example.com", "-o", "s"),
        ("m", "UPPER", "rsa@example.com", "-o", "s"),
        ("m", REFERENCE, "nobody@example.com", "-o", "s"),
        ("m", REFERENCE, "rsa@example.com", "-o", "none/s"),
        ("m", REFERENCE, "rsa@example.com", "-o", "s", "--passphrase-file", "none"),
    ],
)
def test_what_cannot_be_signed_is_one_line(run: Run, run_cli: RunCli, words: list[str]) -> None:
    done = run("standalone-sign", *words, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert not (run_cli.work / "s").exists()


def test_a_signature_may_go_to_a_device(run: Run, run_cli: RunCli, gpg_keys: Keys) -> None:
    """And a file is replaced, through a link too."""
    run("standalone-sign", "m", REFERENCE, "rsa@example.com", "-o", "/dev/null")
    assert Path("/dev/null").is_char_device()
    (run_cli.work / "s").write_bytes(b"old")
    (run_cli.work / "link").symlink_to("s")
    run("standalone-sign", "m", REFERENCE, "rsa@example.com", "-o", "link")
    assert (run_cli.work / "link").is_symlink()
    run("standalone-verify", "m", REFERENCE, gpg_keys.fingerprint["rsa"], "s")


def test_the_dump_of_what_is_not_verified_is_skopeos(run: Run, peer: Run, run_cli: RunCli) -> None:
    peer("standalone-sign", "m", REFERENCE, "rsa@example.com", "-o", "s")
    words = ("untrusted-signature-dump-without-verification", "s")
    assert run(*words).stdout.rstrip("\n") == peer(*words).stdout.rstrip("\n")
    assert json.loads(run(*words).stdout)["UntrustedDockerReference"] == REFERENCE
    (run_cli.work / "s").write_bytes(b"junk")
    assert run(*words, check=False).returncode == 1
    assert "untrusted-signature" not in run("--help").stdout
