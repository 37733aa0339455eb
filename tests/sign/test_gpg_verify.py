"""Simple signatures of every kind, judged by us and by skopeo with gpgme, in a table."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from imgtools.errors import Error, InvalidKey, InvalidSignature
from imgtools.sign.checks import check_simple
from imgtools.sign.model import SimpleSignature
from imgtools.sign.openpgp import gpg
from imgtools.sign.openpgp.blob import decode_blob
from imgtools.sign.openpgp.gpg import read_keys, sign_message, verify_message
from imgtools.spec.digest import Digest
from tests.sign.openpgp_home import MANIFEST, PASSPHRASE, REFERENCE, THEN, Keys, payload

GOOD = payload(str(Digest.of(MANIFEST)), creator="somebody 1.0", timestamp=1700000000)
FAKED = f"--faked-system-time={THEN}"
Make = Callable[[Keys], bytes]


def by(name: str, *options: str, content: bytes = GOOD) -> Make:
    """A message that the key `name` signs with `options`."""
    return lambda keys: keys.home.sign(content, name, *options)


def before(name: str) -> Make:
    """A message that the key `name` signed while it could."""
    return lambda keys: keys.made_before[name]


def store(keys: Keys) -> bytes:
    """Literal data without a signature."""
    return keys.home("--store", "--compress-algo", "none", input=GOOD)


def corrupt(keys: Keys) -> bytes:
    """A message whose payload was changed."""
    blob = keys.home.sign(GOOD, "p256", "--compress-algo", "none")
    assert b"app:v1" in blob
    return blob.replace(b"app:v1", b"app:v2")


PACKED = by("p256")
PLAIN = by("p256", "--compress-algo", "none")


def trailing(more: Make, *, to: Make = PACKED) -> Make:
    """A good message, and something behind it."""
    return lambda keys: to(keys) + more(keys)


def encrypted(keys: Keys) -> bytes:
    """A message that is signed and then encrypted under a passphrase."""
    return keys.home.sign(GOOD, "p256", "-c", "--passphrase", "x", "--pinentry-mode", "loopback")


# Name, how it is made, whether it holds, and whether it does to skopeo where it differs.
TABLE: list[tuple[str, Make, bool, bool | None]] = [
    ("rsa", by("rsa"), True, None),
    ("p256", by("p256"), True, None),
    ("ed25519", by("ed25519"), True, None),
    ("subkey", by("sub"), True, None),
    ("old-key", by("old"), True, None),
    ("zlib", by("p256", "--compress-algo", "zlib"), True, None),
    ("bzip2", by("p256", "--compress-algo", "bzip2"), True, None),
    ("uncompressed", by("p256", "--compress-algo", "none"), True, None),
    ("sha256", by("p256", "--digest-algo", "SHA256"), True, None),
    ("named-file", by("p256", "--set-filename", "payload.json"), True, None),
    ("expired-key", before("expired"), False, None),
    ("expired-signature", by("old", FAKED, "--default-sig-expire", "1y"), False, None),
    ("revoked-key", before("revoked"), False, None),
    ("revoked-subkey", before("retired"), False, None),
    ("wrong-usage", before("nosign"), False, None),
    ("two-signatures", by("p256", "-u", "rsa@example.com"), False, None),
    ("detached", by("p256", "--detach-sign"), False, None),
    # standalone-verify has no look at the first byte, which keeps these from policies.
    ("armored", by("p256", "--armor"), False, True),
    ("cleartext", by("p256", "--clearsign"), False, True),
    ("encrypted", encrypted, False, None),
    ("literal-only", store, False, None),
    ("corrupt", corrupt, False, None),
    ("trailing-junk-plain", trailing(lambda _: b"junk", to=PLAIN), False, None),
    ("trailing-literal-plain", trailing(store, to=PLAIN), False, None),
    ("trailing-message-plain", trailing(PLAIN, to=PLAIN), False, None),
    # gpg leaves unread what comes behind compressed data whose packet has no length.
    ("trailing-junk", trailing(lambda _: b"junk"), False, True),
    ("trailing-zeros", trailing(lambda _: bytes(3)), False, True),
    ("trailing-literal", trailing(store), False, True),
    ("trailing-message", trailing(by("rsa")), False, True),
    ("cut-short", lambda keys: by("p256", "--compress-algo", "none")(keys)[:-5], False, None),
    ("empty", lambda _: b"", False, None),
    # What collides is worth no more to gpgme, which takes the signer's word for it.
    ("sha1", by("rsa", "--digest-algo", "SHA1"), False, True),
    ("ripemd160", by("rsa", "--digest-algo", "RIPEMD160"), False, True),
    ("md5", by("rsa", "--digest-algo", "MD5", "--allow-weak-digest-algos"), False, False),
    ("named-with-lines", by("p256", "--set-filename", "a\nb"), False, True),
    ("signature-first", lambda keys: by("p256", "--detach-sign")(keys) + store(keys), False, True),
    ("text-mode", by("p256", "--textmode"), False, True),
    ("timestamp-1.5", by("p256", content=GOOD.replace(b"1700000000", b"1.5")), False, None),
    ("timestamp-1.0", by("p256", content=GOOD.replace(b"1700000000", b"1.0")), True, None),
    ("optional-unknown", by("p256", content=GOOD.replace(b"creator", b"creatrix")), True, None),
    ("critical-unknown", by("p256", content=GOOD.replace(b'"type"', b'"x":1,"type"')), False, None),
    ("optional-null", by("p256", content=GOOD.partition(b'"optional"')[0] + b'"optional":null}'),
     False, None),
    ("sigstore-type",
     by("p256", content=GOOD.replace(b"atomic container", b"cosign container image")),
     False, None),
    ("other-digest", by("p256", content=payload(f"sha256:{'0' * 64}")), False, None),
    ("other-name", by("p256", content=GOOD.replace(b"app:v1", b"app:v2")), False, None),
    ("not-json", by("p256", content=b"somebody"), False, None),
]  # fmt: skip


def holds(keys: Keys, blob: bytes) -> bool:
    """Whether `blob` verifies by any key there is, and names the manifest."""
    try:
        signature = decode_blob(blob, "it")
        assert isinstance(signature, SimpleSignature)
        found = check_simple(signature, list(keys.public.values()))
    except InvalidSignature:
        return False
    return found.claim.digest == Digest.of(MANIFEST) and found.claim.reference == REFERENCE


def skopeo_holds(keys: Keys, blob: bytes, directory: Path) -> bool:
    """Whether skopeo's standalone-verify takes it by some key there is."""
    (directory / "manifest").write_bytes(MANIFEST)
    (directory / "signature").write_bytes(blob)
    environment = {"GNUPGHOME": str(keys.home.path), "HOME": str(directory), "PATH": os.defpath}
    # The key that it says it expected is the one to be asked for.
    fingerprint = "0" * 40
    for _ in range(2):
        done = subprocess.run(
            ["skopeo", "standalone-verify", directory / "manifest", REFERENCE, fingerprint,
             directory / "signature"],
            env=environment, capture_output=True, encoding="utf-8", timeout=30, check=False,
        )  # fmt: skip
        named = re.search(r"Signature by ([0-9A-F]{40}) does not match", done.stderr)
        if done.returncode == 0 or named is None:
            break
        fingerprint = named[1]
    return done.returncode == 0


@pytest.mark.parametrize(
    ("make", "expected", "to_skopeo"),
    [row[1:] for row in TABLE],
    ids=[row[0] for row in TABLE],
)
def test_s44_only_one_good_signature_holds(
    gpg_keys: Keys, tmp_path: Path, make: Make, expected: bool, to_skopeo: bool | None
) -> None:
    blob = make(gpg_keys)
    assert holds(gpg_keys, blob) == expected
    assert skopeo_holds(gpg_keys, blob, tmp_path) == (expected if to_skopeo is None else to_skopeo)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (before("expired"), "the key of the signature has expired"),
        (by("old", FAKED, "--default-sig-expire", "1y"), "the signature has expired"),
        (before("revoked"), "the key of the signature was revoked"),
        (before("retired"), "the key of the signature was revoked"),
        (corrupt, "does not match what it signs"),
        (store, "found literal data"),
        (by("p256", "-u", "rsa@example.com"), "a one-pass signature, a one-pass signature"),
        (by("p256", "--detach-sign"), "found a signature"),
        (by("rsa", "--digest-algo", "SHA1"), "digest algorithm 2 is not trusted"),
        (trailing(by("rsa")), "something comes behind the compressed data"),
    ],
)
def test_what_is_refused_says_why(gpg_keys: Keys, make: Make, reason: str) -> None:
    with pytest.raises(InvalidSignature, match=reason):
        verify_message(make(gpg_keys), list(gpg_keys.public.values()), "it")


def test_s44_an_unknown_key_is_refused(gpg_keys: Keys) -> None:
    blob = gpg_keys.home.sign(GOOD, "p256")
    with pytest.raises(InvalidSignature, match="not among those given"):
        verify_message(blob, [gpg_keys.public["rsa"], gpg_keys.public["other"]], "it")


def test_s45_a_subkey_is_known_by_its_primary_key(gpg_keys: Keys) -> None:
    found = verify_message(gpg_keys.home.sign(GOOD, "sub"), [gpg_keys.public["sub"]], "it")
    assert found.payload == GOOD
    assert found.primary_fingerprint == gpg_keys.fingerprint["sub"]
    assert found.signing_fingerprint == gpg_keys.signing["sub"]
    assert found.signing_fingerprint != found.primary_fingerprint
    verified = check_simple(
        SimpleSignature(blob=gpg_keys.home.sign(GOOD, "sub")), [gpg_keys.public["sub"]]
    )
    assert (verified.proof.kind, verified.proof.key) == ("gpg", gpg_keys.fingerprint["sub"])


def test_s46_only_the_keys_that_are_given_count(
    gpg_keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user's own key ring has the key, and is neither read nor changed; no home stays."""
    monkeypatch.setenv("GNUPGHOME", str(gpg_keys.home.path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(gpg.tempfile, "tempdir", None)
    ring = (gpg_keys.home.path / "pubring.kbx").read_bytes()
    blob = gpg_keys.home.sign(GOOD, "p256")
    with pytest.raises(InvalidSignature):
        verify_message(blob, [gpg_keys.public["rsa"]], "it")
    with pytest.raises(InvalidKey):
        verify_message(blob, [b"junk"], "it")
    assert verify_message(blob, [gpg_keys.public["p256"]], "it").payload == GOOD
    assert list(tmp_path.iterdir()) == []
    assert (gpg_keys.home.path / "pubring.kbx").read_bytes() == ring


def test_key_rings_are_binary_or_armored_and_any_key_will_do(gpg_keys: Keys) -> None:
    armored = gpg_keys.home("--armor", "--export", "other@example.com", "p256@example.com")
    blob = gpg_keys.home.sign(GOOD, "p256")
    for rings in ([armored], [gpg_keys.public["rsa"], armored], [armored, armored]):
        found = verify_message(blob, rings, "it")
        assert found.primary_fingerprint == gpg_keys.fingerprint["p256"]
    assert read_keys([armored, gpg_keys.public["rsa"]]) == tuple(
        gpg_keys.fingerprint[name] for name in ("p256", "other", "rsa")
    )


@pytest.mark.parametrize("ring", [b"", b"junk", b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n"])
def test_s41_a_key_ring_without_keys_is_an_error(gpg_keys: Keys, ring: bytes) -> None:
    """Also beside another one that would do."""
    blob = gpg_keys.home.sign(GOOD, "p256")
    with pytest.raises(InvalidKey, match="key ring 2 of 2"):
        verify_message(blob, [gpg_keys.public["p256"], ring], "it")
    with pytest.raises(InvalidKey):
        verify_message(blob, [], "it")


def test_the_time_can_be_another(gpg_keys: Keys) -> None:
    blob, rings = gpg_keys.made_before["expired"], [gpg_keys.public["expired"]]
    then = datetime(2020, 7, 1, tzinfo=UTC)
    found = verify_message(blob, rings, "it", now=then)
    assert found.created == datetime(2020, 6, 1, 12, tzinfo=UTC)
    with pytest.raises(InvalidSignature):
        verify_message(blob, rings, "it", now=datetime(2021, 7, 1, tzinfo=UTC))


def test_s38_a_message_that_expands_beyond_the_limit_is_refused(gpg_keys: Keys) -> None:
    bomb = gpg_keys.home.sign(bytes(64 * 1024 * 1024), "p256", "-z", "9")
    assert len(bomb) < 100_000
    with pytest.raises(InvalidSignature, match="when it is decompressed"):
        verify_message(bomb, [gpg_keys.public["p256"]], "it")


def test_large_payloads_come_in_parts(gpg_keys: Keys) -> None:
    content = b" " * 100_000
    blob = gpg_keys.home.sign(content, "p256", "--compress-algo", "none")
    assert verify_message(blob, [gpg_keys.public["p256"]], "it").payload == content


@pytest.mark.parametrize("name", ["rsa", "p256", "ed25519", "sub"])
def test_what_we_sign_holds(gpg_keys: Keys, tmp_path: Path, name: str) -> None:
    """By the forms in which a key can be named."""
    fingerprint = gpg_keys.fingerprint[name]
    for key in (fingerprint, f"{name}@example.com", fingerprint[-16:]):
        blob = sign_message(GOOD, key, homedir=str(gpg_keys.home.path))
        assert blob[0] in (0xA3, 0xC8)
        assert holds(gpg_keys, blob)
    assert skopeo_holds(gpg_keys, blob, tmp_path)


def test_a_passphrase_is_taken_from_a_pipe(gpg_keys: Keys) -> None:
    home = str(gpg_keys.home.path)
    for wrong in (b"", b"wrong", b"two\nlines"):
        with pytest.raises(InvalidKey) as caught:
            sign_message(GOOD, "locked@example.com", homedir=home, passphrase=wrong)
        assert "wrong" not in str(caught.value)
    blob = sign_message(GOOD, "locked@example.com", homedir=home, passphrase=PASSPHRASE.encode())
    assert holds(gpg_keys, blob)
    # A key without a passphrase takes an empty one.
    assert holds(gpg_keys, sign_message(GOOD, "p256@example.com", homedir=home, passphrase=b""))


@pytest.mark.parametrize("key", ["nobody@example.com", "", "--version", "expired@example.com",
                                 "revoked@example.com", "a\nb"])  # fmt: skip
def test_a_key_that_cannot_sign_is_an_error(gpg_keys: Keys, key: str) -> None:
    with pytest.raises(InvalidKey):
        sign_message(GOOD, key, homedir=str(gpg_keys.home.path))


@pytest.mark.parametrize(
    ("said", "advice"),
    [
        ("No secret key", "gpg --list-secret-keys shows"),
        ("Inappropriate ioctl for device", "give a file that has it"),
        ("No pinentry", "give a file that has it"),
        ("Bad passphrase", ""),
    ],
)
def test_what_to_do_about_what_gpg_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, advice: str
) -> None:
    program = tmp_path / "gpg"
    program.write_text(
        f"""#!/bin/sh
case "$*" in *--list-config*) echo cfg:version:2.2.40; exit;; esac
cat >/dev/null
echo "gpg: signing failed: {said}" >&2
exit 2
"""
    )
    program.chmod(0o755)
    monkeypatch.setattr(gpg.shutil, "which", lambda _: str(program))
    with pytest.raises(InvalidKey, match=said) as caught:
        sign_message(GOOD, "somebody@example.com")
    assert advice in (caught.value.hint or "")
    assert bool(caught.value.hint) == bool(advice)


def test_without_gnupg_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpg.shutil, "which", lambda _: None)
    with pytest.raises(Error, match="need GnuPG") as caught:
        read_keys([b""])
    assert caught.value.hint == "as root: apt-get install gnupg"


def test_a_gpg_that_reads_nothing_is_an_error(
    gpg_keys: Keys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "gpg"
    program.write_text('#!/bin/sh\ncase "$*" in *--list-config*) echo cfg:version:2.2.40;; esac\n')
    program.chmod(0o755)
    monkeypatch.setattr(gpg.shutil, "which", lambda _: str(program))
    with pytest.raises(InvalidKey, match="only the beginning"):
        read_keys([gpg_keys.public["p256"] + bytes(1024 * 1024)])
    with pytest.raises(InvalidKey, match="cannot sign with the key"):
        sign_message(bytes(1024 * 1024), "p256@example.com")
    monkeypatch.setattr(gpg, "_import", lambda *_: ("0" * 40,))
    content = gpg_keys.home.sign(bytes(1024 * 1024), "p256", "--compress-algo", "none")
    with pytest.raises(InvalidSignature, match="only the beginning"):
        verify_message(content, [b""], "it")
