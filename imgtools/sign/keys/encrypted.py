"""Private keys as cosign and skopeo keep them: PKCS #8, sealed with a stretched passphrase.

The file is PEM around JSON (go-securesystemslib "encrypted"): scrypt's parameters and salt, the
nonce, and a secretbox. Parameters are among those that their writers ever used, because a file
could otherwise ask for any amount of memory and time.
"""

from __future__ import annotations

import base64
import os
from typing import Any

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from imgtools.errors import InvalidJSON, InvalidKey
from imgtools.sign.keys import secretbox
from imgtools.sign.keys.pem import KEY_FILE_LIMIT, write_block
from imgtools.spec import strict_json

COSIGN_LABEL = "ENCRYPTED COSIGN PRIVATE KEY"
"""Written by skopeo and by us: every reader knows it."""

SIGSTORE_LABEL = "ENCRYPTED SIGSTORE PRIVATE KEY"
"""Written by cosign 2 and later; podman before 4.5 does not read it."""

LABELS = frozenset({COSIGN_LABEL, SIGSTORE_LABEL})

SALT_SIZE = 32
_COSTS = (32768, 65536, 131072)
_COST = 65536


def encrypt(pkcs8: bytes, passphrase: bytes, *, label: str = COSIGN_LABEL) -> bytes:
    """The PEM file of the private key `pkcs8` (DER) under `passphrase`, which may be empty."""
    salt, nonce = os.urandom(SALT_SIZE), os.urandom(secretbox.NONCE_SIZE)
    box = secretbox.seal(_stretch(passphrase, salt, _COST), nonce, pkcs8)
    value = {
        "kdf": {
            "name": "scrypt",
            "params": {"N": _COST, "r": 8, "p": 1},
            "salt": base64.b64encode(salt).decode(),
        },
        "cipher": {"name": "nacl/secretbox", "nonce": base64.b64encode(nonce).decode()},
        "ciphertext": base64.b64encode(box).decode(),
    }
    return write_block(label, strict_json.dumps(value))


def decrypt(body: bytes, passphrase: bytes, what: str) -> bytes:
    """The PKCS #8 DER in the `body` of such a PEM block; `what` names the file in errors.

    Raises InvalidKey for a malformed file, for parameters that nobody writes, and for a wrong
    passphrase, which cannot be told from a damaged file.
    """
    salt, cost, nonce, box = _parse(body, what)
    try:
        return secretbox.unseal(_stretch(passphrase, salt, cost), nonce, box)
    except InvalidKey as e:
        raise InvalidKey(
            f"{what} does not open: the passphrase is wrong, or the file is damaged"
        ) from e


def _parse(body: bytes, what: str) -> tuple[bytes, int, bytes, bytes]:
    try:
        value = strict_json.loads_object(body, what, limit=KEY_FILE_LIMIT)
    except InvalidJSON as e:
        raise InvalidKey(f"the content of the encrypted key {e.message}") from e
    top = _exactly(value, what, "the encrypted key", {"kdf", "cipher", "ciphertext"})
    kdf = _exactly(top["kdf"], what, "kdf", {"name", "params", "salt"})
    cipher = _exactly(top["cipher"], what, "cipher", {"name", "nonce"})
    if kdf["name"] != "scrypt" or cipher["name"] != "nacl/secretbox":
        raise InvalidKey(
            f"{what} is encrypted with {str(kdf['name'])[:40]!r} and "
            f"{str(cipher['name'])[:40]!r}: expected 'scrypt' and 'nacl/secretbox'"
        )
    return (
        _bytes(kdf["salt"], what, "kdf.salt", SALT_SIZE),
        _cost(kdf["params"], what),
        _bytes(cipher["nonce"], what, "cipher.nonce", secretbox.NONCE_SIZE),
        _bytes(top["ciphertext"], what, "ciphertext", None),
    )


def _cost(value: Any, what: str) -> int:
    params = _exactly(value, what, "kdf.params", {"N", "r", "p"})
    whole = all(type(number) is int for number in params.values())
    if not whole or params["r"] != 8 or params["p"] != 1 or params["N"] not in _COSTS:
        shown = ", ".join(f"{name} {str(params[name])[:20]}" for name in ("N", "r", "p"))
        raise InvalidKey(
            f"{what} has unsupported scrypt parameters ({shown}): "
            f"expected N one of {', '.join(map(str, _COSTS))}, r 8, p 1"
        )
    cost: int = params["N"]
    return cost


def _exactly(value: Any, what: str, part: str, keys: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict) or value.keys() != keys:
        raise InvalidKey(f"{what}: {part} is not an object of {', '.join(sorted(keys))}")
    return value


def _bytes(value: Any, what: str, part: str, size: int | None) -> bytes:
    try:
        decoded = base64.b64decode(value, validate=True) if isinstance(value, str) else None
    except ValueError as e:
        raise InvalidKey(f"{what}: {part} is not base64") from e
    if decoded is None or (size is not None and len(decoded) != size):
        expected = "base64" if size is None else f"base64 of {size} bytes"
        raise InvalidKey(f"{what}: {part} is not {expected}")
    return decoded


def _stretch(passphrase: bytes, salt: bytes, cost: int) -> bytes:
    return Scrypt(salt=salt, length=secretbox.KEY_SIZE, n=cost, r=8, p=1).derive(passphrase)
