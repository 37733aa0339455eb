"""Private keys in files: secretbox, the encrypted form of cosign and skopeo, and plain PEM."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from imgtools.errors import InvalidKey
from imgtools.sign.keys import encrypted, secretbox
from imgtools.sign.keys.pem import read_block
from imgtools.sign.keys.private import LocalKey, load_private_key
from imgtools.sign.protocols import KeySigner
from tests.sign.key_makers import (
    DESCRIPTIONS,
    MAKERS,
    UNUSABLE,
    pem,
    private_der,
    private_pem,
    public_pem,
)

PASSPHRASE = b"correct horse"

# NaCl's own test ("Cryptography in NaCl", D. J. Bernstein, sections 8 to 10).
BOX_KEY = "1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389"
BOX_NONCE = "69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37"
BOX_CONTENT = (
    "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a"
    "1ac728d45e6c61296cdc3c01233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057"
    "e2f6556ad6b1318a024a838f21af1fde048977eb48f59ffd4924ca1c60902e52f0a089bc76897040"
    "e082f937763848645e0705"
)
BOX_SEALED = (
    "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4"
    "476fb8c531a1186ac0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738"
    "b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da99832b61ca01b6de"
    "56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5"
)


@pytest.fixture(scope="module")
def keys() -> dict[str, Any]:
    """One private key of every kind."""
    return {kind: make() for kind, make in MAKERS.items()}


@pytest.fixture(scope="module")
def sealed(keys: dict[str, Any]) -> bytes:
    """A key file of ours."""
    return encrypted.encrypt(private_der(keys["ecdsa-p256"]), PASSPHRASE)


def unpacked(content: bytes) -> dict[str, Any]:
    """The JSON in a key file."""
    value: dict[str, Any] = json.loads(read_block(content, "k")[1])
    return value


def test_secretbox_is_nacls() -> None:
    key, nonce, content, box = map(bytes.fromhex, (BOX_KEY, BOX_NONCE, BOX_CONTENT, BOX_SEALED))
    assert secretbox.seal(key, nonce, content) == box
    assert secretbox.unseal(key, nonce, box) == content


@settings(max_examples=30)
@given(st.binary(max_size=200), st.binary(min_size=32, max_size=32), st.integers(min_value=0))
def test_secretbox_notices_every_bit(content: bytes, key: bytes, place: int) -> None:
    nonce = key[:24]
    box = secretbox.seal(key, nonce, content)
    assert len(box) == 16 + len(content)
    assert secretbox.unseal(key, nonce, box) == content
    spoiled = bytearray(box)
    spoiled[place % len(box)] ^= 1 << place % 8
    other = bytes([key[0] ^ 1]) + key[1:]
    for bad in (
        (key, nonce, bytes(spoiled)),
        (other, nonce, box),
        (key, other[:24], box),
        (key, nonce, box[:-1]),
        (key, nonce, b""),
        (key, nonce, box + b"\0"),
        (key[1:], nonce, box),
        (key, nonce[1:], box),
    ):
        with pytest.raises(InvalidKey):
            secretbox.unseal(*bad)


def test_file_is_that_of_skopeo(keys: dict[str, Any], sealed: bytes) -> None:
    """The layout of go-securesystemslib: names, order, sizes, lines of 64."""
    label, body = read_block(sealed, "k")
    assert label == "ENCRYPTED COSIGN PRIVATE KEY"
    assert {len(line) for line in sealed.splitlines()[1:-2]} == {64}
    value = unpacked(sealed)
    assert json.dumps(value, separators=(",", ":")).encode() == body
    assert list(value) == ["kdf", "cipher", "ciphertext"]
    assert list(value["kdf"]) == ["name", "params", "salt"]
    assert list(value["kdf"]["params"].items()) == [("N", 65536), ("r", 8), ("p", 1)]
    assert len(base64.b64decode(value["kdf"]["salt"])) == 32
    assert len(base64.b64decode(value["cipher"]["nonce"])) == 24
    box = base64.b64decode(value["ciphertext"])
    assert len(box) == 16 + len(private_der(keys["ecdsa-p256"])) == 16 + 138
    again = encrypted.encrypt(private_der(keys["ecdsa-p256"]), PASSPHRASE)
    assert unpacked(again)["kdf"]["salt"] != value["kdf"]["salt"]
    assert unpacked(again)["cipher"]["nonce"] != value["cipher"]["nonce"]


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("label", sorted(encrypted.LABELS))
def test_encrypted_keys_of_every_kind(keys: dict[str, Any], kind: str, label: str) -> None:
    content = encrypted.encrypt(private_der(keys[kind]), PASSPHRASE, label=label)
    works(load_private_key(content, lambda: PASSPHRASE, "k"), keys[kind], kind)


def works(key: KeySigner, original: Any, kind: str) -> None:
    """The key is that one, and what it signs holds."""
    assert isinstance(key, LocalKey)
    assert key.public_pem == public_pem(original)
    assert key.public.description == DESCRIPTIONS[kind]
    key.public.verify(key.sign(b"m"), b"m", algorithms="container-image")


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize("passphrase", [b"", b"secret"])
def test_pem_of_other_tools(keys: dict[str, Any], kind: str, passphrase: bytes) -> None:
    content = private_pem(keys[kind], passphrase=passphrase)
    works(load_private_key(content, passphrase, "k"), keys[kind], kind)
    if kind.startswith(("ecdsa", "rsa")) and not passphrase:
        older = private_pem(keys[kind], "TraditionalOpenSSL")
        works(load_private_key(older, None, "k"), keys[kind], kind)


def test_curve_before_the_key(keys: dict[str, Any]) -> None:
    """openssl ecparam -genkey writes the parameters first."""
    parameters = pem("EC PARAMETERS", bytes.fromhex("06082a8648ce3d030107"))
    content = parameters + private_pem(keys["ecdsa-p256"], "TraditionalOpenSSL")
    works(load_private_key(content, None, "k"), keys["ecdsa-p256"], "ecdsa-p256")


def test_passphrase_is_asked_for_only_if_needed(keys: dict[str, Any], sealed: bytes) -> None:
    asked = []

    def ask() -> bytes:
        asked.append(1)
        return PASSPHRASE

    load_private_key(private_pem(keys["ed25519"]), ask, "k")
    assert not asked
    load_private_key(sealed, ask, "k")
    assert asked == [1]


def test_empty_passphrase_is_one(keys: dict[str, Any]) -> None:
    content = encrypted.encrypt(private_der(keys["ecdsa-p256"]), b"")
    works(load_private_key(content, b"", "k"), keys["ecdsa-p256"], "ecdsa-p256")
    with pytest.raises(InvalidKey, match="passphrase is wrong"):
        load_private_key(content, b"x", "k")


def test_wrong_and_missing_passphrases(keys: dict[str, Any], sealed: bytes) -> None:
    pkcs8 = private_pem(keys["rsa-2048"], passphrase=PASSPHRASE)
    for content in (sealed, pkcs8):
        for wrong in (b"", b"correct hors", PASSPHRASE + b"\n"):
            with pytest.raises(InvalidKey, match=r"my\.key does not open: the passphrase is wrong"):
                load_private_key(content, wrong, "my.key")
        with pytest.raises(InvalidKey, match="no passphrase was given"):
            load_private_key(content, None, "my.key")


def test_nothing_secret_is_shown(keys: dict[str, Any], sealed: bytes) -> None:
    key = load_private_key(sealed, PASSPHRASE, "k")
    number = keys["ecdsa-p256"].private_numbers().private_value
    for text in (repr(key), str(key)):
        assert str(number) not in text
        assert f"{number:x}" not in text
        assert "_key" not in text
    with pytest.raises(InvalidKey) as caught:
        load_private_key(sealed, b"my secret words", "k")
    assert "my secret words" not in f"{caught.value}{caught.value.hint}"


@pytest.mark.parametrize(
    ("params", "good"),
    [
        ({"N": 32768, "r": 8, "p": 1}, True),
        ({"N": 131072, "r": 8, "p": 1}, True),
        ({"N": 16384, "r": 8, "p": 1}, False),
        ({"N": 262144, "r": 8, "p": 1}, False),
        ({"N": 2**40, "r": 8, "p": 1}, False),
        ({"N": 65536, "r": 16, "p": 1}, False),
        ({"N": 65536, "r": 8, "p": 2}, False),
        ({"N": 65536.0, "r": 8, "p": 1}, False),
        ({"N": 65536, "r": 8, "p": True}, False),
        ({"N": "65536", "r": 8, "p": 1}, False),
        ({"N": [65536], "r": 8, "p": 1}, False),
    ],
)
def test_s43_scrypt_parameters(keys: dict[str, Any], params: dict[str, Any], good: bool) -> None:
    """Those that cosign ever wrote, so that no file asks for memory without end."""
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    salt, nonce = b"s" * 32, b"n" * 24
    cost = params["N"] if good else 2
    key = Scrypt(salt=salt, length=32, n=cost, r=8, p=1).derive(PASSPHRASE)
    box = secretbox.seal(key, nonce, private_der(keys["ecdsa-p256"]))
    value = {
        "kdf": {"name": "scrypt", "params": params, "salt": base64.b64encode(salt).decode()},
        "cipher": {"name": "nacl/secretbox", "nonce": base64.b64encode(nonce).decode()},
        "ciphertext": base64.b64encode(box).decode(),
    }
    content = pem(encrypted.SIGSTORE_LABEL, json.dumps(value).encode())
    if good:
        works(load_private_key(content, PASSPHRASE, "k"), keys["ecdsa-p256"], "ecdsa-p256")
    else:
        with pytest.raises(InvalidKey, match="unsupported scrypt parameters"):
            load_private_key(content, PASSPHRASE, "k")


def test_malformed_encrypted_keys(sealed: bytes) -> None:
    """Strict JSON: names, types, sizes, base64; nothing is stretched for such a file."""
    cases: dict[str, tuple[str, object, str]] = {
        "kdf-name": ("kdf.name", "pbkdf2", "encrypted with"),
        "kdf-name-number": ("kdf.name", 5, "encrypted with"),
        "cipher-name": ("cipher.name", "aes", "encrypted with"),
        "kdf-null": ("kdf", None, "kdf is not an object"),
        "kdf-more": ("kdf.more", 1, "kdf is not an object"),
        "cipher-list": ("cipher", [], "cipher is not an object"),
        "params-more": ("kdf.params.x", 1, "kdf.params is not an object"),
        "top-more": ("x", 1, "the encrypted key is not an object"),
        "salt-short": ("kdf.salt", "AAAA", "base64 of 32 bytes"),
        "salt-number": ("kdf.salt", 1, "base64 of 32 bytes"),
        "nonce-long": ("cipher.nonce", "A" * 48, "base64 of 24 bytes"),
        "salt-not-base64": ("kdf.salt", "!" * 44, "is not base64"),
        "salt-not-ascii": ("kdf.salt", "é" * 44, "is not base64"),
        "ciphertext-null": ("ciphertext", None, "is not base64"),
    }
    for path, new, match in cases.values():
        value = part = unpacked(sealed)
        *parents, last = path.split(".")
        for key in parents:
            part = part[key]
        part[last] = new
        with pytest.raises(InvalidKey, match=match):
            load_private_key(pem(encrypted.COSIGN_LABEL, json.dumps(value).encode()), b"", "k")
    for body in (b"", b"[]", b"{}", b'{"a":1,"a":2}', b"\xff", b"[" * 3000):
        with pytest.raises(InvalidKey):
            load_private_key(pem(encrypted.COSIGN_LABEL, body), b"", "k")


@pytest.mark.parametrize("content", [b"", b"\0" * 40, b"no key"])
def test_box_that_holds_no_key(content: bytes) -> None:
    with pytest.raises(InvalidKey, match="not a valid private key"):
        load_private_key(encrypted.encrypt(content, b""), b"", "k")


@pytest.mark.parametrize("kind", UNUSABLE)
def test_s42_weak_and_other_private_keys(kind: str) -> None:
    with pytest.raises(InvalidKey, match=r"bad\.key"):
        load_private_key(private_pem(UNUSABLE[kind]()), None, "bad.key")


def test_what_is_no_private_key(keys: dict[str, Any]) -> None:
    good = private_pem(keys["ecdsa-p256"])
    old = b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n"
    for content, match in (
        (b"", "no PEM"),
        (good + good, "2 PEM blocks"),
        (public_pem(keys["ecdsa-p256"]), "is a PUBLIC KEY: expected a private key"),
        (pem("OPENSSH PRIVATE KEY", b"x"), "OPENSSH PRIVATE KEY: expected"),
        (pem("CERTIFICATE", b"x"), "CERTIFICATE: expected"),
        (pem("PRIVATE KEY", b"x" * 99), "not a valid private key"),
        (pem("ENCRYPTED PRIVATE KEY", b"x" * 99), "does not open"),
        (old + b"-----END RSA PRIVATE KEY-----\n", "old versions of OpenSSL"),
    ):
        with pytest.raises(InvalidKey, match=match):
            load_private_key(content, b"secret", "k")


PLAIN = private_pem(ec.derive_private_key(12345, ec.SECP256R1()))


@settings(max_examples=400)
@given(st.integers(0, len(PLAIN) - 1), st.integers(0, 20), st.binary(max_size=8))
def test_mutated_key_files_are_keys_or_refused(start: int, cut: int, put: bytes) -> None:
    try:
        load_private_key(PLAIN[:start] + put + PLAIN[start + cut :], b"", "k")
    except InvalidKey:
        return


@settings(max_examples=150)
@given(
    st.sampled_from(
        [
            *sorted(encrypted.LABELS),
            "PRIVATE KEY",
            "EC PRIVATE KEY",
            "RSA PRIVATE KEY",
            "ENCRYPTED PRIVATE KEY",
        ]
    ),
    st.binary(max_size=120),
)
def test_any_content_is_a_key_or_refused(label: str, content: bytes) -> None:
    with pytest.raises(InvalidKey):
        load_private_key(pem(label, content), b"", "k")
