"""External signers: what they are given, what they may answer, and all the ways they fail."""

from __future__ import annotations

import base64
import hashlib
import os
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, utils

from imgtools.errors import Cancelled, InvalidInput, InvalidKey
from imgtools.sign.keys.external import ExternalSigner
from imgtools.sign.keys.public import PublicKey, load_public_key
from imgtools.sign.protocols import KeySigner
from tests.sign.key_makers import MAKERS, private_pem, public_pem

MESSAGE = b"what is to be signed"

Make = Callable[..., ExternalSigner]

# A signer as somebody might write it for a key of their own.
SIGNER = """
import sys, base64
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
key = serialization.load_pem_private_key(open(sys.argv[1], "rb").read(), None)
how = sys.argv[2]
data = sys.stdin.buffer.read()
hashed = utils.Prehashed(hashes.SHA256()) if how == "digest" else hashes.SHA256()
if isinstance(key, ed25519.Ed25519PrivateKey):
    signature = key.sign(data)
elif isinstance(key, rsa.RSAPrivateKey):
    signature = key.sign(data, padding.PKCS1v15(), hashed)
else:
    signature = key.sign(data, ec.ECDSA(hashed))
if how == "raw":
    size = (key.curve.key_size + 7) // 8
    signature = b"".join(n.to_bytes(size) for n in utils.decode_dss_signature(signature))
if how in ("base64", "raw-base64"):
    signature = base64.encodebytes(signature)
sys.stdout.buffer.write(signature)
"""


@pytest.fixture(scope="module")
def p256() -> ec.EllipticCurvePrivateKey:
    key: ec.EllipticCurvePrivateKey = MAKERS["ecdsa-p256"]()
    return key


@pytest.fixture(scope="module")
def public(p256: ec.EllipticCurvePrivateKey) -> PublicKey:
    return load_public_key(public_pem(p256), "k")


@pytest.fixture
def shell(tmp_path: Path, public: PublicKey) -> Make:
    """shell("text", ...) is a signer that runs a script of sh."""

    def make(text: str, **kwargs: Any) -> ExternalSigner:
        script = tmp_path / "signer"
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
        return ExternalSigner(command=(str(script), "s3cret-pin"), public=public, **kwargs)

    return make


def signer(key: Any, tmp_path: Path, how: str) -> ExternalSigner:
    """The signer above, with a key of its own."""
    (tmp_path / "key").write_bytes(private_pem(key))
    (tmp_path / "signer.py").write_text(SIGNER)
    return ExternalSigner(
        command=(sys.executable, str(tmp_path / "signer.py"), str(tmp_path / "key"), how),
        public=load_public_key(public_pem(key), "k"),
        digest=how == "digest",
    )


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        ("ecdsa-p256", "message"),
        ("ecdsa-p256", "digest"),
        ("ecdsa-p256", "raw"),
        ("ecdsa-p384", "base64"),
        ("ecdsa-p521", "digest"),
        ("rsa-2048", "digest"),
        ("ed25519", "base64"),
    ],
)
def test_signers_sign(tmp_path: Path, kind: str, how: str) -> None:
    key: KeySigner = signer(MAKERS[kind](), tmp_path, how)
    public = load_public_key(key.public_pem, "k")
    signature = key.sign(MESSAGE)
    public.verify(signature, MESSAGE)
    if kind.startswith("ecdsa"):
        assert utils.encode_dss_signature(*utils.decode_dss_signature(signature)) == signature


def signature_by(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Of MESSAGE."""
    from cryptography.hazmat.primitives import hashes

    return key.sign(MESSAGE, ec.ECDSA(hashes.SHA256()))


def test_what_a_signer_is_given(
    shell: Make, tmp_path: Path, p256: ec.EllipticCurvePrivateKey
) -> None:
    (tmp_path / "answer").write_bytes(signature_by(p256))
    text = f"cat > {tmp_path}/given; cat {tmp_path}/answer"
    assert shell(text).sign(MESSAGE) == signature_of(tmp_path)
    assert (tmp_path / "given").read_bytes() == MESSAGE
    shell(text, digest=True).sign(MESSAGE)
    assert (tmp_path / "given").read_bytes() == hashlib.sha256(MESSAGE).digest()


def signature_of(tmp_path: Path) -> bytes:
    return (tmp_path / "answer").read_bytes()


def test_no_shell_reads_the_command(tmp_path: Path, public: PublicKey) -> None:
    for words in (("true; touch pwned",), ("sh -c 'exit 0'",), ("$(id)",)):
        with pytest.raises(InvalidKey, match="does not start: no such file"):
            ExternalSigner(command=words, public=public).sign(MESSAGE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_messages_of_any_size_and_signers_that_do_not_read(shell: Make, size: int) -> None:
    """Neither blocks on the other: pipes hold 64 KiB."""
    for text in ("exit 0", "exec <&-; exit 0", "wc -c >&2", "head -c 5 >/dev/null"):
        with pytest.raises(InvalidKey, match="answered 0 bytes"):
            shell(text).sign(b"x" * size)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("echo wrong pin >&2; exit 3", r"'signer' failed \(status 3\): wrong pin$"),
        ("exit 1", r"failed \(status 1\)$"),
        ("kill -9 $$", r"failed \(signal 9\)$"),
        ("yes error | head -c 100000 >&2; exit 1", r"failed \(status 1\): error error"),
        ("printf 'a\\nb\\033[31m\\n' >&2; exit 1", "a b"),
        ("true", "answered 0 bytes"),
        ("echo not a signature", "answered 16 bytes, which are no signature by the ECDSA P-256"),
        ("cat", "no signature"),
        ("yes", "answered more than 16384 bytes"),
        ("cat /dev/zero", "answered more than 16384 bytes"),
    ],
)
def test_signers_that_fail(shell: Make, text: str, said: str) -> None:
    with pytest.raises(InvalidKey, match=said) as caught:
        shell(text).sign(MESSAGE)
    assert len(str(caught.value)) < 700
    assert "s3cret-pin" not in f"{caught.value}{caught.value.hint}"
    assert "s3cret-pin" not in repr(shell(text))


def test_signature_by_another_key_is_not_used(
    shell: Make, tmp_path: Path, p256: ec.EllipticCurvePrivateKey
) -> None:
    (tmp_path / "answer").write_bytes(signature_by(MAKERS["ecdsa-p256"]()))
    with pytest.raises(InvalidKey, match="no signature by") as caught:
        shell(f"cat {tmp_path}/answer").sign(MESSAGE)
    assert "public key" in (caught.value.hint or "")
    (tmp_path / "answer").write_bytes(signature_by(p256) + b"\n")
    with pytest.raises(InvalidKey, match="no signature by"):
        shell(f"cat {tmp_path}/answer").sign(MESSAGE)
    (tmp_path / "answer").write_bytes(base64.b64encode(signature_by(p256)) + b"\n\n")
    shell(f"cat {tmp_path}/answer").sign(MESSAGE)


def alive(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("text", ["exec sleep 60", "exec >&- 2>&- <&-; exec sleep 60"])
def test_signer_that_hangs_is_ended(shell: Make, tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidKey, match=r"did not answer within 0\.5 seconds"):
        shell(f"echo $$ > {tmp_path}/pid; {text}", timeout=0.5).sign(MESSAGE)
    assert not alive(int((tmp_path / "pid").read_text()))


def test_wait_can_be_cancelled(shell: Make, tmp_path: Path) -> None:
    def check() -> None:
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            raise Cancelled

    with pytest.raises(Cancelled):
        shell(f"echo $$ > {tmp_path}/pid; exec sleep 60", check=check).sign(MESSAGE)
    assert not alive(int((tmp_path / "pid").read_text()))


def test_agent_that_stays_is_not_waited_for(
    shell: Make, tmp_path: Path, p256: ec.EllipticCurvePrivateKey
) -> None:
    """It keeps the outputs open for as long as it likes."""
    (tmp_path / "answer").write_bytes(signature_by(p256))
    text = f"sleep 60 & echo $! > {tmp_path}/pid; cat {tmp_path}/answer"
    shell(text, timeout=40).sign(MESSAGE)
    pid = int((tmp_path / "pid").read_text())
    assert alive(pid)
    os.kill(pid, 9)


def test_what_cannot_be_a_signer(public: PublicKey) -> None:
    for words in ((), ("",), ("a\0b",)):
        with pytest.raises(InvalidInput, match="external signer"):
            ExternalSigner(command=words, public=public)
    ed25519 = load_public_key(public_pem(MAKERS["ed25519"]()), "k")
    with pytest.raises(InvalidInput, match="not digests"):
        ExternalSigner(command=("x",), public=ed25519, digest=True)
    with pytest.raises(InvalidKey, match="'missing' does not start: no such file"):
        ExternalSigner(command=("/nowhere/missing",), public=public).sign(MESSAGE)
    with pytest.raises(InvalidKey, match="does not start: permission denied"):
        ExternalSigner(command=("/etc/passwd",), public=public).sign(MESSAGE)


def test_example_of_the_documentation_signs(
    tmp_path: Path, p256: ec.EllipticCurvePrivateKey, public: PublicKey
) -> None:
    """The script of docs/signing.md, with a key in a file for the device."""
    text = (Path(__file__).parents[2] / "docs/signing.md").read_text()
    script = text.partition("```sh\n#!/bin/sh\n")[2].partition("```")[0]
    assert "openssl" in script
    (tmp_path / "sign").write_text("#!/bin/sh\n" + textwrap.dedent(script))
    (tmp_path / "sign").chmod(0o755)
    (tmp_path / "key.pem").write_bytes(private_pem(p256))
    command = (str(tmp_path / "sign"), str(tmp_path / "key.pem"))
    public.verify(ExternalSigner(command=command, public=public).sign(MESSAGE), MESSAGE)
