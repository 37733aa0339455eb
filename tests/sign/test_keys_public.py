"""Public keys from files, and the signatures that hold under them."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils
from hypothesis import given, settings
from hypothesis import strategies as st

from imgtools.errors import InvalidKey, InvalidSignature
from imgtools.sign.keys import ed25519ph
from imgtools.sign.keys.pem import read_block, write_block
from imgtools.sign.keys.public import PublicKey, load_public_key, load_rekor_key
from tests.sign.key_makers import (
    DESCRIPTIONS,
    MAKERS,
    UNUSABLE,
    pem,
    private_pem,
    public_der,
    public_pem,
)

MESSAGE = b"what was signed"
ORDER_P256 = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@pytest.fixture(scope="module")
def keys() -> dict[str, Any]:
    """One private key of every kind."""
    return {kind: make() for kind, make in MAKERS.items()}


@pytest.fixture(scope="module")
def p256(keys: dict[str, Any]) -> PublicKey:
    return load_public_key(public_pem(keys["ecdsa-p256"]), "p256.pub")


def signed(key: Any, kind: str, message: bytes = MESSAGE, name: str = "SHA256") -> bytes:
    """A signature by the cryptography package."""
    hashed = getattr(hashes, name)()
    if kind == "ed25519":
        return bytes(key.sign(message))
    if kind.startswith("rsa"):
        return bytes(key.sign(message, padding.PKCS1v15(), hashed))
    return bytes(key.sign(message, ec.ECDSA(hashed)))


@pytest.mark.parametrize("kind", MAKERS)
def test_every_kind_of_key(keys: dict[str, Any], kind: str) -> None:
    content = public_pem(keys[kind])
    key = load_public_key(content, "some.pub")
    assert key.pem == content
    assert key.description == DESCRIPTIONS[kind]
    assert key.spki_sha256 == hashlib.sha256(public_der(keys[kind])).hexdigest()
    assert (key.is_ecdsa, key.is_ed25519) == (kind.startswith("ecdsa"), kind == "ed25519")
    signature = signed(keys[kind], kind)
    for algorithms in ("container-image", "any"):
        key.verify(signature, MESSAGE, algorithms=algorithms)
        for bad in (b"", signature[:-1], b"\0" * len(signature), b"\0" * 100_000):
            with pytest.raises(InvalidSignature, match=DESCRIPTIONS[kind]):
                key.verify(bad, MESSAGE, algorithms=algorithms)
        with pytest.raises(InvalidSignature):
            key.verify(signature, MESSAGE + b" ", algorithms=algorithms)


@pytest.mark.parametrize("kind", MAKERS)
def test_s40_signature_by_another_key(keys: dict[str, Any], kind: str) -> None:
    other = load_public_key(public_pem(MAKERS[kind]()), "other.pub")
    with pytest.raises(InvalidSignature, match=f"not by the {DESCRIPTIONS[kind]} key"):
        other.verify(signed(keys[kind], kind), MESSAGE)
    for name in keys.keys() - {kind}:
        with pytest.raises(InvalidSignature):
            load_public_key(public_pem(keys[name]), name).verify(signed(keys[kind], kind), MESSAGE)


@pytest.mark.parametrize(("kind", "name"), [("ecdsa-p384", "SHA384"), ("ecdsa-p521", "SHA512")])
def test_hash_of_the_curve_is_cosigns_and_not_container_images(
    keys: dict[str, Any], kind: str, name: str
) -> None:
    """containers/image has SHA-256 for all keys, cosign 3 the hash of the curve's size."""
    key = load_public_key(public_pem(keys[kind]), kind)
    signature = signed(keys[kind], kind, name=name)
    key.verify(signature, MESSAGE, algorithms="any")
    with pytest.raises(InvalidSignature):
        key.verify(signature, MESSAGE)
    other = "SHA512" if name == "SHA384" else "SHA384"
    with pytest.raises(InvalidSignature):
        key.verify(signed(keys[kind], kind, name=other), MESSAGE, algorithms="any")


def test_p256_and_rsa_have_one_hash(keys: dict[str, Any]) -> None:
    for kind in ("ecdsa-p256", "rsa-2048"):
        key = load_public_key(public_pem(keys[kind]), kind)
        for name in ("SHA1", "SHA384", "SHA512") if kind != "rsa-2048" else ("SHA384", "SHA512"):
            with pytest.raises(InvalidSignature):
                key.verify(signed(keys[kind], kind, name=name), MESSAGE, algorithms="any")


def test_rsa_pss_is_no_pkcs1(keys: dict[str, Any]) -> None:
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
    signature = keys["rsa-2048"].sign(MESSAGE, pss, hashes.SHA256())
    with pytest.raises(InvalidSignature):
        load_public_key(public_pem(keys["rsa-2048"]), "r").verify(
            signature, MESSAGE, algorithms="any"
        )


# RFC 8032, 7.3: "Test abc".
PH_KEY = "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf"
PH_SIGNATURE = (
    "98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41"
    "31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406"
)


def test_ed25519ph_is_cosigns_and_not_container_images() -> None:
    """The vector of RFC 8032, through a key file."""
    prefix = bytes.fromhex("302a300506032b6570032100")
    key = load_public_key(pem("PUBLIC KEY", prefix + bytes.fromhex(PH_KEY)), "ph.pub")
    signature = bytes.fromhex(PH_SIGNATURE)
    key.verify(signature, b"abc", algorithms="any")
    with pytest.raises(InvalidSignature):
        key.verify(signature, b"abc")
    with pytest.raises(InvalidSignature):
        key.verify(signature, b"abd", algorithms="any")


def test_ed25519ph_is_strict() -> None:
    public, signature = bytes.fromhex(PH_KEY), bytes.fromhex(PH_SIGNATURE)
    assert ed25519ph.verify(public, signature, b"abc")
    order = 2**252 + 27742317777372353535851937790883648493
    more = (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    for bad in (signature[:32] + more, signature[:-1], signature + b"\0", b"", bytes(64)):
        assert not ed25519ph.verify(public, bad, b"abc")
    for bad in (b"\xff" * 32, bytes.fromhex(PH_KEY)[::-1], b"\x02" + bytes(31)):
        assert not ed25519ph.verify(bad, signature, b"abc")


@settings(max_examples=40)
@given(st.integers(0, 511))
def test_ed25519ph_notices_every_bit(bit: int) -> None:
    spoiled = bytearray.fromhex(PH_SIGNATURE)
    spoiled[bit // 8] ^= 1 << bit % 8
    assert not ed25519ph.verify(bytes.fromhex(PH_KEY), bytes(spoiled), b"abc")


def test_s35_der_is_strict(keys: dict[str, Any], p256: PublicKey) -> None:
    """Trailing bytes and encodings that BER allows and DER does not."""
    signature = signed(keys["ecdsa-p256"], "ecdsa-p256")
    r, s = utils.decode_dss_signature(signature)
    body = signature[2:]
    crafted = {
        "trailing": signature + b"\0",
        "trailing-newline": signature + b"\n",
        "long-length": b"\x30\x81" + signature[1:],
        "indefinite": b"\x30\x80" + body + b"\0\0",
        "third-integer": b"\x30" + bytes([signature[1] + 3]) + body + b"\x02\x01\x00",
        "padded-r": b"\x30" + bytes([signature[1] + 1]) + _padded(body),
        "twice": signature * 2,
        "r-is-0": utils.encode_dss_signature(0, s),
        "s-is-0": utils.encode_dss_signature(r, 0),
        "s-beyond-order": utils.encode_dss_signature(r, s + ORDER_P256),
    }
    p256.verify(signature, MESSAGE)
    for name, bad in crafted.items():
        with pytest.raises(InvalidSignature):
            p256.verify(bad, MESSAGE)
            pytest.fail(name)


def _padded(body: bytes) -> bytes:
    """The integers of a signature, the first with a zero that does not belong there."""
    length = body[1]
    return b"\x02" + bytes([length + 1]) + b"\0" + body[2:]


def test_s36_both_values_of_s_hold(keys: dict[str, Any], p256: PublicKey) -> None:
    """As for every reader: who has one of them has the other, and the content is the same."""
    r, s = utils.decode_dss_signature(signed(keys["ecdsa-p256"], "ecdsa-p256"))
    p256.verify(utils.encode_dss_signature(r, ORDER_P256 - s), MESSAGE)


@pytest.mark.parametrize("kind", ["ecdsa-p256", "ecdsa-p384", "ecdsa-p521"])
def test_r_and_s_side_by_side(keys: dict[str, Any], kind: str) -> None:
    """containers/image accepts what hardware gives; we do, at the curve's size only."""
    key = load_public_key(public_pem(keys[kind]), kind)
    der = signed(keys[kind], kind)
    r, s = utils.decode_dss_signature(der)
    size = (int(kind[-3:]) + 7) // 8
    raw = r.to_bytes(size) + s.to_bytes(size)
    key.verify(raw, MESSAGE)
    assert key.to_der(raw) == der
    assert key.to_der(der) == der
    wide = r.to_bytes(size + 1) + s.to_bytes(size + 1)
    for bad in (raw + b"\0", raw[:-1], wide, raw[size:] + raw[:size], bytes(2 * size)):
        with pytest.raises(InvalidSignature):
            key.verify(bad, MESSAGE)


@pytest.mark.parametrize("kind", UNUSABLE)
def test_s42_weak_and_other_keys(kind: str) -> None:
    with pytest.raises(InvalidKey, match=r"bad\.pub"):
        load_public_key(public_pem(UNUSABLE[kind]()), "bad.pub")


def test_pkcs1_is_the_same_key(keys: dict[str, Any]) -> None:
    """containers/image reads this form too; the key's name is that of its PKIX form."""
    pkcs1 = (
        keys["rsa-2048"]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.PKCS1)
    )
    key = load_public_key(pkcs1, "r")
    assert key == load_public_key(public_pem(keys["rsa-2048"]), "r")
    assert key.pem == public_pem(keys["rsa-2048"])


def test_text_around_a_block(keys: dict[str, Any]) -> None:
    content = public_pem(keys["ecdsa-p256"])
    expected = load_public_key(content, "k")
    for around in (
        b"# our key\n" + content + b"\nof 2024\n",
        content.replace(b"\n", b"\r\n"),
        content.rstrip(b"\n"),
        content.replace(b"\n", b"\n\n", 2),
    ):
        assert load_public_key(around, "k") == expected


def compressed(key: Any) -> bytes:
    """A P-256 key whose point is compressed."""
    point = key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint
    )
    return bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + point


def test_s41_what_is_no_public_key(keys: dict[str, Any]) -> None:
    good = public_pem(keys["ecdsa-p256"])
    der = public_der(keys["ecdsa-p256"])
    off_curve = bytearray(der)
    off_curve[-1] ^= 1
    rsa_pss = public_der(keys["rsa-2048"]).replace(
        bytes.fromhex("2a864886f70d010101"), bytes.fromhex("2a864886f70d01010a")
    )
    cases = {
        "empty": (b"", "no PEM"),
        "text": (b"hello", "no PEM"),
        "der": (der, "no PEM"),
        "two-keys": (good + public_pem(keys["ed25519"]), "2 PEM blocks"),
        "same-twice": (good + good, "2 PEM blocks"),
        "no-end": (good[:-30], "does not end"),
        "second-does-not-end": (good + good[:-30], "does not end"),
        "other-end": (good.replace(b"END PUBLIC", b"END PRIVATE"), "does not end"),
        "not-base64": (good.replace(b"MF", b"!!"), "not base64"),
        "headers": (good.replace(b"\n", b"\nProc-Type: 4,ENCRYPTED\n", 1), "headers"),
        "trailing-der": (pem("PUBLIC KEY", der + b"\0"), "not a valid public key"),
        "truncated-der": (pem("PUBLIC KEY", der[:-1]), "not a valid public key"),
        "empty-block": (pem("PUBLIC KEY", b""), "not a valid public key"),
        "off-curve": (pem("PUBLIC KEY", bytes(off_curve)), "not a valid public key"),
        "compressed-point": (pem("PUBLIC KEY", compressed(keys["ecdsa-p256"])), "unusual"),
        "rsa-for-pss": (pem("PUBLIC KEY", rsa_pss), "public key"),
        "wrong-form": (pem("RSA PUBLIC KEY", public_der(keys["rsa-2048"])), "unusual|not a valid"),
        "private": (private_pem(keys["ecdsa-p256"]), "is a PRIVATE KEY: expected a PUBLIC KEY"),
        "large": (good + b" " * 70_000, "larger than"),
    }
    for name, (content, match) in cases.items():
        with pytest.raises(InvalidKey, match=match):
            load_public_key(content, f"{name}.pub")


def test_s60_certificates_and_keys_are_not_taken_for_each_other(keys: dict[str, Any]) -> None:
    content = public_pem(keys["ecdsa-p256"]).replace(b"PUBLIC KEY", b"CERTIFICATE")
    with pytest.raises(InvalidKey, match="is a CERTIFICATE") as caught:
        load_public_key(content, "x.crt")
    assert "openssl x509" in (caught.value.hint or "")


def test_logs_have_ecdsa_keys(keys: dict[str, Any]) -> None:
    assert load_rekor_key(public_pem(keys["ecdsa-p384"]), "rekor.pub").is_ecdsa
    for kind in ("ed25519", "rsa-2048"):
        with pytest.raises(InvalidKey, match="expected ECDSA"):
            load_rekor_key(public_pem(keys[kind]), "rekor.pub")


BASE = write_block("PUBLIC KEY", public_der(MAKERS["ecdsa-p256"]()))


@settings(max_examples=500)
@given(st.integers(0, len(BASE) - 1), st.integers(0, 20), st.binary(max_size=8))
def test_mutated_key_files_are_keys_or_refused(start: int, cut: int, put: bytes) -> None:
    content = BASE[:start] + put + BASE[start + cut :]
    try:
        key = load_public_key(content, "k")
    except InvalidKey:
        return
    assert read_block(key.pem, "k")[1] == read_block(content, "k")[1]


@settings(max_examples=300)
@given(st.binary(max_size=80))
def test_any_der_is_a_key_or_refused(der: bytes) -> None:
    for content in (pem("PUBLIC KEY", der), pem("RSA PUBLIC KEY", der), der):
        with pytest.raises(InvalidKey):
            load_public_key(content, "k")


@settings(max_examples=200)
@given(st.binary(max_size=150))
def test_any_bytes_are_no_signature(signature: bytes) -> None:
    key = load_public_key(BASE, "k")
    with pytest.raises(InvalidSignature):
        key.verify(signature, MESSAGE, algorithms="any")
