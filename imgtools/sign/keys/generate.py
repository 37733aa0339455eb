"""New key pairs, and their files: PREFIX.private and PREFIX.pub, both or neither."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from types import MappingProxyType

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from imgtools.blob.files import TEMPORARY_PREFIX, storage_errors, sync_directory
from imgtools.errors import Conflict, InvalidInput
from imgtools.sign.keys.encrypted import encrypt
from imgtools.sign.keys.kinds import DEFAULT_KIND, KINDS
from imgtools.sign.keys.private import PrivateKey
from imgtools.sign.keys.public import PublicKey

_CURVES: Mapping[str, type[ec.EllipticCurve]] = MappingProxyType(
    {"p256": ec.SECP256R1, "p384": ec.SECP384R1, "p521": ec.SECP521R1}
)


def generate(passphrase: bytes, kind: str = DEFAULT_KIND) -> tuple[bytes, bytes]:
    """A new private key under `passphrase` (which may be empty) and its public key, both PEM.

    `kind` is one of KINDS: ECDSA P-256 is what every verifier knows, and skopeo's only one.
    Raises InvalidInput for an unknown kind.
    """
    if kind not in KINDS:
        raise InvalidInput(f"unknown kind of key {kind!r}: expected one of {', '.join(KINDS)}")
    key = _new(kind)
    der = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return encrypt(der, passphrase), PublicKey.of(key.public_key(), "the new key").pem


def _new(kind: str) -> PrivateKey:
    family, _, size = kind.partition("-")
    if family == "ecdsa":
        return ec.generate_private_key(_CURVES[size]())
    if family == "rsa":
        return rsa.generate_private_key(65537, int(size))
    return ed25519.Ed25519PrivateKey.generate()


def pair_paths(prefix: str) -> tuple[str, str]:
    """Where `write_pair` puts the private and the public key."""
    return f"{prefix}.private", f"{prefix}.pub"


def check_absent(path: str) -> None:
    """Raise Conflict if there is something at `path`, StorageError if that cannot be told."""
    with storage_errors(path):
        try:
            os.lstat(path)
        except FileNotFoundError:
            return
    raise _exists(path)


def write_pair(prefix: str, private_pem: bytes, public_pem: bytes) -> tuple[str, str]:
    """Write PREFIX.private (mode 0600) and PREFIX.pub (0644), and return their paths.

    Neither ever replaces anything: raises Conflict when one exists, and then the other is
    not there either. Both are whole before they get their names. Raises StorageError.
    """
    private, public = pair_paths(prefix)
    for path in (private, public):
        check_absent(path)
    drafts: list[str] = []
    named: list[str] = []
    try:
        for path, content, mode in ((private, private_pem, 0o600), (public, public_pem, 0o644)):
            drafts.append(_draft(path, content, mode))
        for path, draft in zip((private, public), drafts, strict=True):
            _name(draft, path)
            named.append(path)
        sync_directory(os.path.dirname(private))
    except BaseException:
        _remove(named)
        raise
    finally:
        _remove(drafts)
    return private, public


def _draft(path: str, content: bytes, mode: int) -> str:
    directory, name = os.path.split(path)
    draft = os.path.join(directory, f"{TEMPORARY_PREFIX}{os.urandom(8).hex()}-{name[:40]}")
    with storage_errors(path):
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except BaseException:
            _remove([draft])
            raise
    return draft


def _name(draft: str, path: str) -> None:
    """Give a draft its name unless that is taken: a link fails then, a rename would not."""
    with storage_errors(path):
        try:
            os.link(draft, path)
        except FileExistsError as e:
            raise _exists(path) from e
        except OSError as e:
            # File systems without links (FAT, some of FUSE): the name is taken by an empty
            # file first, which the draft then replaces.
            if e.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
                raise
            _take(path)
            try:
                os.rename(draft, path)
            except BaseException:
                _remove([path])
                raise


def _take(path: str) -> None:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError as e:
        raise _exists(path) from e


def _exists(path: str) -> Conflict:
    return Conflict(
        f'refusing to overwrite existing "{path}"',
        hint="choose another prefix, or move the old key away",
    )


def _remove(paths: list[str]) -> None:
    for path in paths:
        try:
            os.unlink(path)
        except FileNotFoundError:
            continue
