"""Simple signatures and log entries that others published as test data, each by itself; see
`conformance_signatures`."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from imgtools.sign.certificates.rekor import verify_set
from imgtools.sign.keys.public import load_rekor_key
from imgtools.sign.openpgp.gpg import verify_message
from tests.sign.conformance_bundles import Case, checked

_MAIN, _SUB, _REVOKED = (
    "public-key.gpg", "public-key-with-subkey.gpg", "public-key-with-revoked-subkey.gpg",
)  # fmt: skip
GPG: dict[str, tuple[str, str, str]] = {
    "image": ("image.signature", _MAIN, ""),
    "no-optional-fields": ("no-optional-fields.signature", _MAIN, ""),
    "invalid-reference": ("invalid-reference.signature", _MAIN, ""),
    "invalid-blob": ("invalid-blob.signature", _MAIN, ""),
    "invalid-blob, version 3": ("invalid-blob.signature-v3", _MAIN, ""),
    "subkey": ("subkey.signature", _SUB, ""),
    "subkey, version 3": ("subkey.signature-v3", _SUB, ""),
    "subkey, another key": ("subkey.signature", _MAIN, "not among those given"),
    "subkey-revoked": ("subkey-revoked.signature", _REVOKED, "revoked"),
    "subkey-revoked, version 3": ("subkey-revoked.signature-v3", _REVOKED, "revoked"),
    "expired": ("expired.signature", _MAIN, "expired"),
    "unknown-key": ("unknown-key.signature", _MAIN, "not among those given"),
    "unknown-key, version 3": ("unknown-key.signature-v3", _MAIN, "not among those given"),
    "corrupt": ("corrupt.signature", _MAIN, "no OpenPGP message of one signature"),
    "corrupt, version 3": ("corrupt.signature-v3", _MAIN, "no OpenPGP message of one signature"),
    "cleartext": ("invalid-cleartext.signature", _MAIN, "0x2d"),
    "unsigned-literal": ("unsigned-literal.signature", _MAIN, "found literal data"),
    "unsigned-encrypted": ("unsigned-encrypted.signature", _MAIN, "found encrypted data"),
    "a sigstore signature": ("unknown-cosign-key.signature", _MAIN, "0x00"),
    "keys that are none": ("image.signature", "image.signature", "key"),
}


def messages(fixtures: Path) -> Iterator[Case]:
    """The simple signatures of containers/image."""
    for name, (file, ring, why) in GPG.items():
        yield checked(f"sign-gpg:{name}", why, _message, fixtures / file, fixtures / ring)


def _message(file: Path, ring: Path) -> None:
    """GnuPG's word for a simple signature, whatever it says."""
    verify_message(file.read_bytes(), [ring.read_bytes()], file.name)


def log_entries(data: Path) -> Iterator[Case]:
    """The entry of a log, about what it is about and about something else."""

    def read(name: str) -> bytes:
        return (data / name).read_bytes()

    def verify(**changed: bytes) -> None:
        given = {
            "bundle_annotation": read("rekor-set"),
            "payload": read("rekor-payload"),
            "signature": base64.b64decode(read("rekor-sig")),
            "verifier_pem": read("rekor-cert"),
        }
        log = load_rekor_key(read("rekor.pub"), "rekor.pub")
        verify_set(rekor_keys=[log], **(given | changed))

    yield checked("sign-log:valid", "", verify)
    for name, why, change in (
        ("entry", "log entry", {"bundle_annotation": b"{}"}),
        ("payload", "payload", {"payload": b"something else"}),
        ("signature", "signature", {"signature": b"something else"}),
        ("certificate", "key", {"verifier_pem": read("cosign.pub")}),
    ):
        yield checked(f"sign-log:another {name}", why, partial(verify, **change))
